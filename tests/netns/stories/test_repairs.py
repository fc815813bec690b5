"""What others do to the VIP behind vipd's back: it is put right, counted, and moves nothing."""

from __future__ import annotations

import time

import pytest

from announce.frames.build import frames_for
from tests.netns.stories.node import VIP, VIP6, WEB, VipdNode, wait_for
from tests.netns.stories.pair import Pair

pytestmark = [pytest.mark.root, pytest.mark.netns]


def standing(node: VipdNode) -> tuple[str, int, float]:
    """Return what must not change while nothing moves.

    State, epoch, and how often the state has changed.
    """
    seen = node.instance()
    return seen["state"], seen["epoch"], node.metric("vipd_transitions_total", vip_instance=WEB)


def await_metric(node: VipdNode, name: str, value: float) -> None:
    """Return once this counter of the instance has reached exactly this value."""
    wait_for(lambda: node.metric(name, vip_instance=WEB) == value, f"{name} to be {value:g}")


def test_an_address_deleted_by_hand_is_back_at_once(pair: Pair) -> None:
    """Both families; the node stays Active in its epoch, and each repair is counted."""
    holder, begin = pair.holder, time.monotonic()
    before = standing(holder)
    repaired = holder.metric("vipd_address_repaired_total", vip_instance=WEB)
    for number, address in enumerate((f"{VIP}/32", f"{VIP6}/128"), start=1):
        pair.world.lab.delete_address(holder.host, address)
        await_metric(holder, "vipd_address_repaired_total", repaired + number)
    name = holder.host.name
    assert (
        pair.world.changes(begin, VIP)
        == pair.world.changes(begin, VIP6)
        == [(name, False), (name, True)]
    )
    assert standing(holder) == before


@pytest.mark.parametrize("address", [f"{VIP}/32", f"{VIP}/24", f"{VIP6}/128"])
def test_the_vip_added_on_a_backup_is_removed(pair: Pair, address: str) -> None:
    """Under whatever prefix length; the holder is not disturbed, and the operator is told."""
    holder, other, begin = pair.holder, pair.other, time.monotonic()
    before = standing(holder), standing(other)
    ip = address.partition("/")[0]
    pair.world.lab.add_address(other.host, address)
    name = other.host.name
    wait_for(
        lambda: pair.world.changes(begin, ip) == [(name, True), (name, False)],
        f"{ip} to be removed from {name}",
    )
    assert (standing(holder), standing(other)) == before
    assert any(ip in note and "does not own it" in note for note in other.instance()["notes"])


def test_a_foreign_host_that_claims_the_vip_is_announced_against(pair: Pair) -> None:
    """Each of its frames is counted.

    The holder answers with its own announcements, says who it was, and keeps the VIP.
    """
    holder, stranger, begin = pair.holder, "02:00:00:00:00:66", time.monotonic()
    before = standing(holder)
    conflicts = holder.metric("vipd_conflicts_total", vip_instance=WEB)
    theirs = [*frames_for(VIP, stranger).announce, *frames_for(VIP6, stranger).announce]
    ours = {*frames_for(VIP, holder.mac).announce, *frames_for(VIP6, holder.mac).announce}
    with pair.world.frames("c") as wire:
        for frame in theirs:
            wire.send(frame)
        while ours:
            ours.discard(wire.recv(256))
    await_metric(holder, "vipd_conflicts_total", conflicts + len(theirs))
    assert any(stranger in note for note in holder.instance()["notes"])
    assert standing(holder) == before
    assert pair.world.events(begin) == []
