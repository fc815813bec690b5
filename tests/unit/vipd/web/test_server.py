"""The pages over real connections."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable

import pytest

from tests.unit.vipd.inprocess import until
from vipd.observe.metrics import Metrics
from vipd.web import server as web
from vipd.web.server import Web


class Daemon:
    """What the pages ask; the test says what is wrong."""

    def __init__(self) -> None:
        self.wrong = {"alive": "", "ready": ""}

    def alive(self) -> str:
        """Return what is wrong with the event loop."""
        return self.wrong["alive"]

    def ready(self) -> str:
        """Return what is not ready."""
        return self.wrong["ready"]


def serving(scene: Callable[[Web, Daemon], Awaitable[None]]) -> None:
    """Run a scene while the pages are served on a free port."""

    async def run() -> None:
        daemon = Daemon()
        server = Web("127.0.0.1", 0, Metrics(), daemon.alive, daemon.ready)
        assert await server.start() == ""
        try:
            await scene(server, daemon)
        finally:
            await server.close()

    asyncio.run(run())


async def send(port: int, request: bytes) -> tuple[str, bytes]:
    """Send bytes; return the status line and the body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    head, _, body = answer.partition(b"\r\n\r\n")
    return head.decode().partition("\r\n")[0], body


def get(path: str, method: str = "GET") -> bytes:
    """Return a request as curl sends it."""
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n".encode()


def test_metrics_are_served_in_the_text_format() -> None:
    """With or without a query."""

    async def scene(server: Web, _daemon: Daemon) -> None:
        for path in ("/metrics", "/metrics?name=x"):
            status, body = await send(server.port, get(path))
            assert status == "HTTP/1.1 200 OK"
            assert b"\nvipd_crashes_total 0.0\n" in body

    serving(scene)


@pytest.mark.parametrize(("path", "question"), [("/healthz", "alive"), ("/readyz", "ready")])
def test_health_and_readiness_say_what_is_wrong(path: str, question: str) -> None:
    """A probe reads the status, a person the sentence."""

    async def scene(server: Web, daemon: Daemon) -> None:
        assert await send(server.port, get(path)) == ("HTTP/1.1 200 OK", b"ok\n")
        daemon.wrong[question] = "the store was never seen"
        assert await send(server.port, get(path)) == (
            "HTTP/1.1 503 Service Unavailable",
            b"the store was never seen\n",
        )

    serving(scene)


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (get("/"), "404"),
        (get("/metrics", "HEAD"), "200"),
        (get("/metrics", "POST"), "405"),
        (b"hello\r\n\r\n", "400"),
        (b"GET /metrics\r\n\r\n", "400"),
        (b"GET /metrics HTTP/3\r\n\r\n", "400"),
        (b"\xff\xfe\r\n\r\n", "400"),
        (b"GET / HTTP/1.1\r\nA: " + b"x" * 20000 + b"\r\n\r\n", "431"),
    ],
)
def test_other_requests_get_their_status(request_bytes: bytes, status: str) -> None:
    """And the server goes on."""

    async def scene(server: Web, _daemon: Daemon) -> None:
        answer, body = await send(server.port, request_bytes)
        assert answer.split(" ")[1] == status
        assert b"vipd_" not in body
        assert (await send(server.port, get("/healthz")))[1] == b"ok\n"

    serving(scene)


def test_a_client_that_goes_away_is_no_trouble() -> None:
    """Before its request, or in the middle of it."""

    async def scene(server: Web, _daemon: Daemon) -> None:
        for part in (b"", b"GET /me"):
            _, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(part)
            writer.close()
            await writer.wait_closed()
        assert (await send(server.port, get("/healthz")))[1] == b"ok\n"

    serving(scene)


async def idle(port: int, said: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a connection and ask nothing."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(said)
    await asyncio.sleep(0.005)
    return reader, writer


def test_whoever_connects_and_says_nothing_keeps_nobody_out() -> None:
    """One more than there may be ends the one that has been silent longest.

    The others are still served.
    """

    async def scene(server: Web, _daemon: Daemon) -> None:
        silent = [await idle(server.port, b"GET /m") for _ in range(web.MOST_CONNECTIONS)]
        for number in range(5):
            assert await send(server.port, get("/healthz")) == ("HTTP/1.1 200 OK", b"ok\n")
            # Each answer made room for itself only once: it had gone before the next one came.
            late = await idle(server.port)
            silent.append(late)
            assert await silent[number][0].read() == b""
        reader, writer = silent[10]
        writer.write(b"etrics HTTP/1.1\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 200 OK")
        for _, writer in silent:
            writer.close()

    serving(scene)


def test_clients_that_take_no_answer_keep_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that does not fit into the kernel's buffers, and nobody reads: the
    oldest makes room.
    """

    async def scene(server: Web, _daemon: Daemon) -> None:
        page = b"x" * 8_000_000
        monkeypatch.setattr(server._metrics, "render", lambda: page)
        deaf = [await idle(server.port, get("/metrics")) for _ in range(web.MOST_CONNECTIONS)]
        await until(
            lambda: len(server._listener._answered) == web.MOST_CONNECTIONS, "all to be answered"
        )
        assert await send(server.port, get("/healthz")) == ("HTTP/1.1 200 OK", b"ok\n")
        assert len(server._listener._answered) == web.MOST_CONNECTIONS - 1
        for _, writer in deaf:
            writer.transport.abort()

    serving(scene)


def test_a_client_that_takes_no_answer_is_ended_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever of it is still to be sent."""
    monkeypatch.setattr(web, "WRITE_SECONDS", 0.1)

    async def scene(server: Web, _daemon: Daemon) -> None:
        page = b"x" * 8_000_000
        monkeypatch.setattr(server._metrics, "render", lambda: page)
        _, writer = await idle(server.port, get("/metrics"))
        await until(lambda: server._listener._answered, "the answer to begin")
        await until(lambda: not server._listener._answered, "the connection to be ended")
        writer.transport.abort()

    serving(scene)


def test_a_taken_port_is_a_sentence_and_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The election goes on without metrics; they come as soon as they can."""
    monkeypatch.setattr(web, "RETRY_SECONDS", 0.01)

    async def scene() -> None:
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            port = other.getsockname()[1]
            server = Web("127.0.0.1", port, Metrics(), str, str)
            why = await server.start()
            assert why.startswith(f"metrics: cannot listen on 127.0.0.1:{port}: ")
            assert server.port == 0
        async with asyncio.timeout(10):
            while not server.port:  # noqa: ASYNC110 - there is no event: it listens again as quietly as it can
                await asyncio.sleep(0.01)
        assert (await send(port, get("/healthz")))[1] == b"ok\n"
        await server.close()

    with caplog.at_level(logging.INFO):
        asyncio.run(scene())
    assert [record.levelname for record in caplog.records if record.name == "vipd.web.server"] == [
        "WARNING",
        "INFO",
    ]


@pytest.mark.parametrize("host", ["", "::1", "localhost"])
def test_any_address_of_this_host_can_be_listened_on(host: str) -> None:
    """Empty: all of them, both families on one port."""

    async def scene() -> None:
        server = Web(host, 0, Metrics(), str, str)
        assert await server.start() == ""
        assert server.port > 0
        await server.close()
        await server.close()

    asyncio.run(scene())
