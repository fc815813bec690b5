"""Outages of planned moves and of faults: vipd beside keepalived, on the same network, client and faults.

    python -m tests.bench.failover [--repeat 5] [--peers vipd-file,vipd-etcd,keepalived-1s,keepalived-0.1s] [--json FILE]

Needs root, and keepalived and etcd from the distribution's packages. Prints the median (minimum to maximum) of each figure in
ms. The scenarios and the instruments are those of `vipd demo`; a keepalived node is driven by the same deeds.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vipd.demo import measure
from vipd.demo.ingress import HEALTH_PORT
from vipd.demo.lab import INTERFACE, Host, Lab, LabError
from vipd.demo.monitor import Monitor
from vipd.demo.node import VIP, VIP6
from vipd.demo.prober import Prober

SETTLE = 20.0
CALM, TAIL = 0.3, 0.7
MOVE_LIMIT = 15.0
CONFIG = """
global_defs {{
    router_id {name}
    vrrp_garp_master_refresh 60
    script_user root
}}
vrrp_script ingress {{
    script "/usr/bin/curl --fail --silent --output /dev/null --max-time 0.8 http://127.0.0.1:{port}/"
    interval 1
    timeout 1
    rise 1
    fall 2
}}
vrrp_instance ingress {{
    version 3
    state BACKUP
    interface {interface}
    virtual_router_id 51
    priority {priority}
    advert_int {advert}
    track_script {{
        ingress
    }}
    virtual_ipaddress {{
        {vip}/32 dev {interface}
    }}
}}
"""


class Keepalived:
    """A host that runs keepalived, and an ingress beside it."""

    def __init__(self, lab: Lab, host: Host, folder: Path, priority: int, advert: str) -> None:
        self.host, self.name, self.priority = host, host.name, priority
        self._lab, self._folder = lab, folder
        folder.mkdir(parents=True)
        (folder / "conf").write_text(
            CONFIG.format(name=host.name, port=HEALTH_PORT, interface=INTERFACE, priority=priority, advert=advert, vip=VIP)
        )
        self._process: subprocess.Popen[bytes] | None = None
        self._ingress: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start keepalived in the foreground."""
        if self._process is not None:
            # A keepalived that was killed leaves its pid files, and a new one that finds them ends at once.
            self.signal(signal.SIGKILL)
            self._process.wait()
            for name in ("pid", "vrrp.pid"):
                (self._folder / name).unlink(missing_ok=True)
        argv = ["keepalived", "--dont-fork", "--log-console", "--vrrp", "-f", str(self._folder / "conf")]
        argv += ["-p", str(self._folder / "pid"), "-r", str(self._folder / "vrrp.pid")]
        with (self._folder / "log").open("ab") as log:
            self._process = self._lab.spawn(self.host, argv, log)

    def start_ingress(self) -> None:
        """Start the ingress, healthy."""
        with (self._folder / "ingress.log").open("ab") as log:
            self._ingress = self._lab.spawn(self.host, [sys.executable, "-m", "vipd.demo.ingress", self.name, VIP], log)

    def kill_ingress(self) -> None:
        """End the ingress."""
        if self._ingress is not None:
            self._ingress.kill()
            self._ingress.wait()

    def pids(self) -> list[int]:
        """Return the parent's and the worker's process ids."""
        if self._process is None:
            return []
        parent = self._process.pid
        found = subprocess.run(["pgrep", "-P", str(parent)], capture_output=True, text=True, check=False).stdout.split()
        return [parent, *map(int, found)]

    def signal(self, *numbers: signal.Signals, worker_only: bool = False) -> None:
        """Send signals in turn to both processes, or to the worker."""
        for number, pid in itertools.product(numbers, self.pids()[1 if worker_only else 0 :]):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


@dataclass(frozen=True, slots=True)
class Trial:
    """One fault: does it, and heals it afterwards. `moves`: the VIP is expected on another node."""

    key: str
    moves: bool
    watch: float = 3.5


TRIALS = (
    Trial("better_node_returns", moves=True),
    Trial("graceful_stop", moves=True),
    Trial("daemon_crash", moves=False),
    Trial("full_kill", moves=True),
    Trial("freeze", moves=True),
    Trial("ingress_gone", moves=True),
    Trial("cable_pulled", moves=True),
    Trial("cut_off", moves=True),
    Trial("comes_back", moves=False),
    Trial("split", moves=False, watch=10.0),
    Trial("address_deleted", moves=False),
)


@dataclass(slots=True)
class Figures:
    """What repeated trials of one scenario gave, in ms."""

    outage: list[float] = field(default_factory=list)
    lost: list[float] = field(default_factory=list)
    two_bound: list[float] = field(default_factory=list)


class KeepalivedGroup:
    """Three nodes, n1 the best; plays every trial and measures it."""

    def __init__(self, lab: Lab, folder: Path, advert: str) -> None:
        self.lab = lab
        self.client = lab.add("client")
        ranked = {"n1": 150, "n2": 110, "n3": 100}
        self.nodes = [Keepalived(lab, lab.add(name), folder / name, priority, advert) for name, priority in ranked.items()]
        self.monitor = Monitor((node.host for node in self.nodes), (VIP, VIP6))

    def start(self) -> None:
        """Start all."""
        for node in self.nodes:
            node.start_ingress()
            node.start()

    def settle(self, wanted: str = "n1") -> Keepalived:
        """Wait until this node alone has the VIP."""
        end = time.monotonic() + SETTLE
        while time.monotonic() < end:
            if self.monitor.wait_owner(VIP, 0.5) == wanted:
                time.sleep(2.0)
                return next(node for node in self.nodes if node.name == wanted)
        raise LabError(f"{wanted} did not get the VIP within {SETTLE:g}s")

    def play(self, trial: Trial) -> dict[str, float]:
        """Play one trial; return its figures in ms."""
        best = self.nodes[0]
        if trial.key == "better_node_returns":
            best.signal(signal.SIGTERM)
            self.settle("n2")
        elif trial.key == "comes_back":
            self.settle()
            self.lab.cut_off(best.host)
            time.sleep(6.0)
        else:
            self.settle()
        with Prober(self.lab, self.client, VIP) as prober:
            prober.wait(10.0)
            time.sleep(CALM)
            begin = time.monotonic()
            self._fault(trial, best)
            if trial.moves:
                holder = "n2" if trial.key == "better_node_returns" else "n1"
                prober.wait(MOVE_LIMIT, since=begin, other_than=holder)
            else:
                time.sleep(trial.watch)
            time.sleep(TAIL)
            end = time.monotonic()
            probes = prober.stop()
            events = self.monitor.events
        self._heal(trial, best)
        return {
            "outage": measure.outage(probes).length * 1000,
            "lost": float(measure.lost(probes)),
            "two_bound": measure.longest_with(events, range(2, 10), begin - CALM, end) * 1000,
        }

    def _fault(self, trial: Trial, best: Keepalived) -> None:
        faults: dict[str, Callable[[], object]] = {
            "better_node_returns": best.start,
            "graceful_stop": lambda: best.signal(signal.SIGTERM),
            "daemon_crash": lambda: best.signal(signal.SIGKILL, worker_only=True),
            "full_kill": lambda: best.signal(signal.SIGSTOP, signal.SIGKILL),
            "freeze": lambda: best.signal(signal.SIGSTOP),
            "ingress_gone": best.kill_ingress,
            "cable_pulled": lambda: self.lab.pull_cable(best.host),
            "cut_off": lambda: self.lab.cut_off(best.host),
            "comes_back": lambda: self.lab.reconnect(best.host),
            "split": lambda: self.lab.split(node.host for node in self.nodes),
            "address_deleted": lambda: self.lab.delete_address(best.host, f"{VIP}/32"),
        }
        faults[trial.key]()

    def _heal(self, trial: Trial, best: Keepalived) -> None:
        match trial.key:
            case "graceful_stop" | "full_kill":
                time.sleep(1.0)
                best.start()
            case "freeze":
                best.signal(signal.SIGCONT)
            case "ingress_gone":
                best.start_ingress()
            case "cable_pulled":
                self.lab.plug_cable(best.host)
            case "cut_off":
                self.lab.reconnect(best.host)
            case "split":
                self.lab.join(node.host for node in self.nodes)
            case _:
                return


def keepalived(advert: str, repeat: int, into: dict[str, Figures]) -> None:
    """Play every trial `repeat` times with one advertisement interval."""
    with tempfile.TemporaryDirectory(prefix="vipd-bench-") as folder, Lab(f"vb{os.getpid()}-") as lab:
        group = KeepalivedGroup(lab, Path(folder), advert)
        with contextlib.closing(contextlib.ExitStack()) as stack:
            stack.callback(group.monitor.__exit__, None, None, None)
            group.start()
            for _ in range(repeat):
                for trial in TRIALS:
                    add(into, trial.key, group.play(trial))


def vipd(backend: str, repeat: int, into: dict[str, Figures]) -> None:
    """Run the demo `repeat` times; each plays every scenario on a fresh group."""
    for _ in range(repeat):
        done = subprocess.run(
            [sys.executable, "-m", "vipd", "demo", "--backend", backend, "--json"], capture_output=True, text=True, check=False
        )
        if not done.stdout:
            raise LabError(done.stderr)
        for row in json.loads(done.stdout)["scenarios"]:
            if row["played"]:
                add(into, row["key"], {"outage": row["outage_ms"], "lost": row["probes_lost"], "two_bound": row["two_bound_ms"]})


def add(into: dict[str, Figures], key: str, figures: Mapping[str, float]) -> None:
    """Take one trial's figures in, and say so."""
    found = into.setdefault(key, Figures())
    found.outage.append(figures["outage"])
    found.lost.append(figures["lost"])
    found.two_bound.append(figures["two_bound"])
    print(f"    {key}: {', '.join(f'{name} {value:.0f}' for name, value in figures.items())}", file=sys.stderr, flush=True)


def table(results: Mapping[str, Mapping[str, Figures]]) -> str:
    """Return all figures, one line for each scenario."""
    keys = list(dict.fromkeys(key for figures in results.values() for key in figures))
    lines = ["| scenario | " + " | ".join(f"{peer}: outage ms; two owners ms" for peer in results) + " |"]
    lines.append("|---" * (len(results) + 1) + "|")
    for key in keys:
        cells = [cell(figures.get(key)) for figures in results.values()]
        lines.append(f"| {key} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def cell(figures: Figures | None) -> str:
    """Return median (min to max) of outage and of two owners."""
    if figures is None:
        return "-"
    return "; ".join(spread(values) for values in (figures.outage, figures.two_bound))


def spread(values: Sequence[float]) -> str:
    """Return the median, with minimum and maximum."""
    return f"{statistics.median(values):.0f} ({min(values):.0f} to {max(values):.0f})"


PEERS = {
    "vipd-file": lambda repeat, into: vipd("file", repeat, into),
    "vipd-etcd": lambda repeat, into: vipd("etcd", repeat, into),
    "keepalived-1s": lambda repeat, into: keepalived("1", repeat, into),
    "keepalived-0.1s": lambda repeat, into: keepalived("0.1", repeat, into),
}


def main() -> int:
    """Measure all peers and print one table."""
    parser = argparse.ArgumentParser(description="Outages of vipd and keepalived.")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    results: dict[str, dict[str, Figures]] = {}
    for peer in args.peers.split(","):
        print(peer, file=sys.stderr, flush=True)
        PEERS[peer](args.repeat, results.setdefault(peer, {}))
    print(table(results))
    if args.json:
        plain = {p: {k: {"outage": f.outage, "lost": f.lost, "two_bound": f.two_bound} for k, f in r.items()} for p, r in results.items()}
        args.json.write_text(json.dumps(plain, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
