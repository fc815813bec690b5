"""When to announce.

At once, in a burst, then as a refresh, and never faster than a switch lets pass. Pure; seconds
throughout.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

INTERVAL = 1.1
"""Linux ignores an update of a neighbour entry that it changed less than a second ago (locktime,
100 jiffies), so a burst within one second may count as one frame:
https://github.com/metallb/metallb/issues/172 asks for 1.1 s."""
TICK = 0.02
"""Seconds between two frames or, of a pace above 50 frames a second, between two helpings of
several."""


def delays(burst: int, interval: float, refresh: float) -> Iterator[float]:
    """Yield how long to wait before each announcement.

    0.0, then `burst` times `interval`, then `refresh` for ever.

    A `refresh` of 0 ends the schedule after the burst. Whoever starts over (link up, a rival) asks
    for a new iterator.
    """
    yield 0.0
    for _ in range(burst):
        yield interval
    while refresh > 0:
        yield refresh


class Pace:
    """Frames a second, at most, of all who announce on one interface.

    They take turns, one helping of frames after the other.

    Each asker has a rate of its own: instances on one interface may be configured differently.
    """

    def __init__(self) -> None:
        self._free_at = -math.inf

    def slot(self, moment: float, frames: int, rate: float) -> float:
        """Return when so many frames may leave that want to now, and reserve the time that they
        take.
        """
        at = max(moment, self._free_at)
        self._free_at = at + frames / rate
        return at

    def burst(self, moment: float, rate: float) -> None:
        """Note that frames left without a slot.

        The next one would be dropped if it followed at once.
        """
        self._free_at = max(self._free_at, moment + 1 / rate)


def helping(rate: float) -> int:
    """Return how many frames leave together."""
    return max(1, int(rate * TICK))


def round_of(frames: Sequence[bytes], addresses: int, number: int, rate: float) -> list[bytes]:
    """Return the frames of a round in their order.

    `frames` begins with one for each of the addresses; those behind are sent after them. Each round
    begins with another address, a second's worth of frames further on: a limit on the way lets the
    first ones of every round pass, and would drop the same others each time.
    """
    start = number * max(1, int(rate))
    return [*_turned(frames[:addresses], start), *_turned(frames[addresses:], start)]


def _turned(frames: Sequence[bytes], start: int) -> list[bytes]:
    at = start % len(frames) if frames else 0
    return [*frames[at:], *frames[:at]]
