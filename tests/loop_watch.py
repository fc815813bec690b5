"""Finds out what holds up an event loop: every callback is timed, and the time that the machine was busy elsewhere taken off.

A callback is charged with what passed on the clock less what its thread waited for a processor: computing, sleeping, reading from a
disk and waiting for the interpreter's lock count, other programs on a crowded machine do not.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from collections.abc import Iterator
from pathlib import Path

LIMIT = 0.05
"""Seconds that a test forgives; the aim is 20 ms."""
_SCHEDULED = Path("/proc/thread-self/schedstat")


def _waited() -> float:
    """Return the seconds that this thread has waited for a processor (Documentation/scheduler/sched-stats.rst)."""
    return int(_SCHEDULED.read_text().split()[1]) / 1e9


@contextlib.contextmanager
def watched_loops(limit: float = LIMIT) -> Iterator[list[str]]:
    """Collect what took longer than `limit` on any event loop meanwhile, a line for each callback."""
    found: list[str] = []
    original = asyncio.Handle._run

    def run(handle: asyncio.Handle) -> None:
        waited, started = _waited(), time.perf_counter()
        original(handle)
        taken = time.perf_counter() - started
        if taken > limit and (blocked := taken - (_waited() - waited)) > limit:
            found.append(f"{blocked * 1000:.0f} ms: {handle!r}")

    # A collection goes through all that pytest holds; the daemon freezes what is there after its start.
    gc.collect()
    gc.disable()
    asyncio.Handle._run = run  # type: ignore[assignment,method-assign]
    try:
        yield found
    finally:
        asyncio.Handle._run = original  # type: ignore[method-assign]
        gc.enable()
