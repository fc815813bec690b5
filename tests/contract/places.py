"""Where the records of a contract test are.

Each kind of store with its ways to be edited, broken and restored.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import shutil
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Protocol, TypeVar

import aetcd

from election.model import Applied, Found, ReadAnswer, Record, Revision
from election.stores.contract import Store, WatchEvent, WatchStands
from election.stores.etcd.store import EtcdStore
from election.stores.file.store import FileStore
from tests.etcd_server import EtcdServer

PATIENCE = 10.0
"""Seconds after which something that must happen has not happened."""
TIMEOUT = 5.0
"""Seconds that a call may take which is expected to succeed; the machine may be busy."""
numbers = itertools.count()


class Place(Protocol):
    """One kind of store, empty at the start of a test."""

    def store(self, candidate_ttl: float = 30.0) -> Store:
        """Return another node's view of the place."""
        ...

    async def edit(self, election: str, change: Callable[[dict[str, object]], None]) -> None:
        """Change the JSON of a record the way a person with an editor does."""
        ...

    async def damage(self, election: str, data: bytes) -> None:
        """Put these bytes in the place of the record."""
        ...

    async def remove(self, election: str) -> None:
        """Delete the record by hand."""
        ...

    def hung(self) -> contextlib.AbstractAsyncContextManager[None]:
        """Make the place take requests and answer none."""
        ...

    def away(self) -> contextlib.AbstractAsyncContextManager[None]:
        """Take the place away altogether; afterwards it is back with all it had."""
        ...

    def backup(self) -> None:
        """Make a copy of all records."""
        ...

    def restore(self) -> None:
        """Put the copy in the place of what is there."""
        ...


class FilePlace:
    """A directory."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "store"
        self._aside = directory / "aside"
        self._copy = directory / "copy"
        self._stores: list[FileStore] = []

    def store(self, candidate_ttl: float = 30.0) -> Store:
        """Return another node's view of the place."""
        self._stores.append(FileStore(self.path, candidate_ttl))
        return self._stores[-1]

    def head(self, election: str) -> Path:
        """Return the file of the current generation."""
        return max((self.path / "elections" / election).iterdir())

    async def edit(self, election: str, change: Callable[[dict[str, object]], None]) -> None:
        """Change the record inside the file, and nothing else there."""
        fields = json.loads(self.head(election).read_bytes())
        change(fields["record"])
        self.head(election).write_text(json.dumps(fields))

    async def damage(self, election: str, data: bytes) -> None:
        """Overwrite the file."""
        self.head(election).write_bytes(data)

    async def remove(self, election: str) -> None:
        """Remove the record's directory."""
        shutil.rmtree(self.path / "elections" / election)

    @contextlib.asynccontextmanager
    async def hung(self) -> AsyncIterator[None]:
        """Keep the threads of all stores in a call that does not return, as a dead disk does."""
        release = threading.Event()
        workers = [
            worker
            for store in self._stores
            for worker in (store._worker, store._watcher)
            if not worker._closed
        ]
        calls = [asyncio.create_task(worker.call(release.wait, PATIENCE)) for worker in workers]
        await asyncio.sleep(0)
        try:
            yield
        finally:
            release.set()
            await asyncio.gather(*calls)

    @contextlib.asynccontextmanager
    async def away(self) -> AsyncIterator[None]:
        """Rename the directory."""
        self.path.rename(self._aside)
        try:
            yield
        finally:
            self._aside.rename(self.path)

    def backup(self) -> None:
        """Copy the directory."""
        shutil.copytree(self.path, self._copy)

    def restore(self) -> None:
        """Copy the copy back."""
        shutil.rmtree(self.path)
        shutil.copytree(self._copy, self.path)


class EtcdPlace:
    """A prefix of an etcd."""

    def __init__(self, directory: Path, server: EtcdServer) -> None:
        self.server = server
        self.prefix = f"/contract/{next(numbers)}/"
        self._copy = directory / "copy"

    def store(self, candidate_ttl: float = 30.0) -> Store:
        """Return another node's view of the place."""
        return EtcdStore([self.server.url], self.prefix, 0.5, candidate_ttl)

    def key(self, election: str) -> bytes:
        """Return the key of a record."""
        return f"{self.prefix}elections/{election}".encode()

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator[aetcd.Client]:
        """Return what a stranger would use."""
        async with aetcd.Client(self.server.host, self.server.port) as client:
            yield client

    async def edit(self, election: str, change: Callable[[dict[str, object]], None]) -> None:
        """Read, change and put the value."""
        async with self.client() as client:
            fields = json.loads((await client.get(self.key(election))).value)
            change(fields)
            await client.put(self.key(election), json.dumps(fields).encode())

    async def damage(self, election: str, data: bytes) -> None:
        """Put another value."""
        async with self.client() as client:
            await client.put(self.key(election), data)

    async def remove(self, election: str) -> None:
        """Delete the key."""
        async with self.client() as client:
            await client.delete(self.key(election))

    @contextlib.asynccontextmanager
    async def hung(self) -> AsyncIterator[None]:
        """Freeze the server."""
        self.server.freeze()
        try:
            yield
        finally:
            self.server.thaw()

    @contextlib.asynccontextmanager
    async def away(self) -> AsyncIterator[None]:
        """Stop the server."""
        self.server.stop()
        try:
            yield
        finally:
            self.server.start()

    def backup(self) -> None:
        """Copy the data of the stopped server."""
        self.server.stop()
        self.server.copy_data(self._copy)
        self.server.start()

    def restore(self) -> None:
        """Start the server on the copy."""
        self.server.stop()
        self.server.restore_data(self._copy)
        self.server.start()


class Watching:
    """What a watch reported so far, and a way to wait for more."""

    def __init__(self, store: Store) -> None:
        self._events = store.watch()
        self.seen: list[WatchEvent] = []

    async def next(self) -> WatchEvent:
        """Return the next event."""
        async with asyncio.timeout(PATIENCE):
            self.seen.append(await anext(self._events))
        return self.seen[-1]

    async def until(self, found: Callable[[WatchEvent], bool]) -> WatchEvent:
        """Return the next event of which this is true."""
        while not found(await self.next()):
            pass
        return self.seen[-1]

    async def each(self, *found: Callable[[WatchEvent], bool]) -> None:
        """Return once each of these was true of an event from here on, in whatever order."""
        left = list(found)
        while left:
            event = await self.next()
            left = [one for one in left if not one(event)]

    async def close(self) -> None:
        """End the watch as a consumer that loses interest does."""
        await self._events.aclose()  # type: ignore[attr-defined]  # all stores' watches are generators


def stands(event: WatchEvent) -> bool:
    """Whether this says that the watch stands."""
    return isinstance(event, WatchStands)


class Closable(Protocol):
    """What holds sockets, tasks and threads until it is closed."""

    async def close(self) -> None:
        """Let go of them."""
        ...


OneClosable = TypeVar("OneClosable", bound=Closable)


@contextlib.asynccontextmanager
async def closing(one: OneClosable) -> AsyncIterator[OneClosable]:
    """Return it; it is closed also when the test fails, or its sockets would fail a later test."""
    try:
        yield one
    finally:
        await one.close()


@contextlib.asynccontextmanager
async def opened(
    place: Place, count: int = 1, candidate_ttl: float = 30.0
) -> AsyncIterator[list[Store]]:
    """Return so many nodes' views of a place.

    In the end they are closed and have left nothing behind.
    """
    threads = set(threading.enumerate())
    async with contextlib.AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(closing(place.store(candidate_ttl)))
            for _ in range(count)
        ]
    async with asyncio.timeout(PATIENCE):
        while asyncio.all_tasks() != {asyncio.current_task()}:  # noqa: ASYNC110 - unknown tasks have no event
            await asyncio.sleep(0.001)
    left = {thread.name for thread in threading.enumerate() if thread not in threads}
    assert not {name for name in left if name.startswith("vipd")}


@contextlib.asynccontextmanager
async def watching(store: Store) -> AsyncIterator[Watching]:
    """Return a watch that stands; it ends with the block."""
    watch = Watching(store)
    try:
        yield watch
    finally:
        await watch.close()


def found(answer: ReadAnswer) -> Found:
    """Return the answer, which must be a record."""
    assert isinstance(answer, Found), answer
    return answer


async def current(store: Store, election: str) -> Found:
    """Return the record, which must be there and readable."""
    return found(await store.read(election, TIMEOUT))


async def settled(store: Store, election: str) -> Found:
    """Return the record of a place that is just coming back."""
    async with asyncio.timeout(PATIENCE):
        while not isinstance(answer := await store.read(election, TIMEOUT), Found):  # noqa: ASYNC110 - the answer is the event
            await asyncio.sleep(0.01)
    return answer


async def revision(
    store: Store, election: str, record: Record, expected: Revision | None = None
) -> Revision:
    """Write a record, which must succeed, and return its revision."""
    answer = await store.write(election, record, expected, TIMEOUT)
    assert isinstance(answer, Applied), answer
    return answer.revision
