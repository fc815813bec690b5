"""Timings to simulate: the three profiles, and any others that `election.timing` accepts."""

from __future__ import annotations

from random import Random

from election.timing import PROFILES, Timing, problems


def any_timing(rng: Random) -> Timing:
    """Return a profile, or a legal timing between them."""
    if rng.random() < 0.6:
        return rng.choice(list(PROFILES.values()))
    lease = round(rng.uniform(1.0, 9.0), 1)
    timing = Timing(lease, round(lease / 5, 3), round(lease / 4, 3))
    return timing if not problems(timing) else PROFILES["default"]
