"""One child at a time builds the frames of all instances."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from announce.frames.build import Frames
from announce.frames.forge import ForgeError
from announce.frames.smithy import Smithy

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
        smithy = Smithy(child)
        early = [
            asyncio.create_task(smithy.forge([(f"192.0.2.{number}", MAC)])) for number in range(3)
        ]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        late = [
            asyncio.create_task(smithy.forge([(f"192.0.2.{number}", MAC)])) for number in (7, 8)
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
        smithy = Smithy(child)
        tasks = [
            asyncio.create_task(smithy.forge([(f"192.0.2.{number}", MAC)])) for number in range(2)
        ]
        given_up = asyncio.create_task(smithy.forge([("192.0.2.9", MAC)]))
        await asyncio.sleep(0)
        given_up.cancel()
        for task in tasks:
            with pytest.raises(ForgeError):
                await task
        child.fails = False
        assert list(await smithy.forge([("192.0.2.3", MAC)])) == ["192.0.2.3"]
        assert child.asked == [["192.0.2.0", "192.0.2.1"], ["192.0.2.3"]]

    asyncio.run(scenario())
