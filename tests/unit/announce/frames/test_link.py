"""Frames that keep step with the MAC of their interface."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from ipaddress import IPv4Interface, IPv6Interface

import pytest

from announce.frames import link as module
from announce.frames.build import Frames, frames_for
from announce.frames.forge import ForgeError
from announce.frames.link import Link
from announce.frames.smithy import Requests
from tests.unit.vipd.inprocess import until

VIP, VIP6 = "192.0.2.10", "2001:db8::10"
FIRST, SECOND, THIRD = "02:00:00:00:00:01", "02:00:00:00:00:02", "02:00:00:00:00:03"


def right(mac: str) -> tuple[Frames, ...]:
    """Return the frames as they are right with this MAC."""
    return frames_for(VIP, mac), frames_for(VIP6, mac)


class Scene:
    """A link, what it asked for, and what it had when it said that it has frames."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.announced: list[tuple[Frames, ...]] = []
        self.troubles: list[str] = []
        self.open = asyncio.Event()
        self.failures = 0
        addresses: list[IPv4Interface | IPv6Interface] = [IPv4Interface(VIP), IPv6Interface(VIP6)]
        self.link = Link(
            addresses,
            self.forge,
            lambda: self.announced.append(self.link.frames),
            self.troubles.append,
        )

    async def forge(self, requests: Requests) -> dict[str, Frames]:
        """Build the frames once the scene allows it."""
        self.asked += dict.fromkeys(mac for _, mac in requests)
        await self.open.wait()
        if self.failures:
            self.failures -= 1
            raise ForgeError("no child")
        return {address: frames_for(address, mac) for address, mac in requests}


def play(act: Callable[[Scene], Coroutine[None, None, None]]) -> None:
    """Play a scene in an event loop."""

    async def run() -> None:
        scene = Scene()
        await act(scene)
        scene.link.close()

    asyncio.run(run())


def test_a_new_mac_is_in_the_frames_before_the_call_returns() -> None:
    """No child is asked again; the same MAC, and what is none, change nothing."""

    async def act(scene: Scene) -> None:
        scene.open.set()
        scene.link.see_mac(FIRST)
        await until(lambda: scene.announced, "the first frames")
        for mac in (SECOND, SECOND, "", "00:00", THIRD):
            scene.link.see_mac(mac)
        assert scene.announced == [right(FIRST), right(SECOND), right(THIRD)]
        assert scene.asked == [FIRST]

    play(act)


def test_a_mac_that_changes_while_they_are_built_is_in_them() -> None:
    """The old one is never announced."""

    async def act(scene: Scene) -> None:
        scene.link.see_mac(FIRST)
        await until(lambda: scene.asked, "the child")
        scene.link.see_mac(SECOND)
        scene.open.set()
        await until(lambda: scene.announced, "the frames")
        assert (scene.announced, scene.asked) == ([right(SECOND)], [FIRST])

    play(act)


def test_frames_that_could_not_be_built_are_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a sentence, and with the MAC of that moment."""
    monkeypatch.setattr(module, "FORGE_RETRY", 0.01)

    async def act(scene: Scene) -> None:
        scene.failures = 1
        scene.open.set()
        scene.link.see_mac(FIRST)
        await until(lambda: scene.troubles, "the failure")
        scene.link.see_mac(SECOND)
        await until(lambda: scene.announced, "the frames")
        assert scene.announced == [right(SECOND)]
        assert "could not be built: no child" in scene.troubles[0]

    play(act)
