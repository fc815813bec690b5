from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from health.model import Check, Fault, OnFail, OnUnknown, TcpCheck, Verdict, Weight
from health.verdict import RiseFall, Standing, combined, effective_priority, verdict_of

SEEN = st.sampled_from([True, False, None])


class Twin:
    """The same rules without a counter: it keeps everything and looks back."""

    def __init__(
        self, rise: int, fall: int, on_unknown: OnUnknown, remembered: bool | None
    ) -> None:
        self.rise, self.fall, self.keeps = rise, fall, on_unknown is OnUnknown.KEEP
        self.up = remembered
        self.history: list[bool] = []

    def add_result(self, seen: bool | None) -> None:
        """Take one result."""
        if seen is None and self.keeps and self.up is not None:
            return
        self.history.append(seen is True)
        if seen:
            enough = (
                self.up is None
                or len(self.history) == 1
                or self.history[-self.rise :] == [True] * self.rise
            )
            self.up = True if enough else self.up
        elif self.history[-self.fall :] == [False] * self.fall:
            self.up = False


@given(
    st.integers(1, 5),
    st.integers(1, 5),
    st.sampled_from(OnUnknown),
    st.sampled_from([True, False, None]),
    st.lists(SEEN, max_size=40),
)
def test_it_agrees_with_a_twin_that_looks_back(
    rise: int, fall: int, on_unknown: OnUnknown, remembered: bool | None, results: list[bool | None]
) -> None:
    """Whatever comes in whatever order, counter and history come to the same verdict."""
    one, twin = RiseFall(rise, fall, on_unknown), Twin(rise, fall, on_unknown, remembered)
    if remembered is not None:
        one = one.remember(up=remembered)
    for seen in results:
        one = one.add_result(seen)
        twin.add_result(seen)
        assert one.up is twin.up
        assert one.falling is (bool(twin.history) and not twin.history[-1] and twin.up is not False)


@given(st.integers(1, 5), st.sampled_from(OnUnknown), st.lists(SEEN, min_size=5, max_size=5))
def test_no_check_stays_undecided(
    fall: int, on_unknown: OnUnknown, results: list[bool | None]
) -> None:
    """After `fall` results of any kind there is a verdict.

    A node never waits for ever for its checks.
    """
    one = RiseFall(5, fall, on_unknown)
    for seen in results[:fall]:
        one = one.add_result(seen)
    assert one.up is not None


def verdicts(one: RiseFall, results: str) -> str:
    """Feed results (+ good, - bad, ? unknown) and return the verdict after
    each, ? for undecided.
    """
    said = ""
    for letter in results:
        one = one.add_result({"+": True, "-": False, "?": None}[letter])
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
def test_the_rules_as_an_operator_reads_them(
    rise: int, fall: int, results: str, expected: str
) -> None:
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
def test_a_remembered_verdict_holds_until_the_first_result(
    up: bool, results: str, expected: str
) -> None:
    """The first result, if good, counts at once; a bad one is the first of `fall`."""
    assert verdicts(RiseFall(2, 2).remember(up=up), results) == expected


def test_unknown_can_be_told_to_fail() -> None:
    """With on_unknown: fail it is as bad as a bad result."""
    assert verdicts(RiseFall(2, 2, OnUnknown.FAIL), "+?-+?+??") == "++-----" + "-"


FAULT = Fault()
KINDS = st.one_of(st.just(FAULT), st.integers(-253, 253).filter(bool).map(Weight))


def standing(name: str, on_fail: OnFail, up: bool | None) -> Standing:
    """Return one check of no particular kind."""
    return Standing(Check(name, TcpCheck("127.0.0.1", 1), on_fail=on_fail), up, "it said so")


@pytest.mark.parametrize(
    ("given_checks", "fit", "weight", "failing"),
    [
        ([], True, 0, ()),
        ([(FAULT, True), (FAULT, True)], True, 0, ()),
        ([(FAULT, True), (FAULT, False)], False, 0, ("c1",)),
        # one that is down decides; no need to hear the others
        ([(FAULT, None), (FAULT, False)], False, 0, ("c1",)),
        ([(FAULT, None), (FAULT, True)], None, 0, ()),
        ([(Weight(-60), True)], True, 0, ()),
        ([(Weight(-60), False)], True, -60, ("c0",)),  # negative: added while it fails
        ([(Weight(20), True)], True, 20, ()),  # positive: added while it succeeds
        ([(Weight(20), False)], True, 0, ("c0",)),
        ([(Weight(20), None), (Weight(-5), None)], None, -5, ()),
        (
            [(Weight(-60), False), (Weight(-30), False), (Weight(5), True), (FAULT, True)],
            True,
            -85,
            ("c0", "c1"),
        ),
    ],
)
def test_checks_add_up(
    given_checks: list[tuple[OnFail, bool | None]],
    fit: bool | None,
    weight: int,
    failing: tuple[str, ...],
) -> None:
    """A failing Fault check decides, an undecided one leaves it open, weights are keepalived's."""
    verdict = verdict_of(
        [standing(f"c{number}", on_fail, up) for number, (on_fail, up) in enumerate(given_checks)]
    )
    assert (verdict.fit, verdict.weight, verdict.failing) == (fit, weight, failing)


def test_the_detail_tells_who_and_why() -> None:
    """A failing check is named with what it said, an undecided one with that it is waited for."""
    assert (
        "c1: it said so"
        in verdict_of([standing("c0", FAULT, up=True), standing("c1", FAULT, up=False)]).detail
    )
    assert "c0" in verdict_of([standing("c0", FAULT, None)]).detail
    assert verdict_of([standing("c0", FAULT, up=True)]).detail == ""


@given(
    st.integers(1, 254),
    st.lists(st.tuples(KINDS, st.sampled_from([True, False, None])), max_size=6),
)
def test_the_effective_priority_stays_electable(
    base: int, checks: list[tuple[OnFail, bool | None]]
) -> None:
    """Whatever is configured: never 0, which means release in VRRP, and never 255, the owner's."""
    verdict = verdict_of([standing("c", on_fail, up) for on_fail, up in checks])
    assert 1 <= effective_priority(base, verdict) <= 254


@given(
    st.integers(1, 254),
    st.lists(st.tuples(KINDS, st.booleans()), min_size=1, max_size=6),
    st.data(),
)
def test_no_check_that_recovers_makes_a_node_worse(
    base: int, checks: list[tuple[OnFail, bool]], data: st.DataObject
) -> None:
    """Whatever the sign of a weight, up is never below down."""
    one = data.draw(st.integers(0, len(checks) - 1))

    def result(up: bool) -> tuple[bool | None, int]:
        verdict = verdict_of(
            [
                standing(f"c{i}", on_fail, up if i == one else was)
                for i, (on_fail, was) in enumerate(checks)
            ]
        )
        return verdict.fit, effective_priority(base, verdict)

    assert result(up=True) >= result(up=False)


def test_priorities_are_clamped() -> None:
    """The limits themselves."""
    assert effective_priority(100, Verdict(fit=True, weight=-253)) == 1
    assert effective_priority(100, Verdict(fit=True, weight=253)) == 254
    assert effective_priority(100, Verdict(fit=True, weight=-60)) == 40


@given(
    st.lists(
        st.lists(st.tuples(KINDS, st.sampled_from([True, False, None])), max_size=4),
        min_size=1,
        max_size=4,
    )
)
def test_instances_of_a_group_are_judged_as_if_they_were_one(
    instances: list[list[tuple[OnFail, bool | None]]],
) -> None:
    """Whichever of them has a check: the verdict is that of one instance with all the checks."""
    verdict = combined(
        [verdict_of([standing("c", on_fail, up) for on_fail, up in checks]) for checks in instances]
    )
    one = verdict_of([standing("c", on_fail, up) for checks in instances for on_fail, up in checks])
    assert (verdict.fit, verdict.weight, verdict.failing) == (one.fit, one.weight, one.failing)
