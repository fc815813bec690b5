from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Protocol

import pytest

from health.model import (
    Check,
    HttpCheck,
    InterfaceCheck,
    LinkState,
    Result,
    TcpCheck,
    Verdict,
    Weight,
)
from health.runner import STEP, Runner

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Serve = Callable[..., AbstractAsyncContextManager[int]]
Answer = Callable[[bytes], Handler]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
NEVER = 3600.0
"""An interval that no test outlives: what happens within it happened without waiting for it."""


class Listener(Protocol):
    """What a runner reported: see conftest."""

    verdicts: list[Verdict]
    results: list[tuple[str, Result, float]]
    known: list[int]

    def on_change(self, verdict: Verdict) -> None:
        """Keep a verdict."""
        ...

    def on_result(self, check: Check, result: Result, seconds: float) -> None:
        """Keep a result."""
        ...

    async def until(self, happened: Callable[[], bool]) -> None:
        """Wait for a condition."""
        ...

    async def until_fit(self, *, fit: bool | None) -> Verdict:
        """Wait for a verdict."""
        ...


def runner_of(listener: Listener, *checks: Check) -> Runner:
    """Return a runner that reports to the listener."""
    return Runner(checks, listener.on_change, time.monotonic, on_result=listener.on_result)


def test_an_ingress_lives_dies_and_comes_back(
    serve: Serve, answer: Answer, listener: Listener
) -> None:
    """Undecided, fit at the first good result, unfit after `fall` refusals, fit after `rise` good
    ones.
    """

    async def scenario() -> None:
        async with serve(answer(OK)) as port:
            check = Check(
                "web",
                HttpCheck(f"http://127.0.0.1:{port}/", body="ok"),
                interval=0.05,
                timeout=5.0,
                rise=3,
            )
            runner = runner_of(listener, check)
            runner.start()
            assert [verdict.fit for verdict in listener.verdicts] == [None]
            await listener.until_fit(fit=True)
            assert listener.known == [0, 1]
        down = await listener.until_fit(fit=False)
        assert down.failing == ("web",)
        assert "web: 127.0.0.1" in down.detail
        assert [result.up for _, result, _ in listener.results[: listener.known[-1]]].count(
            False
        ) == 2
        async with serve(answer(OK), port=port):
            await listener.until_fit(fit=True)
            await runner.stop()
        assert [result.up for _, result, _ in listener.results[: listener.known[-1]]][-4:] == [
            False,
            True,
            True,
            True,
        ]
        assert [verdict.fit for verdict in listener.verdicts] == [None, True, False, True]

    asyncio.run(scenario())


def test_a_closed_port_needs_no_interval(closed_port: int, listener: Listener) -> None:
    """Exactly `fall` tries follow each other, though the interval is an hour; then it is quiet."""

    async def scenario() -> None:
        runner = runner_of(
            listener, Check("web", TcpCheck("127.0.0.1", closed_port), interval=NEVER, fall=5)
        )
        runner.start()
        await listener.until_fit(fit=False)
        assert len(listener.results) == 5
        await asyncio.sleep(0.1)
        assert len(listener.results) == 5
        await runner.stop()

    asyncio.run(scenario())


def test_a_reset_needs_no_interval(serve: Serve, reset: Handler, listener: Listener) -> None:
    """Likewise."""

    async def scenario() -> None:
        async with serve(reset) as port:
            runner = runner_of(
                listener,
                Check("web", HttpCheck(f"http://127.0.0.1:{port}/"), interval=NEVER, fall=3),
            )
            runner.start()
            await listener.until_fit(fit=False)
            assert len(listener.results) == 3
            await runner.stop()

    asyncio.run(scenario())


def test_a_wrong_status_waits_for_the_interval(
    serve: Serve, answer: Answer, listener: Listener
) -> None:
    """It is no proof: a server that reloads says 503 for a moment."""

    async def scenario() -> None:
        async with serve(answer(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")) as port:
            runner = runner_of(
                listener, Check("web", HttpCheck(f"http://127.0.0.1:{port}/"), interval=NEVER)
            )
            runner.start()
            await listener.until(lambda: bool(listener.results))
            await asyncio.sleep(0.1)
            assert len(listener.results) == 1
            assert runner.verdict.fit is None
            await runner.stop()

    asyncio.run(scenario())


def test_a_hanging_server_never_has_two_requests(serve: Serve, listener: Listener) -> None:
    """Though the timeout is five intervals."""
    now, most = 0, 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await reader.read()
        await reader.read()
        now -= 1

    async def scenario() -> None:
        async with serve(handle) as port:
            runner = runner_of(
                listener,
                Check("web", HttpCheck(f"http://127.0.0.1:{port}/"), interval=0.05, timeout=0.25),
            )
            runner.start()
            await listener.until(lambda: len(listener.results) >= 3)
            await runner.stop()
        assert most == 1
        assert {result.detail for _, result, _ in listener.results} == {"no response within 250 ms"}

    asyncio.run(scenario())


def test_a_link_event_is_judged_at_once(listener: Listener) -> None:
    """Down without waiting for `fall` intervals.

    Up needs the first good result at the start, and `rise` later.
    """

    async def scenario() -> None:
        runner = runner_of(
            listener, Check("link", InterfaceCheck("eth0"), interval=NEVER, fall=3, rise=1)
        )
        runner.start()
        await listener.until(lambda: bool(listener.results))
        assert runner.verdict.fit is None  # no event yet
        runner.link(LinkState("eth0", up=True))
        await listener.until_fit(fit=True)
        runner.link(LinkState("lo", up=False))
        runner.link(LinkState("eth0", up=False, detail="no carrier"))
        down = await listener.until_fit(fit=False)
        assert down.detail == "link: eth0: no carrier"
        runner.link(LinkState("eth0", up=True))
        await listener.until_fit(fit=True)
        await runner.stop()
        assert [result.up for _, result, _ in listener.results] == [
            None,
            True,
            False,
            False,
            False,
            True,
        ]

    asyncio.run(scenario())


def test_a_link_that_comes_back_must_stay_for_rise_intervals(listener: Listener) -> None:
    """Carrier that flaps moves nothing, and repeated events about one carrier do not count as
    several.
    """

    async def scenario() -> None:
        def more_than(number: int) -> bool:
            return len(listener.results) > number

        runner = runner_of(
            listener, Check("link", InterfaceCheck("eth0"), interval=NEVER, fall=1, rise=2)
        )
        runner.start()
        runner.link(LinkState("eth0", up=False))
        await listener.until_fit(fit=False)
        for flap in range(3):
            before = len(listener.results)
            for _ in range(3):
                runner.link(LinkState("eth0", up=flap % 2 == 0))
            await listener.until(partial(more_than, before))
        await asyncio.sleep(0.05)
        assert len(listener.results) == 4
        assert runner.verdict.fit is False
        await runner.stop()

    asyncio.run(scenario())


def test_weights_change_the_verdict_without_a_fault(closed_port: int, listener: Listener) -> None:
    """And each change is told once."""

    async def scenario() -> None:
        checks = [
            Check("api", TcpCheck("127.0.0.1", closed_port), interval=0.05, on_fail=Weight(-60)),
            Check("link", InterfaceCheck("eth0"), interval=0.05),
        ]
        runner = runner_of(listener, *checks)
        runner.link(LinkState("eth0", up=True))
        runner.start()
        await listener.until(lambda: len(listener.results) > 8)
        await runner.stop()
        last = listener.verdicts[-1]
        assert (last.fit, last.weight, last.failing) == (True, -60, ("api",))
        assert len(listener.verdicts) == len(
            {(verdict.fit, verdict.weight, verdict.failing) for verdict in listener.verdicts}
        )

    asyncio.run(scenario())


def test_without_checks_a_node_is_fit_at_once(listener: Listener) -> None:
    """And the first verdict is told all the same."""

    async def scenario() -> None:
        runner = runner_of(listener)
        runner.start()
        assert listener.verdicts == [Verdict(fit=True)]
        await runner.stop()

    asyncio.run(scenario())


def test_a_new_life_goes_on_with_the_remembered_verdicts(
    closed_port: int, listener: Listener
) -> None:
    """The first verdict is the previous daemon's; a check that is new is undecided.

    One that is gone is forgotten.
    """

    async def scenario() -> None:
        port = TcpCheck("127.0.0.1", closed_port)
        runner = runner_of(
            listener,
            Check("web", port, interval=NEVER, fall=2),
            Check("api", port, interval=NEVER, on_fail=Weight(-5)),
        )
        runner.restore_verdicts({"web": True, "api": False, "gone": True})
        assert runner.verdicts_to_keep() == {"web": True, "api": False}
        runner.start()
        assert (listener.verdicts[0].fit, listener.verdicts[0].weight) == (True, -5)
        await listener.until_fit(fit=False)
        # no hastier than without a restart
        assert len([1 for name, _, _ in listener.results if name == "web"]) == 2
        assert runner.verdicts_to_keep() == {"web": False, "api": False}
        await runner.stop()
        new = runner_of(listener, Check("web", port), Check("new", port))
        new.restore_verdicts({"web": True})
        assert (new.verdict.fit, new.verdicts_to_keep()) == (None, {"web": True})
        await new.stop()

    asyncio.run(scenario())


def test_what_listeners_raise_stops_no_check(
    closed_port: int, listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    """A fault in a metric must not freeze a verdict; it is logged."""

    def broken(*_args: object) -> None:
        raise ZeroDivisionError

    async def scenario() -> None:
        runner = Runner(
            [Check("web", TcpCheck("127.0.0.1", closed_port), interval=NEVER)],
            listener.on_change,
            time.monotonic,
            on_result=broken,
        )
        runner.start()
        await listener.until_fit(fit=False)
        await runner.stop()
        deaf = Runner(
            [Check("web", TcpCheck("127.0.0.1", closed_port))],
            broken,
            time.monotonic,
            on_result=listener.on_result,
        )
        deaf.start()
        await listener.until(lambda: len(listener.results) >= 2)
        assert deaf.verdict.fit is False
        await deaf.stop()

    asyncio.run(scenario())
    assert all("ZeroDivisionError" in (record.exc_text or "") for record in caplog.records)
    assert caplog.records


def test_a_check_whose_machinery_breaks_does_not_stay_green(
    serve: Serve, answer: Answer, listener: Listener
) -> None:
    """A fault of our own ends its loop: it is down from then on."""
    broken = False

    def clock() -> float:
        nonlocal broken
        if broken:
            broken = False
            raise ZeroDivisionError("no time")
        return time.monotonic()

    async def scenario() -> None:
        nonlocal broken
        async with serve(answer(OK)) as port:
            runner = Runner(
                [Check("web", HttpCheck(f"http://127.0.0.1:{port}/"), interval=0.05)],
                listener.on_change,
                clock,
            )
            runner.start()
            await listener.until_fit(fit=True)
            broken = True
            down = await listener.until_fit(fit=False)
            assert "no time" in down.detail
            await runner.stop()

    asyncio.run(scenario())


def test_stop_leaves_nothing_and_says_nothing(
    serve: Serve, hang: Handler, listener: Listener
) -> None:
    """In the middle of a try; and a second time; and without a start."""

    async def scenario() -> None:
        async with serve(hang) as port:
            before = len(asyncio.all_tasks())
            checks = [
                Check("web", HttpCheck(f"http://127.0.0.1:{port}/"), timeout=5.0),
                Check("tcp", TcpCheck("127.0.0.1", port)),
            ]
            runner = runner_of(listener, *checks)
            runner.start()
            await listener.until(lambda: bool(listener.results))
            await runner.stop()
            told = (len(listener.results), len(listener.verdicts))
            await runner.stop()
            await asyncio.sleep(0.02)
            assert (len(listener.results), len(listener.verdicts)) == told
            await runner_of(listener, *checks).stop()
        await asyncio.sleep(0.02)
        assert len(asyncio.all_tasks()) == before

    asyncio.run(scenario())


def test_many_checks_start_soon_and_not_together(
    serve: Serve, hang: Handler, listener: Listener
) -> None:
    """Their first tries are spread though each is in a runner of its own.

    Then the grids of all lie apart.
    """
    moments: dict[str, list[float]] = {}

    def on_result(check: Check, result: Result, seconds: float) -> None:
        moments.setdefault(check.name, []).append(asyncio.get_running_loop().time() - seconds)
        listener.on_result(check, result, seconds)

    async def scenario() -> None:
        async with serve(hang) as port:
            checks = [
                Check(f"c{number:02}", TcpCheck("127.0.0.1", port), interval=0.3)
                for number in range(30)
            ]
            runners = [
                Runner(
                    [check],
                    listener.on_change,
                    time.monotonic,
                    on_result=on_result,
                    position=number,
                )
                for number, check in enumerate(checks)
            ]
            for runner in runners:
                runner.start()
            await listener.until(
                lambda: len(moments) == 30 and all(len(times) >= 2 for times in moments.values())
            )
            for runner in runners:
                await runner.stop()
        first = [moments[check.name][0] for check in checks]
        assert first[-1] - first[0] > 20 * STEP
        assert len({round(times[1] - times[0], 2) for times in moments.values()}) > 5

    asyncio.run(scenario())


def test_statuses_come_in_the_order_of_the_configuration(listener: Listener) -> None:
    """One for each check, decided or not."""
    runner = runner_of(
        listener, Check("b", InterfaceCheck("eth0")), Check("a", TcpCheck("127.0.0.1", 1))
    )
    assert [(status.name, status.kind, status.up) for status in runner.statuses()] == [
        ("b", "interface", None),
        ("a", "tcp", None),
    ]
