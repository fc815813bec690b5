"""Finds out what holds up an event loop.

Every callback is timed, and the time that the machine was busy elsewhere taken off.

A callback is charged with what passed on the clock, less what its thread waited for a processor:
computing, sleeping, reading from a disk and waiting for the interpreter's lock count, other
programs on a crowded machine do not. While the thread slept, it is not charged either with what
another thread or a child of this process waited for a processor: that one may have held the
interpreter's lock, or be a child that has not begun its program yet, for which a thread waits with
this lock. Nor with what the host of a virtual machine took meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LIMIT = 0.05
"""Seconds that a test forgives; the aim is 20 ms."""
_TASKS = Path("/proc/self/task")
_HOST = 0
"""Stands for the host of this virtual machine among those who waited."""
_TICK = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment of a callback; all in seconds.

    `cpu`: of its thread, `own`; `others_cpu`: of all other threads; `waited`: for a processor, by
    thread or child.
    """

    own: int
    clock: float
    cpu: float
    others_cpu: float
    waited: dict[int, float]


def _waited(schedstat: Path) -> float:
    """Return the seconds that a task has waited for a processor
    (Documentation/scheduler/sched-stats.rst).
    """
    with contextlib.suppress(OSError):
        return int(schedstat.read_text().split()[1]) / 1e9
    return 0.0


def _look() -> Moment:
    stolen = Path("/proc/stat").read_text().split(maxsplit=9)[8]
    waited = {_HOST: int(stolen) * _TICK}
    for task in _TASKS.iterdir():
        waited[int(task.name)] = _waited(task / "schedstat")
        with contextlib.suppress(OSError):
            for child in (task / "children").read_text().split():
                waited[int(child)] = _waited(Path("/proc", child, "schedstat"))
    clock, cpu = time.perf_counter(), time.thread_time()
    return Moment(threading.get_native_id(), clock, cpu, time.process_time() - cpu, waited)


def charged(begin: Moment, end: Moment) -> float:
    """Return the seconds that a callback between these moments is charged with."""
    delays = {one: waited - begin.waited.get(one, 0.0) for one, waited in end.waited.items()}
    own = delays.pop(end.own, 0.0)
    cpu = end.cpu - begin.cpu
    slept = max(0.0, end.clock - begin.clock - cpu - own)
    # What others computed meanwhile is charged in any case: their waiting may have been beside the
    # thread's own.
    computed = min(slept, end.others_cpu - begin.others_cpu)
    return cpu + max(computed, slept - sum(delays.values()))


@contextlib.contextmanager
def watched_loops(limit: float = LIMIT) -> Iterator[list[str]]:
    """Collect what took longer than `limit` on any event loop meanwhile, a line
    for each callback.
    """
    found: list[str] = []
    original = asyncio.Handle._run

    def run(handle: asyncio.Handle) -> None:
        begin = _look()
        original(handle)
        if (
            time.perf_counter() - begin.clock > limit
            and (blocked := charged(begin, _look())) > limit
        ):
            found.append(f"{blocked * 1000:.0f} ms: {handle!r}")

    # A collection goes through all that pytest holds; the daemon freezes what is there after its
    # start.
    gc.collect()
    gc.disable()
    asyncio.Handle._run = run  # type: ignore[assignment,method-assign]
    try:
        yield found
    finally:
        asyncio.Handle._run = original  # type: ignore[method-assign]
        gc.enable()
