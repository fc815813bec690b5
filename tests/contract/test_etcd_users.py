"""An etcd with authentication: passwords, tokens that end, and what a user may not do.

Also servers that are full or too old.
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import grpc.aio
import pytest
from aetcd.rpc.rpc_pb2_grpc import add_MaintenanceServicer_to_server

from election.model import Absent, Applied, CandidateRecord, Record, Unknown
from election.outage import Outage
from election.stores.contract import WatchLost, WatchStands
from election.stores.etcd.access import EtcdAccess
from election.stores.etcd.rpc import rpc
from election.stores.etcd.store import EtcdStore
from tests.contract.etcd_secure import (
    PASSWORD,
    USER,
    SecurePlace,
    Users,
    authority,
    client_access,
    refused,
    refused_because,
    server_tls,
    with_password,
)
from tests.contract.places import (
    PATIENCE,
    TIMEOUT,
    closing,
    current,
    opened,
    revision,
    settled,
    stands,
    watching,
)
from tests.etcd_server import EtcdServer
from tests.kube.certificates import Authority

RECORD = Record(uid="u", holder="a", session="s", epoch=1, counter=1)
CANDIDATE = CandidateRecord("n", "s", 1)
ALLOWED = "/contract/"
"""Below it lie the prefixes of all places."""
TOKEN_TTL = 1


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Return the CA of servers and clients."""
    made = authority(tmp_path_factory.mktemp("ca") / "ca")
    made.sign("named", f"/CN={USER}")
    return made


async def protect(server: EtcdServer, access: EtcdAccess) -> None:
    """Give a server its users and turn authentication on."""
    async with closing(Users(server, access)) as users:
        await users.add_root()
        await users.add(USER, PASSWORD, ALLOWED)
        await users.enable()


@pytest.fixture(scope="module", params=["http", "https"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, ca: Authority
) -> Iterator[EtcdServer]:
    """Return an etcd with authentication, without and with TLS."""
    folder = tmp_path_factory.mktemp("auth")
    tls = server_tls(ca, folder / "own") if request.param == "https" else None
    with EtcdServer(folder, tls=tls) as running:
        asyncio.run(protect(running, client_access(ca)))
        yield running


@pytest.fixture
def access(tmp_path: Path, ca: Authority) -> EtcdAccess:
    """Return the access of the user, certificates included."""
    return with_password(client_access(ca), tmp_path / "password")


@asynccontextmanager
async def operator(server: EtcdServer, ca: Authority) -> AsyncIterator[Users]:
    """Return an operator's connection."""
    users = Users(server, client_access(ca))
    try:
        yield users
    finally:
        await users.close()


def test_a_user_may_do_all_that_vipd_does(
    tmp_path: Path, server: EtcdServer, access: EtcdAccess
) -> None:
    """With a role for the prefix only.

    Also through a restart of the server, which may know the token no more.
    """
    place = SecurePlace(tmp_path, server, access)

    async def scenario() -> None:
        async with opened(place) as [store], watching(store) as watch:
            await watch.until(stands)
            await revision(store, "ingress", RECORD)
            assert isinstance(await store.write_candidate(CANDIDATE, TIMEOUT), Applied)
            assert await store.read_candidates(TIMEOUT) == [CANDIDATE]
            assert isinstance(await store.delete_candidate("n", TIMEOUT), Applied)
            async with place.away():
                await watch.until(lambda event: isinstance(event, WatchLost))
            assert (await settled(store, "ingress")).record == RECORD
            await watch.until(lambda event: event == WatchStands())

    asyncio.run(scenario())


def test_a_prefix_that_is_not_the_users_is_denied(
    tmp_path: Path, server: EtcdServer, access: EtcdAccess
) -> None:
    """The sentence says who may not do what."""
    place = SecurePlace(tmp_path, server, access)
    place.prefix = "/elsewhere/"
    denied = f"etcd at {server.url} denies user {USER} the permission to"

    async def scenario() -> None:
        async with opened(place) as [store], watching(store) as watch:
            assert await watch.next() == WatchLost(f"{denied} read /elsewhere/", Outage.REFUSING)
            assert await refused(store) == f"{denied} read /elsewhere/elections/ingress"
            assert await store.write("ingress", RECORD, None, TIMEOUT) == Unknown(
                f"{denied} write /elsewhere/elections/ingress", Outage.REFUSING
            )
            assert await store.write_candidate(CANDIDATE, TIMEOUT) == Unknown(
                f"{denied} write /elsewhere/nodes/n", Outage.REFUSING
            )

    asyncio.run(scenario())


def test_a_wrong_password_is_said_and_the_right_one_read_at_once(
    tmp_path: Path, server: EtcdServer, access: EtcdAccess
) -> None:
    """The sentence names user and file, and never the password."""
    file = Path(access.password_file)
    with_password(access, file, "wr0ng")

    async def scenario() -> None:
        async with opened(SecurePlace(tmp_path, server, access)) as [store]:
            assert (
                await refused(store)
                == f"etcd at {server.url} does not know user {USER} with the password of {file}"
            )
            with_password(access, file)
            assert await store.read("ingress", TIMEOUT) == Absent()

    asyncio.run(scenario())


def test_a_wrong_password_is_not_tried_all_the_time(tmp_path: Path, ca: Authority) -> None:
    """Comparing passwords is the most expensive thing that etcd does.

    Reads and a watch together may not ask for more than a few.
    """
    access = with_password(EtcdAccess(), tmp_path / "password", "wr0ng")

    async def scenario(server: EtcdServer) -> None:
        await protect(server, client_access(ca))
        async with (
            opened(SecurePlace(tmp_path, server, access)) as [store],
            watching(store) as watch,
        ):
            before = await asyncio.to_thread(server.handled, "Authenticate")
            started = asyncio.get_running_loop().time()
            assert isinstance(await watch.next(), WatchLost)
            for _ in range(100):
                await refused(store)
            seconds = asyncio.get_running_loop().time() - started
            assert (
                1 <= await asyncio.to_thread(server.handled, "Authenticate") - before <= 1 + seconds
            )

    with EtcdServer(tmp_path / "etcd") as server:
        asyncio.run(scenario(server))


def test_a_changed_password_is_taken_from_its_file(
    tmp_path: Path, server: EtcdServer, ca: Authority, access: EtcdAccess
) -> None:
    """The server forgets the tokens of the old one.

    The next call gets another, with no answer lost.
    """

    async def scenario() -> None:
        async with (
            opened(SecurePlace(tmp_path, server, access)) as [store],
            operator(server, ca) as users,
        ):
            written = await revision(store, "ingress", RECORD)
            await users.change_password(USER, "next")
            with_password(access, Path(access.password_file), "next")
            written = await revision(store, "ingress", replace(RECORD, counter=2), written)
            await users.change_password(USER, PASSWORD)
            assert "does not know user" in await refused(store)
            with_password(access, Path(access.password_file))
            await revision(store, "ingress", replace(RECORD, counter=3), written)

    asyncio.run(scenario())


def test_authentication_turned_off_and_on_is_followed(
    tmp_path: Path, server: EtcdServer, ca: Authority, access: EtcdAccess
) -> None:
    """Off: the user is not needed. On again: the first call that is refused logs in."""

    async def scenario() -> None:
        async with (
            operator(server, ca) as users,
            opened(SecurePlace(tmp_path, server, access)) as [early],
        ):
            written = await revision(early, "ingress", RECORD)
            await users.disable()
            async with opened(SecurePlace(tmp_path, server, access)) as [late]:
                assert await late.read("ingress", TIMEOUT) == Absent()
                written = await revision(early, "ingress", replace(RECORD, counter=2), written)
                await users.enable()
                assert await late.read("ingress", TIMEOUT) == Absent()
            await revision(early, "ingress", replace(RECORD, counter=3), written)

    asyncio.run(scenario())


def test_who_names_no_user_is_told_to(tmp_path: Path, server: EtcdServer, ca: Authority) -> None:
    """A certificate without a common name names the empty user, who may do nothing."""
    told = (
        "denies the user of the client certificate"
        if server.tls
        else "asks for a user: username and password_file are needed"
    )

    async def scenario() -> None:
        async with opened(SecurePlace(tmp_path, server, client_access(ca))) as [store]:
            assert told in await refused(store)

    asyncio.run(scenario())


def test_a_certificate_can_be_the_user(tmp_path: Path, ca: Authority) -> None:
    """Its common name is the user's; what it may not do is said of the certificate."""
    access = client_access(ca, "named")

    async def scenario(server: EtcdServer) -> None:
        await protect(server, client_access(ca))
        place = SecurePlace(tmp_path, server, access)
        async with opened(place) as [store], watching(store) as watch:
            assert await watch.next() == WatchStands()
            await revision(store, "ingress", RECORD)
        place.prefix = "/elsewhere/"
        async with opened(place) as [store]:
            assert (
                f"denies the user of the client certificate {access.cert_file} the permission to "
                "read" in await refused(store)
            )

    with EtcdServer(tmp_path / "etcd", tls=server_tls(ca, tmp_path / "own")) as server:
        asyncio.run(scenario(server))


def test_a_token_that_has_expired_is_renewed(tmp_path: Path, ca: Authority) -> None:
    """Signed tokens end after their time, used or not.

    Reads and writes go on without an answer lost, and the watch stays.
    """
    for command in ("genrsa -out jwt.key 2048", "rsa -in jwt.key -pubout -out jwt.pub"):
        subprocess.run(["openssl", *command.split()], cwd=tmp_path, check=True, capture_output=True)
    keys = f"pub-key={tmp_path}/jwt.pub,priv-key={tmp_path}/jwt.key"
    token = f"jwt,{keys},sign-method=RS256,ttl={TOKEN_TTL}s"
    access = with_password(EtcdAccess(), tmp_path / "password")

    async def scenario(server: EtcdServer) -> None:
        await protect(server, client_access(ca))
        async with (
            opened(SecurePlace(tmp_path, server, access)) as [store],
            watching(store) as watch,
        ):
            assert await watch.next() == WatchStands()
            before = await asyncio.to_thread(server.handled, "Authenticate")
            written = await revision(store, "ingress", RECORD)
            counter = 1
            async with asyncio.timeout(PATIENCE):
                while await asyncio.to_thread(server.handled, "Authenticate") == before:
                    await asyncio.sleep(TOKEN_TTL / 5)
                    counter += 1
                    written = await revision(
                        store, "ingress", replace(RECORD, counter=counter), written
                    )
                    assert (await current(store, "ingress")).record.counter == counter
            await watch.next()
            assert not any(isinstance(event, WatchLost) for event in watch.seen)

    with EtcdServer(tmp_path / "etcd", flags={"auth-token": token}) as server:
        asyncio.run(scenario(server))


def test_a_full_server_is_said_to_be_full(tmp_path: Path) -> None:
    """Reads are still answered, writes are not."""
    large = replace(RECORD, addresses=("192.0.2.10/32" * 8000,))

    async def scenario(place: SecurePlace) -> None:
        async with opened(place) as [store]:
            written = await revision(store, "ingress", RECORD)
            for number in range(100):
                answer = await store.write(f"other-{number}", large, None, TIMEOUT)
                if isinstance(answer, Unknown):
                    break
            why = (
                f"etcd at {place.server.url} is full (alarm NOSPACE): compact and defragment "
                "it, then disarm the alarm"
            )
            full = Unknown(why, Outage.FULL)
            assert (
                await store.write("ingress", replace(RECORD, counter=2), written, TIMEOUT) == full
            )
            assert await store.write_candidate(CANDIDATE, TIMEOUT) == full
            assert (await current(store, "ingress")).revision == written

    with EtcdServer(tmp_path, flags={"quota-backend-bytes": str(1024 * 1024)}) as server:
        asyncio.run(scenario(SecurePlace(tmp_path, server, EtcdAccess())))


class OldServer(rpc.Maintenance):  # type: ignore[misc]  # aetcd has no types
    """Says that it is of a version from before; nothing else is ever asked of it."""

    async def Status(self, _request: object, _context: object) -> object:  # noqa: N802 - the protocol's name
        """Return the version."""
        return rpc.StatusResponse(version="3.3.27")


@pytest.mark.parametrize(
    ("old", "sentence"),
    [
        (True, "is of version 3.3.27: version 3.4 or newer is needed"),
        (False, "is no etcd, or too old"),
    ],
)
def test_a_server_that_is_too_old_is_not_used(old: bool, sentence: str) -> None:
    """Its watch could not be asked for a sign of life.

    What does not know the request at all may be anything.
    """

    async def scenario() -> None:
        server = grpc.aio.server()
        if old:
            add_MaintenanceServicer_to_server(OldServer(), server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        store = EtcdStore([f"http://127.0.0.1:{port}"])
        try:
            await refused_because(store, sentence)
            answer = await store.read("ingress", TIMEOUT)
            assert isinstance(answer, Unknown)
            assert answer.outage is Outage.TOO_OLD
        finally:
            await store.close()
            await server.stop(None)

    asyncio.run(scenario())
