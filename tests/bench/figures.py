"""Start-up, crash, takeover path, memory and CPU of one node or two, for each store.

    python -m tests.bench.figures [--repeat 5] [--backends file,etcd,kubernetes] [--json FILE]

Needs root. Prints the median (minimum to maximum) of each figure. Quiet machines only: every figure
here is of milliseconds.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.kube.admin import Admin
from tests.kube.fixture import ADMIN, KubeServer, certificate_user, kubeconfig
from tests.kube.manifests import NAMESPACE, USER, apply_access
from tests.netns.stories.node import inside
from vipd.control.client import request
from vipd.control.errors import FailedError, UnreachableError
from vipd.demo.lab import INTERFACE, Host, Lab
from vipd.demo.node import Etcd

TICKS = os.sysconf("SC_CLK_TCK")
PATIENCE = 20.0
IDLE = 10.0


def wall_clock() -> float:
    """Return the time as a log has it, in seconds."""
    return time.clock_gettime(time.CLOCK_REALTIME)


class Node:
    """A node with one instance, its log in JSON."""

    def __init__(
        self,
        lab: Lab,
        host: Host,
        folder: Path,
        backend: dict[str, object],
        priority: int,
        profile: str = "default",
    ) -> None:
        folder.mkdir(parents=True)
        self.lab, self.host, self.folder = lab, host, folder
        self.socket = folder / "s"
        config = {
            "node": host.name,
            "backend": backend,
            "timing": {"profile": profile},
            "instances": [
                {
                    "name": "ingress",
                    "interface": INTERFACE,
                    "addresses": ["192.0.2.100/32"],
                    "priority": priority,
                }
            ],
            "control": {"socket": str(self.socket)},
            "state_dir": str(folder / "state"),
            "log": {"format": "json"},
        }
        (folder / "c.yaml").write_text(json.dumps(config))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The guard, once started."""
        if self._process is None:
            raise RuntimeError(f"{self.host.name} was not started")
        return self._process

    def start(self) -> float:
        """Start vipd; return when (wall clock)."""
        with (self.folder / "log").open("ab") as log:
            at = wall_clock()
            self._process = self.lab.spawn(
                self.host,
                [sys.executable, "-m", "vipd", "run", "-c", str(self.folder / "c.yaml")],
                log,
            )
        return at

    def status(self) -> dict[str, object]:
        """Return the instance's status, or nothing."""
        try:
            return request(str(self.socket), "status")["instances"][0]  # type: ignore[index,no-any-return]
        except (UnreachableError, FailedError):
            return {}

    def wait(self, state: str, epoch: int = 0) -> float:
        """Return when, by its own log, the instance came into this state at a later epoch (wall
        clock).
        """
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            for line in (self.folder / "log").read_text().splitlines():
                said = json.loads(line) if line.startswith("{") else {}
                if said.get("state") == state and int(said.get("epoch", 0)) > epoch:
                    return dt.datetime.fromisoformat(said["time"]).timestamp()
            time.sleep(0.05)
        raise TimeoutError(
            f"{self.host.name} is not {state}: {(self.folder / 'log').read_text()[-500:]}"
        )

    def child(self, name: str) -> int:
        """Return the process id of a child of the guard, by name."""
        found = subprocess.run(
            ["pgrep", "-P", str(self.process.pid), "-x", name],
            capture_output=True,
            text=True,
            check=True,
        )
        return int(found.stdout.split()[-1])

    def metric(self, name: str) -> float:
        """Return one figure of /metrics, asked inside the node's namespace."""
        text = self.lab.run(
            self.host,
            sys.executable,
            "-c",
            "import urllib.request as u;print(u.urlopen('http://127.0.0.1:9477/metrics').read().decode())",
        )
        return sum(
            float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name)
        )


def pss(pid: int) -> float:
    """Return a process's proportional memory in MiB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def cpu(pid: int) -> float:
    """Return a process's CPU seconds."""
    return (
        sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))
        / TICKS
    )


@contextlib.contextmanager
def stage(backend: str) -> Iterator[tuple[Lab, Path, dict[str, object]]]:
    """Build a network with a store."""
    with tempfile.TemporaryDirectory(prefix="vipd-bench-") as name, Lab(f"vf{os.getpid()}-") as lab:
        folder = Path(name)
        if backend == "file":
            yield lab, folder, {"file": {"path": str(folder / "store")}}
            return
        if backend == "kubernetes":
            yield from kubernetes(lab, folder)
            return
        etcd = Etcd(lab, lab.add("store"), folder / "etcd")
        etcd.wait_ready()
        yield lab, folder, {"etcd": {"endpoints": [etcd.endpoint]}}


def kubernetes(lab: Lab, folder: Path) -> Iterator[tuple[Lab, Path, dict[str, object]]]:
    """Start the tests' API server on a host of its own.

    Nodes have the rights that deploy/manifests gives them.
    """
    host = lab.add("store")
    with KubeServer(folder, host=host.address, netns=host.namespace) as server:
        inside(host.namespace, lambda: apply_access(Admin(server, ADMIN)))
        certificate = server.authority.sign("vipd", f"/CN={USER}")
        config = kubeconfig(server, folder / "kubeconfig", certificate_user(certificate))
        yield lab, folder, {"kubernetes": {"namespace": NAMESPACE, "kubeconfig": str(config)}}


def measure(backend: str, into: dict[str, list[float]]) -> None:
    """Measure everything once."""
    with stage(backend) as (lab, folder, store):
        one = Node(lab, lab.add("a"), folder / "a", store, 150)
        two = Node(lab, lab.add("b"), folder / "b", store, 100)
        one.start()
        one.wait("Active")
        time.sleep(2.0)
        guard, daemon, warm = one.process.pid, one.child("vipd-daemon"), one.child("vipd-template")
        before = cpu(guard) + cpu(daemon)
        time.sleep(IDLE)
        into["idle CPU, guard and daemon, % of a core"].append(
            (cpu(guard) + cpu(daemon) - before) / IDLE * 100
        )
        into["memory, guard and daemon, MiB PSS"].append(pss(guard) + pss(daemon))
        into["memory, with the warm process, MiB PSS"].append(pss(guard) + pss(daemon) + pss(warm))
        epoch = int(str(one.status()["epoch"]))
        killed_at = wall_clock()
        os.kill(daemon, signal.SIGKILL)
        into["crash to first renewal, ms"].append((one.wait("Active", epoch) - killed_at) * 1000)
        two.start()
        two.wait("Backup")
        time.sleep(1.0)
        for _ in range(4):
            holder, other = (one, two) if one.status().get("state") == "Active" else (two, one)
            epoch = int(str(holder.status()["epoch"]))
            request(str(holder.socket), "handover", {"instance": "ingress", "to": other.host.name})
            other.wait("Active", epoch)
            time.sleep(0.7)
        count = one.metric("vipd_takeover_seconds_count") + two.metric(
            "vipd_takeover_seconds_count"
        )
        total = one.metric("vipd_takeover_seconds_sum") + two.metric("vipd_takeover_seconds_sum")
        into["takeover, from the chance to the first frame, mean ms"].append(total / count * 1000)
        holder = one if one.status().get("state") == "Active" else two
        epoch = int(str(holder.status()["epoch"]))
        pids = [holder.process.pid, holder.child("vipd-daemon"), holder.child("vipd-template")]
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in pids:
                os.kill(pid, number)
        holder.process.wait()
        into["cold start to first renewal, ms"].append(
            (-holder.start() + holder.wait("Active", epoch)) * 1000
        )


def main() -> int:
    """Measure each backend and print the medians."""
    parser = argparse.ArgumentParser(description="Figures of one node.")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--backends", default="file,etcd,kubernetes")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    found: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory(prefix="vipd-bench-") as compiled:
        # An installed package has its bytecode; a source tree that may not be written to would be
        # compiled at every start.
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = compiled
        for backend in args.backends.split(","):
            figures = found.setdefault(backend, defaultdict(list))
            for trial in range(args.repeat):
                print(f"{backend} {trial + 1} of {args.repeat}", file=sys.stderr, flush=True)
                measure(backend, figures)
    print(table(found))
    if args.json:
        args.json.write_text(json.dumps(found, indent=2))
    return 0


def table(found: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    """Return a column for each backend: median (minimum to maximum)."""
    names = list(dict.fromkeys(name for figures in found.values() for name in figures))
    lines = [
        f"| median (minimum to maximum) | {' | '.join(found)} |",
        "|---" * (len(found) + 1) + "|",
    ]
    for name in names:
        cells = [
            f"{statistics.median(v):.1f} ({min(v):.1f} to {max(v):.1f})"
            if (v := figures.get(name))
            else "-"
            for figures in found.values()
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
