"""Connections are used again only when nothing of an earlier request can still come over them, and
losing all of them is noticed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from election.stores.kubernetes.connection import Connection
from election.stores.kubernetes.credentials import Login
from election.stores.kubernetes.pool import IDLE, MOST, Pool

PATIENCE = 5.0
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass
class Server:
    """Answers every request with two bytes; `mute` ones it only counts.

    `peers` are the clients' ports, one for each connection.
    """

    port: int = 0
    requests: int = 0
    mute: bool = False
    peers: list[int] = field(default_factory=list)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self.peers.append(writer.get_extra_info("peername")[1])
        self.writers.append(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while await reader.readuntil(b"\r\n\r\n"):
                self.requests += 1
                self.asked.set()
                if not self.mute:
                    writer.write(ANSWER)
        writer.close()

    def login(self, token: str = "", host: str = "127.0.0.1") -> Login:
        """Return what reaches it."""
        return Login(f"http://{host}:{self.port}", None, token)


async def ask(pool: Pool, login: Login) -> bytes:
    """Ask once and read the whole answer."""
    async with pool.connection(login) as connection:
        await connection.ask("GET", "/", {}, None)
        return await connection.body()


def run(scenario: Callable[[Server, Pool], Awaitable[None]]) -> None:
    """Run a scenario with a server and a pool.

    In the end the pool has let go of every connection.
    """

    @contextlib.asynccontextmanager
    async def served() -> AsyncIterator[Server]:
        server = Server()
        listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
        server.port = listener.sockets[0].getsockname()[1]
        try:
            yield server
        finally:
            for writer in server.writers:
                writer.transport.abort()
            listener.close()
            await listener.wait_closed()

    async def play() -> None:
        async with asyncio.timeout(PATIENCE), served() as server:
            pool = Pool()
            try:
                await scenario(server, pool)
            finally:
                await pool.close()
            assert not any(connection.stands for connection in pool._connections)

    asyncio.run(play())


def test_one_connection_serves_request_after_request() -> None:
    """A handshake costs more than a renewal; a new token needs no new connection."""

    async def scenario(server: Server, pool: Pool) -> None:
        for number in range(5):
            assert await ask(pool, server.login(f"t{number}")) == b"ok"
        assert (len(server.peers), server.requests, pool.contact) == (1, 5, 1)

    run(scenario)


def test_a_connection_is_dropped_when_its_request_is_given_up() -> None:
    """The answer that comes too late would be taken for that to the next request."""

    async def scenario(server: Server, pool: Pool) -> None:
        server.mute = True
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await ask(pool, server.login())
        server.mute = False
        assert await ask(pool, server.login()) == b"ok"
        assert len(server.peers) == 2

    run(scenario)


def test_a_connection_whose_answer_was_not_read_to_the_end_is_dropped() -> None:
    """What is left of it stands before the next answer."""

    async def scenario(server: Server, pool: Pool) -> None:
        async with pool.connection(server.login()) as connection:
            await connection.ask("GET", "/", {}, None)
        assert await ask(pool, server.login()) == b"ok"
        assert len(server.peers) == 2

    run(scenario)


def test_contact_is_lost_only_with_the_last_connection() -> None:
    """While one stands, the server cannot have been stopped and put back to an older copy."""

    async def scenario(server: Server, pool: Pool) -> None:
        async with pool.connection(server.login(), watch=True):
            await ask(pool, server.login())
            server.writers[1].transport.abort()
            await ask_again(pool, server.login())
            assert (len(server.peers), pool.contact) == (3, 1)
        for writer in server.writers:
            writer.transport.abort()
        await ask_again(pool, server.login())
        assert (len(server.peers), pool.contact) == (4, 2)

    run(scenario)


async def ask_again(pool: Pool, login: Login) -> None:
    """Ask until an end of a connection that is still on its way has arrived."""
    while True:
        with contextlib.suppress(OSError, EOFError):
            await ask(pool, login)
            return


def test_no_more_connections_are_open_at_once_than_allowed() -> None:
    """Twenty requests at the same time share eight; a watch, which lasts, is none of them."""

    async def scenario(server: Server, pool: Pool) -> None:
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(3):
                await stack.enter_async_context(pool.connection(server.login(), watch=True))
            assert (
                await asyncio.gather(*(ask(pool, server.login()) for _ in range(20)))
                == [b"ok"] * 20
            )
        assert len(server.peers) == 3 + MOST

    run(scenario)


def test_a_connection_that_was_idle_for_long_is_not_trusted() -> None:
    """A firewall between may have forgotten it, and the server is about to close it."""

    async def scenario(server: Server, pool: Pool) -> None:
        await ask(pool, server.login())
        [connection] = pool._free
        connection.free_since -= IDLE + 1
        await ask(pool, server.login())
        assert len(server.peers) == 2
        assert not connection.stands

    run(scenario)


def test_another_server_gets_connections_of_its_own() -> None:
    """The kubeconfig names another one now: nothing is sent to the former."""

    async def scenario(server: Server, pool: Pool) -> None:
        await ask(pool, server.login())
        other = Server()
        async with await asyncio.start_server(other.serve, "127.0.0.1", 0) as listener:
            other.port = listener.sockets[0].getsockname()[1]
            await ask(pool, other.login())
            assert (server.requests, other.requests) == (1, 1)
            assert len(pool._connections) == 1
            for writer in other.writers:
                writer.transport.abort()

    run(scenario)


def test_a_name_leads_to_its_next_address_after_a_failure() -> None:
    """One of several API servers is down."""

    async def scenario(server: Server, pool: Pool) -> None:
        pool._ask = lambda _host, _port: ["127.0.0.2", "127.0.0.1"]
        login = server.login(host="api.example.org")
        with pytest.raises(ConnectionRefusedError):
            await ask(pool, login)
        assert await ask(pool, login) == b"ok"

    run(scenario)


def test_closing_ends_requests_under_way() -> None:
    """Whoever waits is let go at once, and no new connection is made."""

    async def scenario(server: Server, pool: Pool) -> None:
        server.mute = True
        waiting = asyncio.ensure_future(ask(pool, server.login()))
        await server.asked.wait()
        await pool.close()
        with pytest.raises((OSError, EOFError)):
            await waiting
        with pytest.raises(ConnectionResetError):
            await ask(pool, server.login())

    run(scenario)


def test_a_wire_that_failed_to_connect_is_none() -> None:
    """Nobody listens: an OSError, and nothing is kept."""

    async def scenario(server: Server, pool: Pool) -> None:
        connections: set[Connection] = pool._connections
        with pytest.raises(OSError, match="Connect call failed"):
            await ask(pool, Login("http://127.0.0.1:1", None, ""))
        assert connections == set()

    run(scenario)
