"""The Role of deploy/manifests is what the store needs.

With it everything works, and nothing in it is unused.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path

from election.model import Applied, CandidateRecord
from election.stores.contract import CandidateChanged, WatchLost
from election.stores.kubernetes.store import KubernetesStore
from tests.contract.kube.common import RECORD, has_counter
from tests.contract.kube_place import KubePlace
from tests.contract.places import PATIENCE, TIMEOUT, closing, current, revision, watching
from tests.kube.fixture import KubeServer, certificate_user, kubeconfig
from tests.kube.manifests import NAMESPACE, USER, apply_access, one


def test_what_the_store_asks_for_is_what_the_role_grants(
    server: KubeServer, place: KubePlace, tmp_path: Path
) -> None:
    """A record and candidates are written, read, watched and removed, and a dead node is swept, all
    as the service account.
    """
    apply_access(place.admin)
    certificate = server.authority.sign("pod", f"/CN={USER}")
    config = kubeconfig(server, tmp_path / "kubeconfig", certificate_user(certificate))
    server.requests()
    asked: list[dict[str, object]] = []

    async def scenario() -> None:
        async with (
            closing(
                KubernetesStore(NAMESPACE, str(config), request_timeout=0.5, candidate_ttl=0.5)
            ) as store,
            watching(store) as watch,
        ):
            last = await revision(store, "ingress", RECORD)
            await revision(store, "ingress", replace(RECORD, counter=8), last)
            await current(store, "ingress")
            await watch.until(has_counter(8))
            assert isinstance(
                await store.write_candidate(CandidateRecord("dead", "s", 1), TIMEOUT), Applied
            )
            gone = asyncio.ensure_future(
                watch.until(lambda event: event == CandidateChanged("dead", None))
            )
            async with asyncio.timeout(PATIENCE):
                for counter in range(1, 1000):
                    assert isinstance(
                        await store.write_candidate(CandidateRecord("n", "s", counter), TIMEOUT),
                        Applied,
                    )
                    await asyncio.wait({gone}, timeout=0.1)
                    if gone.done():
                        break
            await store.read_candidates(TIMEOUT)
            assert isinstance(await store.delete_candidate("n", TIMEOUT), Applied)
            assert not [event for event in watch.seen if isinstance(event, WatchLost)]

    asyncio.run(scenario())
    end = time.monotonic() + PATIENCE
    # A watch is in the log when it has ended, of which the server has to hear.
    while not [request for request in asked if request["verb"] == "watch"]:
        assert time.monotonic() < end
        asked += [request for request in server.requests() if request["user"] == USER]
    allowed = {
        (request["resource"], request["verb"]) for request in asked if request["code"] != 403
    }
    refused = {
        (request["resource"], request["verb"]) for request in asked if request["code"] == 403
    }
    rules = one("Role")["rules"]
    assert isinstance(rules, list)
    granted = {
        (resource, verb)
        for rule in rules
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert allowed == granted
    assert refused == {("nodes", "get")}, "who owns the Lease is asked for, and need not be told"
    assert {request["namespace"] for request in asked if request["resource"] == "leases"} == {
        NAMESPACE
    }
