"""The embedded store: a directory that all nodes of one host share. For trials, the demo and tests.

What is in the directory, and why it needs no lock and no fsync, says election.stores.file.records.
Here the blocking work is moved to a thread of its own, bounded in time, and its faults are put into
sentences.

A call that was given up may still come through: a write is a compare-and-swap, and the caller was
told `Unknown`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from election.model import CandidateRecord, ReadAnswer, Record, Revision, Unknown, WriteAnswer
from election.outage import Outage, of_system_error
from election.stores.contract import WatchEvent, WatchLost, WatchStands
from election.stores.errors import NoWorker
from election.stores.file.records import FileRecords
from election.stores.file.watch import InotifyWaiter, Tree
from election.stores.worker import Worker

T = TypeVar("T")

WATCH_TIMEOUT = 5.0
"""Seconds after which a watch that cannot look into the directory is lost."""
WATCH_RETRY = 0.1
"""Seconds between two attempts to set up a watch."""
FAULTS = (OSError, NoWorker)
"""TimeoutError is an OSError."""


class FileStore:
    """A Store in a directory.

    Its parent must exist. `candidate_ttl`: seconds that a candidate record stays without a refresh.
    """

    def __init__(self, path: Path, candidate_ttl: float = 60.0) -> None:
        self._path = path
        self._files = FileRecords(path, candidate_ttl)
        self._worker = Worker("vipd-store")
        # A worker of its own: a watch that looks through many records does not hold up a renewal.
        self._watcher = Worker("vipd-store-watch")
        self._waiters: set[InotifyWaiter] = set()
        self._closed = False

    async def read(self, election: str, timeout: float) -> ReadAnswer:
        """Return the record as of a moment after the call began."""
        return await self._answer(partial(self._files.read, election), timeout)

    async def write(
        self, election: str, record: Record, expected: Revision | None, timeout: float
    ) -> WriteAnswer:
        """Replace the record if its revision is still `expected`; None: create it if there is
        none.
        """
        return await self._answer(partial(self._files.write, election, record, expected), timeout)

    async def read_candidates(self, timeout: float) -> Sequence[CandidateRecord] | Unknown:
        """Return every node's candidate record; unreadable ones are left out."""
        return await self._answer(self._files.read_candidates, timeout)

    async def write_candidate(self, record: CandidateRecord, timeout: float) -> WriteAnswer:
        """Replace this node's candidate record, whatever is there."""
        return await self._answer(partial(self._files.write_candidate, record), timeout)

    async def delete_candidate(self, name: str, timeout: float) -> WriteAnswer:
        """Remove a candidate record; absent is as good as applied."""
        return await self._answer(partial(self._files.delete_candidate, name), timeout)

    async def watch(self) -> AsyncIterator[WatchEvent]:
        """Report every change of every record for as long as it is iterated.

        Sets itself up again after a fault.
        """
        tree = Tree(self._files)
        lost: WatchLost | None = None
        while not self._closed:
            try:
                with self._waiter() as waiter:
                    current = await self._watcher.call(partial(tree.stand, waiter), WATCH_TIMEOUT)
                    for event in current:
                        yield event
                    lost = None
                    yield WatchStands()
                    while not self._closed:
                        events = await waiter.events()
                        for event in await self._watcher.call(
                            partial(tree.follow, waiter, events), WATCH_TIMEOUT
                        ):
                            yield event
            except FAULTS as error:
                before, lost = lost, WatchLost(self._why(error, WATCH_TIMEOUT), _outage(error))
                if lost != before and not self._closed:
                    yield lost
                await asyncio.sleep(WATCH_RETRY)

    async def close(self) -> None:
        """End all watches and the threads; one that hangs in the kernel is left to itself."""
        self._closed = True
        for waiter in self._waiters:
            waiter.end()
        await self._worker.close()
        await self._watcher.close()

    @contextlib.contextmanager
    def _waiter(self) -> Iterator[InotifyWaiter]:
        with InotifyWaiter() as waiter:
            self._waiters.add(waiter)
            try:
                yield waiter
            finally:
                self._waiters.discard(waiter)

    async def _answer(self, work: Callable[[], T], timeout: float) -> T | Unknown:
        try:
            return await self._worker.call(work, timeout)
        except FAULTS as error:
            return Unknown(self._why(error, timeout), _outage(error))

    def _why(self, error: Exception, timeout: float) -> str:
        match error:
            case TimeoutError():
                return f"{self._path} did not answer within {timeout:g} s"
            case OSError(strerror=str(what)):
                return f"{error.filename or self._path}: {what}"
            case _:
                return f"{self._path}: {error}"


def _outage(error: Exception) -> Outage:
    return of_system_error(error) if isinstance(error, OSError) else Outage.SLOW
