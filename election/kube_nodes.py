"""The candidate Leases: each node writes its own, all read all, and those of nodes that died long ago are removed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from election.kube_http import KubeFault, KubeHttp, Outage
from election.kube_lease import (
    SELECTOR,
    Lease,
    candidate_lease,
    decode_candidate_lease,
    encode_candidate_lease,
    metadata,
    name_problem,
    node_of,
    text_of,
)
from election.kube_watch import Echoes, list_leases
from election.model import Applied, CandidateRecord, Unknown, WriteAnswer
from election.record import BadRecord

CANDIDATES = f"{SELECTOR},app.kubernetes.io/component=candidate"
TRIES = 4
"""Attempts to replace a Lease that somebody else changes at the same time."""
SWEEP_TIMEOUT = 2.5
OK, CREATED, NOT_FOUND, CONFLICT = 200, 201, 404, 409


@dataclass(frozen=True, slots=True)
class Sighting:
    """A candidate Lease in one version, and since when this node sees it so (seconds of the event loop)."""

    version: str
    uid: str
    since: float


class KubeNodes:
    """`ttl`: seconds after which a Lease that did not change, by own observation, is removed. See KubernetesStore for the others."""

    def __init__(
        self, http: KubeHttp, path: str, echoes: Echoes, ttl: float, owner: Lease | None = None, wall: Callable[[], str] = str
    ) -> None:
        self._http = http
        self._path = path
        self._echoes = echoes
        self._ttl = ttl
        self._owner = owner
        self._wall = wall
        self._written: dict[str, Lease] = {}
        self._sightings: dict[str, Sighting] = {}
        self._sweeping: asyncio.Task[None] | None = None

    async def read_all(self) -> list[CandidateRecord]:
        """Return all candidate records that can be read; raises KubeFault."""
        leases, _ = await list_leases(self._http, self._path, CANDIDATES)
        found = (self.see(lease) for lease in leases)
        return [record for record in found if record is not None]

    def see(self, lease: Lease) -> CandidateRecord | None:
        """Note a candidate Lease as it is now, and return its record; None if it cannot be read."""
        about = metadata(lease)
        name, version = text_of(about, "name"), text_of(about, "resourceVersion")
        before = self._sightings.get(name)
        if before is None or before.version != version:
            self._sightings[name] = Sighting(version, text_of(about, "uid"), asyncio.get_running_loop().time())
        try:
            return decode_candidate_lease(lease)
        except BadRecord:
            return None

    def gone(self, name: str) -> None:
        """Note that a candidate Lease of this name is not there any more."""
        self._sightings.pop(name, None)

    async def write(self, record: CandidateRecord) -> WriteAnswer:
        """Replace a node's Lease whatever is there; raises KubeFault."""
        name = candidate_lease(record.name)
        if problem := name_problem(name):
            return Unknown(problem)
        for _ in range(TRIES):
            lease = await self._put(record, name)
            if lease is not None:
                self._written[name] = lease
                self._sweep(name)
                return Applied(text_of(metadata(lease), "resourceVersion"))
            reply = await self._http.request("GET", f"{self._path}/{name}")
            if reply.code == OK:
                self._written[name] = reply.body
            else:
                self._written.pop(name, None)
        raise self._http.fault(Outage.FAILING, f"lets somebody else change the Lease {name} all the time")

    async def _put(self, record: CandidateRecord, name: str) -> Lease | None:
        """Write once, on what is known to be there; None: something else is."""
        base = self._written.get(name)
        lease = encode_candidate_lease(record, name, self._wall(), self._owner, base)
        mark = self._echoes.mark()
        if base is None:
            reply = await self._http.request("POST", self._path, body=lease)
        else:
            reply = await self._http.request("PUT", f"{self._path}/{name}", body=lease)
        if reply.code in (OK, CREATED):
            self._echoes.wrote(reply.body, base, mark)
            return reply.body
        if reply.code == CONFLICT or (reply.code == NOT_FOUND and base is not None):
            return None
        raise self._http.fault(Outage.FAILING, f"refuses the Lease {name} ({reply.code}): {reply.message}")

    async def delete(self, node: str) -> WriteAnswer:
        """Remove a node's Lease; raises KubeFault."""
        name = candidate_lease(node)
        self._written.pop(name, None)
        reply = await self._http.request("DELETE", f"{self._path}/{name}")
        if reply.code not in (OK, NOT_FOUND):
            raise self._http.fault(Outage.FAILING, f"does not remove the Lease {name} ({reply.code}): {reply.message}")
        return Applied("")

    async def close(self) -> None:
        """End what runs in the background."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.wait({self._sweeping})

    # ------------------------------------------------------------------ dead nodes

    def _sweep(self, mine: str) -> None:
        """Remove one Lease whose node died. Beside the write: that one must not fail because this one hangs."""
        now = asyncio.get_running_loop().time()
        dead = [name for name, seen in self._sightings.items() if name != mine and node_of(name) and now - seen.since > self._ttl]
        if dead and (self._sweeping is None or self._sweeping.done()):
            self._sweeping = asyncio.create_task(self._remove(dead[0], self._sightings[dead[0]]))

    async def _remove(self, name: str, seen: Sighting) -> None:
        # The preconditions save a node that comes back in this very moment.
        options = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": seen.uid, "resourceVersion": seen.version}}
        with suppress(KubeFault):
            async with self._http.bounded(SWEEP_TIMEOUT):
                await self._http.request("DELETE", f"{self._path}/{name}", body=options)
                self.gone(name)
