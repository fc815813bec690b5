"""TLS to etcd: who believes whom, and certificates that are renewed while vipd runs."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from election.model import Absent, CandidateRecord, Record
from election.stores.contract import WatchLost, WatchStands
from election.stores.etcd.access import EtcdAccess
from tests.contract.etcd_secure import (
    SecurePlace,
    authority,
    certificate,
    client_access,
    expired,
    put,
    refused,
    refused_because,
    server_tls,
)
from tests.contract.places import PATIENCE, TIMEOUT, current, opened, revision, settled, watching
from tests.etcd_server import EtcdServer, ServerTls, cluster, start_all
from tests.kube.certificates import Authority

RECORD = Record(uid="u", holder="a", session="s", epoch=1, counter=1)


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Return the CA of servers and clients."""
    return authority(tmp_path_factory.mktemp("ca") / "ca")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, ca: Authority) -> Iterator[EtcdServer]:
    """Return an etcd that wants a client certificate."""
    folder = tmp_path_factory.mktemp("tls")
    with EtcdServer(folder, tls=server_tls(ca, folder / "own")) as running:
        yield running


@pytest.fixture
def renewable(tmp_path: Path, ca: Authority) -> EtcdAccess:
    """Return an access whose certificate a test may replace."""
    access = EtcdAccess(
        ca_file=str(ca.file), cert_file=str(tmp_path / "my.crt"), key_file=str(tmp_path / "my.key")
    )
    put(certificate(ca, "client"), Path(access.cert_file), Path(access.key_file))
    return access


def replace_files(access: EtcdAccess, of: Authority, name: str) -> None:
    """Renew a client's certificate."""
    put(certificate(of, name), Path(access.cert_file), Path(access.key_file))


def test_all_calls_go_over_tls(tmp_path: Path, server: EtcdServer, ca: Authority) -> None:
    """Reads, writes, candidate records and the watch."""
    place = SecurePlace(tmp_path, server, client_access(ca))

    async def scenario() -> None:
        async with opened(place) as [store], watching(store) as watch:
            assert await watch.next() == WatchStands()
            written = await revision(store, "ingress", RECORD)
            await revision(store, "ingress", replace(RECORD, counter=2), written)
            assert (await current(store, "ingress")).record.counter == 2
            await store.write_candidate(CandidateRecord("n", "s", 1), TIMEOUT)
            assert await store.read_candidates(TIMEOUT) == [CandidateRecord("n", "s", 1)]

    asyncio.run(scenario())


def test_each_side_that_is_not_believed_is_named(
    tmp_path: Path, server: EtcdServer, ca: Authority
) -> None:
    """A server of another CA, no client certificate, one of another CA, one that has expired."""
    other = authority(tmp_path / "other")
    expired(ca, "expired", "/O=vipd")
    good = client_access(ca)
    cases = {
        f"shows a certificate that was not signed by ca_file {other.file}": replace(
            good, ca_file=str(other.file)
        ),
        "shows a certificate that was not signed by an authority known to this system": replace(
            good, ca_file=""
        ),
        "wants a client certificate: cert_file and key_file are needed": EtcdAccess(
            ca_file=str(ca.file)
        ),
        f"does not accept the client certificate {other.folder / 'client.crt'}": replace(
            client_access(other), ca_file=str(ca.file)
        ),
        f"does not accept the client certificate {ca.folder / 'expired.crt'}": client_access(
            ca, "expired"
        ),
    }

    async def scenario() -> None:
        for sentence, access in cases.items():
            async with opened(SecurePlace(tmp_path, server, access)) as [store]:
                why = await refused(store)
                assert why.startswith(f"etcd at {server.url} {sentence}")

    asyncio.run(scenario())


def test_a_server_whose_own_certificate_is_wrong_is_not_believed(
    tmp_path: Path, server: EtcdServer, ca: Authority
) -> None:
    """It has expired, or was made for another host; with a good one all goes on by itself."""
    assert server.tls is not None
    tls: ServerTls = server.tls
    ca.sign("elsewhere", "/CN=etcd", "DNS:elsewhere.example")
    expired(ca, "old", "/CN=etcd")
    place = SecurePlace(tmp_path, server, client_access(ca))

    async def scenario() -> None:
        async with opened(place) as [store]:
            for name, sentence in (
                ("old", "has expired"),
                ("elsewhere", "was made for another name or address"),
            ):
                put(certificate(ca, name), tls.certificate, tls.key)
                await refused_because(store, sentence)
            put(certificate(ca, "server"), tls.certificate, tls.key)
            async with asyncio.timeout(PATIENCE):
                while await store.read("ingress", TIMEOUT) != Absent():  # noqa: ASYNC110 - the answer is the event
                    await asyncio.sleep(0.05)

    asyncio.run(scenario())


def test_a_renewed_certificate_is_used_without_a_restart(
    tmp_path: Path, server: EtcdServer, ca: Authority, renewable: EtcdAccess
) -> None:
    """It had expired; the file is replaced."""
    expired(ca, "past", "/O=vipd")
    replace_files(renewable, ca, "past")

    async def scenario() -> None:
        async with (
            opened(SecurePlace(tmp_path, server, renewable)) as [store],
            watching(store) as watch,
        ):
            assert isinstance(await watch.next(), WatchLost)
            assert "does not accept the client certificate" in await refused(store)
            replace_files(renewable, ca, "client")
            # At once: the new files get a connection of their own, which has no attempts behind it
            # to wait for.
            assert await store.read("ingress", TIMEOUT) == Absent()
            assert await watch.next() == WatchStands()

    asyncio.run(scenario())


def test_new_files_do_not_disturb_what_stands(
    tmp_path: Path, server: EtcdServer, ca: Authority, renewable: EtcdAccess
) -> None:
    """A watch stays on its connection although the new certificate, which the next call uses, is
    refused.
    """
    expired(ca, "gone", "/O=vipd")

    async def scenario() -> None:
        async with (
            opened(SecurePlace(tmp_path, server, renewable), 2) as [one, other],
            watching(one) as watch,
        ):
            assert await watch.next() == WatchStands()
            replace_files(renewable, ca, "gone")
            assert "does not accept the client certificate" in await refused(one)
            replace_files(renewable, ca, "client")
            await revision(other, "ingress", RECORD)
            await watch.next()
            assert not any(isinstance(event, WatchLost) for event in watch.seen)

    asyncio.run(scenario())


def test_half_a_renewal_changes_nothing(
    tmp_path: Path, ca: Authority, renewable: EtcdAccess
) -> None:
    """The key is replaced before its certificate.

    The old connection goes on, and is what a later fault is told with.
    """
    ca.sign("second", "/O=vipd")

    async def scenario(server: EtcdServer) -> None:
        place = SecurePlace(tmp_path, server, renewable)
        async with opened(place) as [store]:
            written = await revision(store, "ingress", RECORD)
            shutil.copy(certificate(ca, "second").key, renewable.key_file)
            await revision(store, "ingress", replace(RECORD, counter=2), written)
            async with place.away():
                why = await refused(store)
                assert "do not belong together" in why
                assert renewable.key_file in why
            shutil.copy(certificate(ca, "second").cert, renewable.cert_file)
            assert (await settled(store, "ingress")).record.counter == 2

    with EtcdServer(tmp_path / "etcd", tls=server_tls(ca, tmp_path / "own")) as server:
        asyncio.run(scenario(server))


def test_files_that_are_not_there_yet_are_waited_for(
    tmp_path: Path, server: EtcdServer, ca: Authority, renewable: EtcdAccess
) -> None:
    """Nothing is sent without them, and the sentence names the one that is missing."""
    with suppress(FileNotFoundError):
        Path(renewable.cert_file).unlink()

    async def scenario() -> None:
        async with opened(SecurePlace(tmp_path, server, renewable)) as [store]:
            missing = (
                f"etcd at {server.url} is not asked: {renewable.cert_file} cannot be read: "
                "No such file or directory"
            )
            assert [await refused(store) for _ in range(2)] == [missing, missing]
            replace_files(renewable, ca, "client")
            assert await store.read("ingress", TIMEOUT) == Absent()

    asyncio.run(scenario())


def test_tls_on_one_side_only_is_said(
    tmp_path: Path, server: EtcdServer, etcd: EtcdServer, ca: Authority
) -> None:
    """The scheme in the configuration is the wrong one."""
    plain = SecurePlace(tmp_path, server, EtcdAccess(), server.url.replace("https", "http"))
    crypt = SecurePlace(tmp_path, etcd, client_access(ca), etcd.url.replace("http", "https"))

    async def scenario() -> None:
        async with opened(plain) as [store]:
            assert (await refused(store)).endswith(
                "closed the connection at once: does it want https://?"
            )
        async with opened(crypt) as [store]:
            assert (await refused(store)).endswith(
                "ended the TLS handshake: does it speak TLS, or is http:// right?"
            )

    asyncio.run(scenario())


def test_a_cluster_with_tls_loses_a_member(tmp_path: Path, ca: Authority) -> None:
    """The next endpoint is asked, with the same certificates."""
    members = cluster(tmp_path / "cluster", tls=server_tls(ca, tmp_path / "own"))

    async def scenario() -> None:
        place = SecurePlace(
            tmp_path, members[0], client_access(ca), *(member.url for member in members)
        )
        async with opened(place) as [store], watching(store) as watch:
            assert await watch.next() == WatchStands()
            await revision(store, "ingress", RECORD)
            members[0].kill()
            assert (await settled(store, "ingress")).record == RECORD
            await watch.until(lambda event: event == WatchStands())

    try:
        start_all(members)
        asyncio.run(scenario())
    finally:
        for member in members:
            member.stop()
