"""An endpoint that is a name, and the name leads elsewhere by now.

A real etcd at another address, and a name server of the test's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from election.model import Applied, Found, Record, Unknown
from election.stores.contract import WatchLost, WatchStands
from election.stores.etcd.channel import is_address
from election.stores.etcd.store import EtcdStore
from tests.contract.places import PATIENCE, TIMEOUT, current, revision, watching
from tests.etcd_server import EtcdServer, free_port

RECORD = Record(uid="u", holder="a", session="s", epoch=1, counter=1)
LEASE = 3.0
REQUEST_TIMEOUT = 0.8
OLD, NEW = "127.0.0.2", "127.0.0.3"
TYPE_A = 1


class NameServer(asyncio.DatagramProtocol):
    """Says that every name has this IPv4 address; while `silent` it says nothing."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.silent = False
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the socket."""
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str | object, int]) -> None:
        """Answer a question (RFC 1035 section 4)."""
        if self.silent:
            return
        end = data.index(b"\0", 12) + 5
        [kind] = struct.unpack("!H", data[end - 4 : end - 2])
        answer = (
            struct.pack("!HHHIH", 0xC00C, TYPE_A, 1, 1, 4) + socket.inet_aton(self.address)
            if kind == TYPE_A
            else b""
        )
        head = data[:2] + struct.pack("!HHHHH", 0x8580, 1, bool(answer), 0, 0)
        assert self._transport is not None
        self._transport.sendto(head + data[12:end] + answer, addr)


@contextlib.asynccontextmanager
async def named(port: int) -> AsyncIterator[tuple[EtcdStore, NameServer]]:
    """Return a store whose endpoint is a name, and the name server that gRPC asks for it."""
    transport, names = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: NameServer(OLD), local_addr=("127.0.0.1", 0)
    )
    store = EtcdStore([f"http://etcd.test:{port}"], "/names/", REQUEST_TIMEOUT)
    asked = transport.get_extra_info("sockname")[1]
    store._rotation.current._channels._target = f"dns://127.0.0.1:{asked}/etcd.test:{port}"
    try:
        yield store, names
    finally:
        await store.close()
        transport.close()


async def served(store: EtcdStore) -> tuple[Found, float]:
    """Read as a daemon does until there is an answer; return how long that took."""
    begin = time.monotonic()
    async with asyncio.timeout(60):
        while isinstance(answer := await store.read("ingress", REQUEST_TIMEOUT), Unknown):  # noqa: ASYNC110 - the answer is the event
            await asyncio.sleep(0.1)
    assert isinstance(answer, Found)
    return answer, time.monotonic() - begin


@pytest.mark.parametrize("old", ["stopped", "frozen"])
def test_a_name_that_moved_leads_to_its_new_address_within_a_lease(
    tmp_path: Path, old: str
) -> None:
    """The server of before refuses, or says nothing any more.

    Reads, writes and the watch go on at the new one.
    """
    port = free_port()
    before = EtcdServer(tmp_path / "old", host=OLD, port=port)
    after = EtcdServer(tmp_path / "new", host=NEW, port=port, peer_port=before.peer_port)

    async def scenario() -> None:
        async with named(port) as (store, names), watching(store) as watch:
            last = await revision(store, "ingress", RECORD)
            await watch.until(lambda event: isinstance(event, WatchStands))
            following = asyncio.ensure_future(
                watch.until(lambda event: isinstance(event, WatchStands))
            )
            await asyncio.sleep(0.5)
            before.kill() if old == "stopped" else before.freeze()
            after.directory.mkdir()
            before.copy_data(after.data)
            # The copy is a member of the cluster of before, which had only this one.
            after.flags = {"force-new-cluster": "true", "name": before.name}
            await asyncio.to_thread(after.start)
            names.address = NEW
            found, seconds = await served(store)
            assert seconds < LEASE
            assert found.record == RECORD
            assert found.revision == last
            await revision(store, "ingress", replace(RECORD, counter=2), found.revision)
            async with asyncio.timeout(PATIENCE):
                await following
            assert any(isinstance(event, WatchLost) for event in watch.seen)
            assert (await current(store, "ingress")).record.counter == 2

    try:
        before.start()
        asyncio.run(scenario())
    finally:
        before.stop()
        after.stop()


def test_the_address_of_before_serves_while_name_servers_are_away(tmp_path: Path) -> None:
    """The server is back where it was, and nobody can say where that is."""
    port = free_port()

    async def scenario(server: EtcdServer) -> None:
        async with named(port) as (store, names):
            await revision(store, "ingress", RECORD)
            names.silent = True
            server.stop()
            for _ in range(30):
                assert isinstance(await store.read("ingress", REQUEST_TIMEOUT), Unknown)
                await asyncio.sleep(0.1)
            await asyncio.to_thread(server.start)
            _, seconds = await served(store)
            assert seconds < LEASE
            server.freeze()
            for _ in range(5):
                assert isinstance(await store.read("ingress", REQUEST_TIMEOUT), Unknown)
            server.thaw()
            found, seconds = await served(store)
            assert seconds < LEASE
            assert isinstance(
                await store.write("ingress", replace(RECORD, counter=2), found.revision, TIMEOUT),
                Applied,
            )

    with EtcdServer(tmp_path, host=OLD, port=port) as server:
        asyncio.run(scenario(server))


@pytest.mark.parametrize(
    ("target", "address"),
    [("192.0.2.1:2379", True), ("[2001:db8::1]:2379", True), ("etcd.test:2379", False)],
)
def test_an_address_needs_no_name_server(target: str, address: bool) -> None:
    """It cannot have moved."""
    assert is_address(target) is address
