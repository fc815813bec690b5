"""The frames of one instance.

Built once by a short-lived child, and brought up to date when its interface's MAC changes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from ipaddress import IPv4Interface, IPv6Interface

from announce.frames.build import MAC_LENGTH, Frames, with_mac
from announce.frames.forge import ForgeError

Address = IPv4Interface | IPv6Interface
FORGE_RETRY = 5.0
"""Seconds before frames that could not be built are tried again."""


class Link:
    """Keeps an instance's frames in step with its interface.

    `on_frames` is called when there are some, or others.
    """

    def __init__(
        self,
        addresses: Sequence[Address],
        forge: Callable[[Sequence[tuple[str, str]]], Awaitable[dict[str, Frames]]],
        on_frames: Callable[[], None],
        on_trouble: Callable[[str], None],
    ) -> None:
        self.frames: tuple[Frames, ...] = ()
        self.mac = ""
        self._addresses = tuple(addresses)
        self._forge = forge
        self._on_frames = on_frames
        self._on_trouble = on_trouble
        self._forging: asyncio.Task[None] | None = None

    def see_mac(self, mac: str) -> None:
        """Have the frames built if there are none yet.

        Put the MAC into those that are there, at once, if it is another one.

        What is no MAC of Ethernet, an empty one included, changes nothing.
        """
        if mac == self.mac or len(_packed(mac)) != MAC_LENGTH:
            return
        self.mac = mac
        if self.frames:
            self.frames = self._up_to_date(self.frames)
            self._on_frames()
        elif self._forging is None:
            self._forging = asyncio.get_running_loop().create_task(self._build())

    def close(self) -> None:
        """Stop building."""
        if self._forging is not None:
            self._forging.cancel()

    async def _build(self) -> None:
        while not self.frames:
            try:
                built = await self._forge(
                    [(str(address.ip), self.mac) for address in self._addresses]
                )
            except (ForgeError, OSError) as error:
                self._on_trouble(
                    f"frames could not be built: {error}; trying again in {FORGE_RETRY:g}s"
                )
                await asyncio.sleep(FORGE_RETRY)
                continue
            # The MAC may have changed while the child worked.
            self.frames = self._up_to_date(built.values())
        self._on_frames()

    def _up_to_date(self, frames: Iterable[Frames]) -> tuple[Frames, ...]:
        mac = _packed(self.mac)
        return tuple(
            replace(
                one,
                announce=tuple(with_mac(frame, mac) for frame in one.announce),
                probe=tuple(with_mac(frame, mac) for frame in one.probe),
            )
            for one in frames
        )


def _packed(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))
