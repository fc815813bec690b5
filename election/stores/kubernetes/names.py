"""The addresses of an API server's name, asked for on a thread.

The library's getaddrinfo takes as long as name servers please.

Whoever connects waits for it the first time only: addresses that were found once serve while a name
server is away, and a name that has moved leads elsewhere as soon as the name server says so.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Sequence
from functools import partial

from election.stores.errors import NoWorker
from election.stores.worker import Worker

PATIENCE = 60.0
"""Seconds after which a question counts as lost; what resolv.conf(5) allows is about thirty."""
ASK_AGAIN = 0.5
"""Seconds between two questions while connections fail."""

Ask = Callable[[str, int], Sequence[str]]
"""Returns the addresses of a name, or raises OSError; may block for long."""


def ask_system(host: str, port: int) -> Sequence[str]:
    """Return the addresses of a name, in the system's order."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(info[4][0]) for info in found))


class Addresses:
    """The addresses of one name, the one to use first. `ask` is never called twice at once."""

    def __init__(self, host: str, port: int, ask: Ask = ask_system) -> None:
        self.host, self.port = host, port
        self._ask = partial(ask, host, port)
        self._known = [host] if _is_address(host) else []
        self._literal = bool(self._known)
        self._worker = Worker("vipd-names")
        self._asking: asyncio.Task[None] | None = None
        self._asked_at = float("-inf")
        self._why = OSError(None, "no name server answers")

    async def first(self) -> str:
        """Return the address to use now; raises OSError if none was ever found."""
        if not self._known:
            self._look()
            if self._asking is not None:
                # Shielded: whoever gives up waiting must not make the next one begin again.
                await asyncio.shield(self._asking)
        if not self._known:
            raise OSError(self._why.errno, f"{self.host} cannot be resolved: {self._why.strerror}")
        return self._known[0]

    def failed(self, address: str) -> None:
        """Go on to the next address, and ask whether there are others by now.

        Nobody waits for the answer.
        """
        if self._known[:1] == [address]:
            self._known = [*self._known[1:], address]
        if not self._literal:
            self._look()

    async def close(self) -> None:
        """Ask no more."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait({self._asking})
        await self._worker.close()

    def _look(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._asking is None and now - self._asked_at >= ASK_AGAIN:
            self._asked_at = now
            self._asking = asyncio.get_running_loop().create_task(self._find())

    async def _find(self) -> None:
        try:
            found = list(await self._worker.call(self._ask, PATIENCE))
        except OSError as error:
            # What was known serves on. A TimeoutError is an OSError too.
            self._why = error if error.strerror else self._why
        except NoWorker:
            pass
        else:
            if set(found) != set(self._known):
                self._known = found
        finally:
            self._asking = None


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
