"""A TCP proxy between a node and its store, to which everything can happen that happens on the way.

In a test's own event loop:     async with WireProxy(host, port) as proxy:
                                    proxy.down.fail(after=9, how=Fault.CUT)
As a process, for namespaces:   wire_proxy.py LISTEN:PORT SERVER:PORT, then one order a line on its
                                standard input: hold | mend | cut | reset | swallow | delay SECONDS

It knows nothing of what it carries; a moment is told by how many bytes have passed.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import socket
import struct
import sys
from types import TracebackType
from typing import Self

CHUNK = 65536
NO_LINGER = struct.pack("ii", 1, 0)
"""SO_LINGER with which a closed socket sends a reset instead of an end."""


class Fault(enum.Enum):
    """What becomes of bytes that do not pass."""

    HOLD = "hold"
    """They wait until it is mended, and what comes after them too."""
    SWALLOW = "swallow"
    """They are lost, and what comes after them too; the connections stand."""
    CUT = "cut"
    """Both sides see the connection end."""
    RESET = "reset"
    """Both sides see the connection break."""


class Way:
    """One direction of all connections. `delay`: seconds that everything takes longer, in order."""

    def __init__(self) -> None:
        self.delay = 0.0
        self.carried = 0
        self._left: int | None = None
        self._how = Fault.HOLD
        self._mended = asyncio.Event()
        self._mended.set()

    def fail(self, how: Fault, after: int = 0) -> None:
        """Let so many more bytes pass, and then none."""
        self._left, self._how = after, how
        self._mended.clear()

    def mend(self) -> None:
        """Let everything pass again, what was held first."""
        self._left = None
        self._mended.set()

    def admit(self, size: int) -> int:
        """Return how many of so many bytes may pass, and count them."""
        passing = size if self._left is None else min(self._left, size)
        if self._left is not None:
            self._left -= passing
        self.carried += passing
        return passing

    async def stop(self, connection: Connection) -> bool:
        """Do to bytes that may not pass what is to be done.

        Return whether they may pass after all.
        """
        match self._how:
            case Fault.HOLD:
                await self._mended.wait()
                return True
            case Fault.SWALLOW:
                return False
            case Fault.CUT | Fault.RESET:
                connection.end(self._how)
                return False


class Connection:
    """One connection of a client, and the one to the server behind it.

    Both are closed when its task ends.
    """

    def __init__(self, client: socket.socket, server: tuple[str, int], up: Way, down: Way) -> None:
        self._client = client
        self._server = socket.socket()
        self._server.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self.task = self._loop.create_task(self._run(server, up, down))
        # Not by the task itself: one that is cancelled before its first turn never begins.
        self.task.add_done_callback(self._close)

    def end(self, how: Fault) -> None:
        """Close both sides."""
        if how is Fault.RESET:
            for end in (self._client, self._server):
                with contextlib.suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
        self.task.cancel()

    async def _run(self, server: tuple[str, int], up: Way, down: Way) -> None:
        try:
            await self._loop.sock_connect(self._server, server)
        except OSError:
            return
        async with asyncio.TaskGroup() as both:
            for source, target, way in (
                (self._client, self._server, up),
                (self._server, self._client, down),
            ):
                chunks: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
                both.create_task(self._receive(source, way, chunks))
                both.create_task(self._send(target, way, chunks))

    def _close(self, _ended: object) -> None:
        self._client.close()
        self._server.close()

    async def _receive(
        self, source: socket.socket, way: Way, chunks: asyncio.Queue[tuple[float, bytes]]
    ) -> None:
        data = b"?"
        while data:
            try:
                data = await self._loop.sock_recv(source, CHUNK)
            except OSError:
                data = b""
            chunks.put_nowait((self._loop.time() + way.delay, data))

    async def _send(
        self, target: socket.socket, way: Way, chunks: asyncio.Queue[tuple[float, bytes]]
    ) -> None:
        while True:
            due, data = await chunks.get()
            await asyncio.sleep(max(0.0, due - self._loop.time()))
            if not data:
                # An end that overtakes what is held would tell the other side what a network that
                # hangs does not tell.
                if way.admit(1) or await way.stop(self):
                    self.end(Fault.CUT)
                return
            with contextlib.suppress(OSError):
                while data:
                    passing = way.admit(len(data))
                    await self._loop.sock_sendall(target, data[:passing])
                    data = data[passing:]
                    if data and not await way.stop(self):
                        break


class WireProxy:
    """Listens on `host` and carries to the server at `server_host`:`server_port`.

    `up` leads to the server, `down` back.

    `refusing`: new connections are closed at once. `accepted` counts them all.
    """

    def __init__(
        self, server_host: str, server_port: int, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        self.host = host
        self.port = port
        self.up = Way()
        self.down = Way()
        self.refusing = False
        self.accepted = 0
        self._server = (server_host, server_port)
        self._connections: set[Connection] = set()
        self._listener = socket.socket()

    @property
    def url(self) -> str:
        """Where clients find it, if they speak HTTP."""
        return f"http://{self.host}:{self.port}"

    async def __aenter__(self) -> Self:
        """Listen."""
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.setblocking(False)
        self._listener.bind((self.host, self.port))
        self._listener.listen()
        self.port = self._listener.getsockname()[1]
        asyncio.get_running_loop().add_reader(self._listener, self._accept)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End everything."""
        asyncio.get_running_loop().remove_reader(self._listener)
        self._listener.close()
        self.end_all(Fault.CUT)
        await asyncio.gather(
            *(connection.task for connection in self._connections), return_exceptions=True
        )

    def fail(self, how: Fault) -> None:
        """Let nothing pass in either direction."""
        for way in (self.up, self.down):
            way.fail(how)

    def mend(self) -> None:
        """Let everything pass."""
        for way in (self.up, self.down):
            way.mend()

    def end_all(self, how: Fault) -> None:
        """Cut or reset all connections that stand; new ones may be made."""
        for connection in self._connections:
            connection.end(how)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        self.accepted += 1
        if self.refusing:
            client.close()
            return
        client.setblocking(False)
        connection = Connection(client, self._server, self.up, self.down)
        self._connections.add(connection)
        connection.task.add_done_callback(lambda _: self._connections.discard(connection))


def obey(proxy: WireProxy, order: str) -> None:
    """Do what a line says."""
    match order.split():
        case ["mend"]:
            proxy.mend()
        case ["delay", seconds]:
            proxy.up.delay = float(seconds)
        case ["cut" | "reset" as how]:
            proxy.end_all(Fault(how))
        case [how]:
            proxy.fail(Fault(how))


async def serve(listen: str, server: str) -> None:
    """Carry until the standard input ends."""
    host, _, port = listen.rpartition(":")
    server_host, _, server_port = server.rpartition(":")
    orders = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(orders), sys.stdin
    )
    async with WireProxy(server_host, int(server_port), host, int(port)) as proxy:
        print("ready", flush=True)
        while order := await orders.readline():
            obey(proxy, order.decode())
            print("done", flush=True)


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:3]))
