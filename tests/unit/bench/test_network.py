"""The moments of the faults within a heartbeat period."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bench.network import SOON, moment, scattered


@pytest.mark.parametrize(
    ("beat", "phase", "now", "at"),
    [
        (9.9, 0.5, 10.0, 10.4),
        (9.9, 0.0, 10.0, 10.9),
        (7.2, 0.25, 10.0, 10.45),
        (10.3, 0.0, 10.0, 10.3),
        (None, 0.25, 10.0, 10.25),
        (None, 0.0, 10.0, 11.0),
    ],
)
def test_the_moment_of_a_fault(beat: float | None, phase: float, now: float, at: float) -> None:
    """It is the next one at its phase of the period that can still be met."""
    assert moment(beat, 1.0, phase, now) == pytest.approx(at)


@given(
    st.floats(-5.0, 5.0),
    st.floats(0.0, 0.999),
    st.floats(0.1, 2.0),
)
def test_a_moment_is_ahead_and_near(beat: float, phase: float, period: float) -> None:
    """Never in the past, and by no more than two periods ahead of the beat or of now.

    Always at the phase asked for.
    """
    at = moment(beat, period, phase, 0.0)
    assert SOON - 1e-9 <= at <= max(beat + 2 * period, SOON + period) + 1e-9
    assert abs((at - beat) / period - phase - round((at - beat) / period - phase)) < 1e-6


def test_unseen_heartbeats_are_spread_evenly() -> None:
    """Each of K repeats falls into its own part of the period, and a seed gives the same again."""
    phases = [scattered(5, number, random.Random(number)) for number in range(5)]
    assert [int(phase * 5) for phase in phases] == [0, 1, 2, 3, 4]
    assert phases == [scattered(5, number, random.Random(number)) for number in range(5)]
