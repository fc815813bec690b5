"""vipd as the pods of deploy/manifests run it.

Their configuration, environment, service account, capabilities and read-only root.

What a container runtime does for a pod is done here with a mount namespace and setpriv.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.kube.admin import LEASES, Admin
from tests.kube.fixture import ADMIN, KubeServer
from tests.kube.manifests import NAMESPACE, USER, apply_access, one
from tests.netns.stories.node import VIP, VIP6, VipdNode, inside, wait_for
from tests.netns.stories.world import PLANNED_OVERLAP, World, listed, world

pytestmark = [pytest.mark.root, pytest.mark.netns]

INSTANCE = "ingress"
FIRST, SECOND = "first-token", "second-token"
RUN = """
set -e
mount -t tmpfs none /run
mkdir -p /run/vipd /run/secrets/kubernetes.io/serviceaccount
mount --bind "$FOLDER" /run/vipd
mount --bind "$SECRETS" /run/secrets/kubernetes.io/serviceaccount
mount -o remount,bind,ro /run/secrets/kubernetes.io/serviceaccount
mount -t tmpfs none /var/lib
mkdir /var/lib/vipd
mount --bind "$FOLDER/state" /var/lib/vipd
mount -o remount,ro /var/lib
mount -o remount,bind,ro /
exec setpriv --bounding-set "-all,$CAPABILITIES" --inh-caps "-all,$CAPABILITIES" --no-new-privs "$@"
"""
"""The control socket is in the node's folder, where the means of the stories look for it."""


def container() -> Any:  # noqa: ANN401 - a tree of plain values
    """Return the container of the DaemonSet."""
    spec: Any = one("DaemonSet")["spec"]
    return spec["template"]["spec"]["containers"][0]


@dataclass
class Pod(VipdNode):
    """A node whose vipd runs as in its pod."""

    environ: dict[str, str] | None = None
    secrets: Path = Path()

    def prepare(self, server: KubeServer) -> None:
        """Write what the kubelet mounts.

        The ConfigMap, adapted to this network, and the service account.
        """
        data: Any = one("ConfigMap")["data"]
        config = yaml.safe_load(data["vipd.yaml"])
        [instance] = config["instances"]
        del instance["checks"]
        instance["addresses"] = [f"{VIP}/32", f"{VIP6}/128"]
        self.config_file.write_text(yaml.safe_dump(config | {"timing": {"profile": "default"}}))
        self.state_dir.mkdir()
        self.secrets = self.folder / "secrets"
        self.secrets.mkdir()
        (self.secrets / "ca.crt").write_bytes(server.authority.file.read_bytes())
        (self.secrets / "token").write_text(FIRST)
        self.environ = {
            "NODE_NAME": self.name,
            "POD_NAMESPACE": NAMESPACE,
            "KUBERNETES_SERVICE_HOST": server.host,
            "KUBERNETES_SERVICE_PORT": str(server.port),
            "FOLDER": str(self.folder),
            "SECRETS": str(self.secrets),
            "CAPABILITIES": ",".join(
                f"+{name.lower()}" for name in container()["securityContext"]["capabilities"]["add"]
            ),
        }

    def start(self) -> None:
        """Start it with the capabilities and the arguments of the DaemonSet."""
        assert self.environ is not None
        variables = [f"{name}={value}" for name, value in self.environ.items()]
        vipd = [sys.executable, "-m", "vipd", *container()["args"], "-c", str(self.config_file)]
        argv = [
            "env",
            *variables,
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            RUN,
            "sh",
            *vipd,
        ]
        with (self.folder / "log").open("ab") as log:
            self._process = self.lab.spawn(self.host, argv, log)


@dataclass
class Pods:
    """Two of them, and an API server."""

    world: World
    nodes: tuple[Pod, Pod]
    server: KubeServer

    def holder(self) -> tuple[Pod, Pod]:
        """Return the node that has the VIP, and the other one."""
        name = self.world.wait_owner()
        first, second = self.nodes
        return (first, second) if first.host.name == name else (second, first)

    def calm(self) -> bool:
        """Whether one node has the VIP and both know each other as fit."""
        fit = all(node.knows_fit("a", "b", of=INSTANCE) for node in self.nodes)
        return (
            fit
            and len(self.world.monitor.owners(VIP)) == 1
            and self.world.monitor.owners(VIP) == self.world.monitor.owners(VIP6)
        )


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory, worlds: list[World]) -> Iterator[Pods]:
    """Start them once for all stories."""
    folder = tmp_path_factory.mktemp("pods")
    with world(f"so{os.getpid()}p", folder, ["a", "b", "c", "api"]) as net, listed(worlds, net):
        host = net.hosts["api"]
        with KubeServer(folder, host=host.address, netns=host.namespace) as server:
            inside(host.namespace, lambda: apply_access(Admin(server, ADMIN)))
            for token in (FIRST, SECOND):
                server.order("token", token=token, user=USER, groups=[])
            nodes = tuple(
                Pod(net.lab, net.hosts[name], folder / name, {}, name=name) for name in "ab"
            )
            net.nodes += nodes
            for node in nodes:
                node.prepare(server)
                node.start()
            yield Pods(net, (nodes[0], nodes[1]), server)


@pytest.fixture
def pods(started: Pods) -> Pods:
    """Give them once they are calm."""
    wait_for(started.calm, "the pods to be calm")
    return started


def test_a_pod_has_all_that_it_needs(pods: Pods) -> None:
    """The VIP is there, the probes succeed, the gate is on, and the Lease says who has it, with the
    rights of the Role.
    """
    holder, _ = pods.holder()
    assert holder.bound() >= {VIP, VIP6}
    assert [holder.get(path)[0] for path in ("/healthz", "/readyz")] == [200, 200]
    admin = Admin(pods.server, ADMIN)
    code, lease = inside(
        pods.world.hosts["api"].namespace,
        lambda: admin.ask("GET", f"{LEASES.format(NAMESPACE)}/vipd-{INSTANCE}"),
    )
    assert (code, lease["spec"]["holderIdentity"]) == (200, holder.name)  # type: ignore[index]
    effective = next(
        line
        for line in Path(f"/proc/{holder.daemon}/status").read_text().splitlines()
        if line.startswith("CapEff")
    )
    assert int(effective.split()[1], 16).bit_count() == len(
        container()["securityContext"]["capabilities"]["add"]
    )
    assert "Read-only file system" not in holder.log
    document = holder.status()
    assert document is not None
    assert (document["fence"]["guard"], document["fence"]["gate"]) == (True, True), document[
        "fence"
    ]


def test_a_pod_that_ends_hands_over(pods: Pods) -> None:
    """The kubelet sends SIGTERM at a roll-out.

    No moment without the VIP, and the next pod joins again.
    """
    begin = time.monotonic()
    holder, other = pods.holder()
    assert holder.stop() == 0
    assert pods.world.wait_owner() == other.host.name
    assert sorted(pods.world.changes(begin)) == sorted(
        [(other.host.name, True), (holder.host.name, False)]
    )
    pods.world.assert_never_two(begin, PLANNED_OVERLAP)
    holder.start()


def test_a_token_that_the_kubelet_replaces_costs_nothing(pods: Pods) -> None:
    """The old one is not accepted any more.

    The first request with it reads the new one, and no address moves.
    """
    begin = time.monotonic()
    for node in pods.nodes:
        (node.secrets / "token").write_text(SECOND)
    pods.server.order("revoke", token=FIRST)
    pods.server.requests()
    seen: list[dict[str, object]] = []

    def renewed() -> bool:
        seen.extend(
            request for request in pods.server.requests() if request["resource"] == "leases"
        )
        return sum(request["code"] == 200 for request in seen) > 5

    wait_for(renewed, "renewals with the new token")
    assert pods.world.changes(begin) == []


def test_a_pod_that_is_killed_is_replaced_by_another(pods: Pods) -> None:
    """All of its processes end at once, as when a runtime kills a container."""
    begin = time.monotonic()
    holder, other = pods.holder()
    # All at the same moment, as when PID 1 of a container ends: a daemon that outlives its guard
    # begins a handover.
    holder.signal_all(signal.SIGSTOP)
    holder.kill_all()
    for address in (VIP, VIP6):
        assert pods.world.wait_owner(address, other_than=holder.host.name) == other.host.name
        assert pods.world.changes(begin, address) == [
            (holder.host.name, False),
            (other.host.name, True),
        ]
    holder.start()
    wait_for(pods.calm, "the killed one to be back")
