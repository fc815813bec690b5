"""Somebody who is no part of the group has the VIP already when a node is about to take it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.netns.stories.node import VIP, VIP6, instance, wait_for
from tests.netns.stories.world import world

pytestmark = [pytest.mark.root, pytest.mark.netns]

WAITING = {"wait4": VIP, "wait6": VIP6}
TAKEN = "192.0.2.101"


def test_a_vip_that_answers_already_is_waited_for_or_taken(tmp_path: Path) -> None:
    """`wait` says who has it (IPv4 and IPv6 alike) and takes it once it falls silent; `take` goes on."""
    with world("sc-", tmp_path, "ac", (VIP, VIP6, TAKEN)) as net:
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
        assert net.changes(begin, TAKEN) == [("a", True)]
        for name in WAITING:
            wait_for(lambda one=name: any(mac in note for note in node.instance(one).get("notes", [])), f"{name} to say who has it")
            seen = node.instance(name)
            assert (seen["state"], seen["holder"]) == ("Backup", None)
        assert net.changes(begin, VIP) == net.changes(begin, VIP6) == []

        net.lab.delete_address(stranger, f"{VIP}/32")
        net.lab.delete_address(stranger, f"{VIP6}/128")
        for name, address in WAITING.items():
            assert net.wait_owner(address, other_than="c") == "a"
            assert node.wait_state("Active", name)["reason"] == "acquired"
