"""A node's CLOCK_BOOTTIME as a line through true time."""

from __future__ import annotations

LARGEST_DRIFT = 0.0049
"""Each node's rate is within this of true time, so that any two differ by less than 1 %."""
SLACK = 1e-7
"""Seconds by which a timer fires late: rounding must not make it fire before its time."""


class Clock:
    """Translates between true seconds and one node's own seconds."""

    __slots__ = ("offset", "rate")

    def __init__(self, offset: float = 0.0, rate: float = 1.0) -> None:
        self.offset = offset
        self.rate = rate

    def local(self, true: float) -> float:
        """Return what this node's clock shows at a true time."""
        return self.offset + self.rate * true

    def true(self, local: float) -> float:
        """Return the true time at which this node's clock shows this."""
        return (local - self.offset) / self.rate
