"""One HTTP/1.1 connection: requests with an answer each, one after the other.

Written out because the lifeline of the daemon needs what libraries hide: a connection that is given up ends at once (aiohttp
waits 30 s for the farewell of a hung TLS server), a write is never sent a second time (aiohttp repeats a PUT whose connection
breaks), and it is known whether a connection stood all the time. RFC 9112; no compression, no proxies, no redirects.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass

LONGEST_HEAD = 64 * 1024
"""Bytes of a status line with its headers, and of a line inside a chunked body."""
LARGEST_BODY = 64 * 1024 * 1024
"""Bytes of an answer; a list of a thousand Leases has about two million."""
PORTION = 64 * 1024
BLANK = b"\r\n"
NO_CONTENT, OK = 204, 200


class WireError(Exception):
    """The answer is not HTTP, or larger than any answer may be."""


@dataclass(frozen=True, slots=True)
class Head:
    """The beginning of an answer. Names of headers are in lower case."""

    code: int
    headers: Mapping[str, str]
    keeps: bool
    """Whether the connection may be used again."""


class Wire:
    """A connection that stands. Raises WireError, OSError and EOFError (asyncio.IncompleteReadError) for what goes wrong."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str) -> None:
        self._reader = reader
        self._writer = writer
        self._host = host
        self._reusable = True
        self.free_since = 0.0
        """When it was used last; seconds of the event loop."""
        self.address, self.port = "", 0
        """Whom it leads to."""
        self.given_up = False
        """Whether this end ended it, because its server is being stopped."""
        self.examined = False
        """Whether its server was found to take connections since the last one was made."""

    @property
    def stands(self) -> bool:
        """Whether the connection is there, as far as this end can tell."""
        return not self._writer.is_closing() and not self._reader.at_eof() and self._reader.exception() is None

    @property
    def reusable(self) -> bool:
        """Whether another request may be sent."""
        return self._reusable and self.stands

    def abort(self) -> None:
        """End the connection without a farewell."""
        self._writer.transport.abort()

    async def closed(self) -> None:
        """Wait until an aborted connection has let go of its socket."""
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def ask(self, method: str, target: str, headers: Mapping[str, str], body: bytes | None) -> Head:
        """Send a request and return the beginning of its answer. The body has to be read before the next one is sent."""
        self._reusable = False
        lines = [f"{method} {target} HTTP/1.1", f"Host: {self._host}", *(f"{name}: {value}" for name, value in headers.items())]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        self._writer.write("\r\n".join([*lines, "", ""]).encode("ascii") + (body or b""))
        await self._writer.drain()
        head = await self._head()
        while head.code < OK:
            head = await self._head()
        return head

    async def body(self, head: Head) -> bytes:
        """Return the whole body."""
        body, data = Body(self, head), bytearray()
        while part := await body.part():
            data += part
            if len(data) > LARGEST_BODY:
                raise WireError(f"an answer of more than {LARGEST_BODY} bytes")
        return bytes(data)

    def done(self, head: Head) -> None:
        """Note that the body of an answer was read to its end."""
        self._reusable = head.keeps

    async def some(self, most: int) -> bytes:
        """Return the next bytes; whoever gives up waiting loses none."""
        data = await self._reader.read(min(most, PORTION))
        if not data:
            raise EOFError
        return data

    async def line(self) -> str:
        """Return the next line; whoever gives up waiting loses nothing of it."""
        try:
            return (await self._reader.readuntil(BLANK)).decode("latin-1").removesuffix("\r\n")
        except asyncio.LimitOverrunError:
            raise WireError("a line without an end") from None

    async def _head(self) -> Head:
        try:
            text = (await self._reader.readuntil(BLANK + BLANK)).decode("latin-1")
        except asyncio.LimitOverrunError:
            raise WireError("headers without an end") from None
        status, *lines = text.removesuffix("\r\n\r\n").split("\r\n")
        version, _, rest = status.partition(" ")
        if not version.startswith("HTTP/1.") or not rest[:3].isdigit():
            raise WireError("an answer that is not HTTP/1.1")
        pairs = [line.partition(":") for line in lines]
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        keeps = version == "HTTP/1.1" and "close" not in headers.get("connection", "").lower()
        return Head(int(rest[:3]), headers, keeps)


class _Next(enum.Enum):
    """What comes next in a body."""

    DATA = enum.auto()
    END_OF_CHUNK = enum.auto()
    SIZE = enum.auto()
    TRAILER = enum.auto()
    NOTHING = enum.auto()


class Body:
    """The body of an answer, in parts as they come. Waiting for a part may be given up and begun again."""

    def __init__(self, wire: Wire, head: Head) -> None:
        self.wire = self._wire = wire
        self._head = head
        self._left = 0
        self._chunked = "chunked" in head.headers.get("transfer-encoding", "").lower()
        self._next = _Next.SIZE if self._chunked else _Next.DATA
        if not self._chunked and head.code != NO_CONTENT:
            # A body that ends with the connection has no end: nobody could tell a whole one from one that was cut short.
            if "content-length" not in head.headers:
                raise WireError("an answer without a length")
            self._left = _number(head.headers["content-length"], 10)

    async def part(self) -> bytes:
        """Return the next part; empty at the end, which is only reached if nothing is missing."""
        while self._next is not _Next.NOTHING:
            if self._left:
                data = await self._wire.some(self._left)
                self._left -= len(data)
                return data
            await self._advance()
        return b""

    async def _advance(self) -> None:
        match self._next:
            case _Next.DATA if not self._chunked:
                self._end()
            case _Next.DATA:
                self._next = _Next.END_OF_CHUNK
            case _Next.END_OF_CHUNK:
                if await self._wire.line():
                    raise WireError("a chunk that is longer than it says")
                self._next = _Next.SIZE
            case _Next.SIZE:
                self._left = _number((await self._wire.line()).partition(";")[0], 16)
                self._next = _Next.DATA if self._left else _Next.TRAILER
            case _Next.TRAILER:
                if not await self._wire.line():
                    self._end()

    def _end(self) -> None:
        self._next = _Next.NOTHING
        self._wire.done(self._head)


def _number(text: str, base: int) -> int:
    try:
        number = int(text.strip(), base)
    except ValueError:
        number = -1
    if number < 0:
        raise WireError(f"a length of {text[:20]!r}")
    return number


async def reach(host: str, port: int) -> socket.socket:
    """Connect to an address; raises OSError."""
    # Only with the protocol named does asyncio see that this is TCP, and turn off the delay that waits for more to send.
    found = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        found.settimeout(0)
        await asyncio.get_running_loop().sock_connect(found, (host, port))
    except BaseException:
        found.close()
        raise
    return found


async def connect(reached: socket.socket, port: int, name: str, tls: ssl.SSLContext | None) -> Wire:
    """Begin HTTP on a connection. `name` is what the Host header says and, with TLS, what the certificate is for; raises OSError."""
    server_name = name if tls is not None else None
    making = asyncio.ensure_future(asyncio.open_connection(sock=reached, ssl=tls, server_hostname=server_name, limit=LONGEST_HEAD))
    try:
        reader, writer = await asyncio.shield(making)
    except asyncio.CancelledError:
        # Cancelled in the middle of a TLS handshake, asyncio never closes its transport. Hung up on, it ends by itself, and at once.
        with contextlib.suppress(OSError):
            reached.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError):
            (await making)[1].transport.abort()
        raise
    except BaseException:
        reached.close()
        raise
    return Wire(reader, writer, f"[{name}]:{port}" if ":" in name else f"{name}:{port}")
