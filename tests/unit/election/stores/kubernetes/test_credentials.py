"""Credentials stay fresh, and what goes wrong while they are renewed is no reason to stop with
those that are good.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import ssl
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest

from election.stores.errors import BadAccess
from election.stores.kubernetes.credentials import (
    LOOK_AGAIN,
    Credentials,
    Issued,
    issue,
    read,
    tls_context,
)
from election.stores.kubernetes.kubeconfig import Access, ExecPlugin
from tests.kube.certificates import Authority

VERSION = "client.authentication.k8s.io/v1"
PLUGIN = ExecPlugin(("plug",), VERSION)
SERVER = "http://192.0.2.1:8080"


def printed(status: dict[str, object]) -> bytes:
    """Return what a plugin prints."""
    return json.dumps({"apiVersion": VERSION, "kind": "ExecCredential", "status": status}).encode()


def run(scenario: Callable[[], Coroutine[None, None, None]]) -> None:
    """Run a scenario."""
    asyncio.run(scenario())


async def token(credentials: Credentials) -> str:
    """Return the token of the login of this moment."""
    return (await credentials.login()).token


class Files:
    """An access whose token is in a file, and how often it was read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.reads = 0

    def __call__(self) -> Access:
        """Read it."""
        self.reads += 1
        token = self.path.read_text()
        if not token:
            raise BadAccess("empty")
        return Access(SERVER, token=token, files=(self.path,))


def test_files_are_not_read_for_every_request(tmp_path: Path) -> None:
    """Once, and again only after the API refused what they said."""
    path = tmp_path / "token"
    path.write_text("a")
    files = Files(path)

    async def scenario() -> None:
        credentials = Credentials(files)
        assert [await token(credentials) for _ in range(3)] == ["a", "a", "a"]
        assert files.reads == 1
        credentials.refused()
        assert await token(credentials) == "a"
        assert files.reads == 1
        path.write_text("bb")
        assert await token(credentials) == "a"
        credentials.refused()
        assert await token(credentials) == "bb"
        assert files.reads == 2

    run(scenario)


def test_a_token_of_a_projected_volume_is_found_when_it_is_replaced(tmp_path: Path) -> None:
    """The kubelet swaps a symbolic link above it.

    A look now and then is enough, for it does so long before the old one expires.
    """
    for version, content in (("..1", "first"), ("..2", "second")):
        (tmp_path / version).mkdir()
        (tmp_path / version / "token").write_text(content)
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "token").symlink_to("..data/token")

    async def scenario() -> None:
        credentials = Credentials(Files(tmp_path / "token"))
        assert await token(credentials) == "first"
        (tmp_path / "..new").symlink_to("..2")
        (tmp_path / "..new").rename(tmp_path / "..data")
        assert await token(credentials) == "first"
        credentials._looked_at -= LOOK_AGAIN
        assert await token(credentials) == "second"

    run(scenario)


def test_a_file_that_is_being_written_changes_nothing(tmp_path: Path) -> None:
    """What was good a minute ago may still be; but at the very start there is nothing else."""
    path = tmp_path / "token"
    path.write_text("a")

    async def scenario() -> None:
        credentials = Credentials(Files(path))
        await credentials.login()
        path.write_text("")
        credentials.refused()
        assert await token(credentials) == "a"
        path.write_text("ccc")
        credentials.refused()
        assert await token(credentials) == "ccc"
        path.write_text("")
        with pytest.raises(BadAccess):
            await Credentials(Files(path)).login()

    run(scenario)


def plugin(tmp_path: Path, lifetime: float, *, now: float = 0.0) -> tuple[ExecPlugin, Path]:
    """Return a plugin that counts its runs in a file and issues the count as a token, good until
    `now` + `lifetime`.
    """
    runs = tmp_path / "runs"
    expires = dt.datetime.fromtimestamp(now + lifetime, dt.UTC).isoformat()
    told = (
        printed({"token": "token-COUNT", "expirationTimestamp": expires})
        .decode()
        .replace("COUNT", "'$count'")
    )
    return ExecPlugin(
        ("sh", "-c", f"echo >> {runs}; count=$(wc -l < {runs}); echo '{told}'"), VERSION
    ), runs


async def renewed(credentials: Credentials) -> None:
    """Wait until the plugin that runs has ended, however it did."""
    assert credentials._issuing is not None
    await asyncio.wait({credentials._issuing})


def test_what_a_plugin_issued_is_kept_until_it_expires(tmp_path: Path) -> None:
    """Shortly before that it is run again beside the requests, which go on with the old
    credentials.
    """
    program, _ = plugin(tmp_path, 100.0)
    wall = [0.0]

    async def scenario() -> None:
        credentials = Credentials(lambda: Access(SERVER, plugin=program), lambda: wall[0])
        assert [await token(credentials) for _ in range(3)] == ["token-1"] * 3
        wall[0] = 80.0
        assert await token(credentials) == "token-1"
        await renewed(credentials)
        assert await token(credentials) == "token-2"
        wall[0] = 100.0
        assert await token(credentials) == "token-3"
        await credentials.close()

    run(scenario)


def test_a_plugin_that_fails_leaves_what_it_issued_before_until_that_expires(
    tmp_path: Path,
) -> None:
    """Requests go on; why the plugin fails is said when there is nothing valid any more."""
    said = tmp_path / "said"
    said.write_bytes(printed({"token": "good", "expirationTimestamp": "1970-01-01T00:01:40Z"}))
    program = ExecPlugin(("cat", str(said)), VERSION)
    wall = [0.0]

    async def scenario() -> None:
        credentials = Credentials(lambda: Access(SERVER, plugin=program), lambda: wall[0])
        assert await token(credentials) == "good"
        said.unlink()
        wall[0] = 80.0
        assert await token(credentials) == "good"
        await renewed(credentials)
        assert await token(credentials) == "good"
        wall[0] = 100.0
        with pytest.raises(BadAccess, match=r"ended with 1: .*No such file"):
            await token(credentials)
        await credentials.close()

    run(scenario)


def test_a_refused_token_is_issued_anew(tmp_path: Path) -> None:
    """The API revoked it before its time."""
    program, _ = plugin(tmp_path, 1000.0)

    async def scenario() -> None:
        credentials = Credentials(lambda: Access(SERVER, plugin=program), lambda: 0.0)
        assert await token(credentials) == "token-1"
        credentials.refused()
        assert await token(credentials) == "token-2"
        await credentials.close()

    run(scenario)


def test_a_plugin_that_fails_is_not_run_for_every_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one waits for it, those after it are told at once."""
    monkeypatch.setattr("election.stores.kubernetes.credentials.PLUGIN_PAUSE", 3600.0)
    runs = tmp_path / "runs"
    program = ExecPlugin(("sh", "-c", f"echo >> {runs}; echo not today >&2; exit 3"), VERSION)

    async def scenario() -> None:
        credentials = Credentials(lambda: Access(SERVER, plugin=program))
        for _ in range(5):
            with pytest.raises(BadAccess, match="ended with 3: not today"):
                await credentials.login()
        await credentials.close()

    run(scenario)
    assert runs.read_text() == "\n"


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        (("/no/such/plugin",), "cannot be run: No such file"),
        (("true",), "printed no ExecCredential"),
        (("echo", "{}"), "printed no ExecCredential"),
        (("sleep", "60"), "did not end within 0.1 s"),
        (("sh", "-c", "sleep 60 | cat"), "did not end within 0.1 s"),
    ],
)
def test_a_plugin_that_does_not_work_is_named(argv: tuple[str, ...], why: str) -> None:
    """And no process of it is left."""

    async def scenario() -> None:
        with pytest.raises(BadAccess, match=f"{argv[0]}.*{why}"):
            await issue(ExecPlugin(argv, VERSION), 0.1 if "sleep" in " ".join(argv) else 5.0)

    run(scenario)


@pytest.mark.parametrize(
    ("output", "why"),
    [
        (printed({}), "neither a token nor a certificate"),
        (printed({"clientCertificateData": "x"}), "neither a token nor a certificate"),
        (printed({"token": "a\nb"}), "neither a token nor a certificate"),
        (printed({"token": 5}), "neither a token nor a certificate"),
        (printed({"token": "a", "expirationTimestamp": "soon"}), "no ExecCredential"),
        (
            json.dumps(
                {"apiVersion": "client.authentication.k8s.io/v1beta1", "status": {"token": "a"}}
            ).encode(),
            "speaks",
        ),
        (b'{"status": []}', "no ExecCredential"),
        (b"\xff", "no ExecCredential"),
    ],
)
def test_what_is_no_credential_is_refused(output: bytes, why: str) -> None:
    """With the name of the plugin."""
    with pytest.raises(BadAccess, match=f"plug .*{why}"):
        read(PLUGIN, output)


def test_certificates_of_a_plugin_are_read() -> None:
    """With the moment at which they expire."""
    output = printed(
        {
            "clientCertificateData": "C",
            "clientKeyData": "K",
            "expirationTimestamp": "1970-01-01T00:01:40Z",
        }
    )
    assert read(PLUGIN, output) == Issued("", b"C", b"K", 100.0)


def test_certificates_with_few_extensions_are_trusted(tmp_path: Path) -> None:
    """Many clusters have such ones, no other client of Kubernetes minds, and Python does from 3.13
    on. Another CA's are refused.
    """
    ours, other = Authority(tmp_path / "ours", bare=True), Authority(tmp_path / "other", bare=True)
    serving = ours.serving(ours.sign("server", "/CN=kube-apiserver", "DNS:api"))

    def trusted(authority: Authority) -> bool:
        there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
        server = serving.wrap_bio(there, back, server_side=True)
        client = tls_context(authority.file.read_bytes(), b"", b"", verify=True).wrap_bio(
            back, there, server_hostname="api"
        )
        for _ in range(4):
            for end in (client, server):
                with contextlib.suppress(ssl.SSLWantReadError):
                    try:
                        end.do_handshake()
                    except ssl.SSLCertVerificationError:
                        return False
        return client.version() is not None

    assert trusted(ours)
    assert not trusted(other)
