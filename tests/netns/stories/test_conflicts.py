"""Somebody who is no part of the group has the VIP already when a node is about to take it."""

from __future__ import annotations

import time

import pytest

from tests.netns.stories.node import VIP, VIP6, VipdNode, instance, wait_for
from tests.netns.stories.world import Build

pytestmark = [pytest.mark.root, pytest.mark.netns]

WAITING = {"wait4": VIP, "wait6": VIP6}
TAKEN = "192.0.2.101"


def wait_said(node: VipdNode, name: str, text: str) -> dict[str, object]:
    """Return the status of an instance once one of its notes has this text."""

    def look() -> dict[str, object]:
        seen = node.instance(name)
        return seen if any(text in note for note in seen.get("notes", [])) else {}

    return wait_for(look, f"{name} to say {text}")


def test_a_vip_that_answers_already_is_waited_for_or_taken(build: Build) -> None:
    """`wait` says who has it (IPv4 and IPv6 alike) and takes it once it falls silent; `take` goes
    on.
    """
    net = build("ac", (VIP, VIP6, TAKEN))
    stranger, node = net.hosts["c"], net.node("a")
    for address in (f"{VIP}/32", f"{VIP6}/128", f"{TAKEN}/32"):
        net.lab.add_address(stranger, address)
    mac = net.lab.run(stranger, "cat", "/sys/class/net/eth0/address").strip()
    begin = time.monotonic()
    node.configure(
        *(instance(name, [address]) for name, address in WAITING.items()),
        instance("take", [TAKEN], on_conflict="take"),
    )
    node.start()
    node.wait_state("Active", "take")
    wait_for(lambda: net.changes(begin, TAKEN), "the address to be bound")
    assert net.changes(begin, TAKEN) == [("a", True)]
    for name in WAITING:
        seen = wait_said(node, name, mac)
        assert (seen["state"], seen["holder"]) == ("Backup", None)
    assert net.changes(begin, VIP) == net.changes(begin, VIP6) == []

    net.lab.delete_address(stranger, f"{VIP}/32")
    net.lab.delete_address(stranger, f"{VIP6}/128")
    for name, address in WAITING.items():
        assert net.wait_owner(address, other_than="c") == "a"
        assert node.wait_state("Active", name)["reason"] == "acquired"
