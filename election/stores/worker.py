"""One thread that does what may block, so that the event loop never waits for a disk.

A call that takes longer than its timeout is given up, not ended: no thread can be taken out of a
system call. It may still come through, so only work belongs here that is harmless then. The thread
is a daemon: one that hangs in the kernel (a dead disk, a frozen file system) does not keep the
process from ending, as those of concurrent.futures would.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from election.stores.errors import NoWorker

T = TypeVar("T")

LONGEST_QUEUE = 256
"""Calls that wait at most: behind a disk that hangs they would pile up until the memory is full."""
LAST_WAIT = 1.0
"""Seconds that close() waits for the calls before it."""


@dataclass(frozen=True, slots=True)
class _Call:
    work: Callable[[], Any]
    loop: asyncio.AbstractEventLoop
    answer: asyncio.Future[Any]


class Worker:
    """Does one call after the other, in the order in which they came.

    The thread starts with the first one.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False

    async def call(self, work: Callable[[], T], timeout: float) -> T:
        """Return what `work` returns, or raise what it raises.

        TimeoutError after `timeout` seconds.

        Raises NoWorker while LONGEST_QUEUE calls wait, and after close(). A call that was given up
        before its turn is not done at all.
        """
        if self._closed:
            raise NoWorker("it is closed")
        if self._calls.qsize() >= LONGEST_QUEUE:
            raise NoWorker(f"{LONGEST_QUEUE} calls wait for one that hangs")
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        self._calls.put(_Call(work, loop, answer))
        async with asyncio.timeout(timeout):
            return await answer

    async def close(self) -> None:
        """Take no more calls and let the thread end after those that wait.

        Returns after LAST_WAIT, even if one hangs.
        """
        thread = self._thread
        if self._closed or thread is None:
            self._closed = True
            return
        self._closed = True
        loop = asyncio.get_running_loop()
        ended = loop.create_future()
        self._calls.put(_Call(lambda: None, loop, ended))
        self._calls.put(None)
        try:
            async with asyncio.timeout(LAST_WAIT):
                await ended
        except TimeoutError:
            return
        # The thread has nothing left to do but to return from _run.
        thread.join()

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            # Read from another thread, without a lock: at worst a call is done whose caller has
            # just given up.
            if not call.answer.done():
                _do(call)


def _do(call: _Call) -> None:
    try:
        result = call.work()
    except Exception as error:  # noqa: BLE001 - whatever it is belongs to the caller
        _post(call, _fail, error)
    else:
        _post(call, _finish, result)


def _post(call: _Call, finish: Callable[[asyncio.Future[Any], Any], None], value: object) -> None:
    try:
        call.loop.call_soon_threadsafe(finish, call.answer, value)
    except RuntimeError:
        # The loop was closed while the call was in hand: nobody waits for the answer.
        return


def _finish(answer: asyncio.Future[Any], result: object) -> None:
    if not answer.done():
        answer.set_result(result)


def _fail(answer: asyncio.Future[Any], error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)
