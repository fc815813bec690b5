"""The store in Kubernetes: Leases in one namespace.

What a Lease holds says election.stores.kubernetes.lease.

A write is one PUT with the resourceVersion and the uid of what it is based on, or one POST. It is
never sent again: when its answer is lost, a second one could turn "applied" into a conflict with
oneself, so the answer is Unknown, and whoever wrote reads back. Reads ask for the most recent
state, never for what an API server has in its cache.

A revision is the resourceVersion and a hash of the Lease, and good for as long as contact with the
server lasts: after a restore from a backup, for which API servers have to be stopped, the same
resourceVersions are given out again for other contents.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
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
from election.stores.errors import BadRecord, GivenUp, Gone, Stale, StoreFault
from election.stores.kubernetes.candidates import CandidateLeases
from election.stores.kubernetes.client import ApiClient
from election.stores.kubernetes.credentials import Credentials
from election.stores.kubernetes.kubeconfig import Access, load
from election.stores.kubernetes.lease import (
    Lease,
    decode_lease,
    election_lease,
    election_of,
    encode_lease,
    is_labelled,
    metadata,
    name_problem,
    node_of,
    spec,
    text_of,
)
from election.stores.kubernetes.watch import LeaseWatch, Seen, UnseenWrites

T = TypeVar("T")

WATCH_RETRY = 0.1
"""Seconds between two attempts to set up a watch."""
REMEMBERED = 16
"""Contents of a record that a write may be based on. Only the last one can be current, but a watch
that lags brings old ones after it."""
DAY = 86400.0
OK, CREATED, NOT_FOUND, CONFLICT = 200, 201, 404, 409


@dataclass(frozen=True, slots=True)
class Base:
    """A Lease as it was read or written, and the contact with the server in which that was."""

    lease: Lease
    contact: int


class KubernetesStore:
    """A Store in Kubernetes.

    Without `kubeconfig` it is that of the cluster in which this runs as a pod.

    `request_timeout` (seconds) bounds what the watch asks, its silence after an own write, and how
    long Retry-After is heeded. `candidate_ttl`: seconds after which a candidate record is removed
    that did not change, as seen from here. `wall` gives RFC 3339 times for people. `access` takes
    the place of reading a file.
    """

    def __init__(
        self,
        namespace: str,
        kubeconfig: str = "",
        context: str = "",
        *,
        request_timeout: float = 2.5,
        candidate_ttl: float = DAY,
        wall: Callable[[], str] = str,
        access: Callable[[], Access] | None = None,
    ) -> None:
        self._path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._request_timeout = request_timeout
        self._http = ApiClient(
            Credentials(access or partial(load, kubeconfig, context)), request_timeout
        )
        self._unseen = UnseenWrites()
        self._nodes = CandidateLeases(self._http, self._path, self._unseen, candidate_ttl, wall)
        self._bases: dict[str, dict[Revision, Base]] = {}
        self._closed = False

    async def read(self, election: str, timeout: float) -> ReadAnswer:
        """Return the record as of a moment after the call began."""
        return await self._ask(partial(self._read, election), timeout)

    async def write(
        self, election: str, record: Record, expected: Revision | None, timeout: float
    ) -> WriteAnswer:
        """Replace the record if its revision is still `expected`; None: create it if there is none.

        A revision that did not come from this object, or from before contact was lost, is a
        Conflict: nothing is sent.
        """
        base = self._bases.get(election, {}).get(expected) if expected is not None else None
        if base is None and expected is not None:
            return Conflict()
        return await self._ask(partial(self._write, election, record, base), timeout)

    async def read_candidates(self, timeout: float) -> Sequence[CandidateRecord] | Unknown:
        """Return every node's candidate record; unreadable ones are left out."""
        return await self._ask(self._nodes.read_all, timeout)

    async def write_candidate(self, record: CandidateRecord, timeout: float) -> WriteAnswer:
        """Replace this node's candidate record, whatever is there.

        Also removes that of a node that died long ago.
        """
        return await self._ask(partial(self._nodes.write, record), timeout)

    async def delete_candidate(self, name: str, timeout: float) -> WriteAnswer:
        """Remove a candidate record; absent is as good as applied."""
        return await self._ask(partial(self._nodes.delete, name), timeout)

    async def watch(self) -> AsyncIterator[WatchEvent]:
        """Report every change of every record for as long as it is iterated.

        Sets itself up again after a fault.
        """
        watch = LeaseWatch(self._http, self._path, self._request_timeout, self._unseen)
        known: dict[str, str] = {}
        lost: WatchLost | None = None
        standing = False
        while not self._closed:
            try:
                first = self._compared(await watch.begin(), known, everything=not standing)
                while not self._closed:
                    async with aclosing(watch.changes()) as reports:
                        async for report in reports:
                            for seen in [*first, *report]:
                                if (event := await self._event(seen, known)) is not None:
                                    yield event
                            first = []
                            if not standing:
                                yield WatchStands()
                            lost, standing = None, True
            except (Gone, GivenUp):
                # The history was cut short, as it is at times, or one of several servers is being
                # stopped. The next list shows what is different now.
                pass
            except StoreFault as fault:
                before, lost, standing = lost, WatchLost(str(fault), fault.outage), False
                if lost != before and not self._closed:
                    yield lost
            finally:
                self._unseen.end_watch()
            await asyncio.sleep(WATCH_RETRY)

    async def close(self) -> None:
        """End all watches and connections."""
        self._closed = True
        await self._nodes.close()
        await self._http.close()

    # ------------------------------------------------------------------ elections

    async def _ask(self, question: Callable[[], Awaitable[T]], timeout: float) -> T | Unknown:
        try:
            async with self._http.bounded(timeout):
                return await question()
        except StoreFault as fault:
            return Unknown(str(fault), fault.outage)

    async def _read(self, election: str) -> Content:
        reply = await self._http.request("GET", f"{self._path}/{election_lease(election)}")
        if reply.code == NOT_FOUND:
            return Absent()
        if reply.code != OK:
            raise self._http.fault(
                Outage.FAILING, f"does not show the Lease ({reply.code}): {reply.message}"
            )
        return self._content(election, reply.body)

    async def _write(self, election: str, record: Record, base: Base | None) -> WriteAnswer:
        name = election_lease(election)
        if problem := name_problem(name):
            return Unknown(problem, Outage.FAILING)
        lease = encode_lease(record, name, base.lease if base else None)
        with self._unseen.sending(name) as sent:
            try:
                if base is None:
                    reply = await self._http.request("POST", self._path, body=lease)
                else:
                    reply = await self._http.request(
                        "PUT", f"{self._path}/{name}", body=lease, contact=base.contact
                    )
            except Stale:
                return Conflict()
            if reply.code in (OK, CREATED):
                self._unseen.note_applied(sent, reply.body, base.lease if base else None)
                return Applied(self._remember(election, reply.body))
        # A POST that finds nothing misses the namespace, not the Lease.
        if reply.code == CONFLICT or (reply.code == NOT_FOUND and base is not None):
            return Conflict()
        raise self._http.fault(Outage.FAILING, f"refuses the Lease ({reply.code}): {reply.message}")

    def _content(self, election: str, lease: Lease) -> Content:
        revision = self._remember(election, lease)
        try:
            return Found(decode_lease(lease), revision)
        except BadRecord as bad:
            return Unreadable(revision, str(bad))

    def _remember(self, election: str, lease: Lease) -> Revision:
        metadata(lease).pop("managedFields", None)
        revision = revision_of(lease)
        bases = self._bases.setdefault(election, {})
        bases.pop(revision, None)
        bases[revision] = Base(lease, self._http.contact)
        while len(bases) > REMEMBERED:
            del bases[next(iter(bases))]
        return revision

    # ------------------------------------------------------------------ the watch

    def _compared(
        self, leases: list[Lease], known: dict[str, str], *, everything: bool
    ) -> list[Seen]:
        """Return what a list says beyond what is known: what is not in it is gone."""
        listed = {text_of(metadata(lease), "name"): lease for lease in leases}
        changed = [
            Seen(name, lease)
            for name, lease in listed.items()
            if everything or known.get(name) != _version(lease)
        ]
        if everything:
            for name in listed:
                known.pop(name, None)
        return changed + [Seen(name, None) for name in sorted(set(known) - set(listed))]

    async def _event(self, seen: Seen, known: dict[str, str]) -> WatchEvent | None:
        """Return what a report means; None: nothing new. Raises StoreFault."""
        if seen.lease is not None and known.get(seen.name) == _version(seen.lease):
            return None
        election, node = election_of(seen.name), node_of(seen.name)
        event: WatchEvent | None = None
        if election is not None:
            content = (
                self._content(election, seen.lease)
                if seen.lease is not None
                else await self._is_gone(election)
            )
            event = ElectionChanged(election, content) if content is not None else None
        elif node is not None:
            event = CandidateChanged(
                node, self._nodes.note_lease(seen.lease) if seen.lease is not None else None
            )
        if seen.lease is not None:
            known[seen.name] = _version(seen.lease)
        else:
            known.pop(seen.name, None)
            self._nodes.forget_lease(seen.name)
        return event

    async def _is_gone(self, election: str) -> Content | None:
        """Return what there is in the place of a Lease that the watch says is gone.

        A Lease whose label somebody removed is reported so, and is still there and valid. One that
        is there with its label was made again: the watch is about to report that, in its order.
        """
        async with self._http.bounded(self._request_timeout):
            reply = await self._http.request("GET", f"{self._path}/{election_lease(election)}")
        if reply.code == NOT_FOUND:
            return Absent()
        return (
            None
            if is_labelled(reply.body) or reply.code != OK
            else self._content(election, reply.body)
        )


def _version(lease: Lease) -> str:
    return text_of(metadata(lease), "resourceVersion")


def revision_of(lease: Lease) -> Revision:
    """Return the store's name for this very content of a Lease."""
    about = metadata(lease)
    content = json.dumps(
        [about.get("uid"), about.get("annotations"), about.get("labels"), spec(lease)],
        sort_keys=True,
    ).encode()
    return f"{_version(lease)}-{hashlib.sha256(content).hexdigest()[:16]}"
