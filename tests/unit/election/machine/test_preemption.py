"""When a Backup asks for the VIP."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from election.machine.eligibility import CALM_MOVES, DAMPING_WINDOW, LONGEST_DAMPING, Preemption
from election.model import Record

HELD = Record(uid="u", holder="a", session="a1", epoch=1, counter=1, priority=100)


def asks_at(
    record: Record | None = HELD,
    *,
    preempt: bool = True,
    eligible: bool = True,
    priority: int = 150,
    in_touch: bool = True,
) -> float:
    """Return when a node asks that has been in this position since 10 s, with a delay of 5 s."""
    preemption = Preemption(preempt, 5.0)
    preemption.update(10.0, record, eligible, priority, in_touch)
    return preemption.asks_at(10.0)


def test_it_asks_once_it_was_better_for_its_delay() -> None:
    """Not before: a node that comes and goes must not take the VIP with it."""
    assert asks_at() == 15.0


@pytest.mark.parametrize(
    "never",
    [
        asks_at(preempt=False),
        asks_at(eligible=False),
        asks_at(in_touch=False),
        asks_at(priority=100),
        asks_at(None),
        asks_at(replace(HELD, holder="")),
        asks_at(replace(HELD, pin="a")),
    ],
    ids=[
        "not configured",
        "not fit",
        "out of touch with the store",
        "only as good",
        "no record",
        "nobody holds it",
        "pinned",
    ],
)
def test_it_never_asks(never: float) -> None:
    """For each of these reasons alone."""
    assert never == math.inf


def test_a_pin_on_another_node_keeps_nobody() -> None:
    """Only the holder is pinned."""
    assert asks_at(replace(HELD, pin="b")) == 15.0


def test_the_delay_begins_anew_after_each_interruption() -> None:
    """Better, healthy and reachable *for this long* is what the delay says."""
    preemption = Preemption(preempt=True, preempt_delay=5.0)
    for now, in_touch in ((10.0, True), (14.0, False), (14.5, True)):
        preemption.update(now, HELD, eligible=True, priority=150, in_touch=in_touch)
    assert not preemption.asks(19.4)
    assert preemption.asks(19.5)


def moved(times: int, *, delay: float = 0.0) -> Preemption:
    """Return the state of a node that saw so many moves, a second apart, the last one at 100 s."""
    preemption = Preemption(preempt=True, preempt_delay=delay)
    for number in range(times + 1):
        preemption.note_epoch(100.0 - times + number, number + 1)
    return preemption


@pytest.mark.parametrize(
    ("times", "delay", "expected"),
    [
        (0, 0.0, 0.0),
        (CALM_MOVES, 0.0, 0.0),
        (CALM_MOVES + 1, 0.0, 2.0),
        (CALM_MOVES + 2, 0.0, 4.0),
        (30, 0.0, LONGEST_DAMPING),
        (CALM_MOVES + 1, 10.0, 20.0),
        (30, 90.0, 90.0),
    ],
)
def test_flapping_is_damped(times: int, delay: float, expected: float) -> None:
    """Each move beyond the calm ones doubles the wait, up to a bound.

    A longer preempt_delay is never cut short.
    """
    assert moved(times, delay=delay).delay(100.0) == expected


def test_damping_ends() -> None:
    """Moves count for a minute."""
    assert moved(CALM_MOVES + 1).delay(100.0 - CALM_MOVES + DAMPING_WINDOW) == 0.0


def test_the_same_epoch_is_no_move() -> None:
    """Nor is the first one that is seen, nor an older one of a restored store."""
    preemption = Preemption(preempt=True, preempt_delay=0.0)
    for epoch in (7, 7, 3, 7) * 3:
        preemption.note_epoch(100.0, epoch)
    assert preemption.delay(100.0) == 0.0
