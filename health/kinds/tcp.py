"""The tcp check: does anybody accept a connection."""

from __future__ import annotations

import asyncio
import socket

from health.kinds.probe import failure
from health.model import Result, TcpCheck
from health.names import Names


class TcpProbe:
    """Connects to each address of the host in turn, IPv4 first, until one accepts.

    Says nothing on the connection and closes it.
    """

    def __init__(self, check: TcpCheck, names: Names) -> None:
        self._check = check
        self._names = names
        self.stage = "address"

    async def prepare(self) -> None:
        """Nothing to be done."""

    async def run(self) -> Result:
        """Return good as soon as one address accepts, else what the first one said."""
        self.stage = "address"
        addresses = await self._names.addresses(self._check.host)
        if isinstance(addresses, Result):
            return addresses
        self.stage = "connection"
        results = []
        for address in addresses:
            result = await self._connect(address)
            if result.up:
                return result
            results.append(result)
        return results[0]

    async def close(self) -> None:
        """Nothing is kept between two runs."""

    async def _connect(self, address: str) -> Result:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        where = (
            f"[{address}]:{self._check.port}"
            if family == socket.AF_INET6
            else f"{address}:{self._check.port}"
        )
        try:
            with socket.socket(family, socket.SOCK_STREAM) as sock:
                sock.settimeout(0)
                await asyncio.get_running_loop().sock_connect(sock, (address, self._check.port))
                to_itself = sock.getsockname() == sock.getpeername()
        except OSError as error:
            return failure(error, where)
        if to_itself:
            # Nobody listens on a port of the ephemeral range, and the kernel happens to pick that
            # very port as the source: the socket connects to itself. At 5 tries a second that comes
            # about every hour and a half, and must not read as good.
            return Result(up=False, detail=f"{where}: Connection refused", refused=True)
        return Result(up=True, detail=f"{where} accepts")
