"""One check's life: ask at the interval, judge, report. Whatever a probe does, this goes on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import NoReturn

from health.kinds.probe import Probe
from health.model import Check, CheckStatus, Result
from health.verdict import RiseFall, Standing

HASTE = 0.01
"""Seconds between two tries after proof (Result.refused): a closed port is judged `fall` times within a few ms, and yet a single
connection that a reloading server resets is followed by one that is not."""
STALL = 0.05
"""Seconds by which a timeout may be noticed late. Beyond, this process itself stood still (stopped, swapped, its CPU stolen) and the
answer may lie unread in the socket: it is given a second time limit instead of being called bad."""

LONGEST_PREPARATION = 2.0
"""Seconds that a probe may take to get ready before the first try, 0.2 as a rule; what is not ready then counts against the tries."""


class CheckLoop:
    """Asks one probe for ever. `report` is called after each result, when verdict and status already know it."""

    def __init__(self, check: Check, probe: Probe, clock: Callable[[], float], report: Callable[[CheckLoop], None]) -> None:
        self.check = check
        self.probe = probe
        self.result = Result(up=None, detail="no result yet")
        self.seconds = 0.0
        self.judged = RiseFall(check.rise, check.fall, check.on_unknown)
        self._clock = clock
        self._report = report
        self._since = clock()
        self._nudged = asyncio.Event()
        self._try: asyncio.Task[Result] | None = None

    @property
    def standing(self) -> Standing:
        """What the sum of all checks needs to know."""
        return Standing(self.check, self.judged.up, self.result.detail)

    @property
    def status(self) -> CheckStatus:
        """What an operator wants to know."""
        judged, result = self.judged, self.result
        return CheckStatus(self.check.name, self.check.kind.label, judged.up, self._since, result.detail, self.seconds, judged.consecutive)

    def remember(self, *, up: bool) -> None:
        """Go on with a verdict of an earlier life until the first result. To be called before `run`."""
        self.judged = self.judged.remember(up=up)
        self.result = Result(up, "remembered, no result yet")

    def nudge(self) -> None:
        """Something is known to have changed: ask now, not at the next interval."""
        self._nudged.set()

    def fail(self, detail: str) -> None:
        """Make the check down whatever its results were: it can have no more of them."""
        self.judged = replace(self.judged, up=False, fresh=False, last=False, consecutive=self.check.fall)
        self.result = Result(up=False, detail=detail)
        self._since = self._clock()
        self._report(self)

    async def run(self, delay: float, first_gap: float) -> NoReturn:
        """Ask after `delay` seconds, again after `first_gap`, then at the interval, until cancelled.

        Starts lie on a grid, so that the time a try takes does not add up. A try that outlasts the interval is followed by the
        next one at once and moves the grid: there are never two at a time, and never two in quick succession to catch up.
        """
        with contextlib.suppress(Exception):
            async with asyncio.timeout(LONGEST_PREPARATION):
                await self.probe.prepare()
        due = self._clock() + delay
        gap = first_gap
        while True:
            due = await self._pause(due)
            started = self._clock()
            result = await self._ask()
            self._take(result, self._clock() - started)
            hasty = result.refused and self.judged.falling
            due = max(due + min(gap, HASTE) if hasty else due + gap, self._clock())
            gap = self.check.interval

    async def close(self) -> None:
        """End a try that is under way, wait for it no longer than its timeout, and close the probe."""
        if self._try is not None:
            self._try.cancel()
            await asyncio.wait({self._try}, timeout=self.check.timeout)
        await self.probe.close()

    async def _pause(self, due: float) -> float:
        """Wait until `due` or a nudge; return when the try belongs on the grid."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(due - self._clock(), 0.0)):
                await self._nudged.wait()
        if self._nudged.is_set():
            self._nudged.clear()
            return self._clock()
        return due

    async def _ask(self) -> Result:
        """Return one try's result within the timeout; a probe that does not even end when cancelled is bad and never asked twice."""
        if self._try is not None and not await self._ends(self._try):
            return Result(up=False, detail="the last try cannot be ended")
        self._try = asyncio.create_task(self.probe.run(), name=f"check {self.check.name}")
        self._try.add_done_callback(_retrieve)
        if await self._ends(self._try):
            return _outcome(self._try)
        self._try.cancel()
        return Result(up=False, detail=f"no {self.probe.stage} within {self.check.timeout * 1000:g} ms")

    async def _ends(self, task: asyncio.Task[Result]) -> bool:
        """Wait for a try, at most its timeout of a time in which this process ran."""
        started = self._clock()
        done, _ = await asyncio.wait({task}, timeout=self.check.timeout)
        if not done and self._clock() - started > self.check.timeout + STALL:
            done, _ = await asyncio.wait({task}, timeout=self.check.timeout)
        return bool(done)

    def _take(self, result: Result, seconds: float) -> None:
        before = self.judged.up
        self.judged = self.judged.feed(result.up)
        self.result = result
        self.seconds = seconds
        if self.judged.up is not before:
            self._since = self._clock()
        self._report(self)


def _outcome(task: asyncio.Task[Result]) -> Result:
    """Return what a try that has ended found; one that crashed found something bad."""
    if task.cancelled():
        return Result(up=False, detail="the check cancelled itself")
    error = task.exception()
    return task.result() if error is None else Result(up=False, detail=f"the check crashed: {type(error).__name__}: {error}")


def _retrieve(task: asyncio.Task[Result]) -> None:
    """Look at the exception of a try that nobody waits for any more; unread, asyncio would log it as lost."""
    if not task.cancelled():
        task.exception()
