"""What an earlier life left behind is removed at the start; what is somebody else's stays."""

from __future__ import annotations

import json
import socket

import pytest

from announce.kernel.addresses import FOREVER, RouteSocket, bind
from announce.kernel.messages import ready_messages
from tests.netns.stories.node import VIP, inside, instance, wait_for
from tests.netns.stories.world import Build, World
from vipd.demo.lab import INTERFACE

pytestmark = [pytest.mark.root, pytest.mark.netns]

FORMER = "192.0.2.150"
FORMER6 = "2001:db8::150"
NEIGHBOURS = "192.0.2.151"
OPERATORS = "192.0.2.152"
REFUSED = 4


def leave_behind(net: World, *addresses: str) -> None:
    """Bind these on the first host as a vipd would have, for ever."""

    def work() -> None:
        kernel = RouteSocket()
        assert bind(kernel, ready_messages(INTERFACE, addresses), FOREVER) == []
        kernel.close()

    inside(net.hosts["a"].namespace, work)


def test_orphans_go_at_the_start_and_foreign_addresses_stay(build: Build) -> None:
    """Also the VIP itself, which this node has no lease for.

    An address that another vipd of the host manages is left alone.
    """
    net = build("a", (VIP, FORMER, FORMER6, NEIGHBOURS, OPERATORS))
    node = net.node("a")
    leave_behind(net, FORMER, FORMER6, NEIGHBOURS, VIP)
    net.lab.add_address(net.hosts["a"], f"{OPERATORS}/32")
    neighbour = inside(
        node.host.namespace, lambda: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    )
    with neighbour:
        neighbour.bind(f"\0vipd/{NEIGHBOURS}")
        node.configure(instance(addresses=[f"{VIP}/32"]))
        node.start()
        node.wait_state("Active")
    assert {FORMER, FORMER6}.isdisjoint(node.bound())
    assert {VIP, NEIGHBOURS, OPERATORS} <= node.bound()
    assert net.changes(0.0, VIP) == [("a", True), ("a", False), ("a", True)]
    assert [
        line.partition("removed ")[2].split(",")[0]
        for line in node.log.splitlines()
        if "an earlier vipd left" in line
    ] == [
        f"{FORMER}/32 from interface {INTERFACE}",
        f"{FORMER6}/128 from interface {INTERFACE}",
    ]
    assert f"removed {VIP}/32 from {INTERFACE}: the previous vipd left it" in node.log
    lifetimes = json.loads(
        net.lab.run(node.host, "ip", "-json", "address", "show", "dev", INTERFACE)
    )[0]["addr_info"]
    assert [one["valid_life_time"] for one in lifetimes if one["local"] == VIP] == [1]
    wait_for(lambda: node.stop() == 0, "an orderly end")
    assert VIP not in node.bound()


def test_removing_an_orphan_keeps_the_lock_of_the_same_address(build: Build) -> None:
    """1. a killed daemon left the VIP on one interface, 2.

    The file says another one now: a second daemon is refused as ever.
    """
    net = build("a")
    node = net.node("a")
    for words in (
        "link add other0 type veth peer name other1",
        "link set other0 up",
        "link set other1 up",
    ):
        net.lab.run(node.host, "ip", *words.split())
    leave_behind(net, VIP)
    node.configure({**instance(addresses=[f"{VIP}/32"]), "interface": "other0"})
    node.start()
    node.wait_state("Active")
    assert VIP not in node.bound()
    second = net.node("a", name="second", folder="second")
    second.configure(instance(addresses=[f"{VIP}/32"]), metrics={"listen": "off"})
    second.start()
    assert second.wait_end() == REFUSED
    assert f"{VIP} is managed by another vipd (process {node.guard.pid})" in second.log
    assert node.stop() == 0
