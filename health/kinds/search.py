"""Searches bodies for patterns in processes of their own, so that a pattern that backtracks without
end holds up nobody.

Python's `re` holds the interpreter's lock while it searches: on a thread it would stop the event
loop just as well. All patterns share one process, each search with little CPU. One that needs more
is from then on searched in a second process, which is nice to others: there it waits behind its
like only, and ends with the check's own timeout.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from health.errors import SearchError
from health.kinds import searcher

QUICK = 0.02
"""Seconds of CPU for a search of up to 64 KiB; what does not backtrack takes less than one
millisecond."""
SLOW = 5.0
"""Seconds of CPU after which a search ends even if the check's timeout is longer, or if this
process was killed meanwhile."""
REST = 9.0
"""After a search that did not end: how many times as long as it took its pattern is left alone, so
that it costs a tenth of a core."""
NICE = 10
BAD_PATTERN = "the body pattern needs too much memory for this page"
TOO_LONG = f"the search for the body pattern took more than {SLOW:g}s of CPU"


@dataclass(frozen=True, slots=True)
class Job:
    """What one check has asked for.

    The answer is None when the process ended over it, and cancelled when nobody waits any more.
    """

    pattern: bytes
    text: bytes
    seconds: float
    answer: asyncio.Future[bytes | None]


class Lane:
    """One process, started when it is needed, and those who wait for it in turn."""

    def __init__(self, seconds: float, niceness: int) -> None:
        self._seconds = seconds
        self._niceness = niceness
        self._jobs: deque[Job] = deque()
        self._child: subprocess.Popen[bytes] | None = None
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._work: asyncio.Task[None] | None = None
        self._reaping: set[asyncio.Future[int]] = set()
        self._closed = False

    async def search(self, pattern: str, text: bytes) -> bytes | None:
        """Return one of the searcher's answers, or None if it ended over this one.

        Raises OSError if none can be started.
        """
        loop = asyncio.get_running_loop()
        job = Job(pattern.encode("utf-8", "replace"), text, self._seconds, loop.create_future())
        self._jobs.append(job)
        if self._work is None or self._work.done():
            self._work = loop.create_task(self._work_off(), name="searches of bodies")
        return await job.answer

    async def close(self) -> None:
        """End the process. Idempotent."""
        self._closed = True
        if self._work is not None:
            self._work.cancel()
            await asyncio.gather(self._work, return_exceptions=True)
        for job in self._jobs:
            job.answer.cancel()
        await self._end()
        if self._reaping:
            await asyncio.wait(self._reaping)

    async def _work_off(self) -> None:
        while self._jobs:
            job = self._jobs.popleft()
            if job.answer.done():
                continue
            try:
                answer = await self._answered(job)
            except OSError as error:
                if not job.answer.done():
                    job.answer.set_exception(error)
            else:
                if not job.answer.done():
                    job.answer.set_result(answer)

    async def _answered(self, job: Job) -> bytes | None:
        reader, writer = await self._started()
        asking = asyncio.ensure_future(_asked(reader, writer, job))
        try:
            over: set[asyncio.Future[Any]] = {asking, job.answer}
            await asyncio.wait(over, return_when=asyncio.FIRST_COMPLETED)
            answer = asking.result() if asking.done() else b""
        finally:
            asking.cancel()
        if not answer:
            # It died over this search, or whose search it is has given up: it searches on, and is
            # of no use to others.
            await self._end()
        return answer or None

    async def _started(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._reader is None or self._writer is None:
            ours, theirs = socket.socketpair()
            try:
                # On a thread: to start a process takes some milliseconds, on a busy machine tens of
                # them.
                starting = asyncio.ensure_future(asyncio.to_thread(_start, theirs, self._niceness))
                starting.add_done_callback(self._adopt)
                await asyncio.wait({starting})
                starting.result()
                self._reader, self._writer = await asyncio.open_connection(sock=ours)
            except BaseException:
                ours.close()
                raise
        return self._reader, self._writer

    def _adopt(self, starting: asyncio.Future[subprocess.Popen[bytes]]) -> None:
        """Take over a process, or one that nobody waits for any more.

        The end of its input ends it.
        """
        if not starting.cancelled() and starting.exception() is None:
            self._child = starting.result()
            if self._closed:
                self._child.kill()

    async def _end(self) -> None:
        child, writer = self._child, self._writer
        self._child = self._reader = self._writer = None
        if writer is not None:
            writer.transport.abort()
        if child is not None:
            child.kill()
            reaping = asyncio.ensure_future(asyncio.to_thread(child.wait))
            self._reaping.add(reaping)
            reaping.add_done_callback(self._reaping.discard)
            await asyncio.wait({reaping})


def _start(theirs: socket.socket, niceness: int) -> subprocess.Popen[bytes]:
    # -I and -S: nothing of the environment, of the working directory or of installed packages gets
    # into it.
    argv = [sys.executable, "-I", "-S", str(Path(searcher.__file__).resolve()), str(niceness)]
    with theirs:
        return subprocess.Popen(
            argv, stdin=theirs.fileno(), stdout=theirs.fileno(), stderr=subprocess.DEVNULL, cwd="/"
        )


async def _asked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, job: Job) -> bytes:
    """Return the answer; nothing if the process ended."""
    with contextlib.suppress(ConnectionError):
        writer.write(
            searcher.HEAD.pack(len(job.pattern), len(job.text), job.seconds)
            + job.pattern
            + job.text
        )
        await writer.drain()
        return await reader.read(1)
    return b""


class Searches:
    """The searches of one process.

    Used from one event loop only; nothing is started before the first one.
    """

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self._quick = Lane(QUICK, 0)
        self._slow = Lane(SLOW, NICE)
        self._clock = clock or (lambda: asyncio.get_running_loop().time())
        self._rests: dict[str, float] = {}
        """Patterns that were too slow once, and until when each is left alone."""

    async def found(self, pattern: str, text: bytes) -> bool:
        """Return whether the pattern is found in the text (UTF-8).

        Raises SearchError and OSError; the caller bounds the time.
        """
        answer = None
        if pattern not in self._rests:
            answer = await self._quick.search(pattern, text)
            if answer is None:
                self._rests[pattern] = 0.0
        if answer is None:
            answer = await self._patiently(pattern, text)
        if answer == searcher.IMPOSSIBLE:
            raise SearchError(BAD_PATTERN)
        return answer == searcher.FOUND

    async def close(self) -> None:
        """End the processes. Idempotent."""
        await asyncio.gather(self._quick.close(), self._slow.close())

    async def _patiently(self, pattern: str, text: bytes) -> bytes:
        started = self._clock()
        if (left := self._rests[pattern] - started) > 0:
            raise SearchError(
                "the last search for the body pattern did not end: it backtracks too much; tried "
                f"again in {left:.1f}s"
            )
        answer = None
        try:
            answer = await self._slow.search(pattern, text)
        finally:
            if answer is None:
                ended = self._clock()
                self._rests[pattern] = ended + REST * (ended - started)
        if answer is None:
            raise SearchError(TOO_LONG)
        return answer
