"""The connections to one API server, and whether contact with it was ever lost."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

from election.kube_credentials import Login
from election.kube_wire import Wire, connect, reach

IDLE = 60.0
"""Seconds that an unused connection is kept; API servers end them after 90."""
RESOLVE_AGAIN = 30.0
"""Seconds between two questions to the name service while connections fail: it may be away too, and then takes its time."""
MOST = 8
"""Requests under way at once, watches not counted: a hundred instances must not open a hundred connections."""


class Pool:
    """Gives out connections, the one used last first.

    `contact` is a number that rises whenever a connection is made while no other one stands: between the two the server may
    have been stopped and may have come back with an older copy, in which a resourceVersion means another content. `reached` is
    whether the server, or the kernel below it, took the last connection that was tried.
    """

    def __init__(self) -> None:
        self._free: list[Wire] = []
        self._wires: set[Wire] = set()
        self._endings: set[asyncio.Task[None]] = set()
        self._key: object = None
        self._turns = asyncio.Semaphore(MOST)
        self._addresses: list[str] = []
        self._resolved = ("", 0.0)
        self._failed = False
        self._closed = False
        self.contact = 0
        self.reached = False

    @contextlib.asynccontextmanager
    async def wire(self, login: Login, *, watch: bool = False) -> AsyncIterator[Wire]:
        """Return a connection for the block. It is used again only if its last answer was read to the end; raises OSError.

        `watch`: it does not count towards the most that there may be, because it lasts.
        """
        async with contextlib.nullcontext() if watch else self._turns:
            wire = self._idle(login)
            if wire is None:
                wire = await self._made(login)
            try:
                yield wire
            finally:
                if wire.reusable and login.key == self._key:
                    wire.free_since = asyncio.get_running_loop().time()
                    self._free.append(wire)
                else:
                    self._end(wire)

    def _end(self, wire: Wire) -> None:
        """End a connection, and see it through: its socket is let go of in a later turn of the loop, and `close` waits for that."""
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
        address = await self._address(host, port)
        try:
            self.reached = False
            reached = await reach(address, port)
            self.reached = True
            wire = await connect(reached, port, login.server_name or host, login.tls)
        except BaseException:
            # Refused, or the caller's time was up: the next attempt goes to another address, if there are several.
            self._addresses = [*self._addresses[1:], *self._addresses[:1]]
            self._failed = True
            raise
        self._failed = False
        if self._closed:
            wire.abort()
            await wire.closed()
            raise ConnectionResetError
        self._wires.add(wire)
        return wire

    async def _address(self, host: str, port: int) -> str:
        """Return the address to use. One that was found once serves while the name service is away."""
        with contextlib.suppress(ValueError):
            return str(ipaddress.ip_address(host))
        now = asyncio.get_running_loop().time()
        name, at = self._resolved
        if name != host or not self._addresses or (self._failed and now - at > RESOLVE_AGAIN):
            self._resolved = (host, now)
            try:
                found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
                self._addresses = [str(info[4][0]) for info in found]
            except OSError as error:
                if name != host or not self._addresses:
                    raise OSError(error.errno, f"{host} cannot be resolved: {error.strerror}") from None
        return self._addresses[0]
