"""What a trial may ask of any daemon under test, so that one set of trials serves them all."""

from __future__ import annotations

import abc
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from tests.bench.network import PRIORITIES, Network
from vipd.demo.lab import Host, LabError
from vipd.demo.node import VIP, VIP6

PATIENCE = 15.0
"""Seconds that a process may take to end."""
LAST_WORDS = 800
"""So many characters of a log are shown when something went wrong."""


class Store(Protocol):
    """Where a daemon keeps its records, as a process that can be frozen."""

    def freeze(self) -> None:
        """Take requests and answer none."""
        ...

    def thaw(self) -> None:
        """Go on."""
        ...


def children(pid: int) -> dict[int, str]:
    """Return a process's children and the kernel's names of them; none if it has ended."""
    found: dict[int, str] = {}
    with contextlib.suppress(OSError):
        for child in map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
            with contextlib.suppress(OSError):
                found[child] = Path(f"/proc/{child}/comm").read_text().strip()
    return found


def tree(pid: int) -> list[int]:
    """Return the process ids of a process and of all below it, its own first."""
    found = [pid]
    for one in found:
        found += children(one)
    return found


class Node(abc.ABC):
    """A host with one daemon and an ingress beside it."""

    def __init__(self, network: Network, host: Host) -> None:
        self.network, self.host, self.name = network, host, host.name
        self.priority = PRIORITIES[host.name]
        self.folder = network.folder / host.name
        self.folder.mkdir()
        self._process: subprocess.Popen[bytes] | None = None
        self._ingress: subprocess.Popen[bytes] | None = None

    @abc.abstractmethod
    def argv(self) -> Sequence[str]:
        """Return the command line that runs the daemon in the foreground."""

    @abc.abstractmethod
    def worker(self) -> int:
        """Return the process id of the child that does the work."""

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The daemon's first process, once started."""
        if self._process is None:
            raise LabError(f"{self.name} was never started")
        return self._process

    @property
    def runs(self) -> bool:
        """Whether the daemon was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the daemon; its log goes on after that of its last life."""
        with (self.folder / "log").open("ab") as log:
            self._process = self.network.lab.spawn(self.host, self.argv(), log)

    def stop(self) -> None:
        """Ask the daemon to end, as a service manager would; returns at once."""
        self.process.send_signal(signal.SIGTERM)

    def wait_end(self) -> None:
        """Return once it has ended."""
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise LabError(f"the daemon on {self.name} did not end within {PATIENCE:g} s") from None

    def crash(self) -> None:
        """Kill the worker; the rest is to put it right."""
        os.kill(self.worker(), signal.SIGKILL)

    def stun(self) -> None:
        """Stop the worker in its tracks; the rest goes on."""
        os.kill(self.worker(), signal.SIGSTOP)

    def kill(self) -> None:
        """Kill all at once, stopped before the first one dies: nobody is left to react."""
        self._signal(signal.SIGSTOP)
        self._signal(signal.SIGKILL)
        self.process.wait(PATIENCE)

    def freeze(self) -> None:
        """Stop all in their tracks."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let all go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        for pid in tree(self.process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def start_ingress(self) -> None:
        """Start the ingress, healthy."""
        with (self.folder / "ingress.log").open("ab") as log:
            self._ingress = self.network.lab.spawn(
                self.host, [sys.executable, "-m", "vipd.demo.ingress", self.name, VIP, VIP6], log
            )

    def kill_ingress(self) -> None:
        """End the ingress: neither health endpoint nor echo are left."""
        if self._ingress:
            self._ingress.kill()
            self._ingress.wait()

    def set_ingress_health(self, *, healthy: bool) -> None:
        """Mend or break the ingress.

        Its health endpoint says 200 or 503, and broken it answers no client.
        """
        if self._ingress:
            self._ingress.send_signal(signal.SIGUSR2 if healthy else signal.SIGUSR1)

    def last_words(self) -> str:
        """Return the end of the daemon's log."""
        path = self.folder / "log"
        return path.read_text(errors="replace")[-LAST_WORDS:] if path.exists() else ""


class Peer(abc.ABC):
    """Three nodes that run one kind of daemon, n1 the best.

    `beat`: seconds between two heartbeats of the owner. `detection`: seconds after which the others
    have noticed that they stopped. `unable`: the rows that this daemon cannot be asked for, each
    with the reason. `settings`: a sentence on how it is configured. `six`: it has the IPv6 address
    too.
    """

    six = False

    beat: float
    detection: float
    unable: Mapping[str, str]
    settings: str
    store: Store | None = None
    nodes: Sequence[Node]

    def __init__(self, network: Network) -> None:
        self.network = network

    @property
    def best(self) -> Node:
        """The node that has the VIP when a trial begins."""
        return self.nodes[0]

    @property
    def next_best(self) -> Node:
        """The node that should get the VIP when the best is away."""
        return self.nodes[1]

    def start(self) -> None:
        """Start everything."""
        for node in self.nodes:
            node.start_ingress()
            node.start()

    @abc.abstractmethod
    def ready(self) -> bool:
        """Tell whether all nodes are fit and know of each other, as far as the daemon tells."""

    @abc.abstractmethod
    def beat_of(self, node: Node) -> float | None:
        """Return a moment (CLOCK_MONOTONIC) of a heartbeat of this owner, past or future; None if
        none is seen.
        """

    @abc.abstractmethod
    def move(self) -> None:
        """Move the VIP from the best node to the next best as planned.

        Returns when the command does.
        """

    @abc.abstractmethod
    def move_back(self) -> None:
        """Undo what `move` left."""

    @abc.abstractmethod
    def bring_home(self) -> None:
        """Help the VIP back to the best node, if it does not go by itself."""

    @abc.abstractmethod
    def version(self) -> Mapping[str, str]:
        """Return the versions of all programs under test by name."""

    @abc.abstractmethod
    def close(self) -> None:
        """End what is not in the network's namespaces."""


def first_line(*argv: str) -> str:
    """Return the first line that a program says of itself."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).strip().partition("\n")[0]
