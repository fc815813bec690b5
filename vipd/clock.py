"""The daemon's two clocks: one that decides, one for people."""

from __future__ import annotations

import datetime as dt
import time


def now() -> float:
    """Return CLOCK_BOOTTIME in seconds: it goes on while the machine is suspended, so a node that wakes up fences."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def wall() -> str:
    """Return the wall clock as an RFC 3339 time with microseconds (a MicroTime of Kubernetes); for people, never for decisions."""
    # The one place where the wall clock is read.
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")  # noqa: TID251
