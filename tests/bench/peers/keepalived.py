"""keepalived: VRRP by adverts among the nodes, a parent process and one worker."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence

from tests.bench.network import Network
from tests.bench.peers.base import Node, Peer, children, first_line
from vipd.demo.ingress import HEALTH_PORT
from vipd.demo.lab import INTERFACE, Host, LabError
from vipd.demo.node import VIP

LOWERED = 50
"""Priority of the best node after a planned move: below both others."""
NO_STORE = "has no store"
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
    advert_int {advert:g}
    track_script {{
        ingress
    }}
    virtual_ipaddress {{
        {vip}/32 dev {interface}
    }}
}}
"""
"""Seconds between two runs of a script are whole ones, at least 1: keepalived 2.2 refuses
others."""


class KeepalivedNode(Node):
    """A host that runs keepalived. `advert`: seconds between two adverts."""

    def __init__(self, network: Network, host: Host, advert: float) -> None:
        super().__init__(network, host)
        self._advert = advert
        self.configure(self.priority)

    def configure(self, priority: int) -> None:
        """Write the configuration for the next start or reload."""
        text = CONFIG.format(
            name=self.name,
            port=HEALTH_PORT,
            interface=INTERFACE,
            priority=priority,
            advert=self._advert,
            vip=VIP,
        )
        (self.folder / "conf").write_text(text)

    def argv(self) -> Sequence[str]:
        """Return the command line."""
        files = [
            "-f",
            str(self.folder / "conf"),
            "-p",
            str(self.folder / "pid"),
            "-r",
            str(self.folder / "vrrp.pid"),
        ]
        return ["keepalived", "--dont-fork", "--log-console", "--vrrp", *files]

    def start(self) -> None:
        """Start it; a new keepalived that finds the pid files of one that was
        killed ends at once.
        """
        for name in ("pid", "vrrp.pid"):
            (self.folder / name).unlink(missing_ok=True)
        super().start()

    def worker(self) -> int:
        """Return the child that speaks VRRP."""
        found = children(self.process.pid)
        if not found:
            raise LabError(f"keepalived on {self.name} has no worker")
        return next(iter(found))


class Keepalived(Peer):
    """Three keepalived with the default dead time: three adverts and the skew."""

    unable: Mapping[str, str] = {
        "store_brief": NO_STORE,
        "store_long": NO_STORE,
        "store_cut": NO_STORE,
    }

    def __init__(self, network: Network, advert: float) -> None:
        super().__init__(network)
        self.beat = advert
        self.detection = 4 * advert
        self.settings = (
            f"VRRP 3, an advert every {advert:g} s, dead after three and the skew; the ingress "
            "checked every 1 s (the least), fall 2; "
            "planned move: the priority lowered by reload"
        )
        self._nodes = [KeepalivedNode(network, host, advert) for host in network.nodes]
        self.nodes = self._nodes

    def ready(self) -> bool:
        """Tell whether all run; it has no command that tells more."""
        return all(node.runs and children(node.process.pid) for node in self.nodes)

    def beat_of(self, node: Node) -> float | None:
        """Return when the next advert came."""
        return self.network.next_advert(node.host, 3 * self.beat)

    def move(self) -> None:
        """Lower the priority and reload: it has no command for a planned move."""
        self._prioritise(LOWERED)

    def move_back(self) -> None:
        """Give the priority back."""
        self._prioritise(self.best.priority)

    def bring_home(self) -> None:
        """Leave it alone: the better node preempts."""

    def close(self) -> None:
        """Do nothing: all of it is in the network's namespaces."""

    def _prioritise(self, priority: int) -> None:
        self._nodes[0].configure(priority)
        self._nodes[0].process.send_signal(signal.SIGHUP)

    def version(self) -> Mapping[str, str]:
        """Return what it says of itself."""
        return {"keepalived": first_line("keepalived", "--version")}
