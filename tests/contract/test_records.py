"""Reads and writes of a record, on every store."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest

from election.model import (
    Absent,
    Applied,
    CandidateRecord,
    Conflict,
    Found,
    Record,
    Unknown,
    Unreadable,
)
from election.stores.contract import Store
from tests.contract.places import TIMEOUT, Place, current, opened, revision, settled

RECORD = Record(
    uid="u",
    holder="a",
    session="s",
    epoch=1,
    counter=1,
    addresses=("192.0.2.10/32",),
    renew_time="2026-01-01T00:00:00Z",
)
CANDIDATE = CandidateRecord("n", "s", 1)


def test_an_absent_record_is_absent(place: Place) -> None:
    """Nothing was ever written: the store says so with certainty."""

    async def scenario() -> None:
        async with opened(place) as [store]:
            assert await store.read("ingress", TIMEOUT) == Absent()

    asyncio.run(scenario())


def test_what_is_written_is_read_by_all(place: Place) -> None:
    """A record comes back as it was, with the revision that its write was told."""

    async def scenario() -> None:
        async with opened(place, 2) as [one, other]:
            written = await revision(one, "ingress", RECORD)
            for store in (one, other):
                assert await store.read("ingress", TIMEOUT) == Found(RECORD, written)

    asyncio.run(scenario())


def test_of_many_creates_exactly_one_wins(place: Place) -> None:
    """Twenty nodes see that there is no record: one makes it, the others are told so."""

    async def scenario() -> None:
        async with opened(place, 20) as stores:
            records = [replace(RECORD, uid=f"u{i}") for i in range(len(stores))]
            answers = await asyncio.gather(
                *(
                    s.write("ingress", r, None, TIMEOUT)
                    for s, r in zip(stores, records, strict=True)
                )
            )
            assert Counter(map(type, answers)) == {Applied: 1, Conflict: 19}
            [winner] = [
                r for r, answer in zip(records, answers, strict=True) if isinstance(answer, Applied)
            ]
            assert (await current(stores[0], "ingress")).record == winner

    asyncio.run(scenario())


def test_a_write_on_an_old_revision_changes_nothing(place: Place) -> None:
    """Somebody else wrote first: a conflict, also for who wants to create what is there."""

    async def scenario() -> None:
        async with opened(place, 2) as [one, other]:
            old = await revision(one, "ingress", RECORD)
            await current(other, "ingress")
            new = await revision(other, "ingress", replace(RECORD, holder="b"), old)
            for expected in (old, None, "1-never"):
                assert await one.write("ingress", RECORD, expected, TIMEOUT) == Conflict()
            assert await current(one, "ingress") == Found(replace(RECORD, holder="b"), new)

    asyncio.run(scenario())


def test_the_same_content_twice_has_two_revisions(place: Place) -> None:
    """A record that went away and came back is another one, even if every byte
    of it is the same.
    """

    async def scenario() -> None:
        async with opened(place) as [store]:
            first = await revision(store, "ingress", RECORD)
            second = await revision(store, "ingress", RECORD, first)
            await place.remove("ingress")
            assert await store.write("ingress", RECORD, second, TIMEOUT) == Conflict()
            third = await revision(store, "ingress", RECORD)
            assert len({first, second, third}) == 3
            assert await store.write("ingress", RECORD, first, TIMEOUT) == Conflict()

    asyncio.run(scenario())


def test_elections_do_not_touch_each_other(place: Place) -> None:
    """Names that look alike or would be trouble in a path are just names."""

    async def scenario() -> None:
        names = ["a", "a.b", "a/b", "..", ".", "ä b", "A", "%2E", "elections"]
        async with opened(place) as [store]:
            for name in names:
                await revision(store, name, replace(RECORD, uid=name))
            for name in names:
                assert (await current(store, name)).record.uid == name

    asyncio.run(scenario())


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff", b'{"record": 1}', b"x" * 300_000])
def test_a_damaged_record_is_unreadable_and_not_absent(place: Place, data: bytes) -> None:
    """It is there, it says nothing, and it can be replaced by who saw this very damage."""

    async def scenario() -> None:
        async with opened(place) as [store]:
            whole = await revision(store, "ingress", RECORD)
            await place.damage("ingress", data)
            answer = await store.read("ingress", TIMEOUT)
            assert isinstance(answer, Unreadable)
            assert answer.why
            assert answer.revision != whole
            assert await store.write("ingress", RECORD, None, TIMEOUT) == Conflict()
            assert await store.write("ingress", RECORD, whole, TIMEOUT) == Conflict()
            await revision(store, "ingress", RECORD, answer.revision)
            assert (await current(store, "ingress")).record == RECORD

    asyncio.run(scenario())


def test_a_foreign_edit_has_a_revision_of_its_own(place: Place) -> None:
    """A person changes one field and leaves the rest.

    A write based on what was before is a conflict.
    """

    async def scenario() -> None:
        async with opened(place) as [store]:
            before = await revision(store, "ingress", RECORD)
            await place.edit("ingress", lambda fields: fields.update(pin="b"))
            edited = await current(store, "ingress")
            assert edited == Found(replace(RECORD, pin="b"), edited.revision)
            assert edited.revision != before
            assert await store.write("ingress", RECORD, before, TIMEOUT) == Conflict()

    asyncio.run(scenario())


def test_unknown_fields_survive_a_rewrite(place: Place) -> None:
    """A later version's keys are written back by an earlier one."""

    async def scenario() -> None:
        async with opened(place) as [store]:
            await revision(store, "ingress", RECORD)
            await place.edit(
                "ingress", lambda fields: fields.update(version=2, quorum=["a", {"b": 1.5}])
            )
            seen = await current(store, "ingress")
            await revision(store, "ingress", replace(seen.record, counter=2), seen.revision)
            rewritten = (await current(store, "ingress")).record
            assert rewritten == replace(
                RECORD, version=2, counter=2, extra={"quorum": ["a", {"b": 1.5}]}
            )

    asyncio.run(scenario())


def test_fifty_writers_apply_once_for_each_revision(place: Place) -> None:
    """Every one adds 1 to the counter until it is told that it did.

    The counter has them all, and no revision is built on twice.
    """

    async def add(store: Store, based_on: list[str]) -> None:
        while True:
            seen = await current(store, "ingress")
            answer = await store.write(
                "ingress",
                replace(seen.record, counter=seen.record.counter + 1),
                seen.revision,
                TIMEOUT,
            )
            assert not isinstance(answer, Unknown), answer
            if isinstance(answer, Applied):
                based_on.append(seen.revision)
                return

    async def scenario() -> None:
        async with opened(place, 10) as stores:
            await revision(stores[0], "ingress", replace(RECORD, counter=0))
            based_on: list[str] = []
            await asyncio.gather(*(add(store, based_on) for store in stores for _ in range(5)))
            assert len(set(based_on)) == len(based_on) == 50
            assert (await current(stores[0], "ingress")).record.counter == 50

    asyncio.run(scenario())


def test_a_restored_copy_is_not_what_is_there_now(place: Place) -> None:
    """The store comes back with older content and is written on.

    No revision from before the restore fits again.
    """

    async def scenario() -> None:
        async with opened(place, 2) as [one, other]:
            last = await revision(one, "ingress", RECORD)
            place.backup()
            lost = []
            for counter in range(2, 12):
                last = await revision(one, "ingress", replace(RECORD, counter=counter), last)
                lost.append(last)
            place.restore()
            older = await settled(other, "ingress")
            assert older.record == RECORD
            assert older.revision not in lost
            last = older.revision
            for counter in range(2, 16):
                assert (
                    await one.write("ingress", replace(RECORD, holder="late"), lost[-1], TIMEOUT)
                    == Conflict()
                )
                last = await revision(
                    other, "ingress", replace(RECORD, holder="b", counter=counter), last
                )
                assert last not in lost
            assert (await current(one, "ingress")).record.holder == "b"

    asyncio.run(scenario())


def test_a_place_that_hangs_gives_unknown_in_time(place: Place) -> None:
    """Every call comes back at its timeout with a sentence, and the next one succeeds once the
    place is well again.
    """

    async def scenario() -> None:
        async with opened(place) as [store]:
            written = await revision(store, "ingress", RECORD)
            calls: list[Callable[[float], object]] = [
                lambda t: store.read("ingress", t),
                lambda t: store.write("ingress", replace(RECORD, counter=2), written, t),
                store.read_candidates,
                lambda t: store.write_candidate(CANDIDATE, t),
                lambda t: store.delete_candidate("n", t),
            ]
            async with place.hung():
                for call in calls:
                    started = asyncio.get_running_loop().time()
                    answer = await call(0.1)  # type: ignore[misc]  # five kinds of answer
                    assert isinstance(answer, Unknown)
                    assert answer.why.strip()
                    assert asyncio.get_running_loop().time() - started < 1.0
            await settled(store, "ingress")

    asyncio.run(scenario())


def test_a_write_that_comes_through_late_harms_nobody(place: Place) -> None:
    """A write was given up while the place hung.

    Whether or not it happens later: what others write after it stays.
    """

    async def scenario() -> None:
        async with opened(place, 2) as [one, other]:
            first = await revision(one, "ingress", RECORD)
            async with place.hung():
                assert isinstance(
                    await one.write("ingress", replace(RECORD, holder="late"), first, 0.1), Unknown
                )
            seen = await settled(other, "ingress")
            answer = await other.write(
                "ingress", replace(RECORD, holder="b"), seen.revision, TIMEOUT
            )
            if answer == Conflict():
                # It came through between this node's read and its write.
                seen = await current(other, "ingress")
                assert seen.record.holder == "late"
                await revision(other, "ingress", replace(RECORD, holder="b"), seen.revision)
            for store in (one, other, one):
                assert (await current(store, "ingress")).record.holder == "b"

    asyncio.run(scenario())


def test_a_place_that_is_away_is_unknown_and_then_back(place: Place) -> None:
    """A server that is down or a directory that is gone is not an absent record."""

    async def scenario() -> None:
        async with opened(place) as [store]:
            written = await revision(store, "ingress", RECORD)
            async with place.away():
                for answer in (
                    await store.read("ingress", 0.5),
                    await store.write("ingress", RECORD, written, 0.5),
                    await store.write("other", RECORD, None, 0.5),
                    await store.read_candidates(0.5),
                    await store.write_candidate(CANDIDATE, 0.5),
                    await store.delete_candidate("n", 0.5),
                ):
                    assert isinstance(answer, Unknown)
                    assert answer.why.strip()
            assert (await settled(store, "ingress")).record == RECORD

    asyncio.run(scenario())


def test_a_closed_store_knows_nothing(place: Place) -> None:
    """A task that is late at the end of the daemon gets an answer, not an exception."""

    async def scenario() -> None:
        async with opened(place) as [store]:
            await revision(store, "ingress", RECORD)
            await store.close()
            assert isinstance(await store.read("ingress", 0.5), Unknown)
            assert isinstance(await store.write("ingress", RECORD, None, 0.5), Unknown)

    asyncio.run(scenario())
