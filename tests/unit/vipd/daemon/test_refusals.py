"""A node that cannot bind, or knows that it could not, among others that can."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from election import events
from election.model import Reason, State
from election.timing import PROFILES
from tests.unit.vipd.inprocess import Node, free, node, until
from vipd.daemon import member

OTHER = "192.0.2.77"
OBSTACLE = "IPv6 is switched off on eth9"


def says_it_is_unfit(one: Node) -> bool:
    """Whether a node's own candidacy tells the others not to name it."""
    return not one.member.driver.machine.candidacy(0.0).eligible


def test_an_obstacle_keeps_a_node_out_for_as_long_as_it_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes nothing, says why, and is back as soon as the obstacle is gone."""
    there = True
    monkeypatch.setattr(
        member, "obstacle", lambda _interface, _addresses: OBSTACLE if there else ""
    )

    async def run() -> None:
        nonlocal there
        await free(tmp_path)
        async with node(tmp_path, "n1") as one:
            one.member.look_for_obstacles()
            await until(lambda: one.state is State.FAULT, "n1 to stay out")
            assert says_it_is_unfit(one)
            [shown] = one.view.document(drained=False).instances
            assert shown.reason == str(Reason.BIND_FAILED)
            assert OBSTACLE in shown.notes
            await asyncio.sleep(3 * PROFILES["fast"].lease_duration / 2)
            assert one.kernel.bound == set()
            there = False
            one.member.look_for_obstacles()
            await until(lambda: one.state is State.ACTIVE, "n1 to take the VIP")

    asyncio.run(run())


def test_what_changes_on_an_interface_ends_a_refusal_and_own_tries_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address that was refused, and those bound beside it, come and go with each try."""
    posted: list[events.Event] = []

    async def run() -> None:
        async with contextlib.AsyncExitStack() as stack:
            one = await stack.enter_async_context(node(tmp_path, "n1"))
            driver = one.member.driver
            [own] = one.member.instances[0].ips
            [ready] = one.member.executor.ready
            monkeypatch.setattr(driver, "post", posted.append)
            one.member.on_address_seen(ready.ifindex, OTHER)
            assert posted == []
            driver.machine.situation.fitness.note_refusal(0.0)
            one.member.on_address_seen(ready.ifindex, own)
            one.member.on_address_gone(ready.ifindex, own)
            one.member.on_address_seen(ready.ifindex + 1, OTHER)
            assert events.InterfaceChanged() not in posted
            one.member.on_address_seen(ready.ifindex, OTHER)
            one.member.on_address_gone(ready.ifindex, OTHER)
            assert posted.count(events.InterfaceChanged()) == 2
            monkeypatch.undo()

    asyncio.run(run())
