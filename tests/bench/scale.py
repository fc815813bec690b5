"""Many instances and many nodes.

CPU, memory, requests at the store, and how soon all of a dead node's instances serve again.

    python -m tests.bench.scale [--stores etcd,kubernetes,kubernetes-group] [--instances
    1,10,100,250] [--nodes 10,30]
                                [--json FILE] [--quick]

Needs root, and etcd from the distribution's packages. Every node is a whole vipd in a network
namespace; none is simulated. The instances are on three nodes; with more nodes there are ten. One
node holds everything, then it is killed with all that belongs to it. All nodes, the store and the
measuring share this machine's cores: a size that does not come up says so. Leases are those of the
profile that a store has by default: 3 s with etcd, 10 s with Kubernetes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from election.timing import PROFILES
from tests.bench.scale_figures import Failover, Figures, Node, Size, etcd_counts, rates, report
from tests.etcd_server import EtcdServer
from tests.kube.admin import Admin
from tests.kube.fixture import ADMIN, KubeServer, certificate_user, kubeconfig
from tests.kube.manifests import NAMESPACE, USER, apply_access
from tests.netns.stories.node import VipdNode, inside, instance
from vipd.demo.lab import Lab, LabError
from vipd.demo.measure import Bound
from vipd.demo.monitor import Monitor

TICKS = os.sysconf("SC_CLK_TCK")
NODES, INSTANCES = 3, 10
PROFILE = {"etcd": "default", "kubernetes": "relaxed"}
CALM = 5.0
IDLE = 10.0
PATIENCE = 90.0
LOOK_AGAIN = 0.5
ROOM_OF_A_NODE = 100.0
"""MiB that have to be free for each node; it takes 45 to 75."""
ETCD_PORT = 2379


@dataclass(frozen=True, slots=True)
class Store:
    """A store on a host of its own.

    What goes into a configuration, and how much it was asked so far, by kind of request.
    """

    backend: Mapping[str, object]
    counts: Callable[[], dict[str, float]]


@contextlib.contextmanager
def etcd(lab: Lab, folder: Path) -> Iterator[Store]:
    """Start etcd."""
    host = lab.add("store")
    with EtcdServer(folder / "etcd", host=host.address, netns=host.namespace) as server:

        def counts() -> dict[str, float]:
            with urllib.request.urlopen(f"{server.url}/metrics", timeout=PATIENCE) as answer:  # noqa: S310 -- our own server
                return etcd_counts(answer.read().decode())

        yield Store({"etcd": {"endpoints": [server.url]}}, lambda: inside(host.namespace, counts))


@contextlib.contextmanager
def kubernetes(lab: Lab, folder: Path) -> Iterator[Store]:
    """Start the tests' API server; nodes have the rights that deploy/manifests gives them."""
    host = lab.add("store")
    with KubeServer(folder, host=host.address, netns=host.namespace) as server:
        inside(host.namespace, lambda: apply_access(Admin(server, ADMIN)))
        certificate = server.authority.sign("vipd", f"/CN={USER}")
        config = kubeconfig(server, folder / "kubeconfig", certificate_user(certificate))
        total: Counter[str] = Counter()

        def counts() -> dict[str, float]:
            total.update(f"{logged['verb']} {logged['resource']}" for logged in server.requests())
            return dict(total)

        yield Store({"kubernetes": {"namespace": NAMESPACE, "kubeconfig": str(config)}}, counts)


STORES = {"etcd": etcd, "kubernetes": kubernetes}


def addresses(count: int) -> list[str]:
    """Return one address for each instance."""
    return [f"10.81.{number >> 8}.{number & 255}" for number in range(1, count + 1)]


class Installation:
    """Nodes of one size on a store."""

    def __init__(self, size: Size, lab: Lab, folder: Path, store: Store) -> None:
        self.size, self.store = size, store
        self.addresses = addresses(size.instances)
        profile = PROFILE[size.store]
        self.lease = PROFILES[profile].lease_duration
        hosts = [lab.add(f"n{number}") for number in range(1, size.nodes + 1)]
        self.nodes = [
            VipdNode(lab, host, folder / host.name, store.backend, profile) for host in hosts
        ]
        self.monitor = Monitor(hosts, self.addresses)
        group = {"group": "all"} if size.grouped else {}
        for node in self.nodes:
            node.configure(
                *(
                    instance(f"i{n}", [f"{ip}/32"], preempt=False, **group)
                    for n, ip in enumerate(self.addresses, 1)
                )
            )

    def start(self) -> float:
        """Start the first node, then the others one by one.

        Return the seconds until all instances of the first one serve.

        A node's start takes more than a second of a core: many at once on one machine measure
        nothing but the wait for it.
        """
        begin = time.monotonic()
        self.nodes[0].start()
        names = {self.nodes[0].name}
        _wait(
            lambda: all(self.monitor.owners(ip) == names for ip in self.addresses),
            "the first node to hold everything",
            self.nodes[:1],
        )
        up = time.monotonic() - begin
        for number, node in enumerate(self.nodes[1:], 2):
            node.start()
            _wait(
                partial(_knows, node, number), f"{node.name} to know {number} nodes as fit", [node]
            )
        for node in self.nodes:
            _wait(partial(_knows, node, self.size.nodes), f"{node.name} to know all as fit", [node])
        return up

    def idle(self) -> tuple[Node, Node, dict[str, float]]:
        """Return what the holder costs, what the others cost in the median, and the requests of a
        second, while nothing happens.
        """
        time.sleep(CALM)
        parts = {node.name: (node.guard.pid, node.daemon) for node in self.nodes}
        spent = {name: sum(map(cpu, pids)) for name, pids in parts.items()}
        asked, begin = self.store.counts(), time.monotonic()
        time.sleep(IDLE)
        seconds = time.monotonic() - begin
        requests = rates(asked, self.store.counts(), seconds)
        used = {
            name: (sum(map(cpu, pids)) - spent[name]) / seconds * 100
            for name, pids in parts.items()
        }
        found = [
            Node(
                used[node.name],
                sum(map(pss, parts[node.name])),
                sum(pss(pid) for pid in node.tree() if pid not in parts[node.name]),
            )
            for node in self.nodes
        ]
        others = Node(
            *(
                statistics.median(getattr(one, key) for one in found[1:])
                for key in ("cpu", "memory", "warm")
            )
        )
        moved = [event for event in self.monitor.events if event.at > begin and not event.present]
        if moved:
            raise LabError(f"void: {len(moved)} addresses moved while nothing happened")
        return found[0], others, requests

    def kill(self) -> Failover:
        """Kill the node that holds everything; return how soon all is served again."""
        begin = time.monotonic()
        self.nodes[0].kill_all()
        dead = self.nodes[0].host.name
        _wait(
            lambda: len(self._back(begin, dead)) == self.size.instances,
            "all instances of the dead node to serve again",
            self.nodes[1:],
        )
        moments = self._back(begin, dead).values()
        return Failover(min(moments) - begin, max(moments) - begin, self.lease)

    def _back(self, since: float, dead: str) -> dict[str, float]:
        found: dict[str, float] = {}
        events: Sequence[Bound] = self.monitor.events
        for event in events:
            if event.present and event.at > since and event.node != dead:
                found.setdefault(event.address, event.at)
        return found

    def close(self) -> None:
        """Stop the instruments."""
        self.monitor.__exit__(None, None, None)


def _knows(node: VipdNode, count: int) -> bool:
    """Whether a node is in every election, and knows so many nodes as fit to take each."""
    document = node.status()
    if document is None:
        return False
    fit = [
        sum(one["live"] and one["eligible"] for one in seen["candidates"])
        for seen in document["instances"]
    ]
    return min(fit) == count and all(
        seen["state"] in {"Active", "Backup"} for seen in document["instances"]
    )


def _wait(look: Callable[[], bool], what: str, nodes: Sequence[VipdNode]) -> None:
    end = time.monotonic() + PATIENCE
    while not look():
        if time.monotonic() > end:
            words = "; ".join(
                f"{node.name}: {(node.log.splitlines() or ['nothing'])[-1]}" for node in nodes[:2]
            )
            raise LabError(f"waited {PATIENCE:g} s in vain for {what}. Last words: {words}")
        time.sleep(LOOK_AGAIN)


def pss(pid: int) -> float:
    """Return a process's proportional memory in MiB; 0: it has ended."""
    with contextlib.suppress(OSError):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0) / 1024
    return 0.0


def cpu(pid: int) -> float:
    """Return a process's CPU seconds."""
    return (
        sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))
        / TICKS
    )


def free_memory() -> float:
    """Return the MiB that are available."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")) / 1024


def measure(size: Size) -> Figures:
    """Measure one size."""
    if free_memory() < ROOM_OF_A_NODE * size.nodes:
        return Figures(
            size,
            problem=f"not tried: {free_memory():.0f} MiB are free, "
            f"{ROOM_OF_A_NODE * size.nodes:.0f} are wanted",
        )
    figures = Figures(size)
    try:
        with (
            tempfile.TemporaryDirectory(prefix="vipd-bench-") as name,
            Lab(f"vs{os.getpid()}-") as lab,
            STORES[size.store](lab, Path(name)) as store,
            contextlib.closing(Installation(size, lab, Path(name), store)) as installation,
        ):
            figures = Figures(size, installation.start())
            holder, backup, requests = installation.idle()
            figures = Figures(size, figures.started, holder, backup, requests)
            figures = Figures(size, figures.started, holder, backup, requests, installation.kill())
    except (LabError, OSError, subprocess.TimeoutExpired) as error:
        # A daemon that died while it was asked: that is a result too.
        return Figures(
            size,
            figures.started,
            figures.holder,
            figures.backup,
            figures.requests,
            problem=str(error),
        )
    return figures


def sizes(stores: Sequence[str], instances: Sequence[int], nodes: Sequence[int]) -> Iterator[Size]:
    """Yield what is to be measured."""
    for name in stores:
        store, _, group = name.partition("-")
        yield from (Size(store, NODES, count, bool(group)) for count in instances)
        yield from (Size(store, count, INSTANCES, bool(group)) for count in nodes)


def numbers(text: str) -> list[int]:
    """Return a list like 1,10,100."""
    return [int(part) for part in text.split(",") if part]


def main() -> int:
    """Measure and print; 1 if a size is void or was not reached."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stores", default="etcd,kubernetes,kubernetes-group")
    parser.add_argument(
        "--instances", default="1,10,100,250", help=f"numbers of instances, on {NODES} nodes"
    )
    parser.add_argument(
        "--nodes", default="10,30", help=f"numbers of nodes, with {INSTANCES} instances"
    )
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument(
        "--quick", action="store_true", help="two minutes: etcd, 1 and 100 instances"
    )
    args = parser.parse_args()
    wanted = sizes(args.stores.split(","), numbers(args.instances), numbers(args.nodes))
    if args.quick:
        wanted = sizes(["etcd"], [1, 100], [])
    found: list[Figures] = []
    try:
        for size in wanted:
            print(f"{size.name}: {size.nodes} nodes, {size.instances} instances …", file=sys.stderr)
            found.append(measure(size))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
    print(report(found))
    if args.json:
        machine = (
            f"{platform.release()}, {os.cpu_count()} cores, Python {platform.python_version()}"
        )
        args.json.write_text(
            json.dumps({"machine": machine, "sizes": [asdict(one) for one in found]}, indent=1)
        )
    return 0 if found and not any(one.problem for one in found) else 1


if __name__ == "__main__":
    sys.exit(main())
