"""The network of one round.

A bridge, three nodes, a client, a host for the store, and the instruments on them.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import struct
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.netns.stories.node import inside
from vipd.demo.lab import Host, Lab
from vipd.demo.monitor import Monitor
from vipd.demo.node import VIP
from vipd.demo.prober import Prober

NODES = ("n1", "n2", "n3")
"""By priority: n1 is the best."""
PRIORITIES = {"n1": 150, "n2": 110, "n3": 100}
ADVERTS = "224.0.0.18"
PROTOCOL = 112
"""VRRP and CARP advertise with the same protocol number to the same group: RFC 9568 section 5.1,
CARP by use."""
SOON = 0.005
"""Seconds that it takes to get ready for a moment."""


@dataclass(frozen=True, slots=True)
class Network:
    """The hosts by name, and the monitor of the nodes' addresses.

    `folder` is for the files of all that runs here.
    """

    lab: Lab
    folder: Path
    client: Host
    store: Host
    nodes: Sequence[Host]
    monitor: Monitor

    def probe(self, vip: str = VIP) -> Prober:
        """Start a thousand questions a second from the client."""
        return Prober(self.lab, self.client, vip)

    def next_advert(self, host: Host, timeout: float) -> float | None:
        """Return when (CLOCK_MONOTONIC) the next VRRP or CARP advert of this host reached the
        client; None after `timeout` seconds.
        """
        with inside(self.client.namespace, self._listener) as listener:
            end = time.monotonic() + timeout
            while (left := end - time.monotonic()) > 0:
                listener.settimeout(left)
                try:
                    _, (source, _) = listener.recvfrom(2048)
                except TimeoutError:
                    return None
                if source == host.address:
                    return time.monotonic()
        return None

    def _listener(self) -> socket.socket:
        listener = socket.socket(socket.AF_INET, socket.SOCK_RAW, PROTOCOL)
        membership = struct.pack(
            "4s4s", socket.inet_aton(ADVERTS), socket.inet_aton(self.client.address)
        )
        listener.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
        return listener


@contextlib.contextmanager
def network() -> Iterator[Network]:
    """Build it, and remove it with all that runs there."""
    with (
        tempfile.TemporaryDirectory(prefix="vipd-bench-") as folder,
        Lab(f"vb{os.getpid()}-") as lab,
    ):
        client = lab.add("client")
        store = lab.add("store")
        nodes = [lab.add(name) for name in NODES]
        with Monitor(nodes, (VIP,)) as monitor:
            yield Network(lab, Path(folder), client, store, nodes, monitor)


def moment(beat: float | None, period: float, phase: float, now: float) -> float:
    """Return the first moment that can still be met at this phase (0 to 1) of a heartbeat, of which
    one was or will be at `beat`.

    Without a heartbeat the phase is counted from now.
    """
    at = (now if beat is None else beat) + phase * period
    if at < now + SOON:
        at += -(-(now + SOON - at) // period) * period
    return at


def scattered(repeat: int, number: int, rng: random.Random) -> float:
    """Return a phase for a heartbeat that cannot be seen.

    By chance within the part `number` (0 to repeat - 1) of `repeat` equal ones.
    """
    return (number + rng.uniform(0.0, 1.0)) / repeat
