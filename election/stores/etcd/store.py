"""The store in etcd, version 3.4 or newer.

    <prefix>elections/<election>   the election's record <prefix>nodes/<node>           the node's
    candidate record, under a lease of etcd's that takes it away with the node

Every endpoint has a connection of its own, and the next call goes to the next one after a fault:
gRPC's own failover stays with a frozen server for as long as it is frozen. A read may ask several
within its timeout. A write is sent once: when its answer is lost, sending it again elsewhere could
turn "applied" into a conflict with oneself, so the answer is Unknown, and whoever wrote reads back.

A revision is etcd's own (mod_revision) and a hash of the value, since after a restore from a backup
etcd gives the same revisions out again.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

from election.model import (
    Absent,
    Applied,
    CandidateRecord,
    Conflict,
    Content,
    Found,
    ReadAnswer,
    Record,
    Revision,
    Unknown,
    Unreadable,
    WriteAnswer,
)
from election.outage import Outage
from election.stores.contract import (
    CandidateChanged,
    ElectionChanged,
    WatchEvent,
    WatchLost,
    WatchStands,
)
from election.stores.encoding import (
    decode_candidate,
    decode_record,
    encode_candidate,
    encode_record,
)
from election.stores.errors import BadRecord, StoreFault
from election.stores.etcd.access import NO_ACCESS, EtcdAccess, Signature, signature
from election.stores.etcd.batch import Item
from election.stores.etcd.endpoint import Change, Endpoint, Watch
from election.stores.etcd.login import Login
from election.stores.refusals import Key, Refusals

T = TypeVar("T")

WATCH_RETRY = 0.1
"""Seconds between two attempts to set up a watch."""
WATCH: Key = "watch"
REMEMBERED = 64
"""Contents of a record that a write may be based on. Only the last one can be current, but a watch
that lags brings old ones after it."""
FAULTS = (StoreFault, TimeoutError)


class Rotation:
    """The endpoints, and which of them is asked next."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self.all = tuple(endpoints)
        self._at = 0

    @property
    def current(self) -> Endpoint:
        """The endpoint to ask now."""
        return self.all[self._at]

    def order(self) -> tuple[Endpoint, ...]:
        """Return all endpoints, the current one first."""
        return self.all[self._at :] + self.all[: self._at]

    def failed(self, endpoint: Endpoint) -> None:
        """Go on to the next endpoint, unless another call did so already."""
        if endpoint is self.current:
            self._at = (self._at + 1) % len(self.all)


class EtcdStore:
    """A Store in etcd. `request_timeout` (seconds) is for what the watch asks.

    `candidate_ttl` becomes whole seconds, rounded up.

    `access` is for all endpoints alike; its certificates are for those that begin with https.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        prefix: str = "/vipd/",
        request_timeout: float = 0.8,
        candidate_ttl: float = 10.0,
        access: EtcdAccess = NO_ACCESS,
    ) -> None:
        if not endpoints:
            raise ValueError("etcd needs at least one endpoint")
        self._prefix = prefix if prefix.endswith("/") else f"{prefix}/"
        self._elections = f"{self._prefix}elections/"
        self._nodes = f"{self._prefix}nodes/"
        self._request_timeout = request_timeout
        self._ttl = max(1, math.ceil(candidate_ttl))
        self._login = Login(access, len(endpoints))
        self._refusals = Refusals()
        self._files = (*access.tls_files, *([access.password_file] if access.password_file else []))
        self._rotation = Rotation([Endpoint(url, access, self._login) for url in endpoints])
        self._contents: dict[str, dict[Revision, Item]] = {}
        self._closed = False

    async def read(self, election: str, timeout: float) -> ReadAnswer:
        """Return the record as of a moment after the call began."""
        key = self._elections + election
        answer = await self._read_from_any(
            ("read", key), lambda endpoint: endpoint.get(key), timeout
        )
        return answer if isinstance(answer, Unknown) else self._content(election, answer)

    async def write(
        self, election: str, record: Record, expected: Revision | None, timeout: float
    ) -> WriteAnswer:
        """Replace the record if its revision is still `expected`; None: create it if there is none.

        A revision that did not come from this object, or from long ago, is a Conflict: nothing is
        sent.
        """
        before = self._contents.get(election, {}).get(expected) if expected is not None else None
        if before is None and expected is not None:
            return Conflict()
        key, value = self._elections + election, encode_record(record)
        answer = await self._write_to_one(
            ("write", key), lambda endpoint: endpoint.swap(key, value, before), timeout
        )
        if isinstance(answer, Unknown):
            return answer
        return (
            Conflict()
            if answer is None
            else Applied(self._remember(election, Item(key, value, answer)))
        )

    async def read_candidates(self, timeout: float) -> Sequence[CandidateRecord] | Unknown:
        """Return every node's candidate record; unreadable ones are left out."""
        answer = await self._read_from_any(
            ("read", self._nodes), lambda endpoint: endpoint.list(self._nodes), timeout
        )
        if isinstance(answer, Unknown):
            return answer
        found = (self._candidate(item) for item in answer[1])
        return [record for record in found if record is not None]

    async def write_candidate(self, record: CandidateRecord, timeout: float) -> WriteAnswer:
        """Replace this node's candidate record, whatever is there."""
        key, value = self._nodes + record.name, encode_candidate(record)
        answer = await self._write_to_one(
            ("write", key), lambda endpoint: endpoint.put(key, value, self._ttl), timeout
        )
        return (
            answer
            if isinstance(answer, Unknown)
            else Applied(revision_of(Item(key, value, answer)))
        )

    async def delete_candidate(self, name: str, timeout: float) -> WriteAnswer:
        """Remove a candidate record; absent is as good as applied."""
        answer = await self._write_to_one(
            ("remove", name), lambda endpoint: endpoint.delete(self._nodes + name), timeout
        )
        return answer if isinstance(answer, Unknown) else Applied("")

    async def watch(self) -> AsyncIterator[WatchEvent]:
        """Report every change of every record for as long as it is iterated.

        Sets itself up again after a fault.
        """
        known: set[str] = set()
        lost: WatchLost | None = None
        while not self._closed:
            files = signature(self._files)
            if self._refusals.wait(WATCH, asyncio.get_running_loop().time(), files):
                await asyncio.sleep(WATCH_RETRY)
                continue
            endpoint = self._rotation.current
            watch: Watch | None = None
            try:
                async with asyncio.timeout(self._request_timeout):
                    revision, items = await endpoint.list(self._prefix)
                    watch = await endpoint.watch(self._prefix, revision + 1, self._request_timeout)
                self._refusals.granted(WATCH)
                gone = known - {item.key for item in items}
                current = [Change(item.key, item) for item in items] + [
                    Change(key, None) for key in sorted(gone)
                ]
                for event in self._events(current, known):
                    yield event
                lost = None
                yield WatchStands()
                while True:
                    for event in self._events(await watch.changes(), known):
                        yield event
            except FAULTS as error:
                fault = self._note_fault(endpoint, error, self._request_timeout)
                self._note(WATCH, fault, files)
                before, lost = lost, WatchLost(fault.why, fault.outage)
                if lost != before and not self._closed:
                    yield lost
            finally:
                if watch is not None:
                    await watch.close()
            await asyncio.sleep(WATCH_RETRY)

    async def close(self) -> None:
        """End all watches and connections."""
        self._closed = True
        await self._login.close()
        for endpoint in self._rotation.all:
            await endpoint.close()

    async def _read_from_any(
        self, key: Key, question: Callable[[Endpoint], Awaitable[T]], timeout: float
    ) -> T | Unknown:
        """Ask one endpoint after the other.

        Each but the last gets half of the time left: a frozen one must not take all of it.
        """
        return await self._unless_refused(key, lambda: self._read_in_turn(question, timeout))

    async def _read_in_turn(
        self, question: Callable[[Endpoint], Awaitable[T]], timeout: float
    ) -> T | Unknown:
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout
        order = self._rotation.order()
        answer: Unknown | None = None
        for endpoint in order:
            left = end - loop.time()
            share = left if endpoint is order[-1] else left / 2
            try:
                async with asyncio.timeout(share):
                    return await question(endpoint)
            except FAULTS as error:
                fault = self._note_fault(endpoint, error, share)
                answer = (
                    fault
                    if answer is None or fault.outage.tells_more_than(answer.outage)
                    else answer
                )
        return answer or Unknown("etcd has no endpoint")

    async def _write_to_one(
        self, key: Key, order: Callable[[Endpoint], Awaitable[T]], timeout: float
    ) -> T | Unknown:
        """Send a write to one endpoint, once."""
        return await self._unless_refused(key, lambda: self._write_once(order, timeout))

    async def _write_once(
        self, order: Callable[[Endpoint], Awaitable[T]], timeout: float
    ) -> T | Unknown:
        endpoint = self._rotation.current
        try:
            async with asyncio.timeout(timeout):
                return await order(endpoint)
        except FAULTS as error:
            return self._note_fault(endpoint, error, timeout)

    async def _unless_refused(
        self, key: Key, send: Callable[[], Awaitable[T | Unknown]]
    ) -> T | Unknown:
        """Ask, unless it was refused a short while ago.

        Then the answer is the same, and nothing is sent.
        """
        clock, refusals = asyncio.get_running_loop().time, self._refusals
        files = signature(self._files)
        if refusals.wait(key, clock(), files):
            return Unknown(refusals.of(key).why, Outage.REFUSING)
        try:
            answer = await send()
        except BaseException:
            refusals.unanswered(key, clock())
            raise
        self._note(key, answer, files)
        return answer

    def _note(self, key: Key, answer: object, files: Signature) -> None:
        now = asyncio.get_running_loop().time()
        if not isinstance(answer, Unknown):
            self._refusals.granted(key)
        elif answer.outage is Outage.REFUSING:
            self._refusals.refused(key, now, files, answer.why)
        else:
            self._refusals.unanswered(key, now)

    def _note_fault(self, endpoint: Endpoint, error: Exception, timeout: float) -> Unknown:
        self._rotation.failed(endpoint)
        fault = unknown(endpoint, error, timeout)
        if fault.outage in {Outage.SLOW, Outage.UNREACHABLE}:
            endpoint.note_silence()
        return fault

    def _events(self, changes: Iterable[Change], known: set[str]) -> Iterable[WatchEvent]:
        for change in changes:
            if change.key.startswith(self._elections):
                election = change.key.removeprefix(self._elections)
                yield ElectionChanged(election, self._content(election, change.item))
            elif change.key.startswith(self._nodes):
                record = None if change.item is None else self._candidate(change.item)
                yield CandidateChanged(change.key.removeprefix(self._nodes), record)
            if change.item is None:
                known.discard(change.key)
            else:
                known.add(change.key)

    def _content(self, election: str, item: Item | None) -> Content:
        if item is None:
            return Absent()
        revision = self._remember(election, item)
        try:
            return Found(decode_record(item.value), revision)
        except BadRecord as bad:
            return Unreadable(revision, str(bad))

    def _candidate(self, item: Item) -> CandidateRecord | None:
        try:
            record = decode_candidate(item.value)
        except BadRecord:
            return None
        return record if item.key == self._nodes + record.name else None

    def _remember(self, election: str, item: Item) -> Revision:
        revision = revision_of(item)
        contents = self._contents.setdefault(election, {})
        contents.pop(revision, None)
        contents[revision] = item
        while len(contents) > REMEMBERED:
            del contents[next(iter(contents))]
        return revision


def revision_of(item: Item) -> Revision:
    """Return the store's name for this very content of a key."""
    return f"{item.revision}-{hashlib.sha256(item.value).hexdigest()[:16]}"


def unknown(endpoint: Endpoint, error: Exception, timeout: float) -> Unknown:
    """Return what a fault means to whoever asked."""
    if isinstance(error, StoreFault):
        return Unknown(str(error), error.outage)
    if endpoint.logging_in:
        return Unknown(
            f"etcd at {endpoint.url} has been checking the password for {endpoint.logging_in:.1f} "
            "s",
            Outage.SLOW,
        )
    return Unknown(
        f"etcd at {endpoint.url} did not answer within {timeout:.3g} s", endpoint.silence
    )
