"""The candidate Leases.

Each node writes its own, all read all, and those of nodes that are gone are removed.

Kubernetes removes a Lease with the Node that owns it, if this node may look its Node up (get on
nodes: optional, asked for once). Otherwise whoever has seen it unchanged for long enough removes
it; every node looks, for none of them need live for ever.

    https://kubernetes.io/docs/concepts/architecture/garbage-collection/#owners-dependents
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from election.model import Applied, CandidateRecord, Unknown, WriteAnswer
from election.outage import Outage
from election.stores.errors import BadRecord, Refused, StoreFault
from election.stores.kubernetes.client import ApiClient
from election.stores.kubernetes.lease import (
    PLAIN,
    SELECTOR,
    Lease,
    candidate_lease,
    decode_candidate_lease,
    encode_candidate_lease,
    metadata,
    name_problem,
    node_of,
    owner_of,
    text_of,
)
from election.stores.kubernetes.watch import UnseenWrites, list_leases

CANDIDATES = f"{SELECTOR},app.kubernetes.io/component=candidate"
TRIES = 4
"""Attempts to replace a Lease that somebody else changes at the same time."""
ASIDE_TIMEOUT = 2.5
"""Seconds that a request beside the writes may take."""
ASK_AGAIN = 60.0
"""Seconds after which the Node is asked for a second time, and a last, if that was refused."""
NODES = "/api/v1/nodes"
OK, CREATED, NOT_FOUND, CONFLICT = 200, 201, 404, 409


@dataclass(frozen=True, slots=True)
class Sighting:
    """A candidate Lease in one version, and since when this node sees it so (seconds of the event
    loop).
    """

    version: str
    uid: str
    since: float


class CandidateLeases:
    """`ttl`: seconds after which a Lease that did not change, by own observation, is removed.

    See KubernetesStore for `wall`.
    """

    def __init__(
        self,
        http: ApiClient,
        path: str,
        unseen: UnseenWrites,
        ttl: float,
        wall: Callable[[], str] = str,
    ) -> None:
        self._http = http
        self._path = path
        self._unseen = unseen
        self._ttl = ttl
        self._wall = wall
        self._written: dict[str, Lease] = {}
        self._owners: dict[str, Lease | None] = {}
        self._sightings: dict[str, Sighting] = {}
        self._ask_owner_at = 0.0
        self._aside: asyncio.Task[None] | None = None

    async def read_all(self) -> list[CandidateRecord]:
        """Return all candidate records that can be read; raises StoreFault."""
        leases, _ = await list_leases(self._http, self._path, CANDIDATES)
        found = (self.note_lease(lease) for lease in leases)
        return [record for record in found if record is not None]

    def note_lease(self, lease: Lease) -> CandidateRecord | None:
        """Note a candidate Lease as it is now, and return its record; None if it cannot be read."""
        about = metadata(lease)
        name, version = text_of(about, "name"), text_of(about, "resourceVersion")
        before = self._sightings.get(name)
        if before is None or before.version != version:
            self._sightings[name] = Sighting(
                version, text_of(about, "uid"), asyncio.get_running_loop().time()
            )
        try:
            return decode_candidate_lease(lease)
        except BadRecord:
            return None

    def forget_lease(self, name: str) -> None:
        """Note that a candidate Lease of this name is not there any more."""
        self._sightings.pop(name, None)

    async def write(self, record: CandidateRecord) -> WriteAnswer:
        """Replace a node's Lease whatever is there; raises StoreFault."""
        name = candidate_lease(record.name)
        if problem := name_problem(name):
            return Unknown(problem, Outage.FAILING)
        for _ in range(TRIES):
            lease = await self._put(record, name)
            if lease is not None:
                self._written[name] = lease
                self._tidy(record.name, name)
                return Applied(text_of(metadata(lease), "resourceVersion"))
            reply = await self._http.request("GET", f"{self._path}/{name}")
            if reply.code == OK:
                self._written[name] = reply.body
            else:
                # It may have gone with a Node that was made again: an owner that is no more would
                # let Kubernetes remove it for ever.
                self._written.pop(name, None)
                self._owners.pop(record.name, None)
        raise self._http.fault(
            Outage.FAILING, f"lets somebody else change the Lease {name} all the time"
        )

    async def _put(self, record: CandidateRecord, name: str) -> Lease | None:
        """Write once, on what is known to be there; None: something else is."""
        base = self._written.get(name)
        lease = encode_candidate_lease(
            record, name, self._wall(), self._owners.get(record.name), base
        )
        with self._unseen.sending(name) as sent:
            if base is None:
                reply = await self._http.request("POST", self._path, body=lease)
            else:
                reply = await self._http.request("PUT", f"{self._path}/{name}", body=lease)
            if reply.code in (OK, CREATED):
                self._unseen.note_applied(sent, reply.body, base)
                return reply.body
        if reply.code == CONFLICT or (reply.code == NOT_FOUND and base is not None):
            return None
        raise self._http.fault(
            Outage.FAILING, f"refuses the Lease {name} ({reply.code}): {reply.message}"
        )

    async def delete(self, node: str) -> WriteAnswer:
        """Remove a node's Lease; raises StoreFault."""
        name = candidate_lease(node)
        self._written.pop(name, None)
        reply = await self._http.request("DELETE", f"{self._path}/{name}")
        if reply.code not in (OK, NOT_FOUND):
            raise self._http.fault(
                Outage.FAILING, f"does not remove the Lease {name} ({reply.code}): {reply.message}"
            )
        return Applied("")

    async def close(self) -> None:
        """End what runs in the background."""
        if self._aside is not None:
            self._aside.cancel()
            await asyncio.wait({self._aside})

    # ------------------------------------------------------- beside the writes, one thing at a time

    def _tidy(self, node: str, mine: str) -> None:
        """Find out who owns the own Lease, or remove that of a dead node.

        A write must not fail because this one hangs.
        """
        if self._aside is not None and not self._aside.done():
            return
        now = asyncio.get_running_loop().time()
        dead = [
            name
            for name, seen in self._sightings.items()
            if name != mine and node_of(name) and now - seen.since > self._ttl
        ]
        if node not in self._owners and now >= self._ask_owner_at and PLAIN.fullmatch(node):
            self._aside = asyncio.create_task(self._find_owner(node))
        elif dead:
            self._aside = asyncio.create_task(self._remove(dead[0], self._sightings[dead[0]]))

    async def _find_owner(self, node: str) -> None:
        """Look the Node up; the next refresh names it as the owner."""
        try:
            async with self._http.bounded(ASIDE_TIMEOUT):
                reply = await self._http.request("GET", f"{NODES}/{node}")
        except Refused:
            # That will not change soon, and asking for it at each refresh would fill somebody's
            # audit log. But an API server refuses everything in its first seconds.
            if self._ask_owner_at:
                self._owners[node] = None
            self._ask_owner_at = asyncio.get_running_loop().time() + ASK_AGAIN
            return
        except StoreFault:
            return
        self._owners[node] = owner_of(reply.body) if reply.code == OK else None

    async def _remove(self, name: str, seen: Sighting) -> None:
        # The preconditions save a node that comes back in this very moment.
        options = {
            "kind": "DeleteOptions",
            "apiVersion": "v1",
            "preconditions": {"uid": seen.uid, "resourceVersion": seen.version},
        }
        with suppress(StoreFault):
            async with self._http.bounded(ASIDE_TIMEOUT):
                await self._http.request("DELETE", f"{self._path}/{name}", body=options)
                self.forget_lease(name)
