from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from health.model import OnUnknown
from health.rise_fall import RiseFall

SEEN = st.sampled_from([True, False, None])


class Twin:
    """The same rules without a counter: it keeps everything and looks back."""

    def __init__(self, rise: int, fall: int, on_unknown: OnUnknown, remembered: bool | None) -> None:
        self.rise, self.fall, self.keeps = rise, fall, on_unknown is OnUnknown.KEEP
        self.up = remembered
        self.history: list[bool] = []

    def feed(self, seen: bool | None) -> None:
        """Take one result."""
        if seen is None and self.keeps and self.up is not None:
            return
        self.history.append(seen is True)
        if seen:
            enough = self.up is None or len(self.history) == 1 or self.history[-self.rise :] == [True] * self.rise
            self.up = True if enough else self.up
        elif self.history[-self.fall :] == [False] * self.fall:
            self.up = False


@given(st.integers(1, 5), st.integers(1, 5), st.sampled_from(OnUnknown), st.sampled_from([True, False, None]), st.lists(SEEN, max_size=40))
def test_it_agrees_with_a_twin_that_looks_back(
    rise: int, fall: int, on_unknown: OnUnknown, remembered: bool | None, results: list[bool | None]
) -> None:
    """Whatever comes in whatever order, counter and history come to the same verdict."""
    one, twin = RiseFall(rise, fall, on_unknown), Twin(rise, fall, on_unknown, remembered)
    if remembered is not None:
        one = one.remember(up=remembered)
    for seen in results:
        one = one.feed(seen)
        twin.feed(seen)
        assert one.up is twin.up
        assert one.falling is (bool(twin.history) and not twin.history[-1] and twin.up is not False)


@given(st.integers(1, 5), st.sampled_from(OnUnknown), st.lists(SEEN, min_size=5, max_size=5))
def test_no_check_stays_undecided(fall: int, on_unknown: OnUnknown, results: list[bool | None]) -> None:
    """After `fall` results of any kind there is a verdict: a node never waits for ever for its checks."""
    one = RiseFall(5, fall, on_unknown)
    for seen in results[:fall]:
        one = one.feed(seen)
    assert one.up is not None


def verdicts(one: RiseFall, results: str) -> str:
    """Feed results (+ good, - bad, ? unknown) and return the verdict after each, ? for undecided."""
    said = ""
    for letter in results:
        one = one.feed({"+": True, "-": False, "?": None}[letter])
        said += {True: "+", False: "-", None: "?"}[one.up]
    return said


@pytest.mark.parametrize(
    ("rise", "fall", "results", "expected"),
    [
        (3, 3, "+", "+"),  # a start: one good result is enough
        (3, 3, "--+", "??+"),
        (3, 3, "---", "??-"),
        (3, 3, "---+++", "??---+"),  # once down, it takes `rise`
        (3, 3, "---++-+++", "??------+"),  # in a row
        (2, 3, "+--+---", "++++++-"),
        (1, 1, "+-+-", "+-+-"),
        (2, 2, "+-?-", "+++-"),  # unknown neither counts nor breaks the row
        (2, 2, "+???????", "++++++++"),
        (2, 2, "??+", "?--"),  # nothing to keep: unknown counts as bad
    ],
)
def test_the_rules_as_an_operator_reads_them(rise: int, fall: int, results: str, expected: str) -> None:
    """Each row is one sentence of the module's theory."""
    assert verdicts(RiseFall(rise, fall), results) == expected


@pytest.mark.parametrize(
    ("up", "results", "expected"),
    [
        (True, "?", "+"),
        (True, "-", "+"),  # a restart makes the check no hastier
        (True, "--", "+-"),
        (False, "?", "-"),
        (False, "+", "+"),  # nor slower than a start without a memory
        (False, "-+", "--"),
        (False, "-++", "--+"),
    ],
)
def test_a_remembered_verdict_holds_until_the_first_result(up: bool, results: str, expected: str) -> None:
    """The first result, if good, counts at once; a bad one is the first of `fall`."""
    assert verdicts(RiseFall(2, 2).remember(up=up), results) == expected


def test_unknown_can_be_told_to_fail() -> None:
    """With on_unknown: fail it is as bad as a bad result."""
    assert verdicts(RiseFall(2, 2, OnUnknown.FAIL), "+?-+?+??") == "++-----" + "-"
