"""GET /metrics, /healthz and /readyz: a small HTTP server on the daemon's own event loop.

Three fixed pages need no framework: aiohttp would cost the daemon 12 MB and 150 ms of imports, this
file takes 1 MB. If the address cannot be bound it says so once and tries again: a host whose
network is still coming up has it a moment later.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

from vipd.control.listener import Listener, bound, finish
from vipd.observe.metrics import CONTENT_TYPE, Metrics

log = logging.getLogger(__name__)

LONGEST_HEAD = 16 * 1024
MOST_CONNECTIONS = 32
READ_SECONDS = 5.0
WRITE_SECONDS = 10.0
RETRY_SECONDS = 5.0
PLAIN = "text/plain; charset=utf-8"

Ask = Callable[[], str]
"""Returns what is wrong, in a sentence; empty: nothing."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One response."""

    status: HTTPStatus
    body: bytes = b""
    content_type: str = PLAIN

    def encoded(self, *, head_only: bool) -> bytes:
        """Return the bytes to send; the connection ends with them."""
        allow = "Allow: GET, HEAD\r\n" if self.status is HTTPStatus.METHOD_NOT_ALLOWED else ""
        head = (
            f"HTTP/1.1 {self.status.value} {self.status.phrase}\r\nContent-Type: "
            f"{self.content_type}\r\n"
            f"Content-Length: {len(self.body)}\r\nCache-Control: no-store\r\n{allow}Connection: "
            "close\r\n\r\n"
        )
        return head.encode() + (b"" if head_only else self.body)


class Web:
    """Serves on host (empty: all addresses) and port.

    `alive` and `ready` say what is wrong, empty: nothing.
    """

    def __init__(self, host: str, port: int, metrics: Metrics, alive: Ask, ready: Ask) -> None:
        self._host = host
        self._port = port
        self._metrics = metrics
        self._alive = alive
        self._ready = ready
        self._listener = Listener("metrics", self._serve, most=MOST_CONNECTIONS, limit=LONGEST_HEAD)
        self._retry: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The port that is listened on; 0: none."""
        return int(self._listener.sockets[0].getsockname()[1]) if self._listener.sockets else 0

    async def start(self) -> str:
        """Listen; if that is not possible now, return why in a sentence, log it, and go on trying.
        Never raises for that.
        """
        why = await self._listen()
        if why:
            log.warning("%s; trying again", why)
            self._retry = asyncio.create_task(self._keep_trying(), name="metrics listener")
        return why

    async def close(self) -> None:
        """Stop listening and end all connections. Idempotent."""
        if self._retry is not None:
            self._retry.cancel()
            await asyncio.gather(self._retry, return_exceptions=True)
        await self._listener.close()

    async def _listen(self) -> str:
        try:
            self._listener.start(await bound(self._host, self._port))
        except OSError as error:
            place = f"[{self._host}]" if ":" in self._host else self._host
            return f"metrics: cannot listen on {place}:{self._port}: {error.strerror or error}"
        return ""

    async def _keep_trying(self) -> None:
        why = "not tried yet"
        while why:
            await asyncio.sleep(RETRY_SECONDS)
            why = await self._listen()
        log.info("metrics: listening now")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(READ_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            writer.write(
                Answer(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE).encoded(head_only=False)
            )
            await finish(writer, WRITE_SECONDS)
            return
        self._listener.asked()
        words = head.partition(b"\r\n")[0].decode("latin-1").split(" ")
        answer = await self._answer(words)
        writer.write(answer.encoded(head_only=words[0] == "HEAD"))
        await finish(writer, WRITE_SECONDS)

    async def _answer(self, words: list[str]) -> Answer:
        match words:
            case ["GET" | "HEAD", target, "HTTP/1.0" | "HTTP/1.1"]:
                return await self._page(target.partition("?")[0])
            case [_, _, "HTTP/1.0" | "HTTP/1.1"]:
                return Answer(HTTPStatus.METHOD_NOT_ALLOWED)
            case _:
                return Answer(HTTPStatus.BAD_REQUEST)

    async def _page(self, path: str) -> Answer:
        match path:
            case "/metrics":
                # On a thread: with hundreds of instances this takes longer than the event loop may
                # stand still.
                return Answer(
                    HTTPStatus.OK, await asyncio.to_thread(self._metrics.render), CONTENT_TYPE
                )
            case "/healthz":
                return _verdict(self._alive())
            case "/readyz":
                return _verdict(self._ready())
            case _:
                return Answer(HTTPStatus.NOT_FOUND, b"/metrics, /healthz, /readyz\n")


def _verdict(wrong: str) -> Answer:
    if wrong:
        return Answer(HTTPStatus.SERVICE_UNAVAILABLE, f"{wrong}\n".encode())
    return Answer(HTTPStatus.OK, b"ok\n")
