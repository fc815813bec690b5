from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from health.errors import SearchError
from health.kinds import search, searcher
from health.kinds.search import SLOW, Searches
from health.model import HttpCheck, Result

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Serve = Callable[..., AbstractAsyncContextManager[int]]
FirstResult = Callable[..., Coroutine[None, None, Result]]
ENDLESS = "(a+)+b"
PAGE = b"a" * 50


def children() -> list[int]:
    """Return the searchers that this process has, also those that wait to be reaped."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        for pid in (task / "children").read_text().split():
            command = Path(f"/proc/{pid}/cmdline")
            if command.exists() and (
                b"searcher.py" in command.read_bytes() or not command.read_bytes()
            ):
                found.append(int(pid))
    return found


def test_what_is_found_is_what_python_finds() -> None:
    """The syntax stays that of `re`.

    Look-ahead, back references, Unicode classes, a text that is not UTF-8.
    """

    async def scenario() -> None:
        searches = Searches()
        for pattern, text, wanted in (
            ("ok", b"all ok", True),
            ("^ok$", b"all ok", False),
            (r"(?!.*down)up", b"up", True),
            (r"(\w)\1", "éé".encode(), True),
            ("\N{REPLACEMENT CHARACTER}", b"\xff", True),
            ("x", b"", False),
            ("", b"", True),
            ("b$", b"a" * 65535 + b"b", True),
        ):
            assert await searches.found(pattern, text) is wanted, pattern
        assert len(children()) == 1
        await searches.close()
        assert children() == []

    asyncio.run(scenario())


def test_a_pattern_that_backtracks_fails_its_own_check_only() -> None:
    """Others with patterns of their own go on, before, beside and after.

    The event loop is watched by a fixture.
    """

    async def scenario() -> None:
        searches = Searches()

        async def bad() -> None:
            async with asyncio.timeout(0.4):
                await searches.found(ENDLESS, PAGE)

        async def good() -> float:
            started = time.perf_counter()
            assert await searches.found("ok", b"ok")
            return time.perf_counter() - started

        await good()
        results = await asyncio.gather(bad(), *(good() for _ in range(20)), return_exceptions=True)
        assert isinstance(results[0], TimeoutError)
        assert not [one for one in results[1:] if not isinstance(one, float)]
        await good()
        # It takes a rest: searching it again and again would take a core from the ingress.
        with pytest.raises(SearchError, match="backtracks"):
            await searches.found(ENDLESS, PAGE)
        await searches.close()
        assert children() == []

    asyncio.run(scenario())


def test_the_check_says_why_it_fails(
    serve: Serve, answer: Callable[[bytes], Handler], first_result: FirstResult
) -> None:
    """Within its own timeout."""
    page = b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n" + PAGE

    async def scenario() -> None:
        async with serve(answer(page)) as port:
            result = await first_result(
                HttpCheck(f"http://127.0.0.1:{port}/", body=ENDLESS), timeout=0.4
            )
            assert result == Result(
                up=False, detail="no end of the search for the body pattern within 400 ms"
            )
            assert (await first_result(HttpCheck(f"http://127.0.0.1:{port}/", body="a{50}"))).up
        assert children() == []

    asyncio.run(scenario())


def test_a_pattern_that_only_needs_longer_gets_its_time() -> None:
    """Half a million steps are more than the quick process allows, and well within a check's
    timeout.
    """

    async def scenario() -> None:
        searches = Searches()
        for _ in range(2):
            assert not await searches.found("(a|a){17}b", b"a" * 18)
        await searches.close()

    asyncio.run(scenario())


def test_a_searcher_that_is_killed_is_started_again() -> None:
    """By the kernel's out-of-memory killer, for example."""

    async def scenario() -> None:
        searches = Searches()
        assert await searches.found("ok", b"ok")
        os.kill(children()[0], signal.SIGKILL)
        assert await searches.found("ok", b"ok")
        assert await searches.found("ok", b"ok")
        await searches.close()

    asyncio.run(scenario())


def test_a_slow_start_of_the_process_is_no_bad_result(
    monkeypatch: pytest.MonkeyPatch,
    serve: Serve,
    answer: Callable[[bytes], Handler],
    first_result: FirstResult,
) -> None:
    """On a busy machine it may take longer than a try may."""
    start = search._start

    def slow(theirs: socket.socket, niceness: int) -> subprocess.Popen[bytes]:
        time.sleep(0.5)
        return start(theirs, niceness)

    monkeypatch.setattr(search, "_start", slow)

    async def scenario() -> None:
        async with serve(answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")) as port:
            assert (
                await first_result(HttpCheck(f"http://127.0.0.1:{port}/", body="ok"), timeout=0.3)
            ).up

    asyncio.run(scenario())


def test_without_a_process_nothing_is_known(
    monkeypatch: pytest.MonkeyPatch,
    serve: Serve,
    answer: Callable[[bytes], Handler],
    first_result: FirstResult,
) -> None:
    """That says nothing about the page."""
    monkeypatch.setattr(sys, "executable", "/nonexistent")

    async def scenario() -> None:
        async with serve(answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")) as port:
            result = await first_result(HttpCheck(f"http://127.0.0.1:{port}/", body="ok"))
            assert result.up is None
            assert "no process for the search can be started" in result.detail

    asyncio.run(scenario())


def test_a_search_ends_though_nobody_waits_any_more() -> None:
    """Its daemon was killed: the kernel ends it, whatever the regular expression engine does."""
    assert SLOW < 10
    head = searcher.HEAD.pack(len(ENDLESS), len(PAGE), 0.1)
    argv = [sys.executable, "-I", "-S", str(Path(searcher.__file__).resolve()), "0"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        child.stdin.write(head + ENDLESS.encode() + PAGE)
        child.stdin.close()
        assert child.wait(20) == -signal.SIGPROF
