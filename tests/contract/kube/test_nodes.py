"""Candidate Leases."""

from __future__ import annotations

import asyncio

from election.model import Applied, CandidateRecord
from election.store import CandidateChanged
from election.store_kubernetes import KubernetesStore
from tests.contract.kube.common import metadata, spec
from tests.contract.kube_place import KubePlace
from tests.contract.places import PATIENCE, TIMEOUT, opened, watching
from tests.kube.fixture import KubeServer


def test_a_candidate_lease_reads_well_and_has_its_owner(place: KubePlace) -> None:
    """The node is its holder, and Kubernetes removes it with the Node that owns it."""
    code, node = place.admin.ask("POST", "/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": place.namespace}})
    assert code == 201
    owner = {"apiVersion": "v1", "kind": "Node", "name": place.namespace, "uid": metadata(node)["uid"]}

    async def scenario() -> None:
        store = KubernetesStore(place.namespace, str(place.kubeconfig), owner=owner, wall=lambda: "2026-01-01T00:00:00Z")
        try:
            for counter in (1, 2):
                await store.write_candidate(CandidateRecord("n1", "s", counter, refresh_interval=2100), TIMEOUT)
            lease = place.admin.lease(place.namespace, "vipd.n1")
            assert spec(lease) == {"holderIdentity": "n1", "leaseDurationSeconds": 7, "renewTime": "2026-01-01T00:00:00.000000Z"}
            assert metadata(lease)["ownerReferences"] == [owner]
            code, _ = place.admin.ask("DELETE", f"/api/v1/nodes/{place.namespace}")
            assert code == 200
            assert await store.read_candidates(TIMEOUT) == []
            assert isinstance(await store.write_candidate(CandidateRecord("n1", "s", 3), TIMEOUT), Applied)
        finally:
            await store.close()

    asyncio.run(scenario())


def test_a_node_that_comes_back_in_time_keeps_its_lease(server: KubeServer, place: KubePlace) -> None:
    """Its record is about to be removed as that of a dead node and changes in this moment: the removal does not happen."""

    async def scenario() -> None:
        async with opened(place, 2, candidate_ttl=0.3) as [one, other]:
            await other.write_candidate(CandidateRecord("late", "s", 1), TIMEOUT)
            await one.read_candidates(TIMEOUT)
            await asyncio.sleep(0.4)
            await other.write_candidate(CandidateRecord("late", "s", 2), TIMEOUT)
            await one.write_candidate(CandidateRecord("n", "s", 1), TIMEOUT)
            async with asyncio.timeout(PATIENCE):
                while not (deletes := [request for request in server.requests() if request["verb"] == "delete"]):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            assert [request["code"] for request in deletes] == [409]
            assert CandidateRecord("late", "s", 2) in await one.read_candidates(TIMEOUT)  # type: ignore[operator]  # a list

    asyncio.run(scenario())


def test_nonsense_in_a_candidate_lease_is_left_out(place: KubePlace) -> None:
    """It is no candidate, and the others are."""

    async def scenario() -> None:
        async with opened(place) as [store], watching(store) as watch:
            for name in ("a", "b"):
                await store.write_candidate(CandidateRecord(name, "s", 1), TIMEOUT)
            place.admin.edit(place.namespace, "vipd.a", lambda lease: metadata(lease)["annotations"].update({"vipd/candidate": "?"}))  # type: ignore[attr-defined]
            assert await store.read_candidates(TIMEOUT) == [CandidateRecord("b", "s", 1)]
            await watch.until(lambda event: event == CandidateChanged("a", None))
            assert isinstance(await store.write_candidate(CandidateRecord("a", "s", 2), TIMEOUT), Applied)
            await watch.until(lambda event: event == CandidateChanged("a", CandidateRecord("a", "s", 2)))

    asyncio.run(scenario())
