"""All Leases of vipd in a namespace, followed: LIST, then WATCH with bookmarks, again and again.

https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes

What ends a watch, and what follows:
    the server's own time is up    the next watch begins where this one ended; nothing is missed 410
    Gone                       a new list shows what changed meanwhile its server takes no one new
    it is being stopped, and cannot end before its watches do: this one is ended, then a new list
    anything else                  the watch is lost; then the same, with a new list silence
    a watch whose server or path died without a word looks like one with nothing to report. But this
                                   node writes all the time, and its own writes must come back: one
                                   that does not is the proof
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass

from election.outage import Outage
from election.stores.kubernetes.client import ApiClient
from election.stores.kubernetes.connection import Connection
from election.stores.kubernetes.lease import SELECTOR, Lease, is_labelled, metadata, text_of

WATCH_SECONDS = 300
"""How long the server is asked to keep a watch; it may end it earlier."""
PAGE = 500
"""Leases in one portion of a list."""
NEWLINE = b"\n"


@dataclass(frozen=True, slots=True)
class Seen:
    """A Lease as the watch has it; `lease` is None if it is said to be gone."""

    name: str
    lease: Lease | None


@dataclass(slots=True, eq=False)
class Sent:
    """A write of a Lease on its way.

    `reported`: versions of this Lease that the watch reported meanwhile; None: no watch stood.
    """

    name: str
    reported: set[str] | None


class UnseenWrites:
    """Own writes that the watch has not reported yet. Times are those of the event loop.

    Only writes that were sent while a watch stood count: one that crossed with a list is in it, or
    is reported, nobody knows.
    """

    def __init__(self) -> None:
        self._written: dict[tuple[str, str], float] = {}
        self._sent: set[Sent] = set()
        self._stands = False

    @contextlib.contextmanager
    def sending(self, name: str) -> Iterator[Sent]:
        """Note that a write of the Lease `name` is on its way for as long as the block lasts."""
        sent = Sent(name, set() if self._stands else None)
        self._sent.add(sent)
        try:
            yield sent
        finally:
            self._sent.discard(sent)

    def note_applied(self, sent: Sent, lease: Lease, base: Lease | None) -> None:
        """Note that a write was applied on top of `base`, and that the watch has to report it.

        Not one that changed nothing: it has no new version. Nor one that was stored without the
        label that the watch selects by.
        """
        version = _version(lease)
        unchanged = base is not None and version == _version(base)
        if (
            sent.reported is not None
            and version[1] not in sent.reported
            and not unchanged
            and is_labelled(lease)
        ):
            self._written.setdefault(version, asyncio.get_running_loop().time())

    def note_reported(self, lease: Lease) -> None:
        """Note what the watch reports.

        Of one Lease it is everything, in order, so earlier writes are settled too.

        It may come before the answer to the write: the API server hears from etcd and answers at
        the same time.
        """
        name, version = _version(lease)
        for sent in self._sent:
            if sent.name == name and sent.reported is not None:
                sent.reported.add(version)
        if (name, version) in self._written:
            for key in [key for key in self._written if key[0] == name]:
                del self._written[key]
                if key[1] == version:
                    break

    def oldest(self) -> float:
        """Return when the oldest write was answered that is not reported; inf: all are."""
        return min(self._written.values(), default=float("inf"))

    def begin_watch(self) -> None:
        """Note that a watch stands."""
        self._stands = True

    def end_watch(self) -> None:
        """Note that none stands: what is not reported will be in the next list."""
        self._stands = False
        self._written.clear()
        for sent in self._sent:
            sent.reported = None


def _version(lease: Lease) -> tuple[str, str]:
    about = metadata(lease)
    return text_of(about, "name"), text_of(about, "resourceVersion")


class LeaseWatch:
    """One watch. `timeout` in seconds bounds each request, and the silence after an own write."""

    def __init__(self, http: ApiClient, path: str, timeout: float, unseen: UnseenWrites) -> None:
        self._http = http
        self._path = path
        self._timeout = timeout
        self._unseen = unseen
        self._version = ""

    async def begin(self) -> list[Lease]:
        """Return all Leases, as of a moment after this call began, and note from where to watch;
        raises StoreFault.
        """
        self._unseen.end_watch()
        async with self._http.bounded(self._timeout):
            leases, self._version = await list_leases(self._http, self._path, SELECTOR)
        return leases

    async def changes(self) -> AsyncGenerator[list[Seen]]:
        """Report changes since the list, in order, until the server ends it.

        Raises StoreFault, and Gone.

        Begins with an empty report as soon as the watch stands. Called again it goes on where it
        ended.
        """
        query = {
            "watch": "true",
            "labelSelector": SELECTOR,
            "resourceVersion": self._version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        async with contextlib.AsyncExitStack() as stack:
            async with self._http.bounded(self._timeout):
                connection = await stack.enter_async_context(self._http.stream(self._path, query))
            self._unseen.begin_watch()
            yield []
            rest = b""
            while data := await self._next(connection):
                *lines, rest = (rest + data).split(NEWLINE)
                yield [seen for line in lines if line and (seen := self._read(line)) is not None]

    async def _next(self, connection: Connection) -> bytes:
        """Return what comes next, empty at the end.

        Raises StoreFault if nothing comes, though it should.
        """
        loop = asyncio.get_running_loop()
        while True:
            # Judged before the wait: after a pause of this process what was reported meanwhile
            # waits to be read.
            overdue = loop.time() - self._unseen.oldest() > self._timeout
            try:
                async with asyncio.timeout(self._timeout / 2) as patience:
                    return await connection.part()
            except TimeoutError:
                if not patience.expired():
                    # The kernel has given the connection up (ETIMEDOUT), and says so to every
                    # further read.
                    raise ConnectionResetError from None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._timeout / 2):
                    await self._http.examine(connection)
            if overdue and loop.time() - self._unseen.oldest() > self._timeout:
                raise self._http.fault(
                    Outage.SLOW,
                    f"does not report this node's own writes within {self._timeout:.3g} s",
                )

    def _read(self, line: bytes) -> Seen | None:
        with self._http.faults():
            event = json.loads(line)
            kind, lease = event["type"], event["object"]
            if not isinstance(lease, dict):
                raise TypeError("an event without an object")
        if kind == "ERROR":
            code = lease.get("code")
            self._http.refuse_watch(code if isinstance(code, int) else 0, text_of(lease, "message"))
        self._version = text_of(metadata(lease), "resourceVersion")
        if kind == "BOOKMARK":
            return None
        self._unseen.note_reported(lease)
        return Seen(text_of(metadata(lease), "name"), None if kind == "DELETED" else lease)


async def list_leases(http: ApiClient, path: str, selector: str) -> tuple[list[Lease], str]:
    """Return all Leases that are selected, and the version of the list; raises StoreFault.

    Without a resourceVersion: what the API server keeps in its cache may be old.
    """
    leases: list[Lease] = []
    query = {"labelSelector": selector, "limit": str(PAGE)}
    while True:
        reply = await http.request("GET", path, query=query)
        items, about = reply.body.get("items") or [], metadata(reply.body)
        if reply.code != 200 or not isinstance(items, list):  # noqa: PLR2004 - OK
            raise http.fault(Outage.FAILING, f"gives no list ({reply.code}): {reply.message}")
        leases += [item for item in items if isinstance(item, dict)]
        more = text_of(about, "continue")
        if not more:
            return leases, text_of(about, "resourceVersion")
        query["continue"] = more
