"""One HTTP/1.1 connection: requests with an answer each, one after the other.

h11 reads and writes the bytes of HTTP. The connection is ours because the lifeline of the daemon
needs what HTTP clients hide:

- a connection that is given up ends at once (aiohttp waits 30 s for the farewell of a hung TLS
  server);
- a write is never sent a second time (aiohttp repeats a PUT whose connection breaks);
- it is known whether a connection stood all the time.

No compression, no proxies, no redirects.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass

import h11

from election.stores.errors import NotHttp

LONGEST_HEAD = 64 * 1024
"""Bytes of a status line with its headers, and of the lines between the parts of a body."""
LARGEST_BODY = 64 * 1024 * 1024
"""Bytes of an answer; a list of a thousand Leases has about two million."""
NO_CONTENT = 204


@dataclass(frozen=True, slots=True)
class Head:
    """The beginning of an answer. Names of headers are in lower case."""

    code: int
    headers: Mapping[str, str]


class Connection:
    """A connection that stands. Raises NotHttp, OSError and EOFError for what goes wrong."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._host = host
        # Its own limit would be noticed after more bytes than that; see _read_more.
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=2 * LONGEST_HEAD)
        self._unread = False
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
        return (
            not self._writer.is_closing()
            and not self._reader.at_eof()
            and self._reader.exception() is None
        )

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

    async def ask(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes | None
    ) -> Head:
        """Send a request and return the beginning of its answer.

        The body has to be read before the next one is sent.
        """
        self._reusable = False
        sized = {} if body is None else {"Content-Length": str(len(body))}
        # Written at once: a second segment would wait for the acknowledgement of the first one.
        self._writer.write(
            self._request(method, target, {"Host": self._host, **headers, **sized}, body or b"")
        )
        await self._writer.drain()
        while not isinstance(event := await self._next_event(), h11.Response):
            if not isinstance(event, h11.InformationalResponse):
                raise NotHttp("a body without a beginning")
        head = Head(
            event.status_code,
            {name.decode(): value.decode("latin-1") for name, value in event.headers},
        )
        # A body that ends with the connection has no end: nobody could tell a whole one from one
        # that was cut short.
        if (
            head.code != NO_CONTENT
            and not {"content-length", "transfer-encoding"} & head.headers.keys()
        ):
            raise NotHttp("an answer without a length")
        self._unread = True
        return head

    async def body(self) -> bytes:
        """Return the whole body."""
        data = bytearray()
        while part := await self.part():
            data += part
            if len(data) > LARGEST_BODY:
                raise NotHttp(f"an answer of more than {LARGEST_BODY} bytes")
        return bytes(data)

    async def part(self) -> bytes:
        """Return the next part of the body.

        Empty at the end, which is only reached if nothing is missing.

        Waiting for a part may be given up and begun again.
        """
        while self._unread:
            match await self._next_event():
                case h11.Data(data=data) if data:
                    return bytes(data)
                case h11.EndOfMessage():
                    self._end_answer()
        return b""

    def _end_answer(self) -> None:
        self._unread = False
        # What comes unasked would be taken for the answer to the next request.
        ends = self._http.their_state is not h11.DONE or self._http.trailing_data[0]
        if not ends:
            self._http.start_next_cycle()
            self._reusable = True

    def _request(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> bytes:
        try:
            request = h11.Request(method=method, target=target, headers=list(headers.items()))
        except (h11.LocalProtocolError, UnicodeEncodeError):
            # The error would quote the token.
            raise NotHttp("the request has characters that HTTP does not allow") from None
        events = (request, h11.Data(data=body), h11.EndOfMessage())
        return b"".join(self._http.send(event) or b"" for event in events)

    async def _next_event(self) -> h11.Event:
        """Return what comes next in an answer; whoever gives up waiting loses none of it."""
        while True:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as error:
                raise NotHttp(f"not HTTP/1.1: {error}") from None
            if isinstance(event, h11.Event):
                return event
            await self._read_more()

    async def _read_more(self) -> None:
        room = LONGEST_HEAD - len(self._http.trailing_data[0])
        if room <= 0:
            raise NotHttp("a line or headers without an end")
        data = await self._reader.read(room)
        if not data:
            raise EOFError
        self._http.receive_data(data)


async def reach(host: str, port: int) -> socket.socket:
    """Connect to an address; raises OSError."""
    # Only with the protocol named does asyncio see that this is TCP, and turn off the delay that
    # waits for more to send.
    found = socket.socket(
        socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP
    )
    try:
        found.settimeout(0)
        await asyncio.get_running_loop().sock_connect(found, (host, port))
    except BaseException:
        found.close()
        raise
    return found


async def connect(
    reached: socket.socket, port: int, name: str, tls: ssl.SSLContext | None
) -> Connection:
    """Begin HTTP on a connection.

    `name` is what the Host header says and, with TLS, what the certificate is for; raises OSError.
    """
    server_name = name if tls is not None else None
    making = asyncio.ensure_future(
        asyncio.open_connection(
            sock=reached, ssl=tls, server_hostname=server_name, limit=LONGEST_HEAD
        )
    )
    try:
        reader, writer = await asyncio.shield(making)
    except asyncio.CancelledError:
        # Cancelled in the middle of a TLS handshake, asyncio never closes its transport. Hung up
        # on, it ends by itself, and at once.
        with contextlib.suppress(OSError):
            reached.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError):
            (await making)[1].transport.abort()
        raise
    except BaseException:
        reached.close()
        raise
    return Connection(reader, writer, f"[{name}]:{port}" if ":" in name else f"{name}:{port}")
