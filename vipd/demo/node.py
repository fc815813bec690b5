"""One node of the demo.

The real `vipd run` with its own configuration, and the ingress beside it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vipd.control.client import request
from vipd.control.errors import FailedError, RefusedError, UnreachableError
from vipd.demo.ingress import HEALTH_PORT
from vipd.demo.lab import INTERFACE, Host, Lab, LabError, environment

VIP = "192.0.2.100"
VIP6 = "2001:db8::100"
INSTANCE = "ingress"
PEER_CREDENTIALS = struct.Struct("=iII")
PATIENCE = 10.0
"""Seconds that a process may take to end, or a client command to answer."""
NICE = -10
"""As in systemd/vipd.service."""
LAST_WORDS = 600
"""So many characters of a log are shown when something went wrong."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What differs between nodes: the store, and how this node's instance competes."""

    backend: Mapping[str, Any]
    priority: int
    preempt: bool


class Node:
    """A host that runs vipd. Its files lie in a folder of its own."""

    def __init__(self, lab: Lab, host: Host, folder: Path) -> None:
        self.host = host
        self.name = host.name
        self._lab = lab
        self._folder = folder
        self._socket = folder / "vipd.sock"
        self._log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self._ingress: subprocess.Popen[bytes] | None = None
        self._wanted = False
        folder.mkdir(parents=True)

    # ------------------------------------------------------------ vipd

    def configure(self, settings: Settings) -> None:
        """Write the configuration that the next start uses. JSON is YAML."""
        check = {
            "name": "ingress",
            "http": {"url": f"http://127.0.0.1:{HEALTH_PORT}/healthz", "status": 200},
        }
        instance = {
            "name": INSTANCE,
            "interface": INTERFACE,
            "addresses": [f"{VIP}/32", f"{VIP6}/128"],
            "priority": settings.priority,
            "preempt": settings.preempt,
            "preempt_delay": "1s",
            "checks": [
                {
                    **check,
                    "interval": "200ms",
                    "timeout": "180ms",
                    "rise": 2,
                    "fall": 2,
                    "on_fail": "fault",
                }
            ],
        }
        config = {
            "node": self.name,
            "backend": settings.backend,
            "timing": {"profile": "default"},
            "instances": [instance],
            "control": {"socket": str(self._socket)},
            "state_dir": str(self._folder / "state"),
            "log": {"format": "json", "level": "info"},
        }
        (self._folder / "vipd.yaml").write_text(json.dumps(config, indent=2))

    def start(self) -> None:
        """Start `vipd run`; it goes on in the log of its last life."""
        argv = [sys.executable, "-m", "vipd", "run", "-c", str(self._folder / "vipd.yaml")]
        with self._log.open("ab") as log:
            self._process = self._lab.spawn(self.host, argv, log)
        with contextlib.suppress(PermissionError):  # an ordinary user may not
            os.setpriority(os.PRIO_PROCESS, self._process.pid, NICE)
        self._wanted = True

    @property
    def running(self) -> bool:
        """Whether vipd was started and not ended since.

        LabError with its last words if it ended by itself.
        """
        if self._wanted and self._guard.poll() is not None:
            raise LabError(
                f"vipd on {self.name} has ended with code "
                f"{self._guard.returncode}:\n{self.log_since(0)[-LAST_WORDS:]}"
            )
        return self._wanted

    def stop(self) -> None:
        """Ask vipd to end (SIGTERM), as a service manager would; returns at once."""
        self._wanted = False
        self._guard.terminate()

    def wait_end(self) -> int:
        """Return the exit code once vipd has ended. LabError if it does not."""
        try:
            return self._guard.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise LabError(f"vipd on {self.name} did not end within {PATIENCE:g} s") from None

    def kill_daemon(self) -> None:
        """End the daemon with SIGKILL; the guard stays."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as control:
            control.connect(str(self._socket))
            credentials = control.getsockopt(
                socket.SOL_SOCKET, socket.SO_PEERCRED, PEER_CREDENTIALS.size
            )
        daemon = PEER_CREDENTIALS.unpack(credentials)[0]
        if daemon not in self.tree()[1:]:
            raise LabError(
                f"the control socket of {self.name} is not served by a child of its guard"
            )
        os.kill(daemon, signal.SIGKILL)

    def kill_all(self) -> None:
        """End guard, daemon and all that belongs to them with SIGKILL, all stopped before the first
        one dies: nobody is left to react.
        """
        self._wanted = False
        self._signal(signal.SIGSTOP)
        self._signal(signal.SIGKILL)
        self._guard.wait()

    def freeze(self) -> None:
        """Stop the whole process tree in its tracks."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def tree(self) -> list[int]:
        """Return the process ids of the guard and of all below it, the guard's first."""
        children: dict[int, list[int]] = {}
        for entry in Path("/proc").iterdir():
            # not a process, or one that ended meanwhile
            with contextlib.suppress(OSError, ValueError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
        found = [self._guard.pid]
        for pid in found:
            found += children.get(pid, [])
        return found

    def status(self) -> Mapping[str, Any] | None:
        """Return what `vipd status --json` prints; None if the daemon cannot be reached."""
        try:
            return request(str(self._socket), "status")
        except (UnreachableError, RefusedError, FailedError):  # it is still starting
            return None

    def state(self) -> str:
        """Return the state of its instance, Active or Backup if it is fit.

        Empty if its daemon cannot be reached.
        """
        status = self.status()
        return str(status["instances"][0]["state"]) if status and status["instances"] else ""

    def fit_nodes(self) -> frozenset[str]:
        """Return the nodes that may hold the VIP at once, as far as this one knows.

        Empty if its daemon cannot be reached.
        """
        status = self.status()
        candidates = status["instances"][0]["candidates"] if status and status["instances"] else []
        return frozenset(
            candidate["name"]
            for candidate in candidates
            if candidate["live"] and candidate["eligible"]
        )

    def fence(self) -> str:
        """Return what vipd says stands behind its guard; empty if its daemon cannot be reached."""
        status = self.status()
        return str(status["fence"]["covers"]) if status else ""

    def handover(self, to: str) -> None:
        """Move the VIP by `vipd handover`. LabError with what it said if that fails."""
        argv = [
            sys.executable,
            "-m",
            "vipd",
            "handover",
            INSTANCE,
            "--to",
            to,
            "--socket",
            str(self._socket),
        ]
        done = subprocess.run(
            argv, capture_output=True, text=True, check=False, timeout=PATIENCE, env=environment()
        )
        if done.returncode != 0:
            raise LabError(f"vipd handover: {(done.stderr or done.stdout).strip()}")

    def log_position(self) -> int:
        """Return how much vipd has logged so far, in bytes."""
        return self._log.stat().st_size if self._log.exists() else 0

    def log_since(self, position: int) -> str:
        """Return what vipd has logged since then."""
        if not self._log.exists():
            return ""
        return self._log.read_bytes()[position:].decode(errors="replace")

    @property
    def _guard(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise LabError(f"vipd on {self.name} was never started")
        return self._process

    def _signal(self, number: signal.Signals) -> None:
        for pid in self.tree():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    # ------------------------------------------------------------ the ingress

    def start_ingress(self) -> None:
        """Start the ingress, healthy."""
        argv = [sys.executable, "-m", "vipd.demo.ingress", self.name, VIP, VIP6]
        with (self._folder / "ingress.log").open("ab") as log:
            self._ingress = self._lab.spawn(self.host, argv, log)

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


class Etcd:
    """A real etcd with one member, on a host of its own."""

    def __init__(self, lab: Lab, host: Host, folder: Path) -> None:
        self.endpoint = f"http://{host.address}:2379"
        argv = [
            "etcd",
            "--name",
            "demo",
            "--data-dir",
            str(folder / "data"),
            "--log-level",
            "error",
        ]
        argv += ["--listen-client-urls", self.endpoint, "--advertise-client-urls", self.endpoint]
        argv += [
            "--listen-peer-urls",
            "http://127.0.0.1:2380",
            "--initial-advertise-peer-urls",
            "http://127.0.0.1:2380",
        ]
        argv += ["--initial-cluster", "demo=http://127.0.0.1:2380"]
        folder.mkdir(parents=True)
        self._log = folder / "log"
        with self._log.open("wb") as log:
            self._process = lab.spawn(host, argv, log)
        self._lab, self._host = lab, host

    def wait_ready(self) -> None:
        """Return once it serves. LabError with its last words if it does not."""
        ask = f"import urllib.request; urllib.request.urlopen('{self.endpoint}/health', timeout=1)"
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and self._process.poll() is None:
            with contextlib.suppress(LabError):
                self._lab.run(self._host, sys.executable, "-c", ask)
                return
            time.sleep(0.05)
        raise LabError(f"etcd does not serve: {self._log.read_text(errors='replace')[-300:]}")
