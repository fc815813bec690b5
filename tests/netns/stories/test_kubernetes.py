"""The real daemon with Leases in Kubernetes.

Crashes, cuts, restarts of the API server, and people with kubectl.

The nodes log in as the service account that deploy/manifests gives them, with its rights and no
others.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest

from tests.kube.admin import LEASES, Admin
from tests.kube.fixture import ADMIN, KubeServer, certificate_user, kubeconfig
from tests.kube.manifests import NAMESPACE, USER, apply_access
from tests.kube.status import Json
from tests.netns.stories.node import VIP, VIP6, WEB, VipdNode, inside, wait_for
from tests.netns.stories.pair import STANDARD
from tests.netns.stories.world import PLANNED_OVERLAP, World, listed, world

pytestmark = [pytest.mark.root, pytest.mark.netns]

T = TypeVar("T")

LEASE = f"vipd-{WEB}"
RESTART = 5.0
"""Seconds without an API server that leases of ten seconds, renewed every two, outlast."""
OUTAGE = 10.0
"""Seconds that they do not: the right ends 9 s after the last renewal."""


@dataclass
class Cluster:
    """Two nodes, and an API server on a host of its own."""

    world: World
    nodes: tuple[VipdNode, VipdNode]
    server: KubeServer

    def node(self, name: str) -> VipdNode:
        """Return a node by its host's name."""
        return next(node for node in self.nodes if node.host.name == name)

    @property
    def holder(self) -> VipdNode:
        """The node that has the VIP."""
        return self.node(self.world.wait_owner())

    def other_than(self, node: VipdNode) -> VipdNode:
        """Return the other one."""
        return self.nodes[1 - self.nodes.index(node)]

    def calm(self) -> bool:
        """Whether one node has the VIP and both know each other as fit."""
        owners = self.world.monitor.owners(VIP)
        fit = all(
            node.knows_fit("a", "b") and node.state() in {"Active", "Backup"} for node in self.nodes
        )
        return len(owners) == 1 and owners == self.world.monitor.owners(VIP6) and fit

    def kubectl(self, work: Callable[[Admin], T]) -> T:
        """Do something as an administrator, from the host of the API server."""
        return inside(self.world.hosts["api"].namespace, lambda: work(Admin(self.server, ADMIN)))

    def lease(self) -> Json:
        """Return the election's Lease."""
        return self.kubectl(lambda admin: admin.lease(NAMESPACE, LEASE))

    def shows(self, field: str) -> object:
        """Return a field of its spec, as `kubectl get lease -o yaml` shows it.

        None if there is no such field, or no answer.
        """
        code, lease = self.kubectl(
            lambda admin: admin.ask("GET", f"{LEASES.format(NAMESPACE)}/{LEASE}")
        )
        return part(lease, "spec").get(field) if code == 200 else None


def part(thing: Json, key: str) -> Json:
    """Return an object inside an object."""
    found = thing[key]
    assert isinstance(found, dict)
    return found


@contextmanager
def started(folder: Path, worlds: list[World], prefix: str, profile: str) -> Iterator[Cluster]:
    """Start an API server and both nodes, which have the VIP when this returns."""
    with (
        world(f"{prefix}{os.getpid()}-", folder, ["a", "b", "c", "api"]) as net,
        listed(worlds, net),
    ):
        host = net.hosts["api"]
        with KubeServer(folder, host=host.address, netns=host.namespace) as server:
            inside(host.namespace, lambda: apply_access(Admin(server, ADMIN)))
            certificate = server.authority.sign("vipd", f"/CN={USER}")
            config = kubeconfig(server, folder / "kubeconfig", certificate_user(certificate))
            net.store = {"kubernetes": {"namespace": NAMESPACE, "kubeconfig": str(config)}}
            nodes = net.node("a", profile=profile), net.node("b", profile=profile)
            for node in nodes:
                node.configure(STANDARD)
                node.start()
            yield Cluster(net, nodes, server)


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory, worlds: list[World]) -> Iterator[Cluster]:
    """Start it once for all stories with leases of three seconds."""
    with started(tmp_path_factory.mktemp("kube"), worlds, "sk", "default") as cluster:
        yield cluster


@pytest.fixture
def cluster(quick: Cluster) -> Iterator[Cluster]:
    """Give the cluster once it is calm."""
    wait_for(quick.calm, "the cluster to be calm")
    yield quick
    quick.server.clear()


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory, worlds: list[World]) -> Iterator[Cluster]:
    """Start it once for all stories with leases of ten seconds, the usual ones with Kubernetes."""
    with started(tmp_path_factory.mktemp("relaxed"), worlds, "sr", "relaxed") as cluster:
        yield cluster


def test_a_full_kill_moves_the_vip(cluster: Cluster) -> None:
    """All of vipd on the holder ends at once.

    The kernel lets go of the addresses, then the other node takes the Lease.
    """
    net, begin, holder = cluster.world, time.monotonic(), cluster.holder
    other = cluster.other_than(holder)
    transitions = part(cluster.lease(), "spec")["leaseTransitions"]
    # All at the same moment, as with a power failure: a daemon that outlives its guard by a
    # millisecond begins a handover.
    holder.signal_all(signal.SIGSTOP)
    holder.kill_all()
    for address in (VIP, VIP6):
        assert net.wait_owner(address, other_than=holder.host.name) == other.host.name
        assert net.changes(begin, address) == [(holder.host.name, False), (other.host.name, True)]
    spec = part(cluster.lease(), "spec")
    assert (spec["holderIdentity"], spec["leaseTransitions"]) == (
        other.name,
        int(str(transitions)) + 1,
    )
    assert net.reaches("c")
    net.assert_never_two(begin)
    holder.start()


def test_a_graceful_stop_hands_over(cluster: Cluster) -> None:
    """SIGTERM: the other node has the VIP before anybody misses it, and nothing is left on the
    host.
    """
    net, begin, holder = cluster.world, time.monotonic(), cluster.holder
    other = cluster.other_than(holder)
    assert holder.stop() == 0
    assert holder.bound().isdisjoint({VIP, VIP6})
    assert net.wait_owner() == other.host.name
    assert cluster.shows("holderIdentity") == other.name
    assert sorted(net.changes(begin)) == sorted(
        [(other.host.name, True), (holder.host.name, False)]
    )
    net.assert_never_two(begin, PLANNED_OVERLAP)
    holder.start()


def test_an_owner_cut_off_from_the_api_lets_go_before_another_binds(cluster: Cluster) -> None:
    """Clients still reach it, so nobody but its own clock can tell it."""
    net, begin, holder = cluster.world, time.monotonic(), cluster.holder
    other = cluster.other_than(holder)
    net.lab.split([holder.host, net.hosts["api"]])
    try:
        for address in (VIP, VIP6):
            assert net.wait_owner(address, other_than=holder.host.name) == other.host.name
            assert net.changes(begin, address) == [
                (holder.host.name, False),
                (other.host.name, True),
            ]
        assert (holder.state(), holder.instance()["reason"]) == ("Backup", "lease_expired")
        document = holder.status()
        assert document is not None
        assert cluster.server.url in document["store"]["outage"]
    finally:
        net.lab.join([holder.host, net.hosts["api"]])
    wait_for(cluster.calm, "the node to be back")
    assert net.wait_owner() == other.host.name
    net.assert_never_two(begin)


def test_a_lease_deleted_by_hand_comes_back_and_the_vip_stays(cluster: Cluster) -> None:
    """`kubectl delete lease`.

    The holder makes it again, with a new uid, and nobody else takes what was nobody's for a moment.
    """
    net, begin, holder = cluster.world, time.monotonic(), cluster.holder
    before = part(cluster.lease(), "metadata")
    cluster.kubectl(lambda admin: admin.delete(NAMESPACE, LEASE))

    wait_for(
        lambda: cluster.shows("holderIdentity") == holder.name,
        "the Lease to be back in its holder's hands",
    )
    after = part(cluster.lease(), "metadata")
    assert after["uid"] != before["uid"]
    assert epoch(after) >= epoch(before)
    assert_stays(net, holder, begin)


def test_an_emptied_holder_is_put_back_and_the_vip_stays(cluster: Cluster) -> None:
    """`kubectl edit lease`, holderIdentity removed: nobody let go of anything."""
    net, begin, holder = cluster.world, time.monotonic(), cluster.holder
    cluster.kubectl(
        lambda admin: admin.edit(
            NAMESPACE, LEASE, lambda lease: part(lease, "spec").pop("holderIdentity")
        )
    )
    wait_for(lambda: cluster.shows("holderIdentity") == holder.name, "the holder to be back")
    assert_stays(net, holder, begin)


def test_nonsense_in_the_lease_is_replaced_and_the_vip_stays(cluster: Cluster) -> None:
    """`kubectl annotate --overwrite`.

    The record cannot be read any more, the log says why, and the holder writes it again.
    """
    net, begin, holder = cluster.world, time.monotonic(), cluster.holder

    def spoil(lease: Json) -> None:
        part(part(lease, "metadata"), "annotations")["vipd/epoch"] = "seven"

    cluster.kubectl(lambda admin: admin.edit(NAMESPACE, LEASE, spoil))
    wait_for(lambda: epoch(part(cluster.lease(), "metadata")) > 0, "the record to be readable")
    assert_stays(net, holder, begin)


def test_forbidden_is_an_outage_with_a_sentence(cluster: Cluster) -> None:
    """Somebody took the Role away: the status names the verb; with the Role back all goes on."""
    holder = cluster.holder
    text = (
        f'leases.coordination.k8s.io "{LEASE}" is forbidden: User "{USER}" cannot update '
        'resource "leases"'
    )
    cluster.server.fault(
        "refused", verb="update", name=LEASE, code=403, reason="Forbidden", message=text, times=3
    )

    def said() -> bool:
        document = holder.status()
        return document is not None and "cannot update" in str(document["store"]["outage"])

    wait_for(said, "the status to name what is missing")
    cluster.server.clear()
    wait_for(
        lambda: not (holder.status() or {}).get("store", {}).get("outage"), "the outage to be over"
    )


def test_a_restart_of_the_api_server_drops_nothing(patient: Cluster) -> None:
    """It is away for five seconds and answers 503 for a moment when it is back: no address comes or
    goes.
    """
    wait_for(patient.calm, "the cluster to be calm")
    net, begin, holder = patient.world, time.monotonic(), patient.holder
    patient.server.leave()
    time.sleep(RESTART)
    message = "the server is currently unable to handle the request"
    patient.server.fault(
        "refused", code=503, reason="ServiceUnavailable", message=message, retry_after=1, times=6
    )
    patient.server.come_back()
    before = wait_for(lambda: patient.shows("renewTime"), "an answer")
    wait_for(
        lambda: patient.shows("renewTime") not in (None, before), "a renewal after the restart"
    )
    wait_for(patient.calm, "both nodes to be back")
    assert_stays(net, holder, begin)
    patient.server.clear()


@pytest.mark.long
def test_ten_seconds_without_an_api_server_drop_the_vip_once(patient: Cluster) -> None:
    """Longer than a lease lasts.

    The holder lets go by its deadline, nobody else can take, and one does when the server is back.
    """
    wait_for(patient.calm, "the cluster to be calm")
    net, begin, holder = patient.world, time.monotonic(), patient.holder
    patient.server.leave()
    try:
        time.sleep(OUTAGE)
        assert net.changes(begin) == [(holder.host.name, False)]
    finally:
        patient.server.come_back()
    for address in (VIP, VIP6):
        owner = net.wait_owner(address)
        assert net.changes(begin, address) == [(holder.host.name, False), (owner, True)]


def epoch(metadata: Json) -> int:
    """Return the epoch in a Lease's annotations; 0: none that can be read."""
    text = str(part(metadata, "annotations").get("vipd/epoch"))
    return int(text) if text.isdigit() else 0


def assert_stays(net: World, holder: VipdNode, since: float) -> None:
    """Check that no address came or went."""
    for address in (VIP, VIP6):
        assert net.changes(since, address) == []
    assert net.monitor.owners(VIP) == {holder.host.name}
