"""The daemon's two clocks: one that decides, one for people."""

from __future__ import annotations

import datetime as dt
import time

MINUTE, HOUR, DAY = 60, 3600, 86400


def now() -> float:
    """Return CLOCK_BOOTTIME in seconds.

    It goes on while the machine is suspended, so a node that wakes up fences.
    """
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def unix() -> float:
    """Return the wall clock in seconds; for logs and metrics, never for decisions."""
    return time.time()  # noqa: TID251 -- as the docstring says


def wall_at(moment: float) -> str:
    """Return the local time of day of a moment of `now`, a whole second that is not before it; for
    people.
    """
    at = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=moment - now() + 0.999)  # noqa: TID251
    return at.astimezone().strftime("%H:%M:%S")


def wall() -> str:
    """Return the wall clock as an RFC 3339 time with microseconds (a MicroTime of Kubernetes).

    For people, never for decisions.
    """
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")  # noqa: TID251


def rfc3339(seconds: float) -> str:
    """Return a Unix time as an RFC 3339 time in UTC, whole seconds.

    Empty for 0.0, which means never.
    """
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds)) if seconds else ""


def duration(seconds: float) -> str:
    """Return a time span as people say it: 0.4s, 12s, 3m 20s, 5h 2m, 3d 4h."""
    if seconds < 10:  # noqa: PLR2004 - one digit and its tenth
        return f"{max(seconds, 0):.1f}s"
    whole = int(seconds)
    if whole < MINUTE:
        return f"{whole}s"
    if whole < HOUR:
        return f"{whole // MINUTE}m {whole % MINUTE}s"
    if whole < DAY:
        return f"{whole // HOUR}h {whole % HOUR // MINUTE}m"
    return f"{whole // DAY}d {whole % DAY // HOUR}h"
