"""The connections to one API server, and whether contact with it was ever lost."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

from election.stores.kubernetes.connection import Wire, connect, reach
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
    refuses connections: its wire is then `given_up`.
    """

    def __init__(self, ask: Ask = ask_system) -> None:
        self._ask = ask
        self._free: list[Wire] = []
        self._wires: set[Wire] = set()
        self._endings: set[asyncio.Task[None]] = set()
        self._key: object = None
        self._turns = asyncio.Semaphore(MOST)
        self._addresses: Addresses | None = None
        self._watches: set[Wire] = set()
        self._refused: dict[str, int] = {}
        self._closed = False
        self.contact = 0
        self.reached = False

    @contextlib.asynccontextmanager
    async def wire(self, login: Login, *, watch: bool = False) -> AsyncIterator[Wire]:
        """Return a connection for the block.

        It is used again only if its last answer was read to the end; raises OSError.

        `watch`: it does not count towards the most that there may be, because it lasts.
        """
        async with contextlib.nullcontext() if watch else self._turns:
            wire = self._idle(login)
            if wire is None:
                wire = await self._made(login)
            if watch:
                self._watches.add(wire)
            try:
                yield wire
            finally:
                self._watches.discard(wire)
                if wire.reusable and login.key == self._key:
                    wire.free_since = asyncio.get_running_loop().time()
                    self._free.append(wire)
                else:
                    self._end(wire)

    def _end(self, wire: Wire) -> None:
        """End a connection, and see it through.

        Its socket is let go of in a later turn of the loop, and `close` waits for that.
        """
        wire.abort()
        self._wires.discard(wire)
        ending = asyncio.get_running_loop().create_task(wire.closed())
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)

    async def close(self) -> None:
        """End all connections, also those in use."""
        self._closed = True
        for wire in list(self._wires):
            self._end(wire)
        await asyncio.gather(*self._endings)
        if self._addresses is not None:
            await self._addresses.close()

    async def examine(self, watch: Wire) -> None:
        """Find out whether the server of a watch still takes connections, if there is no other one
        to it.

        Servers that are being stopped close all connections on which nothing is under way, before
        anybody asks for a new one. Only once: to the server a connection that says nothing is a
        client that failed.
        """
        others = (
            wire for wire in self._wires if wire is not watch and wire.address == watch.address
        )
        if watch.examined or any(wire.stands for wire in others):
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

    def _idle(self, login: Login) -> Wire | None:
        now = asyncio.get_running_loop().time()
        for wire in list(self._free):
            if login.key != self._key or not wire.reusable or now - wire.free_since > IDLE:
                self._free.remove(wire)
                self._end(wire)
        self._key = login.key
        return self._free.pop() if self._free else None

    async def _made(self, login: Login) -> Wire:
        if not any(wire.stands for wire in self._wires):
            self.contact += 1
        at = urlsplit(login.server)
        host, port = at.hostname or "", at.port or (443 if login.tls else 80)
        addresses = await self._addresses_of(host, port)
        address = await addresses.first()
        try:
            self.reached = False
            reached = await self._reach(address, port)
            self.reached = True
            wire = await connect(reached, port, login.server_name or host, login.tls)
        except BaseException:
            # Refused, or the caller's time was up: the next attempt goes to another address, if
            # there are several.
            addresses.failed(address)
            raise
        wire.address, wire.port = address, port
        if self._closed:
            wire.abort()
            await wire.closed()
            raise ConnectionResetError
        self._wires.add(wire)
        for watch in self._watches:
            watch.examined = False
        return wire

    async def _addresses_of(self, host: str, port: int) -> Addresses:
        before = self._addresses
        if before is not None and (before.host, before.port) == (host, port):
            return before
        self._addresses = found = Addresses(host, port, self._ask)
        if before is not None:
            await before.close()
        return found
