"""An interface is known by several names, and a name may come to mean another interface.

The VIP is where it should be.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Iterator

import pytest

from announce.frames.build import frames_for
from tests.netns.stories.node import VIP, VIP6, WEB, VipdNode, inside, instance, wait_for
from tests.netns.stories.world import Build, World
from vipd.demo.lab import INTERFACE

pytestmark = [pytest.mark.root, pytest.mark.netns]

LONG_NAME = "a-name-that-is-longer-than-any-first-name"
NEW_MAC = "02:00:00:00:99:01"


def pair(net: World, *, interface: str = INTERFACE) -> tuple[VipdNode, VipdNode]:
    """Return two nodes that run, the first of them Active."""
    nodes = net.node("a", profile="default"), net.node("b", profile="default")
    for node, priority in zip(nodes, (150, 100), strict=True):
        node.configure(instance(interface=interface, priority=priority, preempt=False))
        node.start()
        wait_for(lambda: net.monitor.owners(VIP), "an owner")
    assert net.wait_owner() == net.wait_owner(VIP6) == "a"
    nodes[1].wait_state("Backup")
    return nodes


def batch(net: World, node: VipdNode, *commands: str) -> None:
    """Change links in one go, as a network manager does."""
    file = node.folder / "batch"
    file.write_text("".join(f"link {command}\n" for command in commands))
    net.lab.run(node.host, "ip", "-batch", str(file))


@contextlib.contextmanager
def late(node: VipdNode) -> Iterator[None]:
    """Stop the daemon for as long, as a busy machine does: shorter than the guard waits."""
    daemon = node.daemon
    os.kill(daemon, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(daemon, signal.SIGCONT)


RENAMED = {
    "into a bridge of the old name": (
        *("set eth0 down", "set eth0 name old0", "add eth0 type bridge"),
        *("set old0 master eth0", "set old0 up", "set eth0 up"),
    ),
    "another interface has the name": (
        *("set eth0 down", "set eth0 name old0", "add eth0 type veth peer name far0"),
        *("set old0 up", "set far0 up", "set eth0 up"),
    ),
    "nothing has the name": ("set eth0 down", "set eth0 name old0", "set old0 up"),
}


@pytest.mark.parametrize("commands", RENAMED.values(), ids=RENAMED)
def test_what_was_bound_on_a_renamed_interface_is_never_left_there(
    build: Build, commands: tuple[str, ...]
) -> None:
    """The daemon sees it late, when the name means another interface.

    Each address leaves the old one before it is anywhere else.
    """
    net = build("abc")
    first, _ = pair(net)
    old, begin = number(first, INTERFACE), time.monotonic()
    with late(first):
        batch(net, first, *commands)
    wait_for(
        lambda: not {VIP, VIP6} & bound_on(first, old), "the VIP to leave the renamed interface"
    )
    wait_for(
        lambda: all(len(net.monitor.owners(address)) == 1 for address in (VIP, VIP6)),
        "an owner of both",
    )
    net.assert_never_two(begin)
    time.sleep(1.0)
    assert not {VIP, VIP6} & bound_on(first, old)
    net.assert_never_two(begin)


def test_the_vip_follows_the_name_to_another_interface(build: Build) -> None:
    """Both are up all the time: the node is Active again at once, and nothing is left behind."""
    net = build("a")
    node = net.node("a", profile="default")
    net.lab.run(node.host, "ip", "link", "property", "add", "dev", INTERFACE, "altname", "uplink0")
    batch(net, node, "add other0 type veth peer name far0", "set far0 up", "set other0 up")
    node.configure(instance(interface="uplink0"))
    node.start()
    assert net.wait_owner() == net.wait_owner(VIP6) == "a"
    epoch = node.wait_state("Active")["epoch"]
    here, there = number(node, INTERFACE), number(node, "other0")
    with late(node):
        batch(
            net,
            node,
            f"property del dev {INTERFACE} altname uplink0",
            "property add dev other0 altname uplink0",
        )
    wait_for(lambda: {VIP, VIP6} <= bound_on(node, there), "the VIP to follow")
    wait_for(lambda: not {VIP, VIP6} & bound_on(node, here), "the VIP to leave")
    assert node.wait_state("Active")["epoch"] >= epoch
    assert node.stop() == 0
    assert not {VIP, VIP6} & (bound_on(node, here) | bound_on(node, there))


def test_a_daemon_that_dies_while_its_interface_is_renamed_leaves_nothing(build: Build) -> None:
    """Killed in the moment of the rename: its successor finds another interface under the name."""
    net = build("a")
    node = net.node("a", profile="default")
    node.configure(instance())
    node.start()
    assert net.wait_owner() == net.wait_owner(VIP6) == "a"
    old, daemon = number(node, INTERFACE), node.daemon
    os.kill(daemon, signal.SIGSTOP)
    batch(net, node, *RENAMED["another interface has the name"])
    os.kill(daemon, signal.SIGKILL)
    wait_for(
        lambda: not {VIP, VIP6} & bound_on(node, old), "the VIP to leave the renamed interface"
    )
    new = number(node, INTERFACE)
    wait_for(lambda: {VIP, VIP6} <= bound_on(node, new), "the VIP to be where the name leads")
    assert not {VIP, VIP6} & bound_on(node, old)


@pytest.mark.parametrize("name", ["uplink0", LONG_NAME])
def test_an_alternative_name_is_as_good_as_the_first(build: Build, name: str) -> None:
    """What is removed is put back, what a Backup should not have is removed, and a pulled cable
    moves the VIP at once.
    """
    net = build("abc")
    for host in "ab":
        net.lab.run(
            net.hosts[host], "ip", "link", "property", "add", "dev", INTERFACE, "altname", name
        )
    first, second = pair(net, interface=name)
    assert first.vipd("check").code == 0
    for ip, address in ((VIP, f"{VIP}/32"), (VIP6, f"{VIP6}/128")):
        begin = time.monotonic()
        net.lab.delete_address(first.host, address)
        await_changes(net, begin, ip, [("a", False), ("a", True)])
        begin = time.monotonic()
        net.lab.add_address(second.host, address)
        await_changes(net, begin, ip, [("b", True), ("b", False)])
    begin = time.monotonic()
    net.lab.pull_cable(first.host)
    wait_for(
        lambda: net.monitor.owners(VIP) == net.monitor.owners(VIP6) == {"b"},
        "the other node to have it",
        1.0,
    )
    assert first.wait_state("Fault")["reason"] == "link_down"
    net.lab.plug_cable(first.host)
    first.wait_state("Backup")
    net.assert_never_two(begin)


def await_changes(net: World, since: float, ip: str, wanted: list[tuple[str, bool]]) -> None:
    """Return once exactly this has happened to an address since then; within a second."""
    wait_for(lambda: net.changes(since, ip) == wanted, f"{ip}: {wanted}", 1.0)


def test_an_interface_check_goes_by_any_name_of_any_interface(build: Build) -> None:
    """It is about another interface than the instance's own, and calls it by an
    alternative name.
    """
    net = build("a")
    node = net.node("a", profile="default")
    batch(
        net,
        node,
        "add back0 type veth peer name far0",
        "set far0 up",
        "set back0 up",
        "property add dev back0 altname storage0",
    )
    check = {
        "name": "storage",
        "interface": {"interface": "storage0"},
        "interval": "100ms",
        "timeout": "50ms",
        "fall": 1,
    }
    node.configure(instance(checks=[check]))
    node.start()
    node.wait_state("Active")
    for changes, state in (
        (("set far0 down",), "Fault"),
        (("set far0 up",), "Active"),
        (("property del dev back0 altname storage0",), "Fault"),
        (("property add dev back0 altname storage0",), "Active"),
        (("set back0 down", "set back0 name back1", "set back1 up"), "Active"),
    ):
        batch(net, node, *changes)
        node.wait_state(state)


# ---------------------------------------------------------------- MAC


@pytest.mark.parametrize("name", [INTERFACE, "uplink0"])
def test_a_new_mac_is_announced_within_50_ms_and_the_old_one_never_again(
    build: Build, name: str
) -> None:
    """In the middle of a burst that is sent every 100 ms; the node stays Active."""
    net = build("ac")
    node = net.node("a", profile="default")
    net.lab.run(node.host, "ip", "link", "property", "add", "dev", INTERFACE, "altname", "uplink0")
    node.configure(instance(interface=name, announce={"burst": 100, "interval": "100ms"}))
    node.start()
    node.wait_state("Active")
    old = {*frames_for(VIP, node.mac).announce, *frames_for(VIP6, node.mac).announce}
    new = {*frames_for(VIP, NEW_MAC).announce, *frames_for(VIP6, NEW_MAC).announce}
    with net.frames("c") as wire:
        wait_for(lambda: wire.recv(256) in old, "the burst")
        net.lab.run(node.host, "ip", "link", "set", INTERFACE, "address", NEW_MAC)
        changed = time.monotonic()
        # what waits to be read was sent before, or with the new MAC
        before = list(frames_until(wire, changed))
        heard = [(changed, frame) for _, frame in before if frame in new] + list(
            frames_until(wire, changed + 1.0)
        )
    first = {frame: min(at for at, one in heard if one == frame) for frame in new}
    assert max(first.values()) - changed < 0.050
    assert old.isdisjoint(frame for _, frame in heard)
    assert sum(frame in new for _, frame in heard) > 2 * len(new)
    assert node.state() == "Active"
    assert node.metric("vipd_transitions_total", vip_instance=WEB, to="Active") <= 1


def frames_until(wire: socket.socket, end: float) -> Iterator[tuple[float, bytes]]:
    """Yield what has arrived by then, with the moment."""
    while True:
        wire.settimeout(max(0.0, end - time.monotonic()))
        try:
            frame = wire.recv(256)
        except (TimeoutError, BlockingIOError):
            return
        yield time.monotonic(), frame


# ---------------------------------------------------------------- what check and run say

TRIED = "tried here and now, as this user:"


def test_check_tries_the_gate_on_the_configured_interfaces(build: Build) -> None:
    """And says of each whether it is there; what is missing comes first."""
    net = build("a")
    node = net.node("a")
    changes = [
        "property add dev eth0 altname uplink0",
        "add shaped0 type veth peer name far0",
        "add looked0 type veth peer name far1",
    ]
    batch(net, node, *changes)
    for command in (
        "tc qdisc add dev shaped0 handle ffff: ingress",
        "tc qdisc add dev looked0 clsact",
        "tc filter add dev looked0 ingress prio 1 protocol ip u32 match u32 0 0 flowid 1:1",
        "ip tuntap add tun0 mode tun",
    ):
        net.lab.run(node.host, *command.split())
    names = ["uplink0", "shaped0", "looked0", "tun0", "lo", "eth99"]
    node.configure(
        *(
            instance(f"i{at}", [f"192.0.2.{at}/32"], interface=name)
            for at, name in enumerate(names, start=1)
        )
    )
    outcome = node.vipd("check")
    assert outcome.code == 0
    said = [line.strip() for line in outcome.out.splitlines()]
    assert [line.partition(" (")[0] for line in said if line.startswith(TRIED)] == [
        f"{TRIED} there is no gate on shaped0",
        f"{TRIED} there is no gate on tun0",
        f"{TRIED} there is no gate on lo",
        f"{TRIED} there is no gate on eth99",
        f"{TRIED} the gate works on uplink0, looked0",
    ]
    assert [line for line in said if line.startswith("on looked0 another filter (u32, priority 1)")]
    warned = [line.partition("interface: ")[2].split()[0] for line in said if " warning: " in line]
    assert warned == ["tun0", "lo", "eth99"]


def test_what_check_says_of_the_gate_is_what_run_has(build: Build) -> None:
    """Somebody's ingress qdisc is where the gate should be."""
    net = build("a")
    node = net.node("a", profile="default")
    net.lab.run(node.host, "tc", "qdisc", "add", "dev", INTERFACE, "handle", "ffff:", "ingress")
    node.configure(instance())
    assert f"{TRIED} the gate works" not in node.vipd("check").out
    node.start()
    node.wait_state("Active")
    document = node.status()
    assert document is not None
    assert not document["fence"]["gate"]


def test_run_says_what_it_waits_for_and_what_an_interface_cannot_do(build: Build) -> None:
    """One that does not exist, at the start; one that loses ARP, while it runs."""
    net = build("a")
    node = net.node("a", profile="default")
    node.configure(instance(interface="uplink7"))
    node.start()
    assert node.wait_state("Fault")["reason"] == "link_down"
    assert "uplink7 does not exist on this host; vipd waits until it appears" in node.log
    net.lab.run(node.host, "ip", "link", "property", "add", "dev", INTERFACE, "altname", "uplink7")
    node.wait_state("Active")
    assert node.log.count("does not use ARP") == 0
    net.lab.run(node.host, "ip", "link", "set", INTERFACE, "arp", "off")
    wait_for(lambda: "warning  eth0 does not use ARP" in node.log, "the sentence in the log")
    assert any("does not use ARP" in note for note in node.instance()["notes"])
    net.lab.run(node.host, "ip", "link", "set", INTERFACE, "arp", "on")


def test_release_removes_what_is_on_a_renamed_interface(build: Build) -> None:
    """All of vipd was killed, and another interface has the name now."""
    net = build("a")
    node = net.node("a", profile="relaxed")
    node.configure(instance())
    node.start()
    assert net.wait_owner() == net.wait_owner(VIP6) == "a"
    node.kill_all()
    old = number(node, INTERFACE)
    # Down would take the IPv6 address along.
    batch(net, node, "property add dev eth0 altname old0", "add other0 type veth peer name far0")
    node.configure(instance(interface="other0"))
    assert {VIP, VIP6} <= bound_on(node, old)
    assert node.vipd("release").code == 0
    assert not {VIP, VIP6} & bound_on(node, old)


# ---------------------------------------------------------------- what the kernel has


def number(node: VipdNode, interface: str) -> int:
    """Return an interface's number on the node's host."""
    return inside(node.host.namespace, lambda: socket.if_nametoindex(interface))


def bound_on(node: VipdNode, ifindex: int) -> set[str]:
    """Return the addresses that are bound on the interface of this number,
    whatever it is called.
    """
    lines = net_lines(node, "ip", "-oneline", "address", "show")
    return {
        words[3].partition("/")[0] for words in map(str.split, lines) if words[0] == f"{ifindex}:"
    }


def net_lines(node: VipdNode, *argv: str) -> list[str]:
    """Return what a command on the node's host prints, by lines."""
    return node.lab.run(node.host, *argv).splitlines()
