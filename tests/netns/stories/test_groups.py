"""Instances of one group on two networks.

A node has the addresses of both or of none, by one record.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.netns.stories.node import VipdNode, instance, wait_for
from tests.netns.stories.pair import reload
from tests.netns.stories.world import PLANNED_OVERLAP, Build, World
from vipd.demo.ingress import HEALTH_PORT
from vipd.demo.lab import Host

pytestmark = [pytest.mark.root, pytest.mark.netns]

OUTER, INNER, INNER6 = "192.0.2.100", "198.51.100.100", "2001:db8:1::100"
ALL = (OUTER, INNER, INNER6)
SECOND = "eth1"
GROUP = "edge"
NAMES = ("outer", "inner")
CHECK = {
    "name": "proxy",
    "http": {"url": f"http://127.0.0.1:{HEALTH_PORT}/"},
    "interval": "100ms",
    "timeout": "80ms",
}
OUTER_INSTANCE = instance("outer", [f"{OUTER}/32"], group=GROUP, preempt=False)
INNER_INSTANCE = instance(
    "inner", [f"{INNER}/32", f"{INNER6}/128"], group=GROUP, preempt=False, checks=[CHECK]
) | {"interface": SECOND}


@dataclass
class Pair:
    """Nodes `a` and `b`, whose second interfaces are on a bridge of their own in the host `c`, and
    an ingress on each of them.
    """

    world: World
    nodes: tuple[VipdNode, VipdNode]
    ingresses: dict[str, subprocess.Popen[bytes]]

    def holder(self) -> tuple[VipdNode, VipdNode]:
        """Return the node that has all addresses, and the other one, once both know each other as
        fit.
        """
        wait_for(self.calm, "one owner of all addresses")
        first, second = self.nodes
        return (first, second) if self.world.monitor.owners(OUTER) == {"a"} else (second, first)

    def calm(self) -> bool:
        """Whether one node has everything and both are fit."""
        owners = {self.world.monitor.owners(address) for address in ALL}
        fit = all(node.knows_fit("a", "b", of=name) for node in self.nodes for name in NAMES)
        return fit and len(owners) == 1 and len(owners.pop()) == 1

    def wait_moved(self, source: VipdNode) -> None:
        """Return once all addresses are on another node."""
        for address in ALL:
            self.world.wait_owner(address, other_than=source.host.name)

    def assert_moved(self, source: VipdNode, target: VipdNode, since: float) -> None:
        """Check that all addresses had left one node before the first one came to the other."""
        moves = [(event.node, event.present) for event in self.world.events(since)]
        assert moves == [(source.host.name, False)] * len(ALL) + [(target.host.name, True)] * len(
            ALL
        )


@pytest.fixture
def grouped(build: Build) -> Pair:
    """Return the pair, not yet started."""
    net = build("abc", ALL)
    switch = net.hosts["c"]
    net.lab.run(
        switch,
        "ip",
        "link",
        "add",
        "br1",
        "type",
        "bridge",
        "stp_state",
        "0",
        "mcast_snooping",
        "0",
    )
    net.lab.run(switch, "ip", "link", "set", "br1", "up")
    nodes = (net.node("a", profile="default"), net.node("b", profile="default"))
    for node in nodes:
        wire(net, switch, node.host)
        node.configure(OUTER_INSTANCE, INNER_INSTANCE)
    argv = [sys.executable, "-m", "vipd.demo.ingress"]
    ingresses = {
        node.name: net.lab.spawn(node.host, [*argv, node.name, OUTER], subprocess.DEVNULL)
        for node in nodes
    }
    return Pair(net, nodes, ingresses)


def wire(net: World, switch: Host, host: Host) -> None:
    """Give a host a second interface on the bridge of another."""
    port = f"to-{host.name}"
    net.lab.run(
        switch,
        "ip",
        "link",
        "add",
        port,
        "type",
        "veth",
        "peer",
        "name",
        SECOND,
        "netns",
        host.namespace,
    )
    net.lab.run(switch, "ip", "link", "set", port, "master", "br1", "up")
    net.lab.run(host, "ip", "link", "set", SECOND, "up")


def start(pair: Pair) -> tuple[VipdNode, VipdNode]:
    """Start both; return the node that has all addresses, and the other one."""
    for node in pair.nodes:
        node.start()
    return pair.holder()


def test_a_group_moves_as_a_whole_when_one_ingress_fails(grouped: Pair) -> None:
    """All addresses leave before any comes to the other node, by one record.

    A planned handover is one for all as well.
    """
    holder, other = start(grouped)
    begin = time.monotonic()
    grouped.ingresses[holder.name].send_signal(signal.SIGUSR1)
    grouped.wait_moved(holder)
    grouped.assert_moved(holder, other, begin)
    assert {holder.wait_state("Fault", name)["reason"] for name in NAMES} == {"check_failed"}
    assert any(
        note.startswith("inner, of the same group: proxy: ")
        for note in holder.instance("outer")["notes"]
    )
    elections = Path(holder.folder.parent, "store", "elections")
    assert [path.name for path in elections.iterdir()] == [GROUP]

    grouped.ingresses[holder.name].send_signal(signal.SIGUSR2)
    assert grouped.holder() == (other, holder)
    answer = other.ask("handover", instance=GROUP)
    assert answer["holder"] == holder.name
    assert grouped.holder() == (holder, other)
    shown = [holder.instance(name) for name in NAMES]
    assert [(one["group"], one["pin"]) for one in shown] == [(GROUP, holder.name)] * 2
    assert shown[0]["epoch"] == shown[1]["epoch"]
    assert [holder.metric("vipd_state", vip_instance=name) for name in NAMES] == [2, 2]
    grouped.world.assert_never_two(begin, PLANNED_OVERLAP)


def test_a_group_survives_its_daemon_and_moves_when_everything_dies(grouped: Pair) -> None:
    """The guard keeps the addresses of both interfaces.

    After a full kill the kernel ends them, and `release` gives the rest back.
    """
    holder, other = start(grouped)
    begin = time.monotonic()
    os.kill(holder.daemon, signal.SIGKILL)
    wait_for(
        lambda: holder.instance("inner").get("reason") == "taken_back", "the lease to be taken back"
    )
    assert grouped.holder() == (holder, other)
    assert grouped.world.events(begin) == []

    begin = time.monotonic()
    holder.kill_all()
    grouped.wait_moved(holder)
    grouped.assert_moved(holder, other, begin)
    assert other.wait_state("Active", "outer")["reason"] == "lease_expired"

    begin = time.monotonic()
    other.kill_all()
    done = other.vipd("release")
    assert (done.code, done.out.splitlines()[-1]) == (0, f"{GROUP}: lease released")
    holder.start()
    grouped.wait_moved(other)
    assert holder.wait_state("Active", "inner")["reason"] == "released"
    grouped.assert_moved(other, holder, begin)


def test_a_group_needs_all_its_links(grouped: Pair) -> None:
    """Whichever interface goes down takes the addresses of both away, and fitness comes back with
    it.
    """
    for interface in ("eth0", SECOND):
        holder, other = start(grouped) if interface == "eth0" else grouped.holder()
        begin = time.monotonic()
        grouped.world.lab.run(holder.host, "ip", "link", "set", interface, "down")
        grouped.wait_moved(holder)
        assert {holder.wait_state("Fault", name)["reason"] for name in NAMES} == {"link_down"}
        grouped.assert_moved(holder, other, begin)
        grouped.world.lab.run(holder.host, "ip", "link", "set", interface, "up")
    grouped.holder()
    grouped.world.assert_never_two()


def test_two_elections_become_one_by_reloads(grouped: Pair) -> None:
    """The node that is first takes part in the group once the other one has let go of the elections
    before.
    """
    for node in grouped.nodes:
        node.configure(*({**one, "group": None} for one in (OUTER_INSTANCE, INNER_INSTANCE)))
    for node in grouped.nodes:
        node.start()
    wait_for(
        lambda: all(node.knows_fit("a", "b", of=name) for node in grouped.nodes for name in NAMES),
        "two elections",
    )
    for node in grouped.nodes:
        node.configure(OUTER_INSTANCE, INNER_INSTANCE)
        reload(node)
    holder, _ = grouped.holder()
    assert {holder.instance(name)["group"] for name in NAMES} == {GROUP}
    grouped.world.assert_never_two(0.0, PLANNED_OVERLAP)


def test_a_group_waits_for_whoever_has_one_of_its_addresses(grouped: Pair) -> None:
    """It asks on every interface, and takes nothing while somebody answers on one of them."""
    net, node = grouped.world, grouped.nodes[0]
    net.lab.run(net.hosts["c"], "ip", "address", "add", f"{INNER}/24", "dev", "br1")
    mac = net.lab.run(net.hosts["c"], "cat", "/sys/class/net/br1/address").strip()
    node.start()
    wait_for(
        lambda: any(mac in note for note in node.instance("outer").get("notes", [])),
        "the stranger to be named",
    )
    assert [node.state(name) for name in NAMES] == ["Backup", "Backup"]
    assert net.monitor.owners(OUTER) == frozenset()
    net.lab.run(net.hosts["c"], "ip", "address", "del", f"{INNER}/24", "dev", "br1")
    assert {net.wait_owner(address, other_than="c") for address in ALL} == {"a"}
