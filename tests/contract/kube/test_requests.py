"""Requests of the Kubernetes store that fail: what it says, and what it does not do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from election.model import Absent, CandidateRecord, Unknown
from election.outage import Outage
from tests.contract.kube.common import RECORD, written
from tests.contract.kube_place import KubePlace
from tests.contract.places import PATIENCE, TIMEOUT, current, opened
from tests.kube.fixture import KubeServer


@pytest.mark.parametrize("kind", ["lost", "cut", "garbled", "mute"])
def test_a_write_whose_answer_is_lost_is_unknown_and_sent_once(
    server: KubeServer, place: KubePlace, kind: str
) -> None:
    """It was applied. Sent a second time it would be a conflict with oneself."""

    async def scenario() -> None:
        async with written(place) as (store, last):
            server.requests()
            server.fault(kind, verb="update", times=1)
            answer = await store.write("ingress", replace(RECORD, counter=8), last, 0.3)
            assert isinstance(answer, Unknown), answer
            assert server.url in answer.why
            assert (await current(store, "ingress")).record == replace(RECORD, counter=8)
            assert [request["verb"] for request in server.requests()] == ["update", "get"]

    asyncio.run(scenario())


@pytest.mark.parametrize("kind", ["dropped", "hung"])
def test_a_write_that_did_not_happen_is_unknown_too(
    server: KubeServer, place: KubePlace, kind: str
) -> None:
    """Nobody can tell the difference; the record can."""

    async def scenario() -> None:
        async with written(place) as (store, last):
            server.fault(kind, verb="update", times=1)
            assert isinstance(
                await store.write("ingress", replace(RECORD, counter=8), last, 0.3), Unknown
            )
            assert (await current(store, "ingress")).record == RECORD

    asyncio.run(scenario())


@pytest.mark.parametrize("verb", ["get", "create", "update", "list", "delete"])
def test_every_request_is_bounded_and_its_connection_given_up(
    server: KubeServer, place: KubePlace, verb: str
) -> None:
    """An answer that comes late must not be taken for that to the next request."""
    node = CandidateRecord("N", "s", 1)  # no name of a Node: nothing is looked up beside this

    async def scenario() -> None:
        async with written(place) as (store, last):
            calls: dict[str, Callable[[], object]] = {
                "get": lambda: store.read("ingress", 0.2),
                "create": lambda: store.write("other", RECORD, None, 0.2),
                "update": lambda: store.write("ingress", replace(RECORD, counter=8), last, 0.2),
                "list": lambda: store.read_candidates(0.2),
                "delete": lambda: store.delete_candidate("n", 0.2),
            }
            await store.write_candidate(node, TIMEOUT)
            server.requests()
            server.fault("slow", verb=verb, seconds=0.5, times=1)
            answer = await calls[verb]()  # type: ignore[misc]  # several kinds of answer
            assert isinstance(answer, Unknown)
            assert "did not answer within 0.2 s" in answer.why
            seen: list[dict[str, object]] = []
            async with asyncio.timeout(PATIENCE):
                while not (
                    given_up := {
                        request["connection"]
                        for request in seen
                        if (request["verb"], request["code"]) == (verb, 0)
                    }
                ):
                    assert await store.read("none", TIMEOUT) == Absent()
                    seen += server.requests()
            assert isinstance(await store.read_candidates(TIMEOUT), list)
            assert given_up.isdisjoint(
                request["connection"] for request in [*seen, *server.requests()] if request["code"]
            )

    asyncio.run(scenario())


FAULTS = [
    (500, "InternalError", "Internal error occurred: x", "failed (500)", Outage.FAILING),
    (500, "", "etcdserver: leader changed", "failed (500)", Outage.NO_QUORUM),
    (500, "", "etcdserver: mvcc: database space exceeded", "failed (500)", Outage.FULL),
    (503, "ServiceUnavailable", "apiserver is shutting down", "failed (503)", Outage.FAILING),
    (400, "BadRequest", "x", "refuses the request (400)", Outage.FAILING),
    (401, "Unauthorized", "Unauthorized", "does not accept the credentials", Outage.FAILING),
    (403, "Forbidden", "x", "forbids it (403)", Outage.FAILING),
    (429, "TooManyRequests", "x", "too many requests (429)", Outage.THROTTLED),
]


@pytest.mark.parametrize(("code", "reason", "message", "text", "outage"), FAULTS)
def test_an_error_of_the_server_is_unknown(
    server: KubeServer,
    place: KubePlace,
    code: int,
    reason: str,
    message: str,
    text: str,
    outage: Outage,
) -> None:
    """With its code, what it says, and the kind of outage that it is."""

    async def scenario() -> None:
        async with written(place) as (store, last):
            server.fault(
                "refused", verb="update", code=code, reason=reason, message=message, times=2
            )
            answer = await store.write("ingress", RECORD, last, TIMEOUT)
            assert isinstance(answer, Unknown)
            assert text in answer.why
            assert message in answer.why or code == 401
            assert answer.outage is outage

    asyncio.run(scenario())


def test_retry_after_is_heeded(server: KubeServer, place: KubePlace) -> None:
    """Until then nothing is sent, and the sentence says why."""

    async def scenario() -> None:
        async with written(place) as (store, _):
            server.fault(
                "refused",
                code=429,
                reason="TooManyRequests",
                message="try again",
                retry_after=1,
                times=1,
            )
            throttled = await store.read("ingress", TIMEOUT)
            assert isinstance(throttled, Unknown)
            assert "429" in throttled.why
            server.requests()
            waiting = await store.read("ingress", TIMEOUT)
            assert isinstance(waiting, Unknown)
            assert "asked to be left alone" in waiting.why
            assert server.requests() == []
            async with asyncio.timeout(PATIENCE):
                while isinstance(await store.read("ingress", TIMEOUT), Unknown):  # noqa: ASYNC110 - the answer is the event
                    await asyncio.sleep(0.05)

    asyncio.run(scenario())


def test_a_missing_namespace_is_said(server: KubeServer, place: KubePlace) -> None:
    """Nothing is there, and nothing can be: a conflict would send the node in circles."""
    place.namespace = "no-such-namespace"

    async def scenario() -> None:
        async with opened(place) as [store]:
            assert await store.read("ingress", TIMEOUT) == Absent()
            answer = await store.write("ingress", RECORD, None, TIMEOUT)
            assert isinstance(answer, Unknown)
            assert 'namespaces "no-such-namespace" not found' in answer.why

    asyncio.run(scenario())


def test_a_server_that_hangs_is_slow_and_one_that_is_away_unreachable(
    server: KubeServer, place: KubePlace
) -> None:
    """Also to a node that has no connection yet.

    Somebody takes the connection of one that hangs.
    """

    async def scenario() -> None:
        async with written(place) as (store, _), opened(place) as [fresh]:
            for fault, outage in ((place.hung, Outage.SLOW), (place.away, Outage.UNREACHABLE)):
                async with fault():
                    for one in (store, fresh):
                        answer = await one.read("ingress", 0.2)
                        assert isinstance(answer, Unknown)
                        assert answer.outage is outage

    asyncio.run(scenario())
