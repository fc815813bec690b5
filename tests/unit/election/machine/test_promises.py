"""By which lease durations somebody may still hold the VIP."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from election.machine.lease import KEPT, Promises

OWN = 3.0


def watched(promises: Promises, begin: float, end: float) -> None:
    """Let time pass under observation: a look each second."""
    now = begin
    while now <= end:
        promises.count_time(now)
        now += 1.0


def test_a_promise_counts_for_its_own_length_after_it_was_seen_last() -> None:
    """Whoever holds by it has to renew it, and that would have been seen."""
    known = Promises(OWN, 0.0)
    known.count_time(100.0)
    known.add_promise("a1", 10.0)
    watched(known, 101.0, 109.0)
    assert known.longest == 10.0
    known.count_time(110.0)
    assert known.longest == OWN


def test_what_the_state_directory_remembers_ends_as_well() -> None:
    """It counts from the start: nothing was seen before that."""
    known = Promises(OWN, 300.0)
    watched(known, 100.0, 399.0)
    assert known.longest == 300.0
    known.count_time(400.0)
    assert known.longest == OWN


def test_time_without_a_look_at_the_record_proves_nothing() -> None:
    """Somebody may have renewed by it, unseen."""
    known = Promises(OWN, 0.0)
    known.count_time(100.0)
    known.add_promise("a1", 10.0)
    known.count_time(1000.0)
    assert known.longest == 10.0
    watched(known, 1001.0, 1006.0)
    assert known.longest == 10.0
    known.count_time(1007.0)
    assert known.longest == OWN


def test_a_node_that_lives_may_take_the_record_again_with_its_lease() -> None:
    """So what its session promised last goes on counting; what it promised before does not."""
    known = Promises(OWN, 0.0)
    known.count_time(100.0)
    known.set_live_sessions(["a1"])
    known.add_promise("a1", 30.0)
    known.add_promise("a1", 10.0)
    watched(known, 101.0, 129.0)
    assert known.longest == 30.0
    watched(known, 130.0, 1000.0)
    assert known.longest == 10.0
    known.set_live_sessions([])
    watched(known, 1001.0, 1011.0)
    assert known.longest == OWN


def test_a_shorter_promise_does_not_end_a_longer_one_at_once() -> None:
    """Either of the two may be a foreign edit."""
    known = Promises(OWN, 0.0)
    known.count_time(100.0)
    known.add_promise("a1", 10.0)
    known.add_promise("a1", 1.0)
    known.count_time(101.0)
    assert known.longest == 10.0


@pytest.mark.parametrize("count", [KEPT, KEPT * 20])
def test_a_writer_of_many_sessions_fills_no_memory(count: int) -> None:
    """And no promise is forgotten for that before its time."""
    known = Promises(OWN, 0.0)
    known.count_time(100.0)
    for number in range(count):
        known.add_promise(f"s{number}", 10.0 + number / 10)
    assert len(known._known) <= KEPT
    watched(known, 101.0, 109.0)
    assert known.longest == 10.0 + (count - 1) / 10


@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "b", "c", ""]), st.integers(1, 12), st.integers(0, 4)),
        max_size=40,
    )
)
def test_no_promise_is_forgotten_before_its_time(writes: list[tuple[str, int, int]]) -> None:
    """Compared with a list of all that were ever made, looked at each second."""
    known, now, made = Promises(OWN, 0.0), 100.0, list[tuple[float, float]]()
    known.count_time(now)
    for session, lease, pause in writes:
        known.add_promise(session, float(lease))
        made.append((now + lease, float(lease)))
        for _ in range(pause):
            now += 1.0
            known.count_time(now)
        assert known.longest >= max((lease for ends, lease in made if ends > now), default=OWN)
