"""ucarp: CARP by adverts among the nodes, one process that runs a script to add the address and one
to take it away.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence

from tests.bench.network import Network
from tests.bench.peers.base import Node, Peer, first_line
from vipd.demo.lab import INTERFACE, LabError, environment
from vipd.demo.node import VIP

SKEWS = {"n1": 0, "n2": 50, "n3": 100}
"""advskew in 1/256 s: the lower, the better."""
ADVERT = 1.0
"""advbase in seconds: its smallest and its default."""
DEAD_RATIO = 3
NO_STORE = "has no store"
NO_CHECK = "has no health checks"
ONE_PROCESS = "has one process only: see the rows for all of it"


class UcarpNode(Node):
    """A host that runs ucarp."""

    def __init__(self, network: Network, name: str) -> None:
        super().__init__(network, next(host for host in network.nodes if host.name == name))
        for word in ("add", "del"):
            script = self.folder / word
            # A second `add` and a `del` of what is not there fail, which is no news: ucarp runs
            # `del` at start too.
            script.write_text(
                f'#!/bin/sh\nPATH="{environment()["PATH"]}" exec ip address {word} "$2/32" dev '
                '"$1"\n'
            )
            script.chmod(0o755)

    def argv(self) -> Sequence[str]:
        """Return the command line: a better node preempts, the address goes when ucarp ends."""
        argv = [
            "ucarp",
            f"--interface={INTERFACE}",
            f"--srcip={self.host.address}",
            "--vhid=51",
            "--pass=bench",
            f"--addr={VIP}",
        ]
        argv += [
            f"--advbase={ADVERT:g}",
            f"--advskew={SKEWS[self.name]}",
            f"--deadratio={DEAD_RATIO}",
            "--preempt",
            "--shutdown",
        ]
        return [*argv, f"--upscript={self.folder / 'add'}", f"--downscript={self.folder / 'del'}"]

    def worker(self) -> int:
        """Say that there is none."""
        raise LabError(f"ucarp {ONE_PROCESS}")


class Ucarp(Peer):
    """Three ucarp with adverts of one second."""

    settings = (
        "an advert every 1 s (the least), dead after three and the skew; scripts add and "
        "delete the address; planned move: SIGUSR2"
    )
    beat = ADVERT
    detection = DEAD_RATIO * (ADVERT + SKEWS["n2"] / 256) + 0.3
    unable: Mapping[str, str] = {
        "crash": ONE_PROCESS,
        "stun": ONE_PROCESS,
        "ingress_gone": NO_CHECK,
        "ingress_broken": NO_CHECK,
        "store_brief": NO_STORE,
        "store_long": NO_STORE,
        "store_cut": NO_STORE,
    }

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self.nodes = [UcarpNode(network, host.name) for host in network.nodes]

    def ready(self) -> bool:
        """Tell whether all run; it has no command that tells more."""
        return all(node.runs for node in self.nodes)

    def beat_of(self, node: Node) -> float | None:
        """Return when the next advert came."""
        return self.network.next_advert(node.host, 3 * self.beat)

    def move(self) -> None:
        """Let the owner demote itself for three seconds.

        It has no other means for a planned move.
        """
        self.best.process.send_signal(signal.SIGUSR2)

    def move_back(self) -> None:
        """Leave it alone: the three seconds end by themselves."""

    def bring_home(self) -> None:
        """Leave it alone: the better node preempts."""

    def close(self) -> None:
        """Do nothing: all of it is in the network's namespaces."""

    def version(self) -> Mapping[str, str]:
        """Return that of the package: ucarp does not tell its own."""
        return {"ucarp": first_line("dpkg-query", "--show", "--showformat=${Version}", "ucarp")}
