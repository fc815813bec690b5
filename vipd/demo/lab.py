"""A network of its own.

Hosts in network namespaces on one bridge, and the faults that can happen to them.

Every host has an interface `eth0`, whose other end is a port of the bridge in a namespace that is
the switch. Faults happen at the switch, as they do in life: the host sees no more of them than a
real one would.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

NETWORK = "192.0.2"
NETWORK6 = "2001:db8::"
INTERFACE = "eth0"
BRIDGE = "br0"
SYSTEM_PATH = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
"""Debian keeps `ip`, `bridge` and `nft` out of an ordinary user's path."""
FIRST_HOST = 11
LARGEST_LAB = 200


class LabError(Exception):
    """The network could not be built or changed; the message has the command and what it said."""


def program(name: str) -> str:
    """Return the path of a program. LabError if this system lacks it."""
    found = shutil.which(name, path=SYSTEM_PATH)
    if found is None:
        raise LabError(f"the program {name} is missing")
    return found


def run(argv: Sequence[str], text: str | None = None) -> str:
    """Run a short command to its end and return what it printed.

    LabError if it fails or takes longer than 10 s.
    """
    try:
        done = subprocess.run(
            [program(argv[0]), *argv[1:]],
            input=text,
            capture_output=True,
            text=True,
            check=False,
            timeout=10,
            env=environment(),
        )
    except subprocess.TimeoutExpired:
        raise LabError(f"{' '.join(argv)}: no end after 10 s") from None
    if done.returncode != 0:
        raise LabError(f"{' '.join(argv)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def environment() -> dict[str, str]:
    """Return this process's environment, with the places of system programs in its path."""
    return {**os.environ, "PATH": SYSTEM_PATH}


@dataclass(frozen=True, slots=True)
class Host:
    """A machine on the bridge.

    Its name, network namespace, own addresses and the switch's port towards it.
    """

    name: str
    namespace: str
    address: str
    address6: str
    port: str


class Lab:
    """Builds on entry, removes everything on exit, with all processes that still run inside.

    `prefix` begins the name of every namespace and tells this lab from others on the machine.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._switch = f"{prefix}switch"
        self._hosts: dict[str, Host] = {}
        self._spawned: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        """Make the switch."""
        try:
            self._namespace(self._switch)
            # Multicast snooping would learn from queries that nobody sends here, and swallow
            # neighbour advertisements.
            self._batch(
                self._switch,
                f"link add {BRIDGE} type bridge stp_state 0 mcast_snooping 0",
                f"link set {BRIDGE} up",
            )
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove everything."""
        self._remove()

    @property
    def hosts(self) -> tuple[Host, ...]:
        """All hosts, in the order in which they came."""
        return tuple(self._hosts.values())

    def add(self, name: str) -> Host:
        """Plug a new host into the bridge; it can be reached as soon as this returns."""
        number = FIRST_HOST + len(self._hosts)
        if number >= FIRST_HOST + LARGEST_LAB:
            raise LabError(f"a lab has no more than {LARGEST_LAB} hosts")
        host = Host(
            name,
            f"{self._prefix}{name}",
            f"{NETWORK}.{number}",
            f"{NETWORK6}{number:x}",
            f"to-{name}"[:15],
        )
        self._namespace(host.namespace)
        self._hosts[name] = host
        self._batch(
            self._switch,
            f"link add {host.port} type veth peer name {INTERFACE} netns {host.namespace}",
            f"link set {host.port} master {BRIDGE} up",
        )
        self._batch(
            host.namespace,
            f"link set {INTERFACE} up",
            f"addr add {host.address}/24 dev {INTERFACE}",
            f"addr add {host.address6}/64 dev {INTERFACE} nodad",
        )
        return host

    # ------------------------------------------------------------ what runs on a host

    def command(self, host: Host, argv: Sequence[str]) -> list[str]:
        """Return the argv that becomes `argv` inside the host.

        Same process id, same standard streams.
        """
        return [program("ip"), "netns", "exec", host.namespace, *argv]

    def spawn(
        self,
        host: Host,
        argv: Sequence[str],
        output: IO[bytes] | int,
        stdin: int = subprocess.DEVNULL,
    ) -> subprocess.Popen[bytes]:
        """Start a process on the host, in a process group of its own, so that Ctrl-C reaches it by
        way of the lab only.
        """
        process = subprocess.Popen(
            self.command(host, argv),
            stdin=stdin,
            stdout=output,
            stderr=subprocess.STDOUT if stdin == subprocess.DEVNULL else None,
            env=environment(),
            process_group=0,
        )
        self._spawned.append(process)
        return process

    def run(self, host: Host, *argv: str) -> str:
        """Run a short command on the host and return what it printed."""
        return run(["ip", "netns", "exec", host.namespace, *argv])

    # ------------------------------------------------------------ what happens to a host

    def pull_cable(self, host: Host) -> None:
        """Take the carrier away: the host's interface goes down, and the host knows."""
        self._batch(self._switch, f"link set {host.port} down")

    def plug_cable(self, host: Host) -> None:
        """Give the carrier back."""
        self._batch(self._switch, f"link set {host.port} up")

    def cut_off(self, host: Host) -> None:
        """Let the switch drop all that the host sends or should get.

        Its interface stays up, and nobody tells it.
        """
        self._bridge(host, "state", "disabled")

    def reconnect(self, host: Host) -> None:
        """End cut_off."""
        self._bridge(host, "state", "forwarding")

    def split(self, hosts: Iterable[Host]) -> None:
        """Keep these hosts from each other; each still reaches all others."""
        for host in hosts:
            self._bridge(host, "isolated", "on")

    def join(self, hosts: Iterable[Host]) -> None:
        """End split."""
        for host in hosts:
            self._bridge(host, "isolated", "off")

    def add_address(self, host: Host, address: str) -> None:
        """Add an address (with its prefix length), as an operator would by hand."""
        self._batch(
            host.namespace,
            f"addr add {address} dev {INTERFACE} nodad"
            if ":" in address
            else f"addr add {address} dev {INTERFACE}",
        )

    def delete_address(self, host: Host, address: str) -> None:
        """Delete an address (with its prefix length), as an operator would by hand."""
        self._batch(host.namespace, f"addr del {address} dev {INTERFACE}")

    # ------------------------------------------------------------ the means

    def _namespace(self, name: str) -> None:
        run(["ip", "netns", "add", name])
        self._batch(name, "link set lo up")

    def _batch(self, namespace: str, *lines: str) -> None:
        run(["ip", "-n", namespace, "-batch", "-"], "\n".join(lines) + "\n")

    def _bridge(self, host: Host, option: str, value: str) -> None:
        run(["bridge", "-n", self._switch, "link", "set", "dev", host.port, option, value])

    def _remove(self) -> None:
        # A process started just now may not have entered its namespace yet: looking there would
        # miss it.
        for process in self._spawned:
            process.kill()
            process.wait()
        self._spawned.clear()
        for namespace in [*(host.namespace for host in self._hosts.values()), self._switch]:
            for pid in pids_in(namespace):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(LabError):  # it may never have come to be
                run(["ip", "netns", "del", namespace])
        self._hosts.clear()


def pids_in(namespace: str) -> Iterator[int]:
    """Yield the process ids of all that run in a network namespace."""
    try:
        wanted = Path("/run/netns", namespace).stat()
    except FileNotFoundError:
        return
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):  # it ended meanwhile, or is somebody else's
            own = (entry / "ns/net").stat()
            if (own.st_ino, own.st_dev) == (wanted.st_ino, wanted.st_dev):
                yield int(entry.name)
