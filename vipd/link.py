"""One instance's interface: ready messages when it appears, frames when its MAC is known, and what happens on it.

An interface that is seen gets its ready messages, which go to the guard before anything is bound; a MAC that is seen has
the frames forged, in a short-lived child.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import sys
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import IPv4Interface, IPv6Interface

from announce.forge import ForgeError
from announce.frames import Frames
from announce.netlink import ReadyMessages

Address = IPv4Interface | IPv6Interface
FORGE_RETRY = 5.0
"""Seconds before frames that could not be built are tried again."""
SIOCGIFFLAGS, SIOCGIFHWADDR = 0x8913, 0x8927
IFF_UP, IFF_RUNNING = 0x1, 0x40
_REQUEST = struct.Struct("16s24x")


def look(interface: str) -> tuple[bool, str]:
    """Return whether the interface is up and running, and its MAC (netdevice(7)); raises OSError if it does not exist."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        request = _REQUEST.pack(interface.encode())
        flags = int.from_bytes(fcntl.ioctl(asker, SIOCGIFFLAGS, request)[16:18], sys.byteorder)
        mac = fcntl.ioctl(asker, SIOCGIFHWADDR, request)[18:24]
    return flags & (IFF_UP | IFF_RUNNING) == IFF_UP | IFF_RUNNING, mac.hex(":")


class Link:
    """Keeps an instance's messages and frames in step with its interface. `on_frames` is called when they are ready."""

    def __init__(
        self,
        addresses: Sequence[Address],
        forge: Callable[[Sequence[tuple[str, str]]], Awaitable[dict[str, Frames]]],
        on_frames: Callable[[], None],
        on_trouble: Callable[[str], None],
    ) -> None:
        self.ready: ReadyMessages | None = None
        self.frames: tuple[Frames, ...] = ()
        self.mac = ""
        self._addresses = tuple(addresses)
        self._forge = forge
        self._on_frames = on_frames
        self._on_trouble = on_trouble
        self._forging: asyncio.Task[None] | None = None

    def see_mac(self, mac: str) -> None:
        """Have the frames built if this MAC is new."""
        if not mac or mac == self.mac:
            return
        self.mac = mac
        if self._forging is not None:
            self._forging.cancel()
        self._forging = asyncio.get_running_loop().create_task(self._build(mac))

    def close(self) -> None:
        """Stop building."""
        if self._forging is not None:
            self._forging.cancel()

    async def _build(self, mac: str) -> None:
        while True:
            try:
                built = await self._forge([(str(address.ip), mac) for address in self._addresses])
            except (ForgeError, OSError) as error:
                self._on_trouble(f"frames could not be built: {error}; trying again in {FORGE_RETRY:g}s")
                await asyncio.sleep(FORGE_RETRY)
                continue
            self.frames = tuple(built.values())
            self._on_frames()
            return
