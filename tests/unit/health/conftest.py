"""Real servers on loopback, and a listener that tells when something has happened."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import socket
import ssl
import struct
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from health.kinds.workers import Workers
from health.model import Check, HttpCheck, InterfaceCheck, Result, TcpCheck, Verdict
from health.names import Names
from health.runner import Runner
from tests.loop_watch import watched_loops

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Serve = Callable[..., AbstractAsyncContextManager[int]]
PATIENCE = 10.0
"""Seconds after which a test that waits for something has failed; nothing takes a tenth of it."""


@asynccontextmanager
async def _serve(
    handler: Handler, *, port: int = 0, path: Path | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    """Serve on a free port of loopback (which is yielded) or on a unix socket.

    On the way out every connection is cut.
    """
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await handler(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # a check that has seen enough closes the connection
        finally:
            writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()
            tasks.discard(task)

    if path is not None:
        server = await asyncio.start_unix_server(connected, path)
    else:
        server = await asyncio.start_server(connected, "127.0.0.1", port, ssl=tls)
    try:
        yield 0 if path is not None else server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)


@pytest.fixture
def serve() -> Serve:
    """Return a way to serve raw bytes."""
    return _serve


@pytest.fixture
def answer() -> Callable[[bytes], Handler]:
    """Return a way to make a handler that reads the head of a request and
    answers with these bytes.
    """

    def make(response: bytes) -> Handler:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(response)
            await writer.drain()

        return handle

    return make


@pytest.fixture
def hang() -> Handler:
    """Return a handler that accepts, reads and never says a word."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        await asyncio.Event().wait()

    return handle


@pytest.fixture
def reset() -> Handler:
    """Return a handler that reads the head of a request and resets the connection."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    return handle


@pytest.fixture
def closed_port() -> Iterator[int]:
    """Return a port of loopback that refuses.

    Bound, so that nobody else gets it, and never listened on.
    """
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


@pytest.fixture
def nameless(tmp_path: Path) -> Callable[[], Names]:
    """Return a way to make a finder of names that knows no host and no name server."""

    def make() -> Names:
        resolv_conf = tmp_path / "nameless.conf"
        resolv_conf.write_text("nameserver 127.0.0.1\n")
        return Names(
            lambda: asyncio.get_running_loop().time(), tmp_path / "no-hosts", resolv_conf, port=1
        )

    return make


@pytest.fixture
def open_files() -> Callable[[], int]:
    """Return a way to count the descriptors of this process."""
    return lambda: len(list(Path("/proc/self/fd").iterdir()))


class Listener:
    """Keeps what a runner reports, in order, and wakes who waits for it."""

    def __init__(self) -> None:
        self.verdicts: list[Verdict] = []
        self.results: list[tuple[str, Result, float]] = []
        self.known: list[int] = []
        """How many results there were at each verdict: more may have come before whoever waits goes
        on."""
        self._news = asyncio.Event()

    def on_change(self, verdict: Verdict) -> None:
        """Keep a verdict."""
        self.verdicts.append(verdict)
        self.known.append(len(self.results))
        self._news.set()

    def on_result(self, check: Check, result: Result, seconds: float) -> None:
        """Keep a result."""
        self.results.append((check.name, result, seconds))
        self._news.set()

    async def until(self, happened: Callable[[], bool]) -> None:
        """Wait until what was reported fulfils a condition."""
        async with asyncio.timeout(PATIENCE):
            while not happened():
                self._news.clear()
                await self._news.wait()

    async def until_fit(self, *, fit: bool | None) -> Verdict:
        """Wait until the newest verdict is this one, and return it."""
        await self.until(lambda: bool(self.verdicts) and self.verdicts[-1].fit is fit)
        return self.verdicts[-1]


@pytest.fixture
def listener() -> Listener:
    """Return a fresh listener."""
    return Listener()


FirstResult = Callable[..., Coroutine[None, None, Result]]


@pytest.fixture
def first_result(nameless: Callable[[], Names]) -> FirstResult:
    """Return a way to get a check's first result through a whole runner."""

    async def ask(
        kind: HttpCheck | TcpCheck | InterfaceCheck,
        timeout: float = 5.0,
        names: Names | None = None,
    ) -> Result:
        listener = Listener()
        check = Check("one", kind, interval=60.0, timeout=timeout)
        clock = asyncio.get_running_loop().time
        workers = Workers(names or nameless())
        runner = Runner(
            [check], listener.on_change, clock, on_result=listener.on_result, workers=workers
        )
        runner.start()
        try:
            await listener.until(lambda: bool(listener.results))
        finally:
            await runner.stop()
            await workers.close()
        return listener.results[0][1]

    return ask


class Authority:
    """A CA made by the openssl command, and certificates that it signs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.file = folder / "ca.pem"
        self._openssl(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj "
            "/CN=test-ca -keyout ca.key -out ca.pem"
        )

    def context(self, names: str) -> ssl.SSLContext:
        """Return a server's context with a certificate for these subjectAltNames (`DNS:a,IP:b`)."""
        (self.folder / "san").write_text(f"subjectAltName={names}\n")
        self._openssl(
            "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=x -keyout "
            "one.key -out one.csr"
        )
        self._openssl(
            "x509 -req -in one.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile san "
            "-out one.pem"
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder / "one.pem", self.folder / "one.key")
        return context

    def _openssl(self, arguments: str) -> None:
        subprocess.run(
            ["openssl", *arguments.split()], cwd=self.folder, check=True, capture_output=True
        )


@pytest.fixture
def make_authority(tmp_path: Path) -> Callable[[str], Authority]:
    """Return a way to make a CA."""
    return lambda name: Authority(tmp_path / name)


@pytest.fixture(autouse=True)
def nothing_blocks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail every test of checks in which something held up the event loop.

    The mark `blocks` is for tests that do so themselves.
    """
    importlib.import_module("health.kinds.http")  # the daemon is forked from a process that has it
    with watched_loops() as slow:
        yield
    if request.node.get_closest_marker("blocks") is None:
        assert slow == []
