from __future__ import annotations

import asyncio
import http
import http.server
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import ClassVar

import pytest

from health.kinds.http import LONGEST_BODY, HttpProbe, _without_port
from health.kinds.workers import Workers
from health.model import HttpCheck, Result
from health.names import Names

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Serve = Callable[..., AbstractAsyncContextManager[int]]
Answer = Callable[[bytes], Handler]
FirstResult = Callable[..., Coroutine[None, None, Result]]
ROOT = Path(__file__).parents[4]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Site(http.server.BaseHTTPRequestHandler):
    """An HTTP server that somebody else wrote: the path is the status.

    Keeps the requests it saw.
    """

    seen: ClassVar[list[tuple[str, str, dict[str, str]]]] = []

    def do_GET(self) -> None:
        """Answer with the status in the path."""
        self.seen.append(
            (self.command, self.path, {name.lower(): value for name, value in self.headers.items()})
        )
        status = int(self.path.strip("/").partition("?")[0])
        self.send_response(status)
        self.send_header("Location", "/200")
        self.end_headers()
        if self.command == "GET" and status != http.HTTPStatus.NO_CONTENT:
            self.wfile.write(b'{"status": "healthy"}')

    do_HEAD = do_GET  # noqa: N815 - http.server's name

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Be quiet."""


@pytest.fixture
def site() -> Iterator[int]:
    """Return the port of a running Site."""
    Site.seen.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize(
    ("status", "wanted", "up"),
    [
        (200, ((200, 299),), True),
        (204, ((200, 299),), True),
        (404, ((200, 299),), False),
        (503, ((200, 299),), False),
        (404, ((200, 200), (400, 404)), True),
        (302, ((200, 299),), False),  # not followed: /200 would be good
        (302, ((300, 399),), True),
    ],
)
def test_the_status_decides(
    site: int, first_result: FirstResult, status: int, wanted: tuple[tuple[int, int], ...], up: bool
) -> None:
    """One request for one result, whatever the answer."""
    result = asyncio.run(
        first_result(HttpCheck(f"http://127.0.0.1:{site}/{status}", status=wanted))
    )
    assert result.up is up
    assert not result.refused
    assert str(status) in result.detail
    assert len(Site.seen) == 1


def test_the_request_is_the_configured_one(site: int, first_result: FirstResult) -> None:
    """Method, path as written, host, headers."""
    kind = HttpCheck(
        f"http://127.0.0.1:{site}/200?a=%2Fb",
        method="HEAD",
        host="edge.example",
        headers=(("X-Token", "t"), ("user-agent", "me")),
    )
    assert asyncio.run(first_result(kind)).up
    ((method, path, headers),) = Site.seen
    assert (method, path) == ("HEAD", "/200?a=%2Fb")
    assert headers["host"] == "edge.example"
    assert headers["x-token"] == "t"
    assert headers["user-agent"] == "me"
    assert headers["connection"] == "close"


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", "127.0.0.1:{}"),
        ("localhost", "localhost:{}"),
        ("u:p@localhost", "localhost:{}"),
    ],
)
def test_without_a_host_the_url_names_it(
    site: int, first_result: FirstResult, host: str, expected: str
) -> None:
    """Also if the connection goes to an address that was looked up.

    A password never travels in it.
    """
    assert asyncio.run(first_result(HttpCheck(f"http://{host}:{site}/200"))).up
    assert Site.seen[0][2]["host"] == expected.format(site)
    assert ("authorization" in Site.seen[0][2]) is ("@" in host)


@pytest.mark.parametrize(
    ("pattern", "up"), [('"status": *"healthy"', True), ("^healthy", False), ("(?i)HEALTHY", True)]
)
def test_the_body_is_searched(site: int, first_result: FirstResult, pattern: str, up: bool) -> None:
    """With a regular expression, anywhere in it."""
    result = asyncio.run(first_result(HttpCheck(f"http://127.0.0.1:{site}/200", body=pattern)))
    assert result.up is up


def test_a_closed_port_is_refused(closed_port: int, first_result: FirstResult) -> None:
    """That is proof."""
    result = asyncio.run(first_result(HttpCheck(f"http://localhost:{closed_port}/")))
    assert (result.up, result.refused) == (False, True)
    assert result.detail == f"127.0.0.1:{closed_port}: Connection refused"


def test_a_reset_is_proof(serve: Serve, reset: Handler, first_result: FirstResult) -> None:
    """The process died with the request in its hands."""

    async def scenario() -> None:
        async with serve(reset) as port:
            result = await first_result(HttpCheck(f"http://127.0.0.1:{port}/"))
            assert (result.up, result.refused) == (False, True)

    asyncio.run(scenario())


def test_a_connection_closed_without_an_answer_is_proof(
    serve: Serve, answer: Answer, first_result: FirstResult
) -> None:
    """It accepted, read and went."""

    async def scenario() -> None:
        async with serve(answer(b"")) as port:
            result = await first_result(HttpCheck(f"http://127.0.0.1:{port}/"))
            assert (result.up, result.refused) == (False, True)
            assert "without a response" in result.detail

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("response", "body", "waited_for"),
    [
        (b"", "", "response"),
        (b"HTTP/1.1 200 O", "", "response"),
        (b"HTTP/1.1 200 OK\r\nContent-Le", "", "response"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "", "response"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", "x", "body"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", "x", "body"),
    ],
)
def test_a_server_that_stops_in_the_middle_times_out(
    serve: Serve, first_result: FirstResult, response: bytes, body: str, waited_for: str
) -> None:
    """The detail says how far it came."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(response)
        await asyncio.Event().wait()

    async def scenario() -> None:
        async with serve(handle) as port:
            result = await first_result(
                HttpCheck(f"http://127.0.0.1:{port}/", body=body), timeout=0.15
            )
            assert (result.up, result.refused) == (False, False)
            assert result.detail == f"no {waited_for} within 150 ms"

    asyncio.run(scenario())


def test_a_server_that_drips_does_not_win_time(serve: Serve, first_result: FirstResult) -> None:
    """The timeout is for the whole try, not for each byte."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b".")
            await writer.drain()
            await asyncio.sleep(0.01)

    async def scenario() -> None:
        async with serve(handle) as port:
            result = await first_result(
                HttpCheck(f"http://127.0.0.1:{port}/", body="x"), timeout=0.15
            )
            assert result.detail == "no body within 150 ms"

    asyncio.run(scenario())


def test_without_a_pattern_the_body_is_not_waited_for(
    serve: Serve, first_result: FirstResult
) -> None:
    """Status line and headers are the answer."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        await asyncio.Event().wait()

    async def scenario() -> None:
        async with serve(handle) as port:
            assert (await first_result(HttpCheck(f"http://127.0.0.1:{port}/"))).up

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("before", "up"),
    [(0, True), (LONGEST_BODY - 6, True), (LONGEST_BODY - 5, False), (10 * LONGEST_BODY, False)],
)
def test_a_body_without_an_end_is_read_to_the_limit(
    serve: Serve, first_result: FirstResult, before: int, up: bool
) -> None:
    """What stands behind the first 64 KiB is not seen, and not waited for."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + b"." * before + b"needle")
        while True:
            writer.write(b"." * 65536)
            await writer.drain()

    async def scenario() -> None:
        async with serve(handle) as port:
            assert (
                await first_result(HttpCheck(f"http://127.0.0.1:{port}/", body="needle"))
            ).up is up

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "response",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 2OO OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000,
        b"\x00\x01\x02\x03" * 100,
    ],
)
def test_nonsense_is_bad(
    serve: Serve, answer: Answer, first_result: FirstResult, response: bytes
) -> None:
    """Something else listens on the port; it is not our ingress."""

    async def scenario() -> None:
        async with serve(answer(response)) as port:
            result = await first_result(HttpCheck(f"http://127.0.0.1:{port}/"))
            assert result.up is False
            assert "crashed" not in result.detail
            assert len(result.detail) < 300
            assert "\n" not in result.detail

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnot hex\r\n",
    ],
)
def test_a_body_that_breaks_off_is_bad(
    serve: Serve, answer: Answer, first_result: FirstResult, response: bytes
) -> None:
    """If it was to be searched."""

    async def scenario() -> None:
        async with serve(answer(response)) as port:
            result = await first_result(HttpCheck(f"http://127.0.0.1:{port}/", body="half"))
            assert result.up is False
            assert "crashed" not in result.detail

    asyncio.run(scenario())


def test_a_compressed_body_is_not_unpacked(serve: Serve, first_result: FirstResult) -> None:
    """64 KiB could become 64 MiB."""
    packed = b"\x1f\x8b\x08\x00" + b"x" * 40

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"Accept-Encoding: identity\r\n" in head
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 44\r\n\r\n" + packed
        )
        await writer.drain()

    async def scenario() -> None:
        async with serve(handle) as port:
            assert (await first_result(HttpCheck(f"http://127.0.0.1:{port}/", body="x{40}"))).up

    asyncio.run(scenario())


def test_each_try_has_a_connection_of_its_own(
    serve: Serve, nameless: Callable[[], Names], open_files: Callable[[], int]
) -> None:
    """A kept one would be served by a process that no new client reaches. And none stays open."""
    peers = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peers.append(writer.get_extra_info("peername"))
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(OK)

    async def scenario() -> None:
        async with serve(handle) as port:
            probe = HttpProbe(HttpCheck(f"http://127.0.0.1:{port}/"), Workers(nameless()))
            for _ in range(20):
                assert (await probe.run()).up
            await asyncio.sleep(0.05)
            before = open_files()
            for _ in range(100):
                assert (await probe.run()).up
            await asyncio.sleep(0.05)
            assert abs(open_files() - before) <= 2
            assert len(peers) == 120
            assert len(set(peers)) > 100  # a port that is free again may be given a second time
            await probe.close()
            await probe.close()

    asyncio.run(scenario())


def test_cancelled_tries_leave_nothing_open(
    serve: Serve, hang: Handler, nameless: Callable[[], Names], open_files: Callable[[], int]
) -> None:
    """A server that hangs for hours is asked some ten thousand times."""

    async def scenario() -> None:
        async with serve(hang) as port:
            probe = HttpProbe(HttpCheck(f"http://127.0.0.1:{port}/"), Workers(nameless()))

            async def asked(times: int) -> int:
                for _ in range(times):
                    with pytest.raises(TimeoutError):
                        async with asyncio.timeout(0.01):
                            await probe.run()
                await asyncio.sleep(0.05)
                return open_files()

            first = await asked(5)
            # The server keeps its own half of each connection until it is told to go.
            assert await asked(20) - first <= 20
            await probe.close()

    asyncio.run(scenario())


def test_a_unix_socket_is_asked(serve: Serve, tmp_path: Path, first_result: FirstResult) -> None:
    """The URL gives path and Host header, the socket the way."""
    heads = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(OK)

    async def scenario() -> None:
        path = tmp_path / "s"
        kind = HttpCheck("http://no-such-name.invalid/healthz", unix_socket=str(path))
        missing = await first_result(kind)
        assert (missing.up, missing.refused) == (False, True)
        assert "No such file" in missing.detail
        async with serve(handle, path=path):
            assert (await first_result(kind)).up
        assert heads[0].startswith(b"GET /healthz HTTP/1.1\r\n")
        assert b"Host: no-such-name.invalid\r\n" in heads[0]
        with socket.socket(socket.AF_UNIX) as orphan:
            path.unlink(missing_ok=True)
            orphan.bind(str(path))
        stale = await first_result(kind)
        assert (stale.up, stale.refused) == (False, True)

    asyncio.run(scenario())


def test_ipv6_is_asked(first_result: FirstResult) -> None:
    """With brackets in the URL."""

    async def scenario() -> None:
        hosts = []

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            hosts.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(OK)
            writer.close()

        server = await asyncio.start_server(handle, "::1", 0)
        port = server.sockets[0].getsockname()[1]
        assert (await first_result(HttpCheck(f"http://[::1]:{port}/"))).up
        assert f"Host: [::1]:{port}\r\n".encode() in hosts[0]
        server.close()
        await server.wait_closed()
        result = await first_result(HttpCheck(f"http://[::1]:{port}/"))
        assert result.detail == f"[::1]:{port}: Connection refused"

    asyncio.run(scenario())


def test_a_name_that_nobody_can_look_up_is_unknown(first_result: FirstResult) -> None:
    """No name server answers here."""
    result = asyncio.run(first_result(HttpCheck("http://web.example/")))
    assert (result.up, result.refused) == (None, False)


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("a", "a"),
        ("a:80", "a"),
        ("[::1]", "::1"),
        ("[::1]:80", "::1"),
        ("::1", "::1"),
        ("192.0.2.1:8443", "192.0.2.1"),
    ],
)
def test_a_host_header_without_its_port_is_the_name_to_verify(host: str, name: str) -> None:
    """As SNI and certificates have no ports."""
    assert _without_port(host) == name


def test_only_who_needs_a_library_pays_for_it() -> None:
    """Importing the package and its runner does not import it; `preload` does."""
    program = (
        "import sys, health.runner, health.kinds.registry as p; from health.model import *\n"
        "p.preload([Check('a', TcpCheck(host, 1)) for host in ('127.0.0.1', '::1', 'localhost')])\n"
        "p.preload([Check('a', InterfaceCheck('eth0'))]); assert 'aiodns' not in sys.modules\n"
        "p.preload([Check('a', TcpCheck('a', 1))]); assert 'aiodns' in sys.modules; assert "
        "'aiohttp' not in sys.modules\n"
        "p.preload([Check('a', HttpCheck('http://a/'))]); assert 'aiohttp' in sys.modules\n"
    )
    subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
    )
