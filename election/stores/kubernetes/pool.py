"""The connections to one API server, and whether contact with it was ever lost."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

from election.stores.kubernetes.connection import Connection, connect, reach
from election.stores.kubernetes.credentials import Login
from election.stores.kubernetes.names import Addresses, Ask, ask_system

IDLE = 60.0
"""Seconds that an unused connection is kept; API servers end them after 90."""
REFUSALS = 2
"""Attempts to connect in a row that have to be refused before a server counts as one that is being
stopped."""
REFUSALS_APART = 0.1
"""Seconds between two of them."""
MOST = 8
"""Requests under way at once, watches not counted: a hundred instances must not open a hundred
connections."""


class Pool:
    """Gives out connections, the one used last first.

    `contact` is a number that rises whenever a connection is made while no other one stands:
    between the two the server may have been stopped and may have come back with an older copy, in
    which a resourceVersion means another content. `reached` is whether the server, or the kernel
    below it, took the last connection that was tried.

    An API server that is stopped in good order refuses new connections and waits for its watches to
    end, for up to a minute, in which nobody can renew anything. So a watch is ended whose server
    refuses connections: its connection is then `given_up`.
    """

    def __init__(self, ask: Ask = ask_system) -> None:
        self._ask = ask
        self._free: list[Connection] = []
        self._connections: set[Connection] = set()
        self._endings: set[asyncio.Task[None]] = set()
        self._key: object = None
        self._turns = asyncio.Semaphore(MOST)
        self._addresses: Addresses | None = None
        self._watches: set[Connection] = set()
        self._refused: dict[str, int] = {}
        self._closed = False
        self.contact = 0
        self.reached = False

    @contextlib.asynccontextmanager
    async def connection(self, login: Login, *, watch: bool = False) -> AsyncIterator[Connection]:
        """Return a connection for the block.

        It is used again only if its last answer was read to the end; raises OSError.

        `watch`: it does not count towards the most that there may be, because it lasts.
        """
        async with contextlib.nullcontext() if watch else self._turns:
            connection = self._idle(login)
            if connection is None:
                connection = await self._made(login)
            if watch:
                self._watches.add(connection)
            try:
                yield connection
            finally:
                self._watches.discard(connection)
                if connection.reusable and login.key == self._key:
                    connection.free_since = asyncio.get_running_loop().time()
                    self._free.append(connection)
                else:
                    self._end(connection)

    def _end(self, connection: Connection) -> None:
        """End a connection, and see it through.

        Its socket is let go of in a later turn of the loop, and `close` waits for that.
        """
        connection.abort()
        self._connections.discard(connection)
        ending = asyncio.get_running_loop().create_task(connection.closed())
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)

    async def close(self) -> None:
        """End all connections, also those in use."""
        self._closed = True
        for connection in list(self._connections):
            self._end(connection)
        await asyncio.gather(*self._endings)
        if self._addresses is not None:
            await self._addresses.close()

    async def examine(self, watch: Connection) -> None:
        """Find out whether the server of a watch still takes connections, if there is no other one
        to it.

        Servers that are being stopped close all connections on which nothing is under way, before
        anybody asks for a new one. Only once: to the server a connection that says nothing is a
        client that failed.
        """
        others = (
            connection
            for connection in self._connections
            if connection is not watch and connection.address == watch.address
        )
        if watch.examined or any(connection.stands for connection in others):
            return
        for _ in range(REFUSALS):
            try:
                reached = await self._reach(watch.address, watch.port)
            except OSError:
                await asyncio.sleep(REFUSALS_APART)
            else:
                reached.close()
                watch.examined = True
                return

    async def _reach(self, address: str, port: int) -> socket.socket:
        """Connect to a server; raises OSError.

        One that refuses again and again has no watch any more after this.
        """
        try:
            reached = await reach(address, port)
        except ConnectionRefusedError:
            self._refused[address] = self._refused.get(address, 0) + 1
            if self._refused[address] >= REFUSALS:
                for watch in [watch for watch in self._watches if watch.address == address]:
                    watch.given_up = True
                    self._end(watch)
            raise
        self._refused.pop(address, None)
        return reached

    def _idle(self, login: Login) -> Connection | None:
        now = asyncio.get_running_loop().time()
        for connection in list(self._free):
            if (
                login.key != self._key
                or not connection.reusable
                or now - connection.free_since > IDLE
            ):
                self._free.remove(connection)
                self._end(connection)
        self._key = login.key
        return self._free.pop() if self._free else None

    async def _made(self, login: Login) -> Connection:
        if not any(connection.stands for connection in self._connections):
            self.contact += 1
        at = urlsplit(login.server)
        host, port = at.hostname or "", at.port or (443 if login.tls else 80)
        addresses = await self._addresses_of(host, port)
        address = await addresses.first()
        try:
            self.reached = False
            reached = await self._reach(address, port)
            self.reached = True
            connection = await connect(reached, port, login.server_name or host, login.tls)
        except BaseException:
            # Refused, or the caller's time was up: the next attempt goes to another address, if
            # there are several.
            addresses.failed(address)
            raise
        connection.address, connection.port = address, port
        if self._closed:
            connection.abort()
            await connection.closed()
            raise ConnectionResetError
        self._connections.add(connection)
        for watch in self._watches:
            watch.examined = False
        return connection

    async def _addresses_of(self, host: str, port: int) -> Addresses:
        before = self._addresses
        if before is not None and (before.host, before.port) == (host, port):
            return before
        self._addresses = found = Addresses(host, port, self._ask)
        if before is not None:
            await before.close()
        return found
