"""The network with everything on it.

Nodes, client, store and instruments, and how to wait until all is calm.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vipd.demo.lab import Lab, LabError
from vipd.demo.monitor import Monitor
from vipd.demo.node import LAST_WORDS, VIP, VIP6, Etcd, Node, Settings
from vipd.demo.prober import Prober

FOLDER = Path("/run/vipd-demo")
BEST_PRIORITY = 150
USUAL_PRIORITY = 100
SETTLE = 30.0
"""Seconds until all nodes are up, healthy and agreed on one owner: several leases, and slow
machines."""
LOOK_AGAIN = 0.1


class Stage:
    """Nodes n1, n2, ...

    Of which n1 has the highest priority. `absent` is a node that is cut off at present.
    """

    def __init__(self, lab: Lab, nodes: int, backend: str, folder: Path = FOLDER) -> None:
        self.lab = lab
        self.backend = backend
        self.client = lab.add("client")
        self._store = self._open_store(folder / "store")
        self.nodes = [
            Node(lab, lab.add(f"n{number + 1}"), folder / f"n{number + 1}")
            for number in range(nodes)
        ]
        self.best = self.nodes[0]
        self.absent: Node | None = None
        self.monitor = Monitor((node.host for node in self.nodes), (VIP, VIP6))

    def _open_store(self, folder: Path) -> Mapping[str, Any]:
        if self.backend == "file":
            return {"file": {"path": str(folder)}}
        etcd = Etcd(self.lab, self.lab.add("store"), folder)
        etcd.wait_ready()
        return {"etcd": {"endpoints": [etcd.endpoint]}}

    def start(self) -> None:
        """Start every ingress and every vipd."""
        for node in self.nodes:
            node.start_ingress()
            self.configure(node, preempt=node is self.best)
            node.start()

    def configure(self, node: Node, *, preempt: bool) -> None:
        """Write a node's configuration for its next start."""
        node.configure(
            Settings(self._store, BEST_PRIORITY if node is self.best else USUAL_PRIORITY, preempt)
        )

    def settle(self) -> Node:
        """Return the owner of the VIP once it is alone and knows every other running node as fit.
        LabError after 30 s.
        """
        end = time.monotonic() + SETTLE
        owner = ""
        while time.monotonic() < end:
            present = [node for node in self.nodes if node.running and node is not self.absent]
            owner = self.monitor.wait_owner(VIP, LOOK_AGAIN)
            if owner and self._agreed(self.node(owner), present):
                return self.node(owner)
            self.pause(LOOK_AGAIN)
        last = "".join(f"\n{node.name}: {node.log_since(0)[-LAST_WORDS:]}" for node in self.nodes)
        raise LabError(
            f"after {SETTLE:g} s the VIP is on {owner or 'no node alone'}, or a node is not fit; "
            f"their last words:{last}"
        )

    def _agreed(self, owner: Node, present: Sequence[Node]) -> bool:
        # Both are asked: a node that came back knows of itself first, and the owner hands over only
        # to whom it knows as fit.
        fit = owner.fit_nodes()
        return all(node.name in fit and node.state() in ("Active", "Backup") for node in present)

    def node(self, name: str) -> Node:
        """Return the node of this name."""
        return next(node for node in self.nodes if node.name == name)

    def other(self, holder: Node) -> Node:
        """Return a running node that is not this one, the last of them.

        Not the one that would be next anyway.
        """
        return [node for node in self.nodes if node is not holder and node.running][-1]

    def probe(self, vip: str = VIP) -> Prober:
        """Start a prober on the client."""
        return Prober(self.lab, self.client, vip)

    def pause(self, seconds: float) -> None:
        """Let time pass in which nothing is done."""
        time.sleep(seconds)

    def close(self) -> None:
        """Stop the monitor; the lab ends the rest."""
        self.monitor.__exit__(None, None, None)
