"""What only the etcd store has to answer for.

Endpoints that fail one by one, and a watch that must not fall silent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from election.model import (
    Absent,
    Applied,
    CandidateRecord,
    Conflict,
    Found,
    Record,
    Revision,
    Unknown,
)
from election.stores.contract import ElectionChanged, Store, WatchEvent, WatchLost, WatchStands
from election.stores.errors import StoreFault
from election.stores.etcd.endpoint import Endpoint, target_of
from election.stores.etcd.store import EtcdStore
from tests.contract.places import (
    PATIENCE,
    TIMEOUT,
    EtcdPlace,
    current,
    opened,
    revision,
    settled,
    stands,
    watching,
)
from tests.etcd_server import EtcdServer, cluster, free_port, start_all

RECORD = Record(uid="u", holder="a", session="s", epoch=1, counter=1)


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[EtcdServer]]:
    """Return a cluster of three."""
    servers = cluster(tmp_path_factory.mktemp("cluster"))
    try:
        start_all(servers)
        yield servers
    finally:
        for server in servers:
            server.stop()


class ClusterPlace(EtcdPlace):
    """A prefix of a cluster; its stores know these endpoints, in this order."""

    def __init__(self, directory: Path, servers: list[EtcdServer], *urls: str) -> None:
        super().__init__(directory, servers[0])
        self._urls = urls or tuple(server.url for server in servers)

    def store(self, candidate_ttl: float = 30.0) -> EtcdStore:
        """Return another node's view of the place."""
        return EtcdStore(self._urls, self.prefix, 0.5, candidate_ttl)


def has_counter(number: int) -> Callable[[WatchEvent], bool]:
    """Return what is true of an event that reports this counter."""

    def found(event: WatchEvent) -> bool:
        return (
            isinstance(event, ElectionChanged)
            and isinstance(event.content, Found)
            and event.content.record.counter == number
        )

    return found


async def absent(store: Store, election: str) -> None:
    """Wait until the store says that there is no record.

    Right after a member was frozen a cluster needs some tenths of a second.
    """
    async with asyncio.timeout(PATIENCE):
        while (answer := await store.read(election, 2.0)) != Absent():
            assert isinstance(answer, Unknown)
            await asyncio.sleep(0.05)


async def write_elsewhere(store: Store, election: str, record: Record, expected: Revision) -> None:
    """Write until it is applied, likewise."""
    async with asyncio.timeout(PATIENCE):
        while isinstance(answer := await store.write(election, record, expected, 2.0), Unknown):  # noqa: ASYNC110 - likewise
            await asyncio.sleep(0.05)
    # A conflict is with an earlier try of this loop, never with the write that was lost before it.
    assert isinstance(answer, Applied) or (await current(store, election)).record == record


def test_a_read_asks_further_endpoints_within_its_timeout(
    tmp_path: Path, members: list[EtcdServer]
) -> None:
    """The first endpoint is frozen and the second refuses: the third one's answer comes in time."""
    place = ClusterPlace(
        tmp_path, members, members[0].url, f"http://127.0.0.1:{free_port()}", members[1].url
    )

    async def scenario() -> None:
        async with opened(place) as [store]:
            members[0].freeze()
            try:
                await absent(store, "ingress")
                # The frozen one is not asked first again.
                written = await revision(store, "ingress", RECORD)
                assert await store.read("ingress", TIMEOUT) == Found(RECORD, written)
            finally:
                members[0].thaw()

    asyncio.run(scenario())


def test_a_write_is_sent_once_and_the_next_one_elsewhere(
    tmp_path: Path, members: list[EtcdServer]
) -> None:
    """Its answer is lost with the frozen endpoint: unknown, not tried again.

    The next call goes to the next endpoint.
    """
    place = ClusterPlace(tmp_path, members)

    async def scenario() -> None:
        async with opened(place) as [store]:
            first = await revision(store, "ingress", RECORD)
            members[0].freeze()
            try:
                answer = await store.write("ingress", replace(RECORD, counter=2), first, 0.3)
                assert isinstance(answer, Unknown)
                assert members[0].url in answer.why
                await write_elsewhere(store, "ingress", replace(RECORD, counter=3), first)
            finally:
                members[0].thaw()
            assert (await current(store, "ingress")).record.counter == 3

    asyncio.run(scenario())


def test_the_watch_of_a_frozen_endpoint_moves_on(tmp_path: Path, members: list[EtcdServer]) -> None:
    """It is lost though its connection stands, and goes on at the next endpoint with what it has
    missed.
    """
    place = ClusterPlace(tmp_path, members)

    async def scenario() -> None:
        async with opened(place, 2) as [one, other], watching(one) as watch:
            last = await revision(other, "ingress", RECORD)
            await watch.until(stands)
            members[0].freeze()
            try:
                assert isinstance(await watch.next(), WatchLost)
                await settled(other, "ingress")
                last = await revision(other, "ingress", replace(RECORD, counter=2), last)
                await watch.until(has_counter(2))
                await revision(other, "ingress", replace(RECORD, counter=3), last)
                await watch.until(has_counter(3))
                assert sum(isinstance(event, WatchLost) for event in watch.seen) == 1
            finally:
                members[0].thaw()

    asyncio.run(scenario())


def test_a_server_that_was_long_down_is_noticed_at_once(tmp_path: Path) -> None:
    """gRPC by itself waits longer and longer between its attempts, two minutes at worst.

    Two seconds after these six (measured).
    """

    async def scenario(place: EtcdPlace) -> None:
        async with opened(place) as [store], watching(store) as watch:
            assert await watch.next() == WatchStands()
            async with place.away():
                assert isinstance(await watch.next(), WatchLost)
                await asyncio.sleep(6.0)
            started = asyncio.get_running_loop().time()
            assert await watch.next() == WatchStands()
            assert asyncio.get_running_loop().time() - started < 1.0

    with EtcdServer(tmp_path) as server:
        asyncio.run(scenario(EtcdPlace(tmp_path, server)))


def test_without_a_quorum_nothing_is_known(tmp_path: Path, members: list[EtcdServer]) -> None:
    """Two of three are frozen.

    The one that answers may not decide, and its watch ends. Thawed, all goes on.
    """
    place = ClusterPlace(tmp_path, members, members[0].url)

    async def scenario() -> None:
        async with opened(place) as [store], watching(store) as watch:
            written = await revision(store, "ingress", RECORD)
            await watch.until(has_counter(1))
            for member in members[1:]:
                member.freeze()
            try:
                assert isinstance(await store.read("ingress", 0.5), Unknown)
                assert isinstance(await store.write("ingress", RECORD, written, 0.5), Unknown)
                lost = await watch.until(lambda event: isinstance(event, WatchLost))
                assert isinstance(lost, WatchLost)
                assert "quorum" in lost.why
            finally:
                for member in members[1:]:
                    member.thaw()
            await watch.until(lambda event: event == WatchStands())
            await settled(store, "ingress")

    asyncio.run(scenario())


def test_a_compacted_history_is_listed_anew(etcd_place: EtcdPlace) -> None:
    """The changes that a watch would have to report are gone from the server.

    It says so instead of waiting for ever.
    """

    async def scenario() -> None:
        async with opened(etcd_place) as [store]:
            last = None
            for number in range(3):
                last = await revision(store, "ingress", replace(RECORD, counter=number), last)
            async with etcd_place.client() as client:
                found = await client.get(etcd_place.key("ingress"))
                await client.compact(found.mod_revision)
            endpoint = Endpoint(etcd_place.server.url)
            try:
                with pytest.raises(StoreFault, match="compacted"):
                    await (await endpoint.watch(etcd_place.prefix, 1, PATIENCE)).changes()
            finally:
                await endpoint.close()

    asyncio.run(scenario())


def test_an_old_value_under_a_current_revision_is_a_conflict(etcd_place: EtcdPlace) -> None:
    """After a restore etcd gives revisions out again: the value decides then."""

    async def scenario() -> None:
        async with opened(etcd_place) as [store]:
            await revision(store, "ingress", RECORD)
            endpoint = Endpoint(etcd_place.server.url)
            try:
                there = await endpoint.get(etcd_place.key("ingress").decode())
                assert there is not None
                assert (
                    await endpoint.swap(
                        there.key, b"mine", replace(there, value=b"before the restore")
                    )
                    is None
                )
                assert await endpoint.swap(there.key, b"mine", there) is not None
            finally:
                await endpoint.close()

    asyncio.run(scenario())


def test_a_revision_from_elsewhere_is_a_conflict(etcd_place: EtcdPlace) -> None:
    """A store writes only on what it has seen itself."""

    async def scenario() -> None:
        async with opened(etcd_place, 2) as [one, other]:
            written = await revision(one, "ingress", RECORD)
            assert await other.write("ingress", RECORD, written, TIMEOUT) == Conflict()
            assert (await current(other, "ingress")).revision == written
            await revision(other, "ingress", RECORD, written)

    asyncio.run(scenario())


def test_a_candidate_is_written_again_after_its_lease_was_lost(etcd_place: EtcdPlace) -> None:
    """An operator revokes the lease, the record with it: the next refresh brings it back."""

    async def scenario() -> None:
        async with opened(etcd_place) as [store]:
            assert isinstance(
                await store.write_candidate(CandidateRecord("n", "s", 1), TIMEOUT), Applied
            )
            async with etcd_place.client() as client:
                found = await client.get(f"{etcd_place.prefix}nodes/n".encode())
                await client.revoke_lease(found.lease)
            assert await store.read_candidates(TIMEOUT) == []
            assert isinstance(
                await store.write_candidate(CandidateRecord("n", "s", 2), TIMEOUT), Applied
            )
            assert await store.read_candidates(TIMEOUT) == [CandidateRecord("n", "s", 2)]

    asyncio.run(scenario())


def test_nobody_there_is_said_at_once(tmp_path: Path, members: list[EtcdServer]) -> None:
    """A refused connection does not use the timeout up, and the sentence names the endpoint."""
    url = f"http://127.0.0.1:{free_port()}"
    place = ClusterPlace(tmp_path, members, url)

    async def scenario() -> None:
        async with opened(place) as [store]:
            started = asyncio.get_running_loop().time()
            assert await store.read("ingress", PATIENCE) == Unknown(
                f"etcd at {url} refuses the connection"
            )
            assert asyncio.get_running_loop().time() - started < PATIENCE / 2

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://192.0.2.1:2379", ("192.0.2.1:2379", False)),
        ("https://etcd.example.org", ("etcd.example.org:2379", True)),
        ("192.0.2.1:4001", ("192.0.2.1:4001", False)),
        ("http://[2001:db8::1]:2379/", ("[2001:db8::1]:2379", False)),
    ],
)
def test_endpoints_are_read(url: str, expected: tuple[str, bool]) -> None:
    """With and without a scheme, port or brackets."""
    assert target_of(url) == expected


@pytest.mark.parametrize(
    "url", ["ftp://a:1", "http://", "http://a:1/v3", "http://u@a:1", "http://a:x", ""]
)
def test_what_is_no_endpoint_is_refused(url: str) -> None:
    """At the start, not at the first request."""
    with pytest.raises(ValueError, match=r"."):
        EtcdStore([url])


def test_a_key_of_somebody_else_below_the_prefix_is_passed_over(etcd_place: EtcdPlace) -> None:
    """It is neither an election nor a node."""

    async def scenario() -> None:
        async with opened(etcd_place, 2) as [one, other], watching(one) as watch:
            async with etcd_place.client() as client:
                await client.put(f"{etcd_place.prefix}notes".encode(), b"?")
                await client.put(f"{etcd_place.prefix}nodes/m".encode(), b"?")
            await revision(other, "ingress", RECORD)
            await watch.until(has_counter(1))
            assert await one.read_candidates(TIMEOUT) == []
            names = {event.election for event in watch.seen if isinstance(event, ElectionChanged)}
            assert names == {"ingress"}

    asyncio.run(scenario())


def test_a_stream_that_ends_while_a_sign_of_life_is_asked_for_is_a_fault(
    etcd_place: EtcdPlace,
) -> None:
    """gRPC tells whoever writes to it that the state is not valid.

    That must not get past the store.
    """

    async def scenario() -> None:
        endpoint = Endpoint(etcd_place.server.url)
        watch = await endpoint.watch("/none/", 1, TIMEOUT)
        try:
            etcd_place.server.stop()
            while not watch._call.done():  # noqa: ASYNC110 - gRPC's own loop has the event
                await asyncio.sleep(0.01)
            reading = asyncio.get_running_loop().create_future()
            with pytest.raises(StoreFault, match="ended the watch"), endpoint.faults("watch"):
                await watch._ask_for_life(reading)  # type: ignore[arg-type]  # waits for it
        finally:
            etcd_place.server.start()
            await watch.close()
            await endpoint.close()

    asyncio.run(scenario())
