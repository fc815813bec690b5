"""The schedule, in virtual time.

An event loop whose clock jumps to the next timer, so that every moment can be asserted exactly.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from health.model import Check, Result, TcpCheck
from health.runner import HASTE, CheckLoop

UP = Result(up=True, detail="ok")
BAD = Result(up=False, detail="status 503")
REFUSED = Result(up=False, detail="refused", refused=True)


class JumpingSelector(selectors.SelectSelector):
    """Waits for nothing.

    The time until the next timer has passed when it is asked to wait for it.
    """

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Let time pass."""
        self.now += max(timeout or 0.0, 0.0)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on a JumpingSelector."""

    def __init__(self) -> None:
        self._jumping = JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Return the virtual time, seconds from 0."""
        return self._jumping.now

    def stand_still(self, seconds: float) -> None:
        """Let time pass in which this process does nothing."""
        self._jumping.now += seconds


def run(scenario: Coroutine[Any, Any, None]) -> None:
    """Run a scenario in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(scenario)


def clock() -> float:
    """Return the virtual time."""
    return asyncio.get_running_loop().time()


class Script:
    """A probe that does what a function of the time says.

    Keeps when it was asked, and how many tries ran at once.
    """

    stage = "answer"

    def __init__(self, act: Callable[[float], Awaitable[Result]]) -> None:
        self._act = act
        self.asked: list[float] = []
        self.running = 0
        self.most_running = 0
        self.closed = 0

    async def prepare(self) -> None:
        """Be ready."""

    async def run(self) -> Result:
        """Ask once."""
        self.asked.append(round(clock(), 6))
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            return await self._act(clock())
        finally:
            self.running -= 1

    async def close(self) -> None:
        """Count."""
        self.closed += 1


def at_once(result: Callable[[float], Result]) -> Callable[[float], Awaitable[Result]]:
    """Return an action that takes no time."""

    async def act(now: float) -> Result:
        return result(now)

    return act


def check(**changes: Any) -> Check:  # noqa: ANN401 - the fields of Check
    """Return a check of no particular kind: 200 ms, 100 ms, fall 2."""
    return Check("one", TcpCheck("127.0.0.1", 1), **{"interval": 0.2, "timeout": 0.1, **changes})


class Watched:
    """A running CheckLoop and the moments at which its verdict changed."""

    def __init__(self, probe: Script, **changes: Any) -> None:  # noqa: ANN401 - the fields of Check
        self.changes: list[tuple[float, bool | None]] = []
        self.details: list[str] = []
        self.loop = CheckLoop(check(**changes), probe, clock, self._reported)
        self.task = asyncio.create_task(self.loop.run(0.0, changes.get("interval", 0.2)))

    def _reported(self, loop: CheckLoop) -> None:
        self.details.append(loop.result.detail)
        if not self.changes or self.changes[-1][1] is not loop.judged.up:
            self.changes.append((round(clock(), 6), loop.judged.up))

    async def end(self) -> None:
        """Stop it."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        await self.loop.close()


def test_the_time_a_try_takes_does_not_add_up() -> None:
    """A thousand tries of changing length still begin on the grid."""

    async def act(now: float) -> Result:
        await asyncio.sleep(0.01 + now % 0.07)
        return UP

    async def scenario() -> None:
        probe = Script(act)
        watched = Watched(probe)
        await asyncio.sleep(199.99)
        assert probe.asked == [round(0.2 * number, 6) for number in range(1000)]
        await watched.end()

    run(scenario())


def test_only_the_first_gap_is_its_own() -> None:
    """It spreads many checks; after it the interval holds."""

    async def scenario() -> None:
        probe = Script(at_once(lambda _now: UP))
        loop = CheckLoop(check(), probe, clock, lambda _loop: None)
        task = asyncio.create_task(loop.run(0.05, 0.13))
        await asyncio.sleep(0.7)
        assert probe.asked == [0.05, 0.18, 0.38, 0.58]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await loop.close()

    run(scenario())


def test_a_slow_check_never_overlaps_itself() -> None:
    """A try that takes longer than the interval is followed by the next at once, and the grid moves
    with it.
    """

    async def act(now: float) -> Result:
        await asyncio.sleep(0.5 if now < 0.3 else 0.05)
        return UP

    async def scenario() -> None:
        probe = Script(act)
        watched = Watched(probe, timeout=1.0)
        await asyncio.sleep(1.5)
        assert probe.asked == [0.0, 0.5, 0.7, 0.9, 1.1, 1.3]
        assert probe.most_running == 1
        await watched.end()

    run(scenario())


MOMENTS = [1 + number / 97 for number in range(0, 97, 3)]
"""Times at which a server goes bad, all over the interval."""


def time_to_down(bad: Result, moment: float) -> float:
    """Return how long after a moment at which all results turn bad a check of 200 ms with fall 2 is
    down.
    """
    changes: list[tuple[float, bool | None]] = []

    async def scenario() -> None:
        watched = Watched(Script(at_once(lambda now: UP if now < moment else bad)))
        await asyncio.sleep(3)
        changes.extend(watched.changes)
        await watched.end()

    run(scenario())
    assert [up for _, up in changes] == [True, False]
    return changes[1][0] - moment


def test_a_closed_port_is_down_within_250_ms() -> None:
    """Whenever it closes: one interval and a hasty second try later."""
    assert max(time_to_down(REFUSED, moment) for moment in MOMENTS) <= 0.2 + HASTE + 1e-6


def test_a_wrong_status_is_down_within_450_ms() -> None:
    """It is suspicion, not proof, and asked again at the interval."""
    assert max(time_to_down(BAD, moment) for moment in MOMENTS) <= 0.4 + 1e-6


def test_haste_ends_when_the_verdict_stands() -> None:
    """A port that stays closed is asked at the interval: nothing spins."""

    async def scenario() -> None:
        probe = Script(at_once(lambda now: UP if now < 0.1 else REFUSED))
        watched = Watched(probe, fall=4)
        await asyncio.sleep(1.0)
        assert probe.asked == [0.0, 0.2, 0.21, 0.22, 0.23, 0.43, 0.63, 0.83]
        assert watched.changes == [(0.0, True), (0.23, False)]
        await watched.end()

    run(scenario())


def test_haste_is_never_slower_than_the_interval() -> None:
    """And a single reset leads to one extra try only."""

    async def scenario() -> None:
        probe = Script(at_once(lambda now: REFUSED if 0.1 < now < 0.205 else UP))
        watched = Watched(probe)
        await asyncio.sleep(0.7)
        assert probe.asked == [0.0, 0.2, 0.21, 0.41, 0.61]
        assert watched.changes == [(0.0, True)]
        await watched.end()

    run(scenario())


def test_a_try_that_hangs_is_cancelled_and_failed() -> None:
    """It never returns; the next one comes at the interval."""

    async def act(now: float) -> Result:
        await asyncio.Event().wait()
        return UP

    async def scenario() -> None:
        probe = Script(act)
        watched = Watched(probe)
        await asyncio.sleep(0.45)
        assert watched.details == ["no answer within 100 ms"] * 2
        assert watched.changes == [(0.1, None), (0.3, False)]
        assert probe.running == 1
        await watched.end()
        assert (probe.running, probe.closed) == (0, 1)

    run(scenario())


def test_a_try_that_cannot_be_ended_is_failed_and_not_joined_by_another() -> None:
    """It swallows its cancellation.

    Bad results go on, and when it ends at last, so does the waiting.
    """
    release: list[bool] = []

    async def act(now: float) -> Result:
        while not release:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                continue
        return UP

    async def scenario() -> None:
        probe = Script(act)
        watched = Watched(probe)
        await asyncio.sleep(1.05)
        assert [up for _, up in watched.changes] == [None, False]
        assert probe.most_running == len(probe.asked) == 1
        assert set(watched.details[1:]) == {"the last try cannot be ended"}
        release.append(True)
        assert watched.loop._try is not None
        watched.loop._try.cancel()
        await asyncio.sleep(0.5)
        assert [up for _, up in watched.changes] == [None, False, True]
        await watched.end()

    run(scenario())


def test_standing_still_is_not_the_servers_fault() -> None:
    """This process was stopped for 5 s while an answer lay in its socket: no bad result follows."""

    async def act(now: float) -> Result:
        if 0.1 < now < 1:
            loop = asyncio.get_running_loop()
            assert isinstance(loop, VirtualLoop)
            loop.call_soon(loop.stand_still, 5.0)
            # its end and the timeout are found in one turn; the answer needs some more turns to
            # arrive
            await asyncio.sleep(0.02)
            for _ in range(5):
                await asyncio.sleep(0)
        return UP

    async def scenario() -> None:
        probe = Script(act)
        watched = Watched(probe)
        await asyncio.sleep(6)
        assert set(watched.details) == {"ok"}
        assert watched.changes == [(0.0, True)]
        await watched.end()

    run(scenario())


def test_a_check_that_crashes_is_a_failed_check_and_lives_on() -> None:
    """Whatever it raises, also if it cancels itself."""

    async def act(now: float) -> Result:
        if now < 0.1:
            raise ZeroDivisionError("oops")
        if now < 0.3:
            raise asyncio.CancelledError
        return UP

    async def scenario() -> None:
        probe = Script(act)
        watched = Watched(probe)
        await asyncio.sleep(0.45)
        assert watched.details == [
            "the check crashed: ZeroDivisionError: oops",
            "the check cancelled itself",
            "ok",
        ]
        assert watched.changes == [(0.0, None), (0.2, False)]
        await watched.end()

    run(scenario())


def test_a_nudge_asks_now() -> None:
    """And the grid goes on from there; one that comes during a try is kept for after it."""

    async def act(now: float) -> Result:
        await asyncio.sleep(0.02)
        return UP

    async def scenario() -> None:
        probe = Script(act)
        watched = Watched(probe)
        await asyncio.sleep(0.25)
        watched.loop.ask_now()
        await asyncio.sleep(0.01)
        watched.loop.ask_now()
        await asyncio.sleep(0.3)
        assert probe.asked == [0.0, 0.2, 0.25, 0.27, 0.47]
        await watched.end()

    run(scenario())


def test_the_status_tells_since_when() -> None:
    """And how many results in a row, and how long the last one took."""

    async def act(now: float) -> Result:
        await asyncio.sleep(0.03)
        return UP if now < 0.5 else BAD

    async def scenario() -> None:
        watched = Watched(Script(act))
        before = watched.loop.status
        assert (before.name, before.kind, before.up, before.detail, before.consecutive) == (
            "one",
            "tcp",
            None,
            "no result yet",
            0,
        )
        await asyncio.sleep(0.55)
        status = watched.loop.status
        assert (
            status.up,
            status.consecutive,
            round(status.since, 6),
            round(status.seconds, 6),
        ) == (True, 3, 0.03, 0.03)
        await asyncio.sleep(0.5)
        status = watched.loop.status
        assert (status.up, status.consecutive, round(status.since, 6), status.detail) == (
            False,
            3,
            0.83,
            "status 503",
        )
        await watched.end()

    run(scenario())
