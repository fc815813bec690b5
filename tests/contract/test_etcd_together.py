"""Many elections of one node in few requests.

Each is judged by itself, and etcd's limits are kept.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from election.model import (
    Absent,
    Applied,
    Conflict,
    Found,
    ReadAnswer,
    Record,
    Revision,
    Unknown,
    WriteAnswer,
)
from election.stores.contract import Store
from tests.contract.places import PATIENCE, TIMEOUT, EtcdPlace, opened, revision, settled
from tests.etcd_server import EtcdServer

HUNDRED = [f"instance-{number}" for number in range(100)]
TICK = 0.25


def record(election: str, counter: int) -> Record:
    """Return a record that can be told from that of every other election."""
    return Record(
        uid=election,
        holder="a",
        session="s",
        epoch=1,
        counter=counter,
        addresses=(f"{election}/32",),
    )


async def write_all(
    store: Store, elections: Sequence[str], counter: int, before: Sequence[Revision | None] = ()
) -> list[WriteAnswer]:
    """Write all records in one turn."""
    expected = before or [None] * len(elections)
    pairs = zip(elections, expected, strict=True)
    return await asyncio.gather(
        *(store.write(name, record(name, counter), seen, TIMEOUT) for name, seen in pairs)
    )


async def applied(
    store: Store, elections: Sequence[str], counter: int, before: Sequence[Revision | None] = ()
) -> list[Revision]:
    """Likewise; all must be applied."""
    answers = await write_all(store, elections, counter, before)
    revisions = [answer.revision for answer in answers if isinstance(answer, Applied)]
    assert len(revisions) == len(elections), answers
    return revisions


async def read_all(store: Store, elections: Sequence[str]) -> list[ReadAnswer]:
    """Read all records in one turn."""
    return await asyncio.gather(*(store.read(name, TIMEOUT) for name in elections))


async def requests(server: EtcdServer) -> int:
    """Return how many reads and writes of the key-value store the server has answered."""
    return sum(
        [await asyncio.to_thread(server.handled, method) for method in ("Txn", "Range", "Put")]
    )


def test_a_hundred_elections_are_one_request(etcd_place: EtcdPlace) -> None:
    """Created, renewed, read.

    Each with an answer and a revision of its own, which the next write is based on.
    """

    async def scenario() -> None:
        async with opened(etcd_place, 2) as [store, other]:
            # The connection is greeted with a request of another kind; whatever else it costs is
            # paid here.
            assert (
                await store.read("ingress", TIMEOUT)
                == await other.read("ingress", TIMEOUT)
                == Absent()
            )
            before = await requests(etcd_place.server)
            created = await applied(store, HUNDRED, 1)
            renewed = await applied(store, HUNDRED, 2, created)
            assert await requests(etcd_place.server) == before + 2
            expected = [
                Found(record(name, 2), seen) for name, seen in zip(HUNDRED, renewed, strict=True)
            ]
            assert await read_all(other, HUNDRED) == expected
            assert await requests(etcd_place.server) == before + 3
            assert len(set(created + renewed)) == 200

    asyncio.run(scenario())


def test_timers_of_one_tick_are_one_or_two_requests(etcd_place: EtcdPlace) -> None:
    """A hundred timers, each set by itself for the same moment, as instances do it.

    The loop finds them due in one turn or two.
    """

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        done = asyncio.Event()
        tasks: list[asyncio.Task[None]] = []
        revisions: dict[str, Revision | None] = dict.fromkeys(HUNDRED)

        async def renew(store: Store, name: str, counter: int) -> None:
            revisions[name] = await revision(store, name, record(name, counter), revisions[name])
            plan(store, name, counter + 1)

        def plan(store: Store, name: str, counter: int) -> None:
            if counter > 4:
                done.set()
                return
            moment = loop.time()
            tick = (math.floor(moment / TICK) + 1) * TICK
            loop.call_later(
                tick - moment, lambda: tasks.append(loop.create_task(renew(store, name, counter)))
            )

        async with opened(etcd_place) as [store]:
            assert await store.read("ingress", TIMEOUT) == Absent()
            before = await requests(etcd_place.server)
            for name in HUNDRED:
                plan(store, name, 1)
            async with asyncio.timeout(PATIENCE):
                await done.wait()
            await asyncio.gather(*tasks)
            assert len(tasks) == 400
            assert await requests(etcd_place.server) - before <= 2 * 4

    asyncio.run(scenario())


def test_a_conflict_costs_no_other_its_renewal(etcd_place: EtcdPlace) -> None:
    """Somebody else wrote one of the records, and removed another.

    These two are refused, all others renewed.
    """

    async def scenario() -> None:
        async with opened(etcd_place, 2) as [store, other]:
            created = await applied(store, HUNDRED, 1)
            taken = replace(record(HUNDRED[7], 9), holder="b")
            await other.read(HUNDRED[7], TIMEOUT)
            await revision(other, HUNDRED[7], taken, created[7])
            await etcd_place.remove(HUNDRED[8])
            answers = await write_all(store, HUNDRED, 2, created)
            assert [answer for answer in answers if not isinstance(answer, Applied)] == [
                Conflict(),
                Conflict(),
            ]
            assert answers[7] == answers[8] == Conflict()
            found = await read_all(store, HUNDRED)
            assert isinstance(found[7], Found)
            assert found[7].record == taken
            assert found[8] == Absent()
            assert all(
                isinstance(seen, Found) and seen.record.counter == 2
                for seen in found[:7] + found[9:]
            )

    asyncio.run(scenario())


def test_more_than_a_request_holds_goes_in_several(etcd_place: EtcdPlace) -> None:
    """Three hundred are three requests.

    Records that are large by themselves are spread by their bytes.
    """
    many = [f"instance-{number}" for number in range(300)]
    large = [replace(record(f"large-{number}", 1), pin="x" * 100_000) for number in range(20)]

    async def scenario() -> None:
        async with opened(etcd_place) as [store]:
            assert await store.read("ingress", TIMEOUT) == Absent()
            before = await requests(etcd_place.server)
            await applied(store, many, 1)
            assert await requests(etcd_place.server) == before + 3
            answers = await asyncio.gather(
                *(store.write(one.uid, one, None, TIMEOUT) for one in large)
            )
            assert all(isinstance(answer, Applied) for answer in answers)
            assert await requests(etcd_place.server) == before + 3 + 4

    asyncio.run(scenario())


def test_one_record_written_twice_in_a_turn_is_judged_twice(etcd_place: EtcdPlace) -> None:
    """Etcd refuses a transaction that writes a key twice.

    The second write is a request of its own, and one of them a conflict.
    """

    async def scenario() -> None:
        async with opened(etcd_place) as [store]:
            answers = await write_all(store, ["ingress", "other", "ingress"], 1)
            assert sorted(type(answer).__name__ for answer in answers) == [
                "Applied",
                "Applied",
                "Conflict",
            ]

    asyncio.run(scenario())


def test_a_server_that_takes_fewer_operations_is_served(tmp_path: Path) -> None:
    """Its operator has lowered max-txn-ops: what it refuses whole is sent in halves."""

    async def scenario(place: EtcdPlace) -> None:
        async with opened(place) as [store]:
            created = await applied(store, HUNDRED, 1)
            renewed = await applied(store, HUNDRED, 2, created)
            found = await read_all(store, HUNDRED)
            assert [seen.revision for seen in found if isinstance(seen, Found)] == renewed

    with EtcdServer(tmp_path, flags={"max-txn-ops": "16"}) as server:
        asyncio.run(scenario(EtcdPlace(tmp_path, server)))


@pytest.mark.parametrize("patience", [0.3, TIMEOUT])
def test_a_lost_answer_is_unknown_to_each_and_costs_nobody_elses_time(
    etcd_place: EtcdPlace, patience: float
) -> None:
    """One that is in a hurry learns at its own timeout that nobody knows.

    The others get their answers if these come in theirs.
    """

    async def scenario() -> None:
        async with opened(etcd_place) as [store]:
            created = await applied(store, HUNDRED, 1)
            etcd_place.server.freeze()
            try:
                hurried = asyncio.create_task(
                    store.write(HUNDRED[0], record(HUNDRED[0], 2), created[0], 0.2)
                )
                names = zip(HUNDRED[1:], created[1:], strict=True)
                others = [
                    asyncio.create_task(store.write(name, record(name, 2), seen, patience))
                    for name, seen in names
                ]
                assert isinstance(await hurried, Unknown)
                if patience < TIMEOUT:
                    assert all(
                        isinstance(answer, Unknown) for answer in await asyncio.gather(*others)
                    )
            finally:
                etcd_place.server.thaw()
            if patience == TIMEOUT:
                assert all(isinstance(answer, Applied) for answer in await asyncio.gather(*others))
            await settled(store, HUNDRED[0])
            found = await read_all(store, HUNDRED)
            # A transaction is applied whole or not at all, however many were told that nobody
            # knows.
            assert len({seen.record.counter for seen in found if isinstance(seen, Found)}) == 1

    asyncio.run(scenario())
