"""HTTP as the Kubernetes store reads it: whole answers only, in whatever pieces they come."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from election.stores.errors import NotHttp
from election.stores.kubernetes.connection import (
    LARGEST_BODY,
    LONGEST_HEAD,
    Connection,
    connect,
    reach,
)

PATIENCE = 5.0
Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def connected(script: Script) -> AsyncIterator[Connection]:
    """Return a connection to a server that plays a script for it."""

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await script(reader, writer)
        writer.close()

    server = await asyncio.start_server(play, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    connection = await connect(await reach("127.0.0.1", port), port, "127.0.0.1", None)
    try:
        async with asyncio.timeout(PATIENCE):
            yield connection
    finally:
        connection.abort()
        await connection.closed()
        server.close()
        await server.wait_closed()


def saying(*pieces: bytes) -> Script:
    """Return a script that reads a request and answers with these pieces, each
    in its own packet.
    """

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)

    return script


async def answer(*pieces: bytes) -> tuple[int, bytes, bool]:
    """Return the code and body of what comes in these pieces, and whether the connection can be
    used again.
    """
    async with connected(saying(*pieces)) as connection:
        head = await connection.ask("GET", "/", {}, None)
        body = await connection.body()
        return head.code, body, connection._reusable


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
WHOLE = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: "
    b"chunked\r\n\r\n3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\nTrailer: t\r\n\r\n",
    "interim": b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 "
    b"OK\r\ncontent-length:5\r\n\r\nhello",
    "nothing": b"HTTP/1.1 204 No Content\r\n\r\n",
    "error": b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("kind", WHOLE)
def test_an_answer_is_the_same_however_it_is_cut(kind: str) -> None:
    """In one piece, or byte by byte."""
    data = WHOLE[kind]
    whole = asyncio.run(answer(data))
    assert whole[0] in (200, 204, 503)
    assert whole[1] == (b"hello" if whole[0] == 200 else b"")
    assert whole[2]
    assert asyncio.run(answer(*(data[i : i + 1] for i in range(len(data))))) == whole


@pytest.mark.parametrize("kind", WHOLE)
def test_an_answer_that_is_cut_short_is_none(kind: str) -> None:
    """The connection ends after any byte but the last: nothing of it may be taken for an answer."""
    data = WHOLE[kind]
    for end in range(len(data)):
        with pytest.raises((EOFError, ConnectionError)):
            asyncio.run(answer(data[:end]))


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nno length",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * LONGEST_HEAD,
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * LONGEST_HEAD + b"\r\nContent-Length: 0\r\n\r\n",
        CHUNKED + b"1;" + b"x" * LONGEST_HEAD + b"\r\na\r\n0\r\n\r\n",
        CHUNKED + b"0\r\n" + b"X: y\r\n" * LONGEST_HEAD + b"\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\na",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
    ],
)
def test_what_is_no_http_is_refused(data: bytes) -> None:
    """With an error of its own, not with half an answer."""
    with pytest.raises(NotHttp):
        asyncio.run(answer(data))


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ],
)
def test_a_connection_that_ends_is_not_used_again(data: bytes) -> None:
    """The server says so."""
    assert asyncio.run(answer(data)) == (200, b"ok", False)


def test_headers_up_to_the_limit_are_read() -> None:
    """In one piece or in two, it is the number of bytes that counts."""
    begin, end = b"HTTP/1.1 200 OK\r\nX: ", b"\r\nContent-Length: 2\r\n\r\n"
    head = begin + b"y" * (LONGEST_HEAD - len(begin) - len(end)) + end
    assert asyncio.run(answer(head + b"ok")) == (200, b"ok", True)
    assert asyncio.run(answer(head[:1000], head[1000:] + b"ok")) == (200, b"ok", True)


@pytest.mark.parametrize(
    "head",
    [CHUNKED, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (LARGEST_BODY + 1)],
    ids=["chunked", "length"],
)
def test_an_answer_larger_than_any_may_be_is_refused(head: bytes) -> None:
    """However it is announced, before the memory is full of it."""
    piece = b"x" * (1024 * 1024)
    chunk = b"%x\r\n%s\r\n" % (len(piece), piece) if head is CHUNKED else piece
    with pytest.raises(NotHttp, match=str(LARGEST_BODY)):
        asyncio.run(answer(head, *[chunk] * (LARGEST_BODY // len(piece) + 1)))


def test_what_comes_unasked_makes_the_connection_useless() -> None:
    """It would be taken for the next answer."""
    assert asyncio.run(answer(WHOLE["length"] + WHOLE["length"])) == (200, b"hello", False)


def test_what_cannot_be_sent_is_not_sent_and_not_quoted() -> None:
    """A token goes into no log, whatever is in it."""

    async def scenario() -> None:
        for token in ("secret\r\nX: y", "secret ", "secr\u00e9t"):
            async with connected(saying(WHOLE["length"])) as connection:
                with pytest.raises(NotHttp) as caught:
                    await connection.ask("GET", "/", {"Authorization": f"Bearer {token}"}, None)
                assert "sec" not in str(caught.value)
                assert not connection.reusable

    asyncio.run(scenario())


def test_a_body_that_was_not_read_makes_the_connection_useless() -> None:
    """Its rest would be taken for the next answer."""

    async def scenario() -> None:
        async with connected(saying(WHOLE["length"])) as connection:
            await connection.ask("GET", "/", {}, None)
            assert not connection.reusable

    asyncio.run(scenario())


def test_several_requests_go_over_one_connection() -> None:
    """What the server gets is HTTP/1.1, with a body and its length."""
    got: list[bytes] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            head = await reader.readuntil(b"\r\n\r\n")
            got.append(head + await reader.readexactly(3 if b"Content-Length: 3" in head else 0))
            writer.write(WHOLE["length"])

    async def scenario() -> None:
        async with connected(script) as connection:
            await connection.ask("PUT", "/a?b=c", {"X": "y"}, b"abc")
            assert await connection.body() == b"hello"
            await connection.ask("GET", "/", {}, None)
            assert await connection.body() == b"hello"

    asyncio.run(scenario())
    request = got[0].split(b"\r\n")
    assert request[0] == b"PUT /a?b=c HTTP/1.1"
    assert request[1].startswith(b"Host: 127.0.0.1:")
    assert request[2:] == [b"X: y", b"Content-Length: 3", b"", b"abc"]


def test_waiting_for_a_part_can_be_given_up_and_begun_again() -> None:
    """A watch is silent for long.

    Whoever looks up from it now and then loses nothing, wherever in a chunk that happens.
    """
    data = WHOLE["chunked"]
    go = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for byte in data:
            writer.write(bytes([byte]))
            await writer.drain()
            await go.wait()
            go.clear()

    async def scenario() -> None:
        async with connected(script) as connection:
            waiting = asyncio.ensure_future(connection.ask("GET", "/", {}, None))
            while not waiting.done():
                go.set()
                await asyncio.sleep(0)
            found = b""
            while not connection._reusable:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.005):
                        found += await connection.part()
                go.set()
            assert found == b"hello"
            assert await connection.part() == b""

    asyncio.run(scenario())


def test_a_connection_that_the_server_closed_does_not_stand() -> None:
    """It is noticed without sending anything."""

    async def scenario() -> None:
        async with connected(saying(WHOLE["length"])) as connection:
            await connection.ask("GET", "/", {}, None)
            await connection.body()
            while connection.reusable:  # noqa: ASYNC110 - the end of a connection is no event of this class
                await asyncio.sleep(0.001)
            assert not connection.stands

    asyncio.run(scenario())


def test_a_request_does_not_wait_for_more_to_send() -> None:
    """A write of two segments would wait for the delayed acknowledgement of the
    first one, 40 ms.
    """

    async def scenario() -> None:
        async with connected(saying(WHOLE["length"])) as connection:
            sock: socket.socket = connection._writer.get_extra_info("socket")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    asyncio.run(scenario())


def test_a_connection_that_is_given_up_while_it_is_made_leaves_nothing() -> None:
    """The server takes the connection and says nothing to the TLS handshake.

    The socket is closed at the time-out.
    """

    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            reached = await reach("127.0.0.1", port)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await connect(reached, port, "127.0.0.1", ssl.create_default_context())
            taken, _ = server.accept()
            taken.settimeout(PATIENCE)
            with taken, contextlib.suppress(ConnectionResetError):
                while taken.recv(4096):
                    pass

    asyncio.run(scenario())
