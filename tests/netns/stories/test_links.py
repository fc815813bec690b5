"""What befalls the interface: the VIP moves to a node that has one, and never is on both."""

from __future__ import annotations

import signal
import time

import pytest

from announce.gate.hook import NAME as GATE
from tests.netns.stories.node import VIP, VIP6, WEB, VipdNode, instance, wait_for
from tests.netns.stories.pair import Pair
from tests.netns.stories.world import Build
from vipd.demo.lab import INTERFACE

pytestmark = [pytest.mark.root, pytest.mark.netns]


def assert_moved(pair: Pair, source: str, target: str, since: float) -> None:
    """Check that both addresses left one host before they came to the other,
    and did nothing else.
    """
    for address in (VIP, VIP6):
        assert pair.world.changes(since, address) == [(source, False), (target, True)]
    pair.world.assert_never_two(since)


def test_an_interface_set_down_gives_the_vip_away(pair: Pair) -> None:
    """Its node is in Fault until the interface is up again, then Backup."""
    holder, other, begin = pair.holder, pair.other, time.monotonic()
    pair.world.lab.run(holder.host, "ip", "link", "set", INTERFACE, "down")
    pair.world.wait_owner(other_than=holder.host.name)
    pair.world.wait_owner(VIP6, other_than=holder.host.name)
    assert holder.wait_state("Fault")["reason"] == "link_down"
    pair.world.lab.run(holder.host, "ip", "link", "set", INTERFACE, "up")
    holder.wait_state("Backup")
    assert_moved(pair, holder.host.name, other.host.name, begin)
    assert other.instance()["reason"] == "released"


def test_a_lost_carrier_gives_the_vip_away(pair: Pair) -> None:
    """As a pulled cable does; with the carrier comes the fitness."""
    holder, other, begin = pair.holder, pair.other, time.monotonic()
    pair.world.lab.pull_cable(holder.host)
    pair.world.wait_owner(other_than=holder.host.name)
    pair.world.wait_owner(VIP6, other_than=holder.host.name)
    seen = holder.wait_state("Fault")
    assert seen["reason"] == "link_down"
    assert any(INTERFACE in note for note in seen["notes"])
    pair.world.lab.plug_cable(holder.host)
    holder.wait_state("Backup")
    assert_moved(pair, holder.host.name, other.host.name, begin)


def test_a_link_that_flaps_never_makes_two_owners(pair: Pair) -> None:
    """Ten times down and up at once, on whoever has the VIP.

    At the end one node has both addresses.
    """
    begin = time.monotonic()
    for _ in range(10):
        holder = pair.node(pair.world.wait_owner())
        for state in ("down", "up"):
            pair.world.lab.run(holder.host, "ip", "link", "set", INTERFACE, state)
    wait_for(pair.calm, "one owner of both addresses")
    pair.world.assert_never_two(begin)


def test_an_interface_that_does_not_exist_is_a_fault_until_it_appears(build: Build) -> None:
    """With a sentence; deleted and made again it works again, under its new number."""
    net = build("a")
    node = net.node("a")
    node.configure(instance(interface="uplink7"))
    node.start()
    seen = node.wait_state("Fault")
    assert seen["reason"] == "link_down"
    assert "interface uplink7 does not exist" in seen["notes"]
    for _ in range(2):
        net.lab.run(
            node.host, "ip", "link", "add", "uplink7", "type", "veth", "peer", "name", "far7"
        )
        net.lab.run(node.host, "ip", "link", "set", "far7", "up")
        net.lab.run(node.host, "ip", "link", "set", "uplink7", "up")
        assert net.wait_owner() == net.wait_owner(VIP6) == "a"
        # That the kernel refused a renewal's refresh in the moment of the deletion may be said
        # still, what is mended may not.
        assert "does not exist" not in " ".join(node.wait_state("Active")["notes"])
        net.lab.run(node.host, "ip", "link", "del", "uplink7")
        net.wait_nobody()
        assert node.wait_state("Fault")["reason"] == "link_down"
    assert node.stop() == 0
    assert node.instance(WEB) == {}


def test_an_interface_made_anew_while_the_guard_is_stopped_is_used_once_it_goes_on(
    build: Build,
) -> None:
    """Nothing is bound before the guard has taken note of it.

    Then all goes on by itself, and the daemon is the same.
    """
    net = build("a")
    node = net.node("a", profile="relaxed")
    node.configure(instance(interface="uplink7"))
    make_uplink(node)
    node.start()
    assert net.wait_owner() == "a"
    daemon = node.daemon
    node.guard.send_signal(signal.SIGSTOP)
    try:
        net.lab.run(node.host, "ip", "link", "del", "uplink7")
        make_uplink(node)
        node.wait_state("Fault")
        wait_for(
            lambda: "the guard has not answered" in " ".join(node.instance()["notes"]),
            "the reason in status",
        )
        net.wait_nobody()
    finally:
        node.guard.send_signal(signal.SIGCONT)
    assert net.wait_owner() == net.wait_owner(VIP6) == "a"
    assert node.wait_state("Active")
    assert node.daemon == daemon


def test_an_interface_that_went_away_and_came_back_under_its_number_has_its_gate_again(
    build: Build,
) -> None:
    """A move to another network namespace and back takes the gate off, and the number stays."""
    net = build("ab")
    node = net.node("a")
    node.configure(instance(interface="uplink7"))
    make_uplink(node)
    node.start()
    assert net.wait_owner() == "a"
    number = ifindex(node, "uplink7")
    for _ in range(3):
        net.lab.run(node.host, "ip", "link", "set", "uplink7", "netns", net.hosts["b"].namespace)
        net.lab.run(net.hosts["b"], "ip", "link", "set", "uplink7", "netns", node.host.namespace)
        assert ifindex(node, "uplink7") == number
        net.lab.run(node.host, "ip", "link", "set", "uplink7", "up")
        assert net.wait_owner() == "a"
        for direction in ("ingress", "egress"):
            assert GATE in net.lab.run(
                node.host, "tc", "filter", "show", "dev", "uplink7", direction
            )
        net.lab.run(node.host, "ip", "link", "set", "uplink7", "down")
        net.wait_nobody()
    assert node.stop() == 0


def make_uplink(node: VipdNode) -> None:
    """Give a host an interface `uplink7` with a carrier."""
    lab, host = node.lab, node.host
    lab.run(host, "ip", "link", "add", "uplink7", "type", "veth", "peer", "name", "far7")
    for name in ("far7", "uplink7"):
        lab.run(host, "ip", "link", "set", name, "up")


def ifindex(node: VipdNode, interface: str) -> str:
    """Return an interface's number."""
    return node.lab.run(node.host, "cat", f"/sys/class/net/{interface}/ifindex").strip()
