"""The store fails while a node holds the VIP.

It lets go by its deadline, and before anybody else binds.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.etcd_server import EtcdServer
from tests.netns.stories.node import VIP, VIP6, WEB, VipdNode, wait_for
from tests.netns.stories.pair import STANDARD, Pair
from tests.netns.stories.world import World, listed, world

pytestmark = [pytest.mark.root, pytest.mark.netns]


def failed_requests(node: VipdNode) -> float:
    """Return how many requests this daemon's store has not answered."""
    return node.metric("vipd_store_request_seconds_count", result="unknown")


@dataclass
class Cluster:
    """Two nodes with leases of one second, and a real etcd on a host of its own."""

    world: World
    nodes: tuple[VipdNode, VipdNode]
    etcd: EtcdServer

    def node(self, name: str) -> VipdNode:
        """Return a node by its host's name."""
        return next(node for node in self.nodes if node.host.name == name)

    def calm(self) -> bool:
        """Whether one node has the VIP and both know each other as fit."""
        owners = self.world.monitor.owners(VIP)
        fit = all(
            node.knows_fit("a", "b") and node.state() in {"Active", "Backup"} for node in self.nodes
        )
        return len(owners) == 1 and owners == self.world.monitor.owners(VIP6) and fit


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory, worlds: list[World]) -> Iterator[Cluster]:
    """Start it once for all stories."""
    folder = tmp_path_factory.mktemp("etcd")
    with world(f"se{os.getpid()}-", folder, ["a", "b", "c", "store"]) as net, listed(worlds, net):
        host = net.hosts["store"]
        with EtcdServer(folder, netns=host.namespace, host=host.address) as etcd:
            net.store = {"etcd": {"endpoints": [etcd.url]}}
            nodes = net.node("a"), net.node("b")
            for node in nodes:
                node.configure(STANDARD)
                node.start()
            yield Cluster(net, nodes, etcd)


@pytest.fixture
def cluster(started: Cluster) -> Iterator[Cluster]:
    """Give the cluster once it is calm, and check that no address was on two hosts in the story."""
    wait_for(started.calm, "the cluster to be calm")
    begin = time.monotonic()
    yield started
    started.world.assert_never_two(begin)


def test_an_owner_cut_off_from_the_store_lets_go_before_another_binds(cluster: Cluster) -> None:
    """Clients still reach it, so nobody but its own clock can tell it.

    Back in touch, it is a Backup.
    """
    net, begin = cluster.world, time.monotonic()
    holder = cluster.node(net.wait_owner())
    other = cluster.nodes[1 - cluster.nodes.index(holder)]
    net.lab.split([holder.host, net.hosts["store"]])
    try:
        assert net.reaches("c")
        for address in (VIP, VIP6):
            assert net.wait_owner(address, other_than=holder.host.name) == other.host.name
            assert net.changes(begin, address) == [
                (holder.host.name, False),
                (other.host.name, True),
            ]
        assert holder.metric("vipd_fenced_total", vip_instance=WEB, by="daemon") == 1
        assert (holder.state(), holder.instance()["reason"]) == ("Backup", "lease_expired")
        document = holder.status()
        assert document is not None
        assert (document["store"]["reachable"], bool(document["store"]["outage"])) == (False, True)
        assert net.reaches("c")
    finally:
        net.lab.join([holder.host, net.hosts["store"]])
    wait_for(cluster.calm, "the node to be back")
    assert net.wait_owner() == other.host.name


@pytest.mark.parametrize("outage", [3.0, pytest.param(10.0, marks=pytest.mark.long)])
@pytest.mark.parametrize("how", ["stopped", "frozen"])
def test_while_the_store_is_away_nobody_has_the_vip_and_then_one(
    cluster: Cluster, how: str, outage: float
) -> None:
    """The holder lets go by its deadline and nobody else takes what nobody can promise.

    As soon as it answers, one does.
    """
    net, begin = cluster.world, time.monotonic()
    holder = net.wait_owner()
    cluster.etcd.stop() if how == "stopped" else cluster.etcd.freeze()
    try:
        for address in (VIP, VIP6):
            net.wait_nobody(address)
            assert net.changes(begin, address) == [(holder, False)]
        time.sleep(outage)
        for node in cluster.nodes:
            # Initialize: a daemon that was replaced meanwhile cannot know who holds the lease.
            assert wait_for(node.state, f"{node.name} to answer") in {"Backup", "Initialize"}
            assert failed_requests(node) > 0
        assert net.changes(begin) == [(holder, False)]
    finally:
        cluster.etcd.start() if how == "stopped" else cluster.etcd.thaw()
    for address in (VIP, VIP6):
        owner = net.wait_owner(address)
        assert net.changes(begin, address) == [(holder, False), (owner, True)]


def test_a_store_that_cannot_be_written_is_an_outage(pair: Pair) -> None:
    """A read-only file system: it can be read, yet nobody may renew or take.

    Writable again, one node has the VIP again.
    """
    net, begin = pair.world, time.monotonic()
    holder = pair.holder
    store = Path(pair.world.folder / "store")
    remount(store, "ro")
    try:
        for address in (VIP, VIP6):
            net.wait_nobody(address)
        before = [failed_requests(node) for node in pair.nodes]
        wait_for(
            lambda: all(
                failed_requests(node) >= was + 3
                for node, was in zip(pair.nodes, before, strict=True)
            ),
            "both to try in vain",
        )
        document = holder.status()
        assert document is not None
        assert "Read-only file system" in document["store"]["outage"]
    finally:
        remount(store, "rw")
    for address in (VIP, VIP6):
        owner = net.wait_owner(address)
        assert net.changes(begin, address) == [(holder.host.name, False), (owner, True)]
    net.assert_never_two(begin)


def remount(path: Path, how: str) -> None:
    """Make a file system read-only or writable for everybody."""

    def done() -> bool:
        # Refused as busy while a node has a file open for writing.
        return (
            subprocess.run(
                ["mount", "-o", f"remount,{how}", str(path)], capture_output=True, check=False
            ).returncode
            == 0
        )

    wait_for(done, f"{path} to be remounted {how}")
