"""The bench's figures, on made-up probes and events."""

from __future__ import annotations

import pytest

from tests.bench.measured import (
    Conditions,
    Window,
    answered_by_two,
    first_alone,
    outcome,
    owner_changes,
)
from vipd.demo.measure import Bound, Probe

VIP = "192.0.2.100"
QUIET = Conditions(phase=0.2, synced=True, command=4.0)


def probes(answers: str, step: float = 0.001) -> list[Probe]:
    """Make one probe every `step` seconds: a letter is the node that answered, a dot a lost one."""
    return [
        Probe(n * step) if who == "." else Probe(n * step, n * step + 0.0002, who)
        for n, who in enumerate(answers)
    ]


def bound(*news: tuple[float, str, bool]) -> list[Bound]:
    """Make events out of (at, node, present)."""
    return [Bound(at, node, VIP, present) for at, node, present in news]


@pytest.mark.parametrize(
    ("answers", "ms"),
    [
        ("", 0),
        ("aaaa", 0),
        ("aabb", 0),
        ("a..bb", 0),
        ("aabab", 3),  # a at 1 and 3, b at 2 and 4: both from 1 to 4
        ("abacaa", 4),  # b at 1 never answers again; a spans 0 to 4
        ("ab...ba", 6),  # a answers at 0 and 6, with b between
    ],
)
def test_two_owners_as_the_client_sees_them(answers: str, ms: float) -> None:
    """From the last answer before another node's to the next one of the same node.

    Such times that touch are one.
    """
    assert answered_by_two(probes(answers)) * 1000 == pytest.approx(ms)


def test_a_move_and_a_return_are_no_two_owners() -> None:
    """Other nodes answered for longer than a quarter of a second.

    The first one came back, it was not there all the time.
    """
    assert answered_by_two(probes("a" * 5 + "b" * 300 + "a" * 5)) == 0.0


def test_a_short_return_counts_as_two_owners() -> None:
    """Less than a quarter of a second between.

    A client cannot tell it from two owners, and neither do we.
    """
    assert answered_by_two(probes("a" * 5 + "b" * 100 + "a" * 5)) == pytest.approx(0.101)


def test_owner_changes_ignore_what_was_lost() -> None:
    """A gap alone is no change."""
    assert owner_changes(probes("aa..aab.b..a")) == 2


@pytest.mark.parametrize(
    ("news", "at"),
    [
        ([(0.0, "n1", True)], None),
        ([(0.0, "n1", True), (1.5, "n1", False), (1.7, "n2", True)], 1.7),
        ([(0.0, "n1", True), (1.5, "n2", True), (1.6, "n1", False)], 1.6),
        ([(0.0, "n1", True), (1.5, "n2", True)], None),
        ([(0.0, "n1", True), (1.5, "n1", False), (1.5, "n2", True)], 1.5),
        ([(0.0, "n1", True), (1.5, "n1", False), (2.5, "n2", True)], None),
        ([(0.0, "n2", True), (0.5, "n2", False), (0.6, "n1", True)], None),
    ],
)
def test_when_the_new_owner_is_alone(news: list[tuple[float, str, bool]], at: float | None) -> None:
    """From the deed to the end of the window, and only when the former owner is gone."""
    assert first_alone(bound(*news), Window(0.7, 1.0, 2.0), frozenset({"n2", "n3"})) == at


def test_an_outcome_looks_at_its_own_window() -> None:
    """What was lost before the calm belongs to the step before.

    The overlap counts from the deed.
    """
    seen = probes("..aaaaaa..bbbb")
    events = bound((0.0, "a", True), (0.0085, "a", False), (0.0095, "b", True))
    found = outcome(seen, events, Window(0.0025, 0.005, 0.0135), QUIET, frozenset({"b"}))
    assert (found.sent, found.lost, found.changes, found.after) == (11, 2, 1, "b")
    assert (found.outage, found.none, found.alone) == pytest.approx((3.0, 1.0, 4.5))
    assert found.outage_at == pytest.approx(2.0)
    assert found.story == ["3.5 -a", "4.5 +b"]
    assert (found.two, found.endless, found.phase, found.command) == (0.0, False, 0.2, 4.0)


def test_an_outage_without_an_end_names_nobody() -> None:
    """Whoever reads the figure has to know that it is a lower bound."""
    found = outcome(
        probes("aaa..."), bound((0.0, "a", True)), Window(0.0, 0.002, 0.01), QUIET, frozenset()
    )
    assert (found.after, found.alone, found.lost) == ("", None, 3)
