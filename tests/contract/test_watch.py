"""What a watch reports, on every store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

from election.model import Absent, CandidateRecord, Found, Record, Unreadable
from election.stores.contract import (
    CandidateChanged,
    ElectionChanged,
    WatchEvent,
    WatchLost,
    WatchStands,
)
from tests.contract.places import (
    PATIENCE,
    Place,
    current,
    opened,
    revision,
    settled,
    stands,
    watching,
)

RECORD = Record(uid="u", holder="a", session="s", epoch=1, counter=1)
CANDIDATE = CandidateRecord("n", "s", 1)


def holder(event: WatchEvent) -> str:
    """Return the holder that an event reports, if it reports one."""
    return (
        event.content.record.holder
        if isinstance(event, ElectionChanged) and isinstance(event.content, Found)
        else ""
    )


def counter(event: WatchEvent) -> int:
    """Return the counter that an event reports; 0: none."""
    return (
        event.content.record.counter
        if isinstance(event, ElectionChanged) and isinstance(event.content, Found)
        else 0
    )


def test_a_watch_begins_with_all_there_is(place: Place) -> None:
    """Every record and candidate, then that it stands: who has seen that has seen them all."""

    async def scenario() -> None:
        async with opened(place, 2) as [one, other]:
            there = {
                name: await revision(one, name, replace(RECORD, uid=name)) for name in ("a", "b")
            }
            await one.write_candidate(CANDIDATE, PATIENCE)
            async with watching(other) as watch:
                events = [await watch.next() for _ in range(3)]
                assert await watch.next() == WatchStands()
            expected = [
                ElectionChanged(name, Found(replace(RECORD, uid=name), revision))
                for name, revision in there.items()
            ]
            assert sorted(events, key=repr) == sorted(
                [*expected, CandidateChanged("n", CANDIDATE)], key=repr
            )

    asyncio.run(scenario())


def test_every_change_is_reported_once_and_in_order(place: Place) -> None:
    """Write and wait for the report, a hundred times: nothing is missing, nothing is said twice."""

    async def scenario() -> None:
        async with opened(place, 2) as [one, other], watching(other) as watch:
            assert await watch.next() == WatchStands()
            last = None
            for number in range(1, 101):
                record = replace(RECORD, counter=number)
                last = await revision(one, "ingress", record, last)
                assert await watch.next() == ElectionChanged("ingress", Found(record, last))

    asyncio.run(scenario())


def test_quick_changes_are_reported_in_order_up_to_the_last(place: Place) -> None:
    """Two hundred writes without a pause.

    A report may stand for several of them, but none is late and the last one is there.
    """

    async def scenario() -> None:
        async with opened(place, 2) as [one, other], watching(other) as watch:
            assert await watch.next() == WatchStands()
            last = None
            for number in range(1, 201):
                last = await revision(one, "ingress", replace(RECORD, counter=number), last)
            await watch.until(lambda event: counter(event) == 200)
            counters = [counter(event) for event in watch.seen[1:]]
            assert counters == sorted(set(counters))

    asyncio.run(scenario())


def test_a_stranger_is_seen(place: Place) -> None:
    """An edit, damage, deletion and a new record are reported as what they are."""

    async def scenario() -> None:
        async with opened(place, 2) as [one, other], watching(other) as watch:
            await revision(one, "ingress", RECORD)
            await watch.until(lambda event: holder(event) == "a")
            await place.edit("ingress", lambda fields: fields.update(pin="b"))
            event = await watch.until(lambda event: isinstance(event, ElectionChanged))
            assert event == ElectionChanged("ingress", await current(one, "ingress"))
            await place.damage("ingress", b"?")
            event = await watch.until(
                lambda event: (
                    isinstance(event, ElectionChanged) and isinstance(event.content, Unreadable)
                )
            )
            assert isinstance(event, ElectionChanged)
            assert event.content == await one.read("ingress", PATIENCE)
            await place.remove("ingress")
            await watch.until(lambda event: event == ElectionChanged("ingress", Absent()))
            await revision(one, "ingress", replace(RECORD, holder="b"))
            await watch.until(lambda event: holder(event) == "b")

    asyncio.run(scenario())


def test_candidates_come_change_and_go(place: Place) -> None:
    """Each refresh of a node's record is reported, and its end."""

    async def scenario() -> None:
        async with opened(place, 2) as [one, other], watching(other) as watch:
            assert await watch.next() == WatchStands()
            for number in range(1, 6):
                record = replace(CANDIDATE, counter=number)
                await one.write_candidate(record, PATIENCE)
                assert await watch.next() == CandidateChanged("n", record)
            await one.delete_candidate("n", PATIENCE)
            assert await watch.next() == CandidateChanged("n", None)

    asyncio.run(scenario())


def test_a_watch_survives_the_place_going_away(place: Place) -> None:
    """It says that it is lost, once.

    When it stands again it reports what there is, and what changed meanwhile.
    """

    async def scenario() -> None:
        async with opened(place, 2) as [one, other], watching(other) as watch:
            first = await revision(one, "ingress", RECORD)
            await watch.until(stands)
            async with place.away():
                assert isinstance(await watch.next(), WatchLost)
            await settled(one, "ingress")
            await revision(one, "ingress", replace(RECORD, holder="b"), first)
            await watch.each(stands, lambda event: holder(event) == "b")
            await revision(one, "later", replace(RECORD, holder="c"))
            await watch.until(lambda event: holder(event) == "c")
            assert sum(isinstance(event, WatchLost) for event in watch.seen) == 1

    asyncio.run(scenario())


def test_what_went_away_while_the_watch_was_lost_is_reported(place: Place) -> None:
    """A record and a candidate are in the place, but not in the older copy that
    it comes back with.
    """

    async def scenario() -> None:
        async with opened(place, 2) as [one, other], watching(other) as watch:
            await revision(one, "old", RECORD)
            await one.write_candidate(CANDIDATE, PATIENCE)
            place.backup()
            await settled(one, "old")
            await revision(one, "new", replace(RECORD, holder="new"))
            await one.write_candidate(replace(CANDIDATE, name="m"), PATIENCE)
            gone = {ElectionChanged("new", Absent()), CandidateChanged("m", None)}
            seen: set[WatchEvent] = set()
            await watch.until(lambda event: holder(event) == "new")
            await watch.until(
                lambda event: isinstance(event, CandidateChanged) and event.name == "m"
            )
            place.restore()
            while not gone <= seen:
                seen.add(await watch.next())

    asyncio.run(scenario())


def test_closing_the_store_ends_its_watches(place: Place) -> None:
    """Whoever waits for the next event is let go."""

    async def scenario() -> None:
        async with opened(place) as [store]:
            events = store.watch()
            assert await anext(events) == WatchStands()
            waiting = asyncio.ensure_future(anext(events, None))
            await asyncio.sleep(0)
            await store.close()
            async with asyncio.timeout(PATIENCE):
                assert await waiting is None

    asyncio.run(scenario())


def test_a_watcher_that_is_cancelled_leaves_nothing(place: Place) -> None:
    """The task that iterates a watch is cancelled while it waits; the store goes on."""

    async def listen(events: asyncio.Queue[WatchEvent], watch: AsyncIterator[WatchEvent]) -> None:
        async for event in watch:
            events.put_nowait(event)

    async def scenario() -> None:
        async with opened(place) as [store]:
            events: asyncio.Queue[WatchEvent] = asyncio.Queue()
            watch = store.watch()
            task = asyncio.create_task(listen(events, watch))
            assert await events.get() == WatchStands()
            task.cancel()
            await asyncio.wait({task})
            assert task.cancelled()
            await revision(store, "ingress", RECORD)

    asyncio.run(scenario())
