"""An address that the kernel has accepted and does not serve yet.

Nothing is announced, and nobody is to rely on it.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from ipaddress import IPv6Interface
from pathlib import Path

from election.model import Reason, State
from tests.unit.vipd.inprocess import VIP, WEB, Node, free, instance, node, until

VIP6 = IPv6Interface("2001:db8::100/128")
BOTH = (replace(instance(), addresses=(*instance().addresses, VIP6)),)


def announces(one: Node) -> bool:
    """Return whether it sends announcements, or would if it had frames."""
    return all(part.announcer._owner is not None for part in one.member.instances)


async def accepted(one: Node) -> None:
    """Return once its kernel has both addresses and has not finished the second."""
    await until(lambda: one.kernel.bound == {VIP, str(VIP6.ip)}, "both to be bound")
    assert not announces(one)


def play(folder: Path, *, finished: bool) -> None:
    """Let a node take the VIP while its kernel does not finish the IPv6 address; then it does, or
    never.
    """

    async def run() -> None:
        await free(folder, WEB)
        async with node(folder, "n1", instances=BOTH) as one:
            one.kernel.unserved.add(VIP6.ip.packed)
            await accepted(one)
            await asyncio.sleep(0.05)
            assert not announces(one)
            if finished:
                one.kernel.unserved.clear()
                await until(lambda: announces(one), "the announcements")
                await until(lambda: record_says_bound(one), "the record to say that it serves")
                assert one.state is State.ACTIVE
                await repaired(one)
            else:
                await until(lambda: one.state is State.FAULT, "the node to give up")
                seen = one.member.driver.machine.snapshot(0.0)
                assert seen.reason is Reason.BIND_FAILED
                assert str(VIP6.ip) in seen.detail
                assert one.kernel.bound == set()

    asyncio.run(run())


def record_says_bound(one: Node) -> bool:
    """Return whether the record says that its holder serves."""
    record = one.member.driver.machine.snapshot(0.0).record
    return record is not None and record.bound


async def repaired(one: Node) -> None:
    """Take the addresses away: the repair, too, is announced and counted only once it serves."""
    one.kernel.unserved.add(VIP6.ip.packed)
    one.kernel.drop()
    one.member.on_resync(frozenset())
    await until(lambda: one.kernel.bound, "both to be back")
    assert one.metric("address_repaired_total", vip_instance=WEB) == 0
    one.kernel.unserved.clear()
    await until(
        lambda: one.metric("address_repaired_total", vip_instance=WEB) == 1,
        "the repair to be counted",
    )
    assert announces(one)


def test_announced_once_it_serves(tmp_path: Path) -> None:
    """After a take, and after a repair."""
    play(tmp_path, finished=True)


def test_one_that_never_serves_is_given_up_with_a_sentence(tmp_path: Path) -> None:
    """After a while that is bounded: another node may do better."""
    play(tmp_path, finished=False)
