"""Logins to an etcd.

One at a time for a node, with a patience of their own, and one token for all servers.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from aetcd.rpc.rpc_pb2_grpc import (
    add_AuthServicer_to_server,
    add_KVServicer_to_server,
    add_MaintenanceServicer_to_server,
)

from election.model import Absent, Applied, CandidateRecord, Record, Unknown
from election.outage import Outage
from election.stores.contract import Store
from election.stores.etcd.access import EtcdAccess
from election.stores.etcd.rpc import rpc
from election.stores.etcd.store import EtcdStore
from tests.contract.etcd_secure import PASSWORD, USER, SecurePlace, Users, refused, with_password
from tests.contract.places import PATIENCE, TIMEOUT, closing, opened, revision
from tests.etcd_server import EtcdServer, cluster, start_all

RECORD = Record(uid="u", holder="a", session="s", epoch=1, counter=1)
ALLOWED = "/contract/"
NODES = 30
COST = "9"
"""Of bcrypt: half as much work as the default, since tests share their cores."""


async def protect(server: EtcdServer) -> None:
    """Give a server its users and turn authentication on."""
    async with closing(Users(server, EtcdAccess())) as users:
        await users.add_root()
        await users.add(USER, PASSWORD, ALLOWED)
        await users.enable()


@pytest.fixture
def access(tmp_path: Path) -> EtcdAccess:
    """Return the access of the user."""
    return with_password(EtcdAccess(), tmp_path / "password")


async def serves(store: Store) -> float:
    """Ask as a daemon does, each time for 0.5 s and again after 0.1 s, until there is an answer;
    return when that was.
    """
    async with asyncio.timeout(60):
        while isinstance(await store.read("ingress", 0.5), Unknown):  # noqa: ASYNC110 - the answer is the event
            await asyncio.sleep(0.1)
    return time.monotonic()


def test_thirty_nodes_are_in_within_seconds_of_a_restart(
    tmp_path: Path, access: EtcdAccess
) -> None:
    """Each asks for one login, however short its requests.

    etcd goes on checking a password when nobody waits any more.
    """

    async def scenario(server: EtcdServer) -> None:
        await protect(server)
        async with opened(SecurePlace(tmp_path, server, access), NODES) as stores:
            for _ in range(2):
                before = await asyncio.to_thread(server.handled, "Authenticate")
                begin = time.monotonic()
                ends = await asyncio.gather(*map(serves, stores))
                assert max(ends) - begin < 30.0
                assert (
                    NODES
                    <= await asyncio.to_thread(server.handled, "Authenticate") - before
                    <= 1.2 * NODES
                )
                await asyncio.to_thread(server.restart)
                # Some tokens outlive a restart, in etcd's log; none outlives this.
                async with closing(Users(server, EtcdAccess())) as users:
                    await users.change_password(USER, PASSWORD)

    with EtcdServer(tmp_path / "etcd", flags={"bcrypt-cost": COST}) as server:
        asyncio.run(scenario(server))


class Slow(rpc.Auth, rpc.KV, rpc.Maintenance):  # type: ignore[misc]  # aetcd has no types
    """A server that takes its time with passwords, and knows the tokens that it gave out."""

    def __init__(self) -> None:
        self.seconds = 1.2
        self.token = "first"  # noqa: S105 - of a server that lives for seconds
        self.logins = 0
        self.at_once = 0
        self.most_at_once = 0
        self.leader = 1
        self.failing = False

    async def Authenticate(self, _request: Any, context: Any) -> Any:  # noqa: N802, ANN401 - the protocol's
        """Check the password."""
        self.logins += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(self.seconds)
            if self.failing:
                await context.abort(grpc.StatusCode.UNKNOWN, "etcdserver: request timed out")
        finally:
            self.at_once -= 1
        return rpc.AuthenticateResponse(token=self.token)

    async def Range(self, _request: Any, context: Any) -> Any:  # noqa: N802, ANN401 - likewise
        """Return nothing, to whom the token is known."""
        if ("token", self.token) not in [
            (key, value) for key, value in context.invocation_metadata()
        ]:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "etcdserver: invalid auth token")
        return rpc.RangeResponse()

    async def Status(self, _request: Any, _context: Any) -> Any:  # noqa: N802, ANN401 - likewise
        """Live."""
        return rpc.StatusResponse(version="3.5.0", leader=self.leader)


@contextlib.asynccontextmanager
async def running(servicer: Slow) -> AsyncIterator[str]:
    """Return the URL of this server."""
    server = grpc.aio.server()
    for add in (
        add_AuthServicer_to_server,
        add_KVServicer_to_server,
        add_MaintenanceServicer_to_server,
    ):
        add(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await server.stop(None)


def test_a_login_outlives_the_request_that_needs_it(access: EtcdAccess) -> None:
    """Requests of 0.3 s, a password that takes 1.2 s: one login, and what is said meanwhile."""

    async def scenario() -> None:
        servicer = Slow()
        async with (
            running(servicer) as url,
            closing(EtcdStore([url], "/x/", 0.3, access=access)) as store,
        ):
            whys = []
            async with asyncio.timeout(PATIENCE):
                while isinstance(answer := await store.read("e", 0.3), Unknown):
                    whys.append((answer.why, answer.outage))
            assert (servicer.logins, servicer.most_at_once) == (1, 1)
            assert len(whys) >= 2
            assert all(
                "has been checking the password for" in why and outage is Outage.SLOW
                for why, outage in whys
            )

    asyncio.run(scenario())


def test_one_token_is_good_for_all_servers_and_one_in_hand_serves_on(access: EtcdAccess) -> None:
    """Another server needs no login.

    Where the token is not known any more there is a new one, and calls elsewhere do not wait.
    """

    async def scenario() -> None:
        one, two = Slow(), Slow()
        one.seconds = two.seconds = 0.05
        async with (
            running(one) as first,
            running(two) as second,
            closing(EtcdStore([first, second], "/x/", 0.5, access=access)) as store,
        ):
            assert await store.read("e", TIMEOUT) == Absent()
            store._rotation.failed(store._rotation.current)
            assert await store.read("e", TIMEOUT) == Absent()
            assert (one.logins, two.logins) == (1, 0)
            two.token, two.seconds = "second", 1.0
            begin = time.monotonic()
            # Half of this is for the server that wants another token, the other half for the one
            # that still takes this one.
            assert await store.read("e", 0.6) == Absent()
            assert await store.read("e", 0.6) == Absent()
            assert time.monotonic() - begin < 0.6
            assert (one.logins, two.logins) == (1, 1)

    asyncio.run(scenario())


@pytest.mark.parametrize("how", ["frozen", "alone"])
def test_a_server_that_dies_over_a_login_is_given_up(
    access: EtcdAccess, tmp_path: Path, how: str
) -> None:
    """Frozen, or cut off from the others.

    The login is made elsewhere, long before its patience ends.
    """
    members = cluster(tmp_path)

    async def scenario() -> None:
        await protect(members[0])
        if how == "frozen":
            members[0].freeze()
        else:
            for member in members[1:]:
                member.freeze()
            for member in members[1:]:
                asyncio.get_running_loop().call_later(2.0, member.thaw)
        async with closing(
            EtcdStore([member.url for member in members], ALLOWED, 0.5, access=access)
        ) as store:
            begin = time.monotonic()
            assert await serves(store) - begin < 8.0

    start_all(members)
    try:
        asyncio.run(scenario())
    finally:
        for member in members:
            member.stop()


def test_logins_that_fail_are_not_begun_again_at_once(access: EtcdAccess) -> None:
    """The server has computed all the same."""

    async def scenario() -> None:
        servicer = Slow()
        servicer.seconds, servicer.failing = 0.05, True
        async with (
            running(servicer) as url,
            closing(EtcdStore([url], "/x/", 0.3, access=access)) as store,
        ):
            end = time.monotonic() + 4.0
            while time.monotonic() < end:
                assert isinstance(await store.read("e", 0.3), Unknown)
                await asyncio.sleep(0.1)
            assert 2 <= servicer.logins <= 4

    asyncio.run(scenario())


def test_what_is_denied_is_asked_for_once_in_two_seconds(
    tmp_path: Path, access: EtcdAccess
) -> None:
    """By a whole node, however many records it wants.

    What is allowed goes on, and a right that is given is used soon.
    """

    async def scenario(server: EtcdServer) -> None:
        await protect(server)
        place, allowed = (
            SecurePlace(tmp_path, server, access),
            SecurePlace(tmp_path, server, access),
        )
        place.prefix = "/elsewhere/"
        async with opened(place) as [store], opened(allowed) as [other]:
            end, before = time.monotonic() + 8.0, 0
            while time.monotonic() < end:
                for number in range(5):
                    assert "denies user" in await refused(store, f"e{number}")
                await asyncio.sleep(0.1)
                if not before and time.monotonic() > end - 4.0:
                    before = await asyncio.to_thread(server.handled, "Range")
            assert await asyncio.to_thread(server.handled, "Range") - before <= 3
            last = await revision(other, "ingress", RECORD)
            await revision(other, "ingress", replace(RECORD, counter=2), last)
            assert isinstance(
                await other.write_candidate(CandidateRecord("n", "s", 1), TIMEOUT), Applied
            )

    with EtcdServer(tmp_path / "etcd") as server:
        asyncio.run(scenario(server))
