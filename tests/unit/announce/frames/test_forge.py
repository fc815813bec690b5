"""One child at a time builds the frames of all instances."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from ipaddress import IPv4Interface, IPv6Interface

import pytest

from announce.errors import ForgeError
from announce.frames import forge as module
from announce.frames.build import Frames, frames_for
from announce.frames.forge import FrameBuilder, InterfaceFrames, Requests
from tests.unit.vipd.inprocess import until

MAC = "02:00:00:00:00:01"


class Child:
    """Builds empty frames, and notes what it was asked; `fails` says so instead."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.fails = False

    async def __call__(self, requests: Sequence[tuple[str, str]]) -> dict[str, Frames]:
        """Build."""
        self.asked.append([address for address, _ in requests])
        await asyncio.sleep(0)
        if self.fails:
            raise ForgeError("no scapy")
        return {address: Frames(address, (), ()) for address, _ in requests}


def test_what_is_asked_together_is_built_together() -> None:
    """And what is asked meanwhile goes into the next child; everybody gets their own."""

    async def scenario() -> None:
        child = Child()
        frame_builder = FrameBuilder(child)
        early = [
            asyncio.create_task(frame_builder.build([(f"192.0.2.{number}", MAC)]))
            for number in range(3)
        ]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        late = [
            asyncio.create_task(frame_builder.build([(f"192.0.2.{number}", MAC)]))
            for number in (7, 8)
        ]
        built = [await task for task in (*early, *late)]
        assert [list(frames) for frames in built] == [
            [f"192.0.2.{number}"] for number in (0, 1, 2, 7, 8)
        ]
        assert child.asked == [["192.0.2.0", "192.0.2.1", "192.0.2.2"], ["192.0.2.7", "192.0.2.8"]]

    asyncio.run(scenario())


def test_a_failure_is_everybodys_and_the_next_try_is_new() -> None:
    """Who has given up meanwhile is not asked for again."""

    async def scenario() -> None:
        child = Child()
        child.fails = True
        frame_builder = FrameBuilder(child)
        tasks = [
            asyncio.create_task(frame_builder.build([(f"192.0.2.{number}", MAC)]))
            for number in range(2)
        ]
        given_up = asyncio.create_task(frame_builder.build([("192.0.2.9", MAC)]))
        await asyncio.sleep(0)
        given_up.cancel()
        for task in tasks:
            with pytest.raises(ForgeError):
                await task
        child.fails = False
        assert list(await frame_builder.build([("192.0.2.3", MAC)])) == ["192.0.2.3"]
        assert child.asked == [["192.0.2.0", "192.0.2.1"], ["192.0.2.3"]]

    asyncio.run(scenario())


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
        self.link = InterfaceFrames(
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
        scene.link.on_mac(FIRST)
        await until(lambda: scene.announced, "the first frames")
        for mac in (SECOND, SECOND, "", "00:00", THIRD):
            scene.link.on_mac(mac)
        assert scene.announced == [right(FIRST), right(SECOND), right(THIRD)]
        assert scene.asked == [FIRST]

    play(act)


def test_a_mac_that_changes_while_they_are_built_is_in_them() -> None:
    """The old one is never announced."""

    async def act(scene: Scene) -> None:
        scene.link.on_mac(FIRST)
        await until(lambda: scene.asked, "the child")
        scene.link.on_mac(SECOND)
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
        scene.link.on_mac(FIRST)
        await until(lambda: scene.troubles, "the failure")
        scene.link.on_mac(SECOND)
        await until(lambda: scene.announced, "the frames")
        assert scene.announced == [right(SECOND)]
        assert "could not be built: no child" in scene.troubles[0]

    play(act)
