"""vipd with each of its stores."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from election.timing import PROFILES, fence_margin
from tests.bench.network import Network
from tests.bench.peers.base import Node, Peer, Store, children, first_line
from tests.etcd_server import EtcdServer
from tests.kube.admin import Admin
from tests.kube.fixture import ADMIN, KubeServer, certificate_user, kubeconfig
from tests.kube.manifests import NAMESPACE, USER, apply_access
from tests.netns.stories.node import inside
from vipd.control.client import request
from vipd.control.errors import FailedError, RefusedError, UnreachableError
from vipd.demo.ingress import HEALTH_PORT
from vipd.demo.lab import INTERFACE, Host, LabError
from vipd.demo.node import INSTANCE, VIP, VIP6

FILE_ONLY = "with `file` all nodes share one host, which cannot be cut off from its own store"
UNABLE = {
    "cut": FILE_ONLY,
    "cut_heal": FILE_ONLY,
    "store_brief": FILE_ONLY,
    "store_long": FILE_ONLY,
    "store_cut": FILE_ONLY,
}
CHECK = {"interval": "200ms", "timeout": "180ms", "rise": 2, "fall": 2, "on_fail": "fault"}


class VipdNode(Node):
    """A host that runs `vipd run`."""

    def __init__(
        self, network: Network, host: Host, backend: Mapping[str, object], profile: str
    ) -> None:
        super().__init__(network, host)
        self._socket = self.folder / "s"
        check = {
            "name": "ingress",
            "http": {"url": f"http://127.0.0.1:{HEALTH_PORT}/healthz", "status": 200},
            **CHECK,
        }
        # Neither keepalived nor ucarp waits before it preempts, by default.
        instance = {
            "name": INSTANCE,
            "interface": INTERFACE,
            "addresses": [f"{VIP}/32", f"{VIP6}/128"],
            "preempt_delay": "0s",
        }
        config = {
            "node": self.name,
            "backend": backend,
            "timing": {"profile": profile},
            "instances": [{**instance, "priority": self.priority, "checks": [check]}],
            "control": {"socket": str(self._socket)},
            "state_dir": str(self.folder / "state"),
            "log": {"format": "json"},
        }
        (self.folder / "c.yaml").write_text(json.dumps(config))

    def argv(self) -> Sequence[str]:
        """Return the command line."""
        return [sys.executable, "-m", "vipd", "run", "-c", str(self.folder / "c.yaml")]

    def child(self, name: str) -> int:
        """Return the guard's child of this name; 0 if there is none."""
        return next((pid for pid, known in children(self.process.pid).items() if known == name), 0)

    def worker(self) -> int:
        """Return the daemon."""
        if not (pid := self.child("vipd-daemon")):
            raise LabError(f"vipd on {self.name} has no daemon")
        return pid

    def status(self) -> dict[str, Any]:
        """Return the status document; empty while the daemon cannot be reached."""
        try:
            return request(str(self._socket), "status")
        except (UnreachableError, RefusedError, FailedError):
            return {}

    def ask(self, command: str, **arguments: object) -> None:
        """Do a command of the command line, without the time that Python needs to start.

        Raises what vipd.control.client raises.
        """
        request(str(self._socket), command, {"instance": INSTANCE, **arguments})


class Vipd(Peer):
    """Three vipd with a timing profile, on a file, etcd or Kubernetes' Leases."""

    six = True

    def __init__(self, network: Network, backend: str, profile: str) -> None:
        super().__init__(network)
        self._timing = PROFILES[profile]
        self.beat = self._timing.renew_interval
        self.detection = self._timing.lease_duration + 0.2
        timing = (
            f"lease {self._timing.lease_duration:g} s, renewed every "
            f"{self._timing.renew_interval:g} s"
        )
        # What a pulled cable costs with this store only, a reader would take for what it costs with
        # any.
        reach = ", within reach whatever befalls the network" if backend == "file" else ""
        self.settings = (
            f"store: {backend}{reach}; profile {profile}: {timing}; the ingress "
            "checked every 0.2 s, fall 2; planned move: vipd handover"
        )
        self.unable: Mapping[str, str] = UNABLE if backend == "file" else {}
        self._stack = contextlib.ExitStack()
        self.store, settings = self._open(backend)
        self._nodes = [VipdNode(network, host, settings, profile) for host in network.nodes]
        self.nodes = self._nodes

    def _open(self, backend: str) -> tuple[Store | None, Mapping[str, object]]:
        folder, host = self.network.folder / "store", self.network.store
        folder.mkdir()
        if backend == "file":
            return None, {"file": {"path": str(folder / "records")}}
        if backend == "etcd":
            etcd = self._stack.enter_context(
                EtcdServer(folder, netns=host.namespace, host=host.address)
            )
            return etcd, {"etcd": {"endpoints": [etcd.url]}}
        server = self._stack.enter_context(
            KubeServer(folder, netns=host.namespace, host=host.address)
        )
        return server, {
            "kubernetes": {"namespace": NAMESPACE, "kubeconfig": str(_user(server, host, folder))}
        }

    def ready(self) -> bool:
        """Tell whether every node is fit, is known as fit to the best one, sees the store and keeps
        a warm process.
        """
        documents = [node.status() if node.runs else {} for node in self._nodes]
        if not all(documents) or any(
            document["store"]["outage"] or not document["instances"] for document in documents
        ):
            return False
        seen = [document["instances"][0] for document in documents]
        fit = {one["name"] for one in seen[0]["candidates"] if one["live"] and one["eligible"]}
        warm = all(node.child("vipd-template") for node in self._nodes)
        return (
            warm
            and all(one["state"] in {"Active", "Backup"} for one in seen)
            and fit >= {node.name for node in self._nodes}
        )

    def beat_of(self, node: Node) -> float | None:
        """Return when its last renewal was sent: its deadline tells."""
        document = next(one for one in self._nodes if one is node).status()
        now = time.monotonic()
        instance = document["instances"][0] if document else {}
        if instance.get("state") != "Active" or instance["lease_remaining"] is None:
            return None
        lease = self._timing.lease_duration
        return now + float(instance["lease_remaining"]) + fence_margin(lease) - lease

    def move(self) -> None:
        """Hand over, as `vipd handover` does."""
        try:
            self._nodes[0].ask("handover", to=self._nodes[1].name)
        except (UnreachableError, RefusedError, FailedError) as error:
            raise LabError(f"vipd handover: {error}") from None

    def move_back(self) -> None:
        """Leave it alone: `bring_home` does it."""

    def bring_home(self) -> None:
        """Hand over to the best node: a preemption is damped when the VIP moves this often.

        The pin there means nothing to the others.
        """
        for node in self._nodes[1:]:
            if node.name in self.network.monitor.owners(VIP):
                with contextlib.suppress(UnreachableError, RefusedError, FailedError):
                    node.ask("handover", to=self.best.name)

    def version(self) -> Mapping[str, str]:
        """Return those of vipd and of its store."""
        found = {"vipd": first_line(sys.executable, "-m", "vipd", "version")}
        if isinstance(self.store, EtcdServer):
            found["etcd"] = first_line("etcd", "--version")
        if isinstance(self.store, KubeServer):
            found["Kubernetes"] = "the tests' API server"
        return found

    def close(self) -> None:
        """End the store."""
        self._stack.close()


def _user(server: KubeServer, host: Host, folder: Path) -> Path:
    inside(host.namespace, lambda: apply_access(Admin(server, ADMIN)))
    certificate = server.authority.sign("vipd", f"/CN={USER}")
    return kubeconfig(server, folder / "kubeconfig", certificate_user(certificate))
