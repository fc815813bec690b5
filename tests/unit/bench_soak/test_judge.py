"""The judge of a soak.

What it takes for two owners, what it excuses, and what it takes for a leak.
"""

from __future__ import annotations

import pytest

from tests.bench.soak_judge import (
    Move,
    Overlap,
    Sample,
    Span,
    Window,
    grown_up,
    judge,
    overlaps,
    spans_of,
    thirds,
    trend,
    without,
)
from vipd.demo.measure import Bound

VIP = "192.0.2.100"
INSTANCES = {VIP: "web"}
PLANNED = [Move(10.0, "web", "b", "handed_over")]
FAILOVER = [Move(10.0, "web", "b", "lease_expired")]


def overlap(length: float, witness: str = "kernel") -> Overlap:
    """Return an overlap of a and b that begins at 10 s."""
    return Overlap(witness, VIP, ("a", "b"), 10.0, 10.0 + length)


def told(
    length: float,
    moves: list[Move],
    *,
    witness: str = "kernel",
    excused: tuple[Window, ...] = (),
    faults: int = 1,
) -> list[bool]:
    """Return for each finding whether it is a violation."""
    near = [Window("a", 9.5, 10.5)] * faults
    return [
        finding.violation
        for finding in judge([overlap(length, witness)], excused, moves, near, INSTANCES)
    ]


def test_spans_come_from_appearing_and_going() -> None:
    """What is still bound counts to the end; a second news of the same changes nothing."""
    events = [
        Bound(1.0, "a", VIP, True),
        Bound(1.5, "a", VIP, True),
        Bound(2.0, "a", VIP, False),
        Bound(3.0, "b", VIP, True),
    ]
    assert spans_of(events, 9.0) == [Span(VIP, "a", 1.0, 2.0), Span(VIP, "b", 3.0, 9.0)]


def test_overlaps_are_of_one_address_on_two_nodes() -> None:
    """Another address, the same node again, or a moment too short are none."""
    spans = [
        Span(VIP, "a", 0.0, 5.0),
        Span(VIP, "b", 4.9, 9.0),
        Span("192.0.2.1", "c", 0.0, 9.0),
        Span(VIP, "b", 9.1, 12.0),
    ]
    assert overlaps(spans, "kernel") == [Overlap("kernel", VIP, ("a", "b"), 4.9, 5.0)]
    assert overlaps([Span(VIP, "a", 0.0, 5.001), Span(VIP, "b", 5.0, 9.0)], "kernel") == []


def test_a_third_owner_is_found_beside_the_second() -> None:
    """Each pair counts."""
    spans = [Span(VIP, "a", 0.0, 5.0), Span(VIP, "b", 1.0, 6.0), Span(VIP, "c", 2.0, 3.0)]
    assert {one.nodes for one in overlaps(spans, "kernel")} == {("a", "b"), ("a", "c"), ("b", "c")}


@pytest.mark.parametrize(
    ("length", "moves", "faults", "expected"),
    [
        (0.040, PLANNED, 1, []),
        (0.100, PLANNED, 1, [False]),
        (0.200, PLANNED, 1, [True]),
        (0.200, PLANNED, 2, [False]),
        (0.600, PLANNED, 2, [True]),
        (0.020, FAILOVER, 1, [True]),
        (0.020, [], 1, [True]),
    ],
)
def test_only_a_handover_may_overlap_and_not_for_long(
    length: float, moves: list[Move], faults: int, expected: list[bool]
) -> None:
    """Beyond the goal is a note, beyond the limit a violation.

    A second fault gives it more time; a failover none.
    """
    assert told(length, moves, faults=faults) == expected


def test_a_move_of_another_instance_excuses_nothing() -> None:
    """Two instances move at one moment often enough."""
    assert told(0.020, [Move(10.0, "edge", "b", "handed_over")]) == [True]


def test_an_address_left_behind_a_closed_gate_is_no_owner_but_answers_are() -> None:
    """Guard and daemon stopped at once.

    The kernel's table is excused, the client's eyes are not.
    """
    stopped = (Window("a", 8.0, 20.0),)
    assert told(2.0, FAILOVER, excused=stopped) == []
    assert told(2.0, FAILOVER, excused=stopped, witness="client") == [True]


def test_an_excuse_covers_its_time_its_node_and_its_address_only() -> None:
    """What is left of an overlap is judged."""
    assert without(overlap(5.0), [Window("a", 9.0, 12.0)]) == [
        Overlap("kernel", VIP, ("a", "b"), 12.0, 15.0)
    ]
    assert without(overlap(5.0), [Window("c", 9.0, 20.0)]) == [overlap(5.0)]
    assert without(overlap(5.0), [Window("a", 9.0, 20.0, "192.0.2.1")]) == [overlap(5.0)]
    assert [(one.begin, one.end) for one in without(overlap(5.0), [Window("b", 11.0, 12.0)])] == [
        (10.0, 11.0),
        (12.0, 15.0),
    ]


def test_a_trend_is_that_within_the_lives() -> None:
    """A new life that begins higher is no leak; growth within each is."""
    steady = [
        Sample(float(at), life, level)
        for life, level in (("one", 10.0), ("two", 50.0))
        for at in range(10)
    ]
    found = trend(steady)
    assert found is not None
    assert found.slope == pytest.approx(0.0)
    assert not found.certain
    growing = [
        Sample(at, life, at / 3600 + level)
        for life, level in (("one", 10.0), ("two", 50.0))
        for at in (0.0, 1.0, 2.0)
    ]
    found = trend(growing)
    assert found is not None
    assert found.slope == pytest.approx(1.0)
    assert found.certain


def test_a_trend_within_the_noise_is_not_certain() -> None:
    """Something that goes up and down is no leak, also if it ends a little higher."""
    found = trend(
        [
            Sample(float(at), "one", value)
            for at, value in enumerate((1.0, 5.0, 1.0, 5.0, 1.0, 5.0, 2.0))
        ]
    )
    assert found is not None
    assert found.slope > 0
    assert not found.certain


def test_a_trend_needs_samples_enough_of_one_life() -> None:
    """Two make a line that fits too well."""
    assert trend([Sample(0.0, "one", 1.0), Sample(1.0, "two", 2.0)]) is None
    assert trend([Sample(0.0, "one", 1.0), Sample(1.0, "one", 2.0)]) is None


def test_thirds_are_by_time_and_medians() -> None:
    """One odd sample does not make a leak."""
    samples = [
        Sample(float(at), "", value)
        for at, value in enumerate((1.0, 9.0, 1.0, 5.0, 5.0, 5.0, 2.0, 2.0, 99.0))
    ]
    assert thirds(samples[::-1]) == (1.0, 2.0)


def test_the_young_do_not_count_for_a_trend() -> None:
    """A process that fills its caches for a minute leaks nothing."""
    samples = [
        Sample(float(at), life, 1.0)
        for life, begin in (("one", 0), ("two", 50))
        for at in range(begin, begin + 100, 10)
    ]
    assert [(sample.life, sample.at) for sample in grown_up(samples, 70.0)] == [
        ("one", 70.0), ("one", 80.0), ("one", 90.0), ("two", 120.0), ("two", 130.0), ("two", 140.0)
    ]  # fmt: skip


def test_what_is_the_same_for_all_addresses_of_an_instance_is_told_once() -> None:
    """Ten addresses that move together are one handover."""
    both = [
        Overlap("kernel", address, ("a", "b"), begin, begin + 0.1)
        for address, begin in ((VIP, 10.0), ("192.0.2.101", 10.001))
    ]
    assert len(judge(both, [], PLANNED, [], {**INSTANCES, "192.0.2.101": "web"})) == 1
