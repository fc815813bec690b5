"""Drives all checks of one instance and says what follows from them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NoReturn, ParamSpec

from health.kinds.interface import InterfaceProbe
from health.kinds.registry import open_probe
from health.kinds.workers import Workers
from health.loop import CheckLoop
from health.model import Check, CheckStatus, LinkState, Result, Verdict
from health.verdict import judge

OnChange = Callable[[Verdict], None]
OnResult = Callable[[Check, Result, float], None]

STEP = 0.005
"""Seconds between the first tries of two checks; about ten times what one costs."""
LONGEST_DELAY = 0.25
"""However many checks there are, the first try of each starts within this many seconds: a node waits for them to become fit."""
GOLDEN = 0.618034
"""The fractions of its multiples lie evenly in 0..1, however many are taken."""

P = ParamSpec("P")

log = logging.getLogger(__name__)


def ignore(_check: Check, _result: Result, _seconds: float) -> None:
    """Nobody wants to see single results."""


class Runner:
    """The checks of one instance. `clock` returns seconds and never goes back (CLOCK_BOOTTIME in the daemon).

    `on_change` gets the first verdict from `start` and then each one that differs in fitness, weight or failing checks; `on_result`
    gets every result with the seconds it took, before any change that follows from it. What they raise is logged and goes no
    further. `position` is the number of checks that other runners of this process have: it spreads the checks of many instances.
    `workers` are shared with them, and closed by whoever made them.
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
        self._loops = [CheckLoop(check, open_probe(check, self._workers), clock, self._reported) for check in checks]
        self._tasks: list[asyncio.Task[NoReturn]] = []
        self._verdict = self._judge()

    @property
    def verdict(self) -> Verdict:
        """What all checks say together, with the newest detail."""
        return self._verdict

    def seed(self, verdicts: Mapping[str, bool]) -> None:
        """Go on with the verdicts of an earlier life (`remembered`); unknown names are ignored. To be called before `start`."""
        for loop in self._loops:
            if loop.check.name in verdicts:
                loop.remember(up=verdicts[loop.check.name])
        self._verdict = self._judge()

    def start(self) -> None:
        """Report the first verdict and start asking. Called once, in a running event loop."""
        _tell(self._on_change, self._verdict)
        for position, loop in enumerate(self._loops, start=self._position):
            # All checks ask as soon as they can, since the node waits for them; only then do they spread over the interval.
            delay = min(position * STEP, LONGEST_DELAY)
            first_gap = loop.check.interval * (0.5 + 0.5 * (position * GOLDEN % 1))
            task = asyncio.create_task(loop.run(delay, first_gap), name=f"checks of {loop.check.name}")
            task.add_done_callback(partial(self._ended, loop))
            self._tasks.append(task)

    async def stop(self) -> None:
        """Stop asking; nothing is reported after the call. Idempotent; lasts at most as long as the longest timeout."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        await asyncio.gather(*(loop.close() for loop in self._loops), return_exceptions=True)
        if self._owns_workers:
            await self._workers.close()

    def link(self, state: LinkState) -> None:
        """Take a link event. A change is judged at once; events about interfaces that no check names are ignored."""
        for loop in self._loops:
            if isinstance(loop.probe, InterfaceProbe) and loop.probe.push(state):
                loop.nudge()

    def statuses(self) -> tuple[CheckStatus, ...]:
        """Return every check as `vipd status` shows it, in the order of the configuration."""
        return tuple(loop.status for loop in self._loops)

    def remembered(self) -> dict[str, bool]:
        """Return the verdicts worth keeping for a next life; undecided checks have none."""
        return {loop.check.name: loop.judged.up for loop in self._loops if loop.judged.up is not None}

    def _judge(self) -> Verdict:
        return judge([loop.standing for loop in self._loops])

    def _reported(self, loop: CheckLoop) -> None:
        _tell(self._on_result, loop.check, loop.result, loop.seconds)
        before, self._verdict = self._verdict, self._judge()
        if _decision(self._verdict) != _decision(before):
            _tell(self._on_change, self._verdict)

    def _ended(self, loop: CheckLoop, task: asyncio.Task[NoReturn]) -> None:
        """Fail a check whose loop was ended by a fault of ours: its last verdict must not stay green for ever."""
        if task.cancelled():
            return
        log.error("check %s stopped working", loop.check.name, exc_info=task.exception())
        loop.fail(f"stopped working: {task.exception()}")


def _decision(verdict: Verdict) -> tuple[bool | None, int, tuple[str, ...]]:
    return verdict.fit, verdict.weight, verdict.failing


def _tell(callback: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
    """Call back. A fault in metrics or in the daemon's queue must not end a check, which would then look healthy for ever."""
    try:
        callback(*args, **kwargs)
    except Exception:
        log.exception("a listener to health checks failed")
