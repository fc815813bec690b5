"""A small network with nodes on it, and the kernel's own news of who had which address when."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.netns.stories.node import PATIENCE, VIP, VIP6, VipdNode, inside, wait_for
from vipd.demo import measure
from vipd.demo.lab import INTERFACE, Host, Lab
from vipd.demo.measure import Bound
from vipd.demo.monitor import Monitor

TWO_OR_MORE = range(2, 1000)
RESOLUTION = 0.003
"""News of two hosts are read within so many seconds of one another on a busy machine: less is no
overlap."""
PLANNED_OVERLAP = 0.050
"""For so long both nodes of a planned handover may have an address."""
ETH_P_ALL = 0x0003
CLOSED_PORT = 9
MOST_NEWS = 100
"""So many of the last changes are told when a story failed."""


@dataclass
class World:
    """A lab, and a monitor over all its hosts that saw every address come and go.

    `store` is the nodes' backend.
    """

    lab: Lab
    folder: Path
    monitor: Monitor
    hosts: Mapping[str, Host]
    store: Mapping[str, object]
    addresses: Sequence[str]
    nodes: list[VipdNode] = field(default_factory=list)

    def node(
        self, host: str, *, name: str = "", profile: str = "fast", folder: str = ""
    ) -> VipdNode:
        """Return a node on this host, not yet configured.

        `folder` tells two daemons of one host apart.
        """
        node = VipdNode(
            self.lab, self.hosts[host], self.folder / (folder or host), self.store, profile, name
        )
        self.nodes.append(node)
        return node

    # ------------------------------------------------------------ who has it

    def wait_owner(self, address: str = VIP, other_than: str = "") -> str:
        """Return the host that alone has the address, once there is one and it is another than
        that.
        """
        owner = self.monitor.wait_owner(address, PATIENCE, other_than)
        assert owner, f"{address} is on {sorted(self.monitor.owners(address)) or 'no host'}"
        return owner

    def wait_nobody(self, address: str = VIP) -> None:
        """Return once no host has the address."""
        wait_for(lambda: not self.monitor.owners(address), f"{address} to be gone everywhere")

    def changes(self, since: float, address: str = VIP) -> list[tuple[str, bool]]:
        """Return (host, present) for each change since then, in the order in which the kernels
        told.
        """
        return [
            (event.node, event.present) for event in self.events(since) if event.address == address
        ]

    def events(self, since: float) -> list[Bound]:
        """Return all changes since then."""
        return [event for event in self.monitor.events if event.at >= since]

    def overlap(self, since: float = 0.0) -> float:
        """Return the longest time in seconds since then for which one address was on two hosts."""
        return measure.longest_with(self.monitor.events, TWO_OR_MORE, since, time.monotonic())

    def assert_never_two(self, since: float = 0.0, allowed: float = 0.0) -> None:
        """Check the first promise, over each address by itself."""
        assert self.overlap(since) <= allowed + RESOLUTION, (
            f"an address was on two hosts for {self.overlap(since) * 1000:.0f} ms"
        )

    # ------------------------------------------------------------ what others see

    def reaches(self, host: str, address: str = VIP) -> bool:
        """Tell whether somebody answers for the address: a refused connection is an answer.

        TCP asks again after a second what was lost once.
        """

        def knock() -> bool:
            try:
                socket.create_connection((address, CLOSED_PORT), 2.5).close()
            except ConnectionRefusedError:
                return True
            except OSError:
                return False
            return True

        return inside(self.hosts[host].namespace, knock)

    @contextlib.contextmanager
    def frames(self, host: str) -> Iterator[socket.socket]:
        """Give a socket that sends and receives whole frames on the host's interface."""

        def make() -> socket.socket:
            return socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))

        with contextlib.closing(inside(self.hosts[host].namespace, make)) as made:
            made.bind((INTERFACE, ETH_P_ALL))
            made.settimeout(PATIENCE)
            yield made

    def told(self) -> str:
        """Return what every node has logged, and the news of the kernels.

        For the report of a story that failed.
        """
        logs = "".join(f"--- {node.folder.name}\n{node.log}" for node in self.nodes)
        return (
            logs
            + "--- kernels\n"
            + "".join(f"{event}\n" for event in self.monitor.events[-MOST_NEWS:])
        )


@contextlib.contextmanager
def world(
    prefix: str,
    folder: Path,
    hosts: Sequence[str],
    addresses: Sequence[str] = (VIP, VIP6),
    store: Mapping[str, object] | None = None,
) -> Iterator[World]:
    """Build a network of these hosts, and remove it with all that runs there.

    The default store is a file store in the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with Lab(prefix) as lab:
        added = {name: lab.add(name) for name in hosts}
        with Monitor(added.values(), addresses) as monitor:
            yield World(
                lab,
                folder,
                monitor,
                added,
                store or {"file": {"path": str(folder / "store")}},
                addresses,
            )


@contextlib.contextmanager
def listed(worlds: list[World], net: World) -> Iterator[World]:
    """Keep a network in the list while it stands."""
    worlds.append(net)
    try:
        yield net
    finally:
        worlds.remove(net)


Build = Callable[..., World]
"""Takes the names of hosts, the addresses to watch and a store (see `world`); returns the network,
for one story."""
