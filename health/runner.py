"""Drives the checks: each is asked at its interval in a task of its own.

All of an instance become one verdict.

Whatever a probe does, crash or hang, its loop goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import NoReturn, ParamSpec

from health.kinds.interface import InterfaceProbe
from health.kinds.probe import Probe
from health.kinds.registry import open_probe
from health.kinds.workers import Workers
from health.model import Check, CheckStatus, LinkState, Result, Verdict
from health.verdict import RiseFall, Standing, verdict_of

OnChange = Callable[[Verdict], None]
OnResult = Callable[[Check, Result, float], None]

STEP = 0.005
"""Seconds between the first tries of two checks; about ten times what one costs."""
LONGEST_DELAY = 0.25
"""However many checks there are, the first try of each starts within this many seconds: a node
waits for them to become fit."""
GOLDEN = 0.618034
"""The fractions of its multiples lie evenly in 0..1, however many are taken."""

P = ParamSpec("P")

log = logging.getLogger(__name__)


def ignore(_check: Check, _result: Result, _seconds: float) -> None:
    """Nobody wants to see single results."""


class Runner:
    """The checks of one instance.

    `clock` returns seconds and never goes back (CLOCK_BOOTTIME in the daemon).

    `on_change` gets the first verdict from `start` and then each one that differs in fitness,
    weight or failing checks; `on_result` gets every result with the seconds it took, before any
    change that follows from it. What they raise is logged and goes no further. `position` is the
    number of checks that other runners of this process have: it spreads the checks of many
    instances. `workers` are shared with them, and closed by whoever made them.
    """

    def __init__(
        self,
        checks: Sequence[Check],
        on_change: OnChange,
        clock: Callable[[], float],
        *,
        on_result: OnResult = ignore,
        position: int = 0,
        workers: Workers | None = None,
    ) -> None:
        self._on_change = on_change
        self._on_result = on_result
        self._position = position
        self._workers = workers or Workers()
        self._owns_workers = workers is None
        self._loops = [
            CheckLoop(check, open_probe(check, self._workers), clock, self._reported)
            for check in checks
        ]
        self._tasks: list[asyncio.Task[NoReturn]] = []
        self._verdict = self._judge()

    @property
    def verdict(self) -> Verdict:
        """What all checks say together, with the newest detail."""
        return self._verdict

    def restore_verdicts(self, verdicts: Mapping[str, bool]) -> None:
        """Go on with the verdicts of the previous daemon (`verdicts_to_keep`).

        Unknown names are ignored. To be called before `start`.
        """
        for loop in self._loops:
            if loop.check.name in verdicts:
                loop.remember(up=verdicts[loop.check.name])
        self._verdict = self._judge()

    def start(self) -> None:
        """Report the first verdict and start asking. Called once, in a running event loop."""
        _call_listener(self._on_change, self._verdict)
        for position, loop in enumerate(self._loops, start=self._position):
            # All checks ask as soon as they can, since the node waits for them; only then do they
            # spread over the interval.
            delay = min(position * STEP, LONGEST_DELAY)
            first_gap = loop.check.interval * (0.5 + 0.5 * (position * GOLDEN % 1))
            task = asyncio.create_task(
                loop.run(delay, first_gap), name=f"checks of {loop.check.name}"
            )
            task.add_done_callback(partial(self._ended, loop))
            self._tasks.append(task)

    async def stop(self) -> None:
        """Stop asking; nothing is reported after the call.

        Idempotent; lasts at most as long as the longest timeout.
        """
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        await asyncio.gather(*(loop.close() for loop in self._loops), return_exceptions=True)
        if self._owns_workers:
            await self._workers.close()

    def link(self, state: LinkState) -> None:
        """Take a link event.

        A change is judged at once; events about interfaces that no check names are ignored.
        """
        for loop in self._loops:
            if isinstance(loop.probe, InterfaceProbe) and loop.probe.push(state):
                loop.ask_now()

    def statuses(self) -> tuple[CheckStatus, ...]:
        """Return every check as `vipd status` shows it, in the order of the configuration."""
        return tuple(loop.status for loop in self._loops)

    def verdicts_to_keep(self) -> dict[str, bool]:
        """Return the verdicts worth keeping for the next daemon; undecided checks have none."""
        return {
            loop.check.name: loop.judged.up for loop in self._loops if loop.judged.up is not None
        }

    def _judge(self) -> Verdict:
        return verdict_of([loop.standing for loop in self._loops])

    def _reported(self, loop: CheckLoop) -> None:
        _call_listener(self._on_result, loop.check, loop.result, loop.seconds)
        before, self._verdict = self._verdict, self._judge()
        if _decision(self._verdict) != _decision(before):
            _call_listener(self._on_change, self._verdict)

    def _ended(self, loop: CheckLoop, task: asyncio.Task[NoReturn]) -> None:
        """Fail a check whose loop was ended by a fault of ours.

        Its last verdict must not stay green for ever.
        """
        if task.cancelled():
            return
        log.error("check %s stopped working", loop.check.name, exc_info=task.exception())
        loop.fail(f"stopped working: {task.exception()}")


def _decision(verdict: Verdict) -> tuple[bool | None, int, tuple[str, ...]]:
    return verdict.fit, verdict.weight, verdict.failing


def _call_listener(callback: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
    """Call back. A fault in metrics or in the daemon's queue must not end a check, which would then
    look healthy for ever.
    """
    try:
        callback(*args, **kwargs)
    except Exception:
        log.exception("a listener to health checks failed")


HASTE = 0.01
"""Seconds between two tries after proof (Result.refused): a closed port is judged `fall` times
within a few ms, and yet a single connection that a reloading server resets is followed by one that
is not."""
STALL = 0.05
"""Seconds by which a timeout may be noticed late. Beyond, this process itself stood still (stopped,
swapped, its CPU stolen) and the answer may lie unread in the socket: it is given a second time
limit instead of being called bad."""

LONGEST_PREPARATION = 2.0
"""Seconds that a probe may take to get ready before the first try, 0.2 as a rule; what is not ready
then counts against the tries."""


class CheckLoop:
    """Asks one probe for ever.

    `report` is called after each result, when verdict and status already know it.
    """

    def __init__(
        self,
        check: Check,
        probe: Probe,
        clock: Callable[[], float],
        report: Callable[[CheckLoop], None],
    ) -> None:
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
        return CheckStatus(
            self.check.name,
            self.check.kind.label,
            judged.up,
            self._since,
            result.detail,
            self.seconds,
            judged.consecutive,
        )

    def remember(self, *, up: bool) -> None:
        """Go on with a verdict of the previous daemon until the first result.

        To be called before `run`.
        """
        self.judged = self.judged.remember(up=up)
        self.result = Result(up, "remembered, no result yet")

    def ask_now(self) -> None:
        """Something is known to have changed: ask now, not at the next interval."""
        self._nudged.set()

    def fail(self, detail: str) -> None:
        """Make the check down whatever its results were: it can have no more of them."""
        self.judged = replace(
            self.judged, up=False, fresh=False, last=False, consecutive=self.check.fall
        )
        self.result = Result(up=False, detail=detail)
        self._since = self._clock()
        self._report(self)

    async def run(self, delay: float, first_gap: float) -> NoReturn:
        """Ask after `delay` seconds, again after `first_gap`, then at the interval, until
        cancelled.

        Starts lie on a grid, so that the time a try takes does not add up. A try that outlasts the
        interval is followed by the next one at once and moves the grid: there are never two at a
        time, and never two in quick succession to catch up.
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
            self._take_result(result, self._clock() - started)
            hasty = result.refused and self.judged.falling
            due = max(due + min(gap, HASTE) if hasty else due + gap, self._clock())
            gap = self.check.interval

    async def close(self) -> None:
        """End a try that is under way, wait for it no longer than its timeout,
        and close the probe.
        """
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
        """Return one try's result within the timeout.

        A probe that does not even end when cancelled is bad and never asked twice.
        """
        if self._try is not None and not await self._ends(self._try):
            return Result(up=False, detail="the last try cannot be ended")
        self._try = asyncio.create_task(self.probe.run(), name=f"check {self.check.name}")
        self._try.add_done_callback(_retrieve)
        if await self._ends(self._try):
            return _outcome(self._try)
        self._try.cancel()
        return Result(
            up=False, detail=f"no {self.probe.stage} within {self.check.timeout * 1000:g} ms"
        )

    async def _ends(self, task: asyncio.Task[Result]) -> bool:
        """Wait for a try, at most its timeout of a time in which this process ran."""
        started = self._clock()
        done, _ = await asyncio.wait({task}, timeout=self.check.timeout)
        if not done and self._clock() - started > self.check.timeout + STALL:
            done, _ = await asyncio.wait({task}, timeout=self.check.timeout)
        return bool(done)

    def _take_result(self, result: Result, seconds: float) -> None:
        before = self.judged.up
        self.judged = self.judged.add_result(result.up)
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
    return (
        task.result()
        if error is None
        else Result(up=False, detail=f"the check crashed: {type(error).__name__}: {error}")
    )


def _retrieve(task: asyncio.Task[Result]) -> None:
    """Look at the exception of a try that nobody waits for any more.

    Unread, asyncio would log it as lost.
    """
    if not task.cancelled():
        task.exception()
