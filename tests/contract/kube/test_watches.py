"""The watch of the Kubernetes store: ends, gaps and silence."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest

from election.model import Applied, CandidateRecord, Found
from election.stores.contract import ElectionChanged, WatchLost, WatchStands
from election.stores.kubernetes.store import KubernetesStore
from tests.contract.kube.common import NAME, RECORD, has_counter, metadata
from tests.contract.kube_place import KubePlace
from tests.contract.places import (
    PATIENCE,
    TIMEOUT,
    Watching,
    current,
    opened,
    revision,
    stands,
    watching,
)
from tests.kube.fixture import KubeServer


def test_a_watch_that_the_server_ends_goes_on(server: KubeServer, place: KubePlace) -> None:
    """Its time is up: the next one begins where it ended, nothing is lost and nothing is said."""

    async def scenario() -> None:
        async with opened(place, 2) as [one, other], watching(other) as watch:
            assert await watch.next() == WatchStands()
            last = None
            for number in range(1, 6):
                server.order("end_watches")
                last = await revision(one, "ingress", replace(RECORD, counter=number), last)
                await watch.until(has_counter(number))
            assert len(watch.seen) == 6

    asyncio.run(scenario())


def test_a_history_that_was_cut_short_leads_to_a_new_list(
    server: KubeServer, place: KubePlace
) -> None:
    """The watch begins again from a version that is gone (410).

    What changed meanwhile is reported, and no loss.
    """

    async def scenario() -> None:
        for refuse in (False, True):
            server.order("habit", refuse_gone=refuse)
            election = f"gone-{refuse}".lower()
            async with opened(place, 2) as [one, other], watching(other) as watch:
                await watch.until(stands)
                last = await revision(one, election, RECORD)
                await watch.until(has_counter(7))
                await _change_unseen(server, watch, one, election, last)
                assert not [event for event in watch.seen if isinstance(event, WatchLost)]
        server.order("habit", refuse_gone=False)

    asyncio.run(scenario())


async def _change_unseen(
    server: KubeServer, watch: Watching, one: object, election: str, last: str
) -> None:
    """Change a record while the watch is between two requests, and forget the change."""
    assert isinstance(one, KubernetesStore)
    server.fault("slow", verb="watch", seconds=0.3, times=1)
    server.order("end_watches")
    waiting = asyncio.ensure_future(watch.until(has_counter(8)))
    await asyncio.sleep(0.15)
    await revision(one, election, replace(RECORD, counter=8), last)
    await revision(one, f"{election}-2", RECORD)
    server.order("compact")
    await waiting


def test_a_watch_that_dies_silently_is_noticed(server: KubeServer, place: KubePlace) -> None:
    """Its connection stands and says nothing. But this node writes, and does not hear of it."""

    async def scenario() -> None:
        async with opened(place, 2) as [one, other], watching(one) as watch:
            last = await revision(other, "ingress", RECORD)
            await watch.until(stands)
            server.order("silence_watches")
            waiting = asyncio.ensure_future(watch.until(lambda event: isinstance(event, WatchLost)))
            await revision(other, "ingress", replace(RECORD, counter=8), last)
            await one.write_candidate(CandidateRecord("n", "s", 1), TIMEOUT)
            lost = await waiting
            assert isinstance(lost, WatchLost)
            assert "own writes" in lost.why
            await watch.each(stands, has_counter(8))
            assert [
                type(event) for event in watch.seen if isinstance(event, WatchLost | WatchStands)
            ] == [
                WatchStands,
                WatchLost,
                WatchStands,
            ]

    asyncio.run(scenario())


def test_a_watch_that_reports_own_writes_lives(server: KubeServer, place: KubePlace) -> None:
    """Whoever writes all the time, the same content too, is not told that the watch is silent."""

    async def scenario() -> None:
        async with opened(place) as [store], watching(store) as watch:
            node = CandidateRecord("n", "s", 1)
            await store.write_candidate(node, TIMEOUT)
            waiting = asyncio.ensure_future(watch.until(has_counter(99)))
            async with asyncio.timeout(PATIENCE):
                for _ in range(8):
                    await store.write_candidate(node, TIMEOUT)
                    await asyncio.sleep(0.2)
            await revision(store, "ingress", replace(RECORD, counter=99))
            await waiting
            assert not [event for event in watch.seen if isinstance(event, WatchLost)]

    asyncio.run(scenario())


@pytest.mark.parametrize("event_first", [0.0, 0.5, 1.0])
def test_whichever_comes_first_of_event_and_answer_the_watch_lives(
    server: KubeServer, place: KubePlace, event_first: float
) -> None:
    """A real server reports most writes before it answers them.

    In the silence that follows nothing is missing.
    """

    async def scenario() -> None:
        server.order("habit", event_first=event_first)
        async with opened(place) as [store], watching(store) as watch:
            reading = asyncio.ensure_future(watch.until(has_counter(99)))
            last = await revision(store, "ingress", RECORD)
            for counter in range(20):
                assert isinstance(
                    await store.write_candidate(CandidateRecord("n", "s", counter), TIMEOUT),
                    Applied,
                )
                last = await revision(store, "ingress", replace(RECORD, counter=10 + counter), last)
            await asyncio.sleep(2.0)
            await revision(store, "ingress", replace(RECORD, counter=99), last)
            await reading
            assert not [event for event in watch.seen if isinstance(event, WatchLost)]
        server.order("habit", event_first=0.5)

    asyncio.run(scenario())


def test_a_pause_of_this_process_is_no_silence_of_the_watch(
    server: KubeServer, place: KubePlace
) -> None:
    """What was reported during the pause waits to be read when the patience has ended."""

    async def scenario() -> None:
        server.order("habit", event_first=0.0, gap=0.2)
        async with opened(place) as [store], watching(store) as watch:
            reading = asyncio.ensure_future(watch.until(has_counter(99)))
            last = await revision(store, "ingress", RECORD)
            for counter in range(5):
                await asyncio.sleep(0.2)
                last = await revision(store, "ingress", replace(RECORD, counter=10 + counter), last)
                time.sleep(1.2)  # noqa: ASYNC251 - the pause
            await revision(store, "ingress", replace(RECORD, counter=99), last)
            await reading
            assert not [event for event in watch.seen if isinstance(event, WatchLost)]
        server.order("habit", event_first=0.5, gap=0.002)

    asyncio.run(scenario())


def test_a_lease_that_loses_its_label_on_the_way_is_not_waited_for(
    server: KubeServer, place: KubePlace
) -> None:
    """An admission webhook takes labels away.

    No watch that selects by one reports the write, and none is silent for it.
    """

    async def scenario() -> None:
        async with opened(place) as [store], watching(store) as watch:
            reading = asyncio.ensure_future(watch.until(has_counter(99)))
            await asyncio.sleep(0.2)
            server.order("habit", strip_labels=True)
            last = await revision(store, "ingress", RECORD)
            await revision(store, "ingress", replace(RECORD, counter=8), last)
            await asyncio.sleep(2.0)
            server.order("habit", strip_labels=False)
            await revision(
                store,
                "ingress",
                replace(RECORD, counter=99),
                (await current(store, "ingress")).revision,
            )
            await reading
            assert [
                event for event in watch.seen if isinstance(event, WatchLost | WatchStands)
            ] == [WatchStands()]

    asyncio.run(scenario())


def test_bookmarks_are_no_events(server: KubeServer, place: KubePlace) -> None:
    """They move the watch on, and nobody hears of them."""

    async def scenario() -> None:
        server.order("habit", bookmark_interval=0.05)
        async with opened(place, 2) as [one, other], watching(other) as watch:
            assert await watch.next() == WatchStands()
            waiting = asyncio.ensure_future(watch.next())
            await asyncio.sleep(0.3)
            assert not waiting.done()
            await revision(one, "ingress", RECORD)
            assert has_counter(7)(await waiting)
        server.order("habit", bookmark_interval=60)

    asyncio.run(scenario())


def test_a_lease_whose_label_was_removed_is_not_gone(server: KubeServer, place: KubePlace) -> None:
    """The watch, which selects by it, says deleted; the Lease is there and valid."""

    async def scenario() -> None:
        async with opened(place, 2) as [one, other], watching(other) as watch:
            await revision(one, "ingress", RECORD)
            await watch.until(stands)
            place.admin.edit(place.namespace, NAME, lambda lease: metadata(lease).update(labels={}))
            event = await watch.next()
            seen = await current(one, "ingress")
            assert event == ElectionChanged("ingress", seen)
            last = await revision(one, "ingress", replace(RECORD, counter=8), seen.revision)
            assert await watch.next() == ElectionChanged(
                "ingress", Found(replace(RECORD, counter=8), last)
            )
            labels = place.admin.lease(place.namespace, NAME)["metadata"]["labels"]  # type: ignore[index]
            assert labels["app.kubernetes.io/name"] == "vipd"

    asyncio.run(scenario())


def test_no_request_asks_the_cache(server: KubeServer, place: KubePlace) -> None:
    """The API server's cache may be old.

    ResourceVersion=0 is never asked for, and only a watch names a version.
    """

    async def scenario() -> None:
        async with opened(place) as [store], watching(store) as watch:
            assert await watch.next() == WatchStands()
            last = await revision(store, "ingress", RECORD)
            await store.read("ingress", TIMEOUT)
            await store.write_candidate(CandidateRecord("n", "s", 1), TIMEOUT)
            await store.read_candidates(TIMEOUT)
            await revision(store, "ingress", replace(RECORD, counter=8), last)
        asked = {
            str(request["query"]) for request in server.requests() if request["verb"] != "watch"
        }
        assert not [query for query in asked if "resourceVersion" in query]

    asyncio.run(scenario())
