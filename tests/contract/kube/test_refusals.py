"""An API server that refuses (401, 403).

How often it is asked, when it counts as refusing, and what ends that.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from election.model import Absent, Applied, CandidateRecord, Found, Unknown
from election.outage import Outage
from election.stores.contract import Store, WatchLost, WatchStands
from election.stores.kubernetes.kubeconfig import in_cluster
from election.stores.kubernetes.store import KubernetesStore
from tests.contract.kube.common import RECORD, has_counter, written
from tests.contract.kube.test_access import pod
from tests.contract.kube_place import KubePlace
from tests.contract.places import PATIENCE, TIMEOUT, closing, opened, revision, settled, watching
from tests.kube.fixture import KubeServer
from tests.kube.status import Json

WEAK, STRONG = "weak-token", "strong-token"
ELECTIONS = [f"e{number}" for number in range(10)]


@asynccontextmanager
async def busy(store: Store) -> AsyncIterator[None]:
    """Ask as a daemon with ten elections does while requests fail.

    Each again after 0.1 s; follow the watch.
    """

    async def election(name: str) -> None:
        while True:
            answer: object = await store.read(name, TIMEOUT)
            if isinstance(answer, Absent):
                answer = await store.write(name, RECORD, None, TIMEOUT)
            await asyncio.sleep(0.1 if isinstance(answer, Unknown) else 1.0)

    async def candidate() -> None:
        while True:
            answer = await store.write_candidate(CandidateRecord("n", "s", 1), TIMEOUT)
            await asyncio.sleep(0.1 if isinstance(answer, Unknown) else 1.0)

    async def follow() -> None:
        async for _ in store.watch():
            pass

    tasks = [
        asyncio.ensure_future(work) for work in (*map(election, ELECTIONS), candidate(), follow())
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def test_a_node_that_is_refused_everything_asks_once_in_two_seconds(
    server: KubeServer, place: KubePlace
) -> None:
    """However many elections it has; and when the right is given, all of them go on at once."""

    async def scenario() -> None:
        async with opened(place) as [store], busy(store):
            for verb in ("get", "create", "update", "list", "watch"):
                server.fault("refused", verb=verb, code=403, reason="Forbidden", message="x")
            await asyncio.sleep(5.0)
            server.requests()
            await asyncio.sleep(6.0)
            assert 1 <= len(server.requests()) <= 3
            server.clear()
            async with asyncio.timeout(3.0):
                for name in ELECTIONS:
                    while not isinstance(await store.read(name, TIMEOUT), Found):  # noqa: ASYNC110 - the answer is the event
                        await asyncio.sleep(0.05)

    asyncio.run(scenario())


def test_what_is_allowed_goes_on_beside_what_is_forbidden(
    server: KubeServer, place: KubePlace
) -> None:
    """Lists are forbidden, for good.

    Records are read and written at their own pace, lists asked for once in two seconds.
    """

    async def scenario() -> None:
        async with opened(place) as [store], busy(store):
            server.fault("refused", verb="list", code=403, reason="Forbidden", message="x")
            await asyncio.sleep(4.5)
            server.requests()
            last = await revision(store, "ingress", RECORD)
            for counter in range(8, 48):
                last = await revision(store, "ingress", replace(RECORD, counter=counter), last)
                await asyncio.sleep(0.1)
            asked = [request for request in server.requests() if request["verb"] == "list"]
            assert len(asked) <= 3

    asyncio.run(scenario())


def test_a_single_record_that_is_forbidden_holds_up_no_other(
    server: KubeServer, place: KubePlace
) -> None:
    """A Role may name Leases."""

    async def scenario() -> None:
        async with opened(place) as [store]:
            server.fault(
                "refused", verb="get", name="vipd-theirs", code=403, reason="Forbidden", message="x"
            )
            for _ in range(20):
                assert isinstance(await store.read("theirs", TIMEOUT), Unknown)
                assert await store.read("ours", TIMEOUT) == Absent()

    asyncio.run(scenario())


@pytest.mark.parametrize("code", [401, 403])
def test_new_credentials_are_tried_at_once(
    server: KubeServer, place: KubePlace, tmp_path: Path, code: int
) -> None:
    """A token that was replaced, after it was refused for a while."""
    if code == 403:
        server.order("token", token=WEAK, user="weak", groups=[])
    server.order("token", token=STRONG, user="pod", groups=["system:masters"])
    folder = tmp_path / "serviceaccount"
    environ = pod(server, folder, WEAK)
    store = KubernetesStore(
        place.namespace, request_timeout=0.5, access=partial(in_cluster, environ, folder)
    )

    async def scenario() -> None:
        async with closing(store), busy(store):
            await asyncio.sleep(5.0)
            (folder / "token").write_text(STRONG)
            async with asyncio.timeout(0.5):
                while not isinstance(await store.read("e0", TIMEOUT), Absent | Found):  # noqa: ASYNC110 - likewise
                    await asyncio.sleep(0.05)

    asyncio.run(scenario())
    server.order("revoke", token=WEAK)


def test_it_is_refusing_once_that_lasts(server: KubeServer, place: KubePlace) -> None:
    """An API server forbids everything in its first seconds.

    What it says stands in the sentence from the beginning.
    """

    async def scenario() -> None:
        async with written(place) as (store, _):
            store._http.starting = 1.0
            server.fault("refused", verb="get", code=403, reason="Forbidden", message="why not")
            loop = asyncio.get_running_loop()
            begin = loop.time()
            kinds = []
            while loop.time() - begin < 1.6:
                answer = await store.read("ingress", TIMEOUT)
                assert isinstance(answer, Unknown)
                assert "forbids it (403): why not" in answer.why
                kinds.append((answer.outage, loop.time() - begin))
                await asyncio.sleep(0.05)
            assert {kind for kind, at in kinds if at < 0.9} == {Outage.FAILING}
            assert {kind for kind, at in kinds if at > 1.1} == {Outage.REFUSING}
            server.clear()
            async with asyncio.timeout(PATIENCE):
                while isinstance(await store.read("ingress", TIMEOUT), Unknown):  # noqa: ASYNC110 - the answer is the event
                    await asyncio.sleep(0.05)
            server.fault("refused", verb="get", code=403, reason="Forbidden", message="again")
            answer = await store.read("ingress", TIMEOUT)
            assert isinstance(answer, Unknown)
            assert answer.outage is Outage.FAILING

    asyncio.run(scenario())


def test_the_node_is_asked_for_again_after_a_refusal_at_the_start(
    server: KubeServer, place: KubePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that has just started refuses that too: the Lease gets its owner later.

    Refused twice, it is not asked again.
    """
    monkeypatch.setattr("election.stores.kubernetes.candidates.ASK_AGAIN", 0.5)
    node = place.namespace
    place.admin.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}})

    async def scenario(times: int) -> int:
        server.clear()
        server.fault(
            "refused",
            resource="nodes",
            verb="get",
            code=403,
            reason="Forbidden",
            message="x",
            times=times,
        )
        server.requests()
        async with opened(place) as [store]:
            for counter in range(25):
                assert isinstance(
                    await store.write_candidate(CandidateRecord(node, "s", counter), TIMEOUT),
                    Applied,
                )
                await asyncio.sleep(0.1)
        lease: Json = place.admin.lease(place.namespace, f"vipd.{node}")
        assert ("ownerReferences" in lease["metadata"]) == (times == 1)  # type: ignore[operator]  # an object
        place.admin.delete(place.namespace, f"vipd.{node}")
        return len([request for request in server.requests() if request["resource"] == "nodes"])

    assert asyncio.run(scenario(1)) == 2
    assert asyncio.run(scenario(0)) == 2


def test_the_reason_for_a_lost_watch_is_that_of_now(server: KubeServer, place: KubePlace) -> None:
    """It was lost because the server was away; the server is back and forbids the list."""

    async def scenario() -> None:
        async with opened(place) as [store], watching(store) as watch:
            assert await watch.next() == WatchStands()
            server.fault("refused", verb="list", code=403, reason="Forbidden", message="no lists")
            reading = asyncio.ensure_future(
                watch.until(lambda event: isinstance(event, WatchLost) and "403" in event.why)
            )
            server.leave()
            await asyncio.sleep(0.5)
            server.come_back()
            lost = await reading
            assert isinstance(lost, WatchLost)
            assert "no lists" in lost.why
            whys = [event.why for event in watch.seen if isinstance(event, WatchLost)]
            assert len(whys) == len(set(whys)) > 1

    asyncio.run(scenario())


def test_a_server_that_is_told_to_end_can_end(server: KubeServer, place: KubePlace) -> None:
    """The watches of vipd are all that it waits for: nodes that only listen let it go too.

    Then it is back, and nothing is lost.
    """

    async def scenario() -> None:
        async with opened(place, 3) as stores:
            await revision(stores[0], "ingress", RECORD)
            async with (
                watching(stores[0]) as one,
                watching(stores[1]) as two,
                watching(stores[2]) as three,
            ):
                watches = (one, two, three)
                for watch in watches:
                    await watch.until(lambda event: isinstance(event, WatchStands))
                followed = [asyncio.ensure_future(w.until(has_counter(8))) for w in watches]
                await asyncio.sleep(0.2)
                server.terminate()
                async with asyncio.timeout(3.0):
                    while not server.ended:  # noqa: ASYNC110 - another process
                        await asyncio.sleep(0.01)
                await asyncio.sleep(0.5)
                server.come_back()
                read = await settled(stores[0], "ingress")
                await revision(stores[0], "ingress", replace(RECORD, counter=8), read.revision)
                await asyncio.gather(*followed)

    asyncio.run(scenario())


def test_a_server_that_takes_connections_keeps_its_watch(
    server: KubeServer, place: KubePlace
) -> None:
    """All other connections were closed, as a load balancer does.

    The watch is silent, and stands.
    """

    async def scenario() -> None:
        async with opened(place, 2) as [store, other], watching(store) as watch:
            assert await watch.next() == WatchStands()
            reading = asyncio.ensure_future(watch.next())
            server.requests()
            for wire in store._http._pool._free:  # type: ignore[attr-defined]  # a KubernetesStore
                wire.abort()
            await asyncio.sleep(1.5)
            assert not reading.done()
            await revision(other, "ingress", RECORD)
            await reading
            assert [request["verb"] for request in server.requests()] == ["create"]

    asyncio.run(scenario())
