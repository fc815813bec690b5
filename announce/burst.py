"""When to announce: at once, in a burst, then as a refresh. Pure; seconds throughout."""

from __future__ import annotations

from collections.abc import Iterator

INTERVAL = 1.1
"""Linux ignores an update of a neighbour entry that it changed less than a second ago (locktime, 100 jiffies), so a burst
within one second may count as one frame: https://github.com/metallb/metallb/issues/172 asks for 1.1 s."""


def delays(burst: int, interval: float, refresh: float) -> Iterator[float]:
    """Yield how long to wait before each announcement: 0.0, then `burst` times `interval`, then `refresh` for ever.

    A `refresh` of 0 ends the schedule after the burst. Whoever starts over (link up, a rival) asks for a new iterator.
    """
    yield 0.0
    for _ in range(burst):
        yield interval
    while refresh > 0:
        yield refresh
