"""Who comes next."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from election.machine.eligibility import Field, order
from election.model import Candidate, Record, Release

A = Candidate("a", "a1", 1, eligible=True, priority=200, asks=False, live=True)
B = Candidate("b", "b1", 1, eligible=True, priority=150, asks=False, live=True)
C = Candidate("c", "c1", 1, eligible=True, priority=100, asks=False, live=True)

NOW = 100.0


def field(*candidates: Candidate, me: str = "c") -> Field:
    """Return the field as this node sees it."""
    known = Field(me)
    known.set_candidates(candidates)
    return known


RANKS: dict[str, tuple[Field, Record | None, int | None]] = {
    "nothing is known of the candidates": (Field("c"), None, None),
    "alone": (field(C), None, 0),
    "two are better": (field(A, B, C), None, 2),
    "the expired holder is left out": (field(A, B, C), Record("u", holder="a", session="a1"), 1),
    "so is who has just released": (
        field(A, B, C),
        Record("u", session="a1", epoch=1, release=Release("a1", 1)),
        1,
    ),
    "but not who was merely emptied": (field(A, B, C), Record("u", session="a1", epoch=1), 2),
    "the dead don't count": (field(replace(A, live=False), B, C), None, 1),
    "nor do the unfit": (field(replace(A, eligible=False), B, C), None, 1),
    "equal priorities go by name": (
        field(replace(A, priority=100), replace(B, name="z", priority=100), C),
        None,
        1,
    ),
}


@pytest.mark.parametrize(("known", "record", "expected"), RANKS.values(), ids=list(RANKS))
def test_rank(known: Field, record: Record | None, expected: int | None) -> None:
    """So many come before node c with priority 100."""
    assert known.rank(record, 100) == expected


CANDIDATES = st.builds(
    Candidate,
    name=st.sampled_from("abcdef"),
    session=st.just("s"),
    counter=st.just(1),
    eligible=st.booleans(),
    priority=st.integers(1, 3),
    asks=st.booleans(),
    live=st.booleans(),
)


@given(st.lists(CANDIDATES, unique_by=lambda c: c.name, max_size=6))
def test_the_fit_have_ranks_without_gaps(candidates: list[Candidate]) -> None:
    """All nodes that see the same field agree, so no two of them wait equally long."""
    fit = sorted((c for c in candidates if c.live and c.eligible), key=order)
    assert [field(*candidates, me=c.name).rank(None, c.priority) for c in fit] == list(
        range(len(fit))
    )


def test_the_best_is_handed_to_unless_another_is_wanted() -> None:
    """A named node that is not fit is not replaced by another one."""
    known = field(A, B, C, me="a")
    assert known.best(NOW) == B
    assert known.best(NOW, "c") == C
    assert known.best(NOW, "a") is None
    assert known.best(NOW, "nobody") is None


def test_the_best_of_those_that_ask_and_are_better_gets_it() -> None:
    """Who asks with no higher priority asks in vain."""
    known = field(A, replace(B, asks=True), replace(C, asks=True), me="d")
    assert known.asker(NOW, 99) == replace(B, asks=True)
    assert known.asker(NOW, 150) is None


SAYS_ELSE = {"session": "b2", "priority": 90, "asks": True}


@pytest.mark.parametrize("change", SAYS_ELSE.items(), ids=list(SAYS_ELSE))
def test_who_was_struck_out_is_not_named_until_it_says_something_else(
    change: tuple[str, object],
) -> None:
    """It may be stuck, and every naming costs half a second of a lowered deadline.

    A refresh says only that it lives.
    """
    known = field(B, C, me="a")
    known.strike_out(NOW, B)
    assert known.best(NOW) == C
    known.set_candidates((replace(B, counter=2), C))
    assert known.best(NOW) == C
    changed = replace(B, counter=3, **dict([change]))  # type: ignore[arg-type] # a table of any fields
    known.set_candidates((changed, C))
    assert known.best(NOW, "b") == changed


def test_who_was_struck_out_again_and_again_is_left_alone_for_longer() -> None:
    """One that was only slow is named again after a while.

    One that never takes the lease costs less and less.
    """
    known, now = field(B, me="a"), NOW
    for patience in (5.0, 10.0, 20.0, 40.0, 60.0, 60.0):
        known.strike_out(now, B)
        assert known.best(now + patience - 0.01) is None
        now += patience
        assert known.best(now) == B


def test_a_new_tenure_begins_with_a_clean_sheet() -> None:
    """The strike-outs of an earlier tenure no longer count."""
    known = field(B, me="a")
    known.strike_out(NOW, B)
    known.clear_strikes()
    assert known.best(NOW) == B
