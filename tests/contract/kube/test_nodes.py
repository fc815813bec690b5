"""Candidate Leases."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

import pytest

from election.model import Applied, CandidateRecord
from election.stores.contract import CandidateChanged, Store
from election.stores.kubernetes.store import KubernetesStore
from election.stores.kubernetes.watch import PAGE
from tests.contract.kube.common import metadata, notes, spec
from tests.contract.kube_place import KubePlace
from tests.contract.places import PATIENCE, TIMEOUT, opened, watching
from tests.kube.fixture import KubeServer, certificate_user, kubeconfig
from tests.kube.status import Json


async def refreshed(store: Store, node: str, lease: Callable[[], Json], owners: list[Json]) -> None:
    """Refresh a candidate record until its Lease has these owners.

    They are looked up beside the writes.
    """
    async with asyncio.timeout(PATIENCE):
        for counter in itertools.count(1):
            answer = await store.write_candidate(
                CandidateRecord(node, "s", counter, refresh_interval=2100), TIMEOUT
            )
            assert isinstance(answer, Applied)
            if metadata(lease()).get("ownerReferences", []) == owners and counter > 1:
                return
            await asyncio.sleep(0.01)


def node_owner(place: KubePlace) -> Json:
    """Make a Node, and return what a Lease says that it owns."""
    node = place.admin.apply(
        {"apiVersion": "v1", "kind": "Node", "metadata": {"name": place.namespace}}
    )
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "name": place.namespace,
        "uid": metadata(node)["uid"],
    }


def test_a_candidate_lease_reads_well_and_has_its_owner(kube_place: KubePlace) -> None:
    """The node is its holder, and Kubernetes removes it with the Node of that
    name, which owns it.
    """
    place = kube_place
    name, owner = place.namespace, node_owner(place)

    def lease() -> Json:
        return place.admin.lease(place.namespace, f"vipd.{name}")

    async def scenario() -> None:
        store = KubernetesStore(
            place.namespace, str(place.kubeconfig), wall=lambda: "2026-01-01T00:00:00Z"
        )
        try:
            await refreshed(store, name, lease, [owner])
            assert spec(lease()) == {
                "holderIdentity": name,
                "leaseDurationSeconds": 7,
                "renewTime": "2026-01-01T00:00:00.000000Z",
            }
        finally:
            await store.close()

    asyncio.run(scenario())


def test_a_node_that_was_made_again_owns_its_lease_again(
    server: KubeServer, place: KubePlace
) -> None:
    """Its Lease went with the Node of before.

    With the owner of before the garbage collector would remove it for ever.
    """
    name, before = place.namespace, node_owner(place)

    def lease() -> Json:
        return place.admin.lease(place.namespace, f"vipd.{name}")

    async def scenario() -> None:
        async with opened(place) as [store]:
            await refreshed(store, name, lease, [before])
            code, _ = place.admin.ask("DELETE", f"/api/v1/nodes/{name}")
            assert code == 200
            assert await store.read_candidates(TIMEOUT) == []
            after = node_owner(place)
            assert after != before
            await refreshed(store, name, lease, [after])

    asyncio.run(scenario())


@pytest.mark.parametrize("allowed", [True, False])
def test_without_a_node_or_the_right_to_see_it_nobody_owns_the_lease(
    server: KubeServer, place: KubePlace, allowed: bool
) -> None:
    """The answer is final: it is not asked for at each refresh."""
    user = "admin" if allowed else "modest"
    rules: list[Json] = [
        {
            "apiGroups": ["coordination.k8s.io"],
            "resources": ["leases"],
            "verbs": ["get", "create", "update"],
        }
    ]
    place.admin.grant(place.namespace, "modest", rules)
    certificate = server.authority.sign(
        place.namespace, "/CN=modest" if not allowed else "/O=system:masters/CN=admin"
    )
    place.kubeconfig.write_text(
        kubeconfig(server, place.kubeconfig, certificate_user(certificate)).read_text()
    )

    async def scenario() -> None:
        async with opened(place) as [store]:
            for counter in range(10):
                assert isinstance(
                    await store.write_candidate(CandidateRecord("n", "s", counter), TIMEOUT),
                    Applied,
                )
                await asyncio.sleep(0.01)
        asked = [
            request["code"]
            for request in server.requests()
            if (request["user"], request["resource"]) == (user, "nodes")
        ]
        assert asked == [404 if allowed else 403]
        assert "ownerReferences" not in metadata(place.admin.lease(place.namespace, "vipd.n"))

    asyncio.run(scenario())


def test_a_node_that_comes_back_in_time_keeps_its_lease(
    server: KubeServer, place: KubePlace
) -> None:
    """Its record is about to be removed as that of a dead node and changes in this moment.

    The removal does not happen.
    """

    async def scenario() -> None:
        async with opened(place, 2, candidate_ttl=0.3) as [one, other]:
            await other.write_candidate(CandidateRecord("late", "s", 1), TIMEOUT)
            await one.read_candidates(TIMEOUT)
            await asyncio.sleep(0.4)
            await other.write_candidate(CandidateRecord("late", "s", 2), TIMEOUT)
            async with asyncio.timeout(PATIENCE):
                while not (
                    deletes := [
                        request for request in server.requests() if request["verb"] == "delete"
                    ]
                ):
                    await one.write_candidate(CandidateRecord("N", "s", 1), TIMEOUT)
            assert [request["code"] for request in deletes] == [409]
            assert CandidateRecord("late", "s", 2) in await one.read_candidates(TIMEOUT)  # type: ignore[operator]  # a list

    asyncio.run(scenario())


def test_nonsense_in_a_candidate_lease_is_left_out(place: KubePlace) -> None:
    """It is no candidate, and the others are."""

    async def scenario() -> None:
        async with opened(place) as [store], watching(store) as watch:
            for name in ("a", "b"):
                await store.write_candidate(CandidateRecord(name, "s", 1), TIMEOUT)
            place.admin.edit(
                place.namespace,
                "vipd.a",
                lambda lease: notes(lease).update({"vipd/candidate": "?"}),
            )
            assert await store.read_candidates(TIMEOUT) == [CandidateRecord("b", "s", 1)]
            await watch.until(lambda event: event == CandidateChanged("a", None))
            assert isinstance(
                await store.write_candidate(CandidateRecord("a", "s", 2), TIMEOUT), Applied
            )
            await watch.until(
                lambda event: event == CandidateChanged("a", CandidateRecord("a", "s", 2))
            )

    asyncio.run(scenario())


def test_a_long_list_comes_in_portions(server: KubeServer, place: KubePlace) -> None:
    """More nodes than fit into one answer.

    All of them are there, and the watch goes on after the last portion.
    """
    count = PAGE + 1

    async def scenario() -> None:
        async with opened(place, 2) as [one, other]:
            for number in range(count):
                assert isinstance(
                    await one.write_candidate(CandidateRecord(f"N{number}", "s", 1), TIMEOUT),
                    Applied,
                )
            server.requests()
            answer = await other.read_candidates(TIMEOUT)
            assert isinstance(answer, list)
            assert {record.name for record in answer} == {f"N{number}" for number in range(count)}
            assert ["continue" in str(request["query"]) for request in server.requests()] == [
                False,
                True,
            ]
            async with watching(other) as watch:
                for _ in range(1 + count):
                    await watch.next()
                await one.write_candidate(CandidateRecord("late", "s", 1), TIMEOUT)
                assert await watch.next() == CandidateChanged(
                    "late", CandidateRecord("late", "s", 1)
                )

    asyncio.run(scenario())
