"""Two hosts on one cable, in network namespaces without a name.

They end with the test's process, however that ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from announce.kernel.addresses import RouteSocket

CLONE_NEWNET = 0x40000000
PATIENCE = 10.0
"""Seconds after which a test that waits for something has failed; nothing takes a tenth of it but
what the kernel delays."""

_LIBC = ctypes.CDLL(None, use_errno=True)


def _check(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _here() -> int:
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


@contextlib.contextmanager
def _restored() -> Iterator[None]:
    """Bring this thread back to the namespace that it was in."""
    home = _here()
    try:
        yield
    finally:
        _check(_LIBC.setns(home, CLONE_NEWNET))
        os.close(home)


@dataclass(frozen=True)
class Host:
    """One end of the cable: a namespace and an interface in it."""

    namespace: int
    interface: str

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Let this thread, and what it opens or starts, be on this host."""
        with _restored():
            _check(_LIBC.setns(self.namespace, CLONE_NEWNET))
            yield

    def run(self, command: str) -> str:
        """Run a command on this host; its output."""
        with self.inside():
            done = subprocess.run(command.split(), check=True, capture_output=True, text=True)
        return done.stdout

    @property
    def mac(self) -> str:
        """The interface's MAC as it is now."""
        return self.run(f"ip -o link show {self.interface}").split("link/ether ")[1].split()[0]

    def close_gate(self) -> None:
        """Drop all frames in and out in traffic control, where the kernel gate does it.

        They go to a device that is down.
        """
        self.run(f"tc qdisc add dev {self.interface} clsact")
        for direction in ("ingress", "egress"):
            drop = "u32 match u32 0 0 action mirred egress redirect dev lo"
            self.run(f"tc filter add dev {self.interface} {direction} protocol all {drop}")

    def socket(self, ethertype: int) -> socket.socket:
        """Return a socket for frames of this type on the interface."""
        with self.inside():
            opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ethertype))
            opened.bind((self.interface, ethertype))
        opened.settimeout(PATIENCE)
        return opened

    def send(self, *frames: bytes) -> None:
        """Send frames from this host."""
        with self.socket(0) as opened:
            for frame in frames:
                opened.send(frame)


@dataclass(frozen=True)
class Cable:
    """Host `a`, on which the code under test runs, and host `b` at the other end."""

    a: Host
    b: Host

    def plug(self) -> None:
        """Make the two interfaces anew, and wait until both have a carrier."""
        self.a.run(
            f"ip link add {self.a.interface} type veth peer name {self.b.interface} netns "
            f"/proc/{os.getpid()}/fd/{self.b.namespace}"
        )
        for host in (self.a, self.b):
            host.run(f"ip link set {host.interface} up")
        deadline = time.monotonic() + PATIENCE
        for host in (self.a, self.b):
            while "LOWER_UP" not in host.run(f"ip -o link show {host.interface}"):
                assert time.monotonic() < deadline

    def remove(self) -> None:
        """Delete both interfaces."""
        self.a.run(f"ip link delete {self.a.interface}")


@contextlib.contextmanager
def new_namespace() -> Iterator[int]:
    """Give the descriptor of a new network namespace."""
    with _restored():
        _check(_LIBC.unshare(CLONE_NEWNET))
        namespace = _here()
    try:
        yield namespace
    finally:
        os.close(namespace)


@pytest.fixture
def cable() -> Iterator[Cable]:
    """Two hosts, `a0` and `b0` up; the test itself runs on host a."""
    with new_namespace() as first, new_namespace() as second:
        cable = Cable(Host(first, "a0"), Host(second, "b0"))
        cable.plug()
        with cable.a.inside():
            yield cable


@pytest.fixture
def sock(cable: Cable) -> Iterator[RouteSocket]:
    """Return a netlink socket on host a."""
    with contextlib.closing(RouteSocket()) as opened:
        yield opened


class News:
    """Keeps what a callback was told, and wakes who waits for it."""

    def __init__(self) -> None:
        self.items: list[object] = []
        self._told = asyncio.Event()

    def tell(self, item: object) -> None:
        """Keep an item; to be given as a callback."""
        self.items.append(item)
        self._told.set()

    async def until(self, happened: Callable[[list[object]], object]) -> None:
        """Wait until what was told fulfils a condition."""
        async with asyncio.timeout(PATIENCE):
            while not happened(self.items):
                self._told.clear()
                await self._told.wait()


@pytest.fixture
def news() -> News:
    """Return an empty list of news."""
    return News()


@pytest.fixture
def other_news() -> News:
    """Return an empty list for a second listener."""
    return News()
