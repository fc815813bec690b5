"""Listening sockets whose every connection is a task.

Bounded in number, and still there after descriptors have run out.

asyncio's own servers report a lack of descriptors as an internal error, a hundred times a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence

log = logging.getLogger(__name__)

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
BACKLOG = 100
ACCEPT_PAUSE = 0.2
"""Seconds before the next attempt to accept after one that failed; who connects waits in the
kernel."""
COMPLAINT_PAUSE = 60.0
PASSING = {errno.ECONNABORTED, errno.EPROTO, errno.EPERM}
"""The next connection is another one (accept(2)): it is asked for at once, and nobody needs to
know."""


class Listener:
    """Serves each connection by `serve`, with at most `most` at a time. `what` names it in the log.

    One more ends another: the one that has been silent longest, so that who connects and says
    nothing keeps nobody out; if all have asked something, the oldest.
    """

    def __init__(self, what: str, serve: Serve, *, most: int, limit: int) -> None:
        self.sockets: tuple[socket.socket, ...] = ()
        self._what = what
        self._serve = serve
        self._most = most
        self._limit = limit
        self._accepting: list[asyncio.Task[None]] = []
        self._silent: dict[asyncio.Task[None], None] = {}
        self._answered: dict[asyncio.Task[None], None] = {}
        self._complain_at = 0.0

    def start(self, sockets: Sequence[socket.socket]) -> None:
        """Accept on these sockets, which listen and belong to this from now on."""
        self.sockets = tuple(sockets)
        for listening in self.sockets:
            listening.settimeout(0.0)
            self._accepting.append(
                asyncio.create_task(self._accept(listening), name=f"{self._what}: accept")
            )

    async def close(self) -> None:
        """Stop listening and end all connections. Idempotent."""
        tasks = [*self._accepting, *self._silent, *self._answered]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for listening in self.sockets:
            listening.close()
        self.sockets = ()

    def asked(self) -> None:
        """Note that the connection served by the task that calls has said what it wants."""
        task = asyncio.current_task()
        if task in self._silent:
            del self._silent[task]
            self._answered[task] = None

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(listening)
            except OSError as error:
                if error.errno not in PASSING:
                    self._complain(error)
                    await asyncio.sleep(ACCEPT_PAUSE)
                continue
            task = asyncio.create_task(
                self._connected(connection), name=f"{self._what}: connection"
            )
            self._silent[task] = None
            task.add_done_callback(self._ended)
            if len(self._silent) + len(self._answered) > self._most:
                self._make_room()
            # Among many that wait already, none is accepted before the one ahead of it has begun to
            # be served.
            await asyncio.sleep(0)

    def _make_room(self) -> None:
        oldest = next(iter(self._silent if len(self._silent) > 1 else self._answered))
        self._ended(oldest)
        oldest.cancel()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._silent.pop(task, None)
        self._answered.pop(task, None)

    def _complain(self, error: OSError) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._complain_at:
            self._complain_at = now + COMPLAINT_PAUSE
            log.warning("%s: connections have to wait: %s", self._what, error.strerror or error)

    async def _connected(self, connection: socket.socket) -> None:
        writer: asyncio.StreamWriter | None = None
        try:
            reader, writer = await asyncio.open_connection(sock=connection, limit=self._limit)
            await self._serve(reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            log.debug("%s: a connection ended early: %r", self._what, error)
        finally:
            # What was not taken within its time is not sent any more: a client that reads nothing
            # must not stay for ever.
            if writer is not None:
                writer.transport.abort()
            else:
                connection.close()


async def finish(writer: asyncio.StreamWriter, seconds: float) -> None:
    """Send what was written and close.

    Raises TimeoutError if the client does not take it in time.
    """
    async with asyncio.timeout(seconds):
        await writer.drain()
        writer.close()
        await writer.wait_closed()


async def bound(host: str, port: int) -> list[socket.socket]:
    """Return listening sockets on all addresses of a host; empty: on all of this one, both
    families. Raises OSError.
    """
    found = await asyncio.get_running_loop().getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    with contextlib.ExitStack() as opened:
        sockets = []
        for family, kind, protocol, _, address in dict.fromkeys(found):
            listening = opened.enter_context(socket.socket(family, kind, protocol))
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listening.bind(address)
            listening.listen(BACKLOG)
            sockets.append(listening)
        opened.pop_all()
    return sockets
