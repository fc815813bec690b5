"""A host that runs the real `vipd run` with a configuration of the test's own, and everything a
story may do to it.
"""

from __future__ import annotations

import contextlib
import ctypes
import http.client
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from prometheus_client.parser import text_string_to_metric_families

from vipd.control.client import request
from vipd.control.errors import FailedError, RefusedError, UnreachableError
from vipd.demo.lab import INTERFACE, Host, Lab, environment
from vipd.demo.monitor import CLONE_NEWNET
from vipd.demo.node import NICE

PATIENCE = 30.0
"""Seconds after which something that a story waits for has failed; none of it takes a tenth of that
on an idle machine."""
LOOK_AGAIN = 0.010
VIP = "192.0.2.100"
VIP6 = "2001:db8::100"
WEB = "web"
METRICS_PORT = 9477
PEER_CREDENTIALS = struct.Struct("=iII")

T = TypeVar("T")


def wait_for(look: Callable[[], T], what: str, patience: float = PATIENCE) -> T:
    """Return the first true thing that `look` returns.

    AssertionError with `what` was awaited after that many seconds.
    """
    end = time.monotonic() + patience
    while not (found := look()):
        assert time.monotonic() < end, f"waited {patience:g} s in vain for: {what}"
        time.sleep(LOOK_AGAIN)
    return found


def instance(
    name: str = WEB, addresses: Sequence[str] = (f"{VIP}/32", f"{VIP6}/128"), **settings: object
) -> dict[str, object]:
    """Return one instance of a configuration.

    Better nodes preempt at once unless the settings say something else.
    """
    return {
        "name": name,
        "interface": INTERFACE,
        "addresses": list(addresses),
        "preempt_delay": "0s",
        **settings,
    }


@dataclass(frozen=True)
class Outcome:
    """How a client command ended."""

    code: int
    out: str
    err: str


@dataclass
class VipdNode:
    """One node. `backend` and `profile` go into its configuration.

    Its files lie in a folder of its own.

    `name` is the node's configured name. Two nodes may share a host, as two daemons of one machine
    do.
    """

    lab: Lab
    host: Host
    folder: Path
    backend: Mapping[str, object]
    profile: str = "fast"
    name: str = ""
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Make its folder."""
        self.name = self.name or self.host.name
        self.folder.mkdir(parents=True)

    # ------------------------------------------------------------ files

    @property
    def config_file(self) -> Path:
        """Its configuration."""
        return self.folder / "vipd.yaml"

    @property
    def socket(self) -> Path:
        """Its control socket."""
        return self.folder / "vipd.sock"

    @property
    def state_dir(self) -> Path:
        """Its state directory, unless the configuration names another."""
        return self.folder / "state"

    def configure(self, *instances: Mapping[str, object], **others: object) -> None:
        """Write the configuration for the next start or reload. JSON is YAML."""
        config = {
            "node": self.name,
            "backend": self.backend,
            "timing": {"profile": self.profile},
            "instances": list(instances),
            "control": {"socket": str(self.socket)},
            "state_dir": str(self.state_dir),
            **others,
        }
        self.config_file.write_text(json.dumps(config, indent=1))

    @property
    def log(self) -> str:
        """All that its processes have logged."""
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    # ------------------------------------------------------------ its life

    def start(self) -> None:
        """Start `vipd run`."""
        with (self.folder / "log").open("ab") as log:
            self._process = self.lab.spawn(
                self.host, [sys.executable, "-m", "vipd", "run", "-c", str(self.config_file)], log
            )
        os.setpriority(os.PRIO_PROCESS, self._process.pid, NICE)

    @property
    def guard(self) -> subprocess.Popen[bytes]:
        """The process that was started."""
        assert self._process is not None, f"vipd on {self.name} was never started"
        return self._process

    @property
    def runs(self) -> bool:
        """Whether its guard lives."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> int:
        """End it with SIGTERM and return its exit code."""
        self.guard.terminate()
        return self.wait_end()

    def reload(self) -> None:
        """Send SIGHUP, as `systemctl reload` does."""
        self.guard.send_signal(signal.SIGHUP)

    def wait_end(self) -> int:
        """Return its exit code once it has ended."""
        return self.guard.wait(PATIENCE)

    def tree(self) -> list[int]:
        """Return the process ids of the guard and of all below it, the guard's first."""
        children: dict[int, list[int]] = {}
        for entry in Path("/proc").iterdir():
            # not a process, or one that ended meanwhile
            with contextlib.suppress(OSError, ValueError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
        found = [self.guard.pid]
        for pid in found:
            found += children.get(pid, [])
        return found

    def kill_all(self) -> None:
        """End guard, daemon and all that belongs to them with SIGKILL, all stopped before the first
        one dies: nobody is left to react.
        """
        self.signal_all(signal.SIGSTOP)
        self.signal_all(signal.SIGKILL)
        self.guard.wait(PATIENCE)

    def signal_all(self, number: signal.Signals) -> None:
        """Send a signal to guard, daemon and all that belongs to them."""
        for pid in self.tree():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    @property
    def daemon(self) -> int:
        """The daemon's process id, as the kernel tells it of the control socket's other end."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as control:
            control.connect(str(self.socket))
            credentials = control.getsockopt(
                socket.SOL_SOCKET, socket.SO_PEERCRED, PEER_CREDENTIALS.size
            )
        return int(PEER_CREDENTIALS.unpack(credentials)[0])

    # ------------------------------------------------------------ what it says

    def status(self) -> dict[str, Any] | None:
        """Return its status document; None while its daemon cannot be reached."""
        try:
            return request(str(self.socket), "status")
        except (UnreachableError, RefusedError, FailedError):
            return None

    def session(self) -> str:
        """Return what is fresh at each start of its daemon; empty while it cannot be reached."""
        document = self.status()
        return str(document["session"]) if document else ""

    def instance(self, name: str = WEB) -> dict[str, Any]:
        """Return one instance of its status document; empty while its daemon cannot be reached."""
        document = self.status()
        found = [one for one in document["instances"] if one["name"] == name] if document else []
        return found[0] if found else {}

    def state(self, name: str = WEB) -> str:
        """Return an instance's state; empty while its daemon cannot be reached."""
        return str(self.instance(name).get("state", ""))

    def wait_state(self, state: str, name: str = WEB) -> dict[str, Any]:
        """Return the instance's status once it is in this state."""

        def look() -> dict[str, Any]:
            found = self.instance(name)
            return found if found.get("state") == state else {}

        return wait_for(look, f"{self.name} to be {state} in {name}")

    def knows_fit(self, *names: str, of: str = WEB) -> bool:
        """Whether it knows these nodes as live and eligible."""
        candidates = self.instance(of).get("candidates", [])
        return set(names) <= {one["name"] for one in candidates if one["live"] and one["eligible"]}

    def ask(self, command: str, **arguments: object) -> dict[str, object]:
        """Send one command over the control socket, as the command line does.

        Raises what vipd.control.client raises.
        """
        return request(str(self.socket), command, arguments)

    def vipd(self, *words: str, user: int | None = None) -> Outcome:
        """Run one command of the command line on the host, with this node's configuration file."""
        argv = self.lab.command(
            self.host, [sys.executable, "-m", "vipd", *words, "-c", str(self.config_file)]
        )
        done = subprocess.run(
            argv,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
            env=environment(),
            user=user,
        )
        return Outcome(done.returncode, done.stdout.strip(), done.stderr.strip())

    def get(self, path: str) -> tuple[int, str]:
        """Return status and body of a page of its web server."""
        connection = http.client.HTTPConnection("127.0.0.1", METRICS_PORT, timeout=PATIENCE)
        with contextlib.closing(connection):
            connection.sock = inside(
                self.host.namespace,
                lambda: socket.create_connection(("127.0.0.1", METRICS_PORT), PATIENCE),
            )
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's samples that have these labels."""
        families = text_string_to_metric_families(self.get("/metrics")[1])
        samples = [
            sample for family in families for sample in family.samples if sample.name == name
        ]
        return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())

    # ------------------------------------------------------------ its kernel

    def bound(self) -> set[str]:
        """Return the addresses of its interface without their prefix lengths, as the kernel has
        them now.
        """
        shown = json.loads(
            self.lab.run(self.host, "ip", "-json", "address", "show", "dev", INTERFACE)
        )
        return {entry["local"] for link in shown for entry in link.get("addr_info", [])}

    @property
    def mac(self) -> str:
        """Its interface's MAC address."""
        return self.lab.run(self.host, "cat", f"/sys/class/net/{INTERFACE}/address").strip()


def inside(namespace: str, work: Callable[[], T]) -> T:
    """Do something in a network namespace, on a thread of its own that ends there."""
    done: list[T] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            with Path("/run/netns", namespace).open("rb") as file:
                if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))  # noqa: TRY301
            done.append(work())
        except BaseException as error:  # noqa: BLE001 -- raised again in the caller's thread
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return done[0]
