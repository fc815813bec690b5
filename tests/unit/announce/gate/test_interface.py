"""When programs of a former life are replaced.

Without a gap for what it held, at once for what it did not.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from announce.gate.interface import GRACE, ProgramHandover

NOW = 100.0
UNTIL = 103.0


def replace_at(inherited: set[int], open_slots: set[int], *, settled: bool = True) -> float:
    """Ask a fresh one."""
    return ProgramHandover(UNTIL, inherited, settled).replace_at(NOW, open_slots)


@pytest.mark.parametrize(
    ("inherited", "open_slots", "settled", "moment"),
    [
        # its old right may last: the old programs know it, the new ones do not
        ({1}, set(), True, UNTIL),
        ({1}, {1}, True, NOW),  # taken back
        ({1, 2}, {1, 2}, True, NOW),
        ({1, 2}, {1}, True, NOW + GRACE),  # the other one will follow
        # the old programs would drop the announcement of one that was not bound
        ({1}, {2}, True, NOW),
        ({1, 2}, {1, 3}, True, NOW),
        (set(), set(), True, NOW),  # nothing to be lost
        (set(), set(), False, UNTIL),  # the elections to come may have something to lose
        (set(), {1}, False, NOW),
        ({1}, {1}, False, NOW),
    ],
)
def test_when_it_is_time(
    inherited: set[int], open_slots: set[int], settled: bool, moment: float
) -> None:
    """One row for each sentence of the rule."""
    assert replace_at(inherited, open_slots, settled=settled) == moment


def test_the_wait_for_the_others_counts_from_the_first() -> None:
    """Asking again does not prolong it."""
    handover = ProgramHandover(UNTIL, {1, 2}, settled=True)
    assert handover.replace_at(NOW, {1}) == NOW + GRACE
    assert handover.replace_at(NOW + 0.05, {1}) == NOW + GRACE
    assert handover.replace_at(NOW + 0.06, {1, 2}) == NOW + 0.06


slots = st.sets(st.integers(1, 4))


@given(slots, slots, st.booleans(), st.lists(st.tuples(st.floats(0, 5), slots), max_size=5))
def test_it_never_waits_longer_than_the_longest_right(
    inherited: set[int],
    last: set[int],
    settled: bool,
    asked: list[tuple[float, set[int]]],
) -> None:
    """Whatever opens and closes meanwhile."""
    handover = ProgramHandover(UNTIL, inherited, settled)
    for later, open_slots in sorted(asked, key=lambda item: item[0]):
        assert handover.replace_at(NOW + later, open_slots) <= max(NOW + later, UNTIL)
    assert handover.replace_at(UNTIL, last) <= UNTIL
