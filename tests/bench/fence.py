"""How long a node goes on serving after its right has ended, when everything of its daemon is
killed or frozen at once.

    python -m tests.bench.fence [--repeat 10] [--peer-repeat 3] [--leases 1,3] [--only
    vipd,keepalived-1s,keepalived-0.1s,ucarp]
                                [--modes gate,forced,off] [--seed N] [--json FILE]

Needs root, keepalived and ucarp. A client asks the old owner's own MAC a thousand times a second
(vipd: by UDP, TCP, ARP and ND). For vipd the right ends at the deadline; the figure is the last
answer after it, in ms, negative if none came so late. The modes: with the gate; with the gate while
somebody keeps the address bound by force; without a gate. The others know no deadline: there it is
the moment at which another node has taken the address.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.bench.network import Network, network
from tests.bench.peers.base import Peer
from tests.bench.peers.keepalived import Keepalived
from tests.bench.peers.ucarp import Ucarp
from tests.bench.soak_client import SOURCE_PORT, datagram, datagrams, received
from tests.netns.announce.conftest import Cable, Host, new_namespace
from tests.netns.announce.gating import SLOT, VIP_V4, VIP_V6, Client, boottime, dress
from tests.netns.announce.living import MILLISECOND, SECOND, Echo, Vipd, Watcher, served, signal_all
from tests.netns.stories.node import inside
from vipd.demo.lab import INTERFACE, LabError
from vipd.demo.node import VIP

AFTER_GATE = 60 * MILLISECOND
AFTER_LIFETIME = 2500 * MILLISECOND
"""Without a gate lifetimes end what is left: of a short lease up to 2.2 s after its deadline
(ARCHITECTURE.md, fencing)."""
AFTER_THAW = 400 * MILLISECOND
NEVER = 10.0
"""Seconds for which a peer is watched after another node has the address."""
SETTLE = 20.0
TAKE_LIMIT = 15.0
ASK = 0.001
SO_TIMESTAMPNS = 35
FAULTS = ("kill", "freeze")
MODES = {
    "gate": "with the gate",
    "forced": "with the gate, address kept by force",
    "off": "without a gate",
}
PEERS: dict[str, Callable[[Network], Peer]] = {
    "keepalived-1s": lambda net: Keepalived(net, 1.0),
    "keepalived-0.1s": lambda net: Keepalived(net, 0.1),
    "ucarp": Ucarp,
}


@dataclass(frozen=True, slots=True)
class Trial:
    """One fault. `late`: ms from the end of the right to the last answer.

    `thawed`: likewise for what was answered after the thaw; negative under a new right, None:
    nothing was. `never`: it still answered when the watch was over.
    """

    subject: str
    fault: str
    late: float
    thawed: float | None = None
    never: bool = False


# ---------------------------------------------------------------- vipd


@contextlib.contextmanager
def cable() -> Iterator[Cable]:
    """Two hosts on a cable; the calling thread is on host a."""
    with new_namespace() as first, new_namespace() as second:
        made = Cable(Host(first, "a0"), Host(second, "b0"))
        made.plug()
        with made.a.inside():
            dress(made)
            yield made


def vipd_trial(
    hosts: Cable, watcher: Watcher, vipd: Vipd, rng: random.Random, mode: str, fault: str
) -> Trial | None:
    """Strike at a random moment; None: on a machine as busy as this one the right had ended by
    itself just before.
    """
    with served(vipd, watcher) as words:
        watcher.until(boottime() + rng.randrange(int(vipd.lease * SECOND) // 2), 3 * MILLISECOND)
        pids = vipd.tree()
        signal_all(pids, signal.SIGSTOP)
        if fault == "kill":
            signal_all(pids, signal.SIGKILL)
        struck, deadline = boottime(), words.at(SLOT)
        if deadline <= struck:
            return None
        if mode == "forced":
            hosts.a.run(f"ip addr replace {VIP_V4}/32 dev a0")
            hosts.a.run(f"ip addr replace {VIP_V6}/128 dev a0 nodad")
        watcher.heard.clear()
        watcher.until(deadline + (AFTER_LIFETIME if mode == "off" else AFTER_GATE))
        late = max((found.at for found in watcher.heard), default=struck) - deadline
        thawed = None
        if fault == "freeze":
            watcher.over = -SECOND
            signal_all(pids, signal.SIGCONT)
            watcher.until(boottime() + AFTER_THAW)
            thawed = watcher.over / MILLISECOND if watcher.over > -SECOND else None
        watcher.heard.clear()
    return Trial(f"vipd {vipd.lease:g} s, {MODES[mode]}", fault, late / MILLISECOND, thawed)


def vipd_trials(
    leases: Sequence[float], modes: Sequence[str], repeat: int, rng: random.Random
) -> Iterator[Trial]:
    """Play all faults in turn, `repeat` of them for each lease and mode."""
    with (
        tempfile.TemporaryDirectory(prefix="vipd-bench-") as folder,
        cable() as hosts,
        contextlib.closing(Echo(hosts.a)),
        contextlib.closing(Client(hosts)) as client,
    ):
        for lease, mode in ((lease, mode) for lease in leases for mode in modes):
            place = Path(folder) / f"{lease}-{mode}"
            place.mkdir()
            vipd, watcher = (
                Vipd(hosts.a, place, lease, "off" if mode == "off" else "require"),
                Watcher(client),
            )
            done = 0
            while done < repeat:
                trial = vipd_trial(hosts, watcher, vipd, rng, mode, FAULTS[done % len(FAULTS)])
                if trial:
                    done += 1
                    yield trial


# ---------------------------------------------------------------- those that know no deadline


class OwnerAsker:
    """Asks one host by its own MAC."""

    def __init__(self, net: Network, mac: str) -> None:
        def sockets() -> None:
            self._socket = datagrams()
            self._socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            self._socket.bind((net.client.address, SOURCE_PORT))
            self._wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            self._wire.bind((INTERFACE, 0))

        inside(net.client.namespace, sockets)
        head = bytes.fromhex(mac.replace(":", "")) + self._wire.getsockname()[4] + b"\x08\x00"
        self._frame = head + datagram(net.client.address, VIP)

    def last_answer(self, until_then: Callable[[], float]) -> float:
        """Ask until the moment that `until_then` says by now.

        Return when the last answer came (CLOCK_MONOTONIC).
        """
        ahead = time.clock_gettime(time.CLOCK_REALTIME) - time.monotonic()
        last, due = 0.0, time.monotonic()
        while time.monotonic() < until_then():
            self._wire.send(self._frame)
            for _, _, stamp in received(self._socket):
                last = stamp - ahead
            due = max(due + ASK, time.monotonic())
            time.sleep(max(0.0, due - time.monotonic()))
        return last

    def close(self) -> None:
        """Close the sockets."""
        self._socket.close()
        self._wire.close()


def peer_trials(name: str, repeat: int) -> Iterator[Trial]:
    """Play both faults `repeat` times on one kind of peer."""
    with network() as net:
        peer = PEERS[name](net)
        peer.start()
        for fault in FAULTS * repeat:
            _settle(net, peer)
            yield peer_trial(net, peer, name, fault)


def peer_trial(net: Network, peer: Peer, name: str, fault: str) -> Trial:
    """Strike the owner, wait until another node has the VIP, and watch the old one."""
    best = peer.best
    mac = net.lab.run(best.host, "cat", f"/sys/class/net/{INTERFACE}/address").strip()
    with contextlib.closing(OwnerAsker(net, mac)) as asker:
        struck = time.monotonic()
        (best.kill if fault == "kill" else best.freeze)()

        def taken() -> float:
            others = (
                event.at
                for event in net.monitor.events
                if event.at > struck and event.present and event.node != best.name
            )
            return next(others, 0.0)

        last = asker.last_answer(lambda: (taken() or struck + TAKE_LIMIT) + NEVER)
        at = taken()
    if not at:
        raise LabError(f"{name}: nobody took the address within {TAKE_LIMIT:g} s")
    if fault == "kill":
        net.lab.delete_address(best.host, f"{VIP}/32")
        best.start()
    else:
        best.thaw()
    return Trial(name, fault, (last - at) * 1000, never=last - at > NEVER - 10 * ASK)


def _settle(net: Network, peer: Peer) -> None:
    """Wait until the best node alone has the VIP, and stays so for two seconds."""
    end, since = time.monotonic() + SETTLE, time.monotonic()
    while time.monotonic() < end:
        if net.monitor.owners(VIP) != {peer.best.name} or not peer.ready():
            since = time.monotonic()
        elif time.monotonic() > since + 2.0:
            return
        time.sleep(0.05)
    raise LabError(
        f"{peer.best.name} did not get the VIP within {SETTLE:g} s: {peer.best.last_words()}"
    )


# ---------------------------------------------------------------- the report


def table(trials: Sequence[Trial]) -> str:
    """Return median (minimum to maximum) for each subject and fault."""
    lines = [
        (
            "| daemon | fault | trials | last answer after the end of the right, ms | after the "
            "thaw, ms |"
        ),
        "|---|---|---|---|---|",
    ]
    for subject, fault in dict.fromkeys((trial.subject, trial.fault) for trial in trials):
        mine = [trial for trial in trials if (trial.subject, trial.fault) == (subject, fault)]
        never = sum(trial.never for trial in mine)
        late = (
            spread([trial.late for trial in mine])
            if not never
            else f"> {NEVER:g} s, never stopped ({never} of {len(mine)})"
        )
        late_ones = [
            trial.thawed for trial in mine if trial.thawed is not None and trial.thawed > 0
        ]
        after = (
            spread(late_ones)
            if late_ones
            else "none late"
            if fault == "freeze" and subject.startswith("vipd")
            else "-"
        )
        lines.append(f"| {subject} | {fault} | {len(mine)} | {late} | {after} |")
    return "\n".join(lines)


def spread(values: Sequence[float]) -> str:
    """Return the median, with minimum and maximum."""
    return f"{statistics.median(values):+.2f} ({min(values):+.2f} to {max(values):+.2f})"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; 1 if vipd with the gate served a millisecond or more too long."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeat", type=int, default=10)
    parser.add_argument("--peer-repeat", type=int, default=3)
    parser.add_argument("--leases", default="1,3")
    parser.add_argument("--modes", default=",".join(MODES))
    parser.add_argument("--only", default=",".join(["vipd", *PEERS]))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    # As an installed package has it; a source tree that may not be written to would be compiled at
    # every start.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    compiled = tempfile.TemporaryDirectory(prefix="vipd-bench-")
    os.environ["PYTHONPYCACHEPREFIX"] = compiled.name
    trials: list[Trial] = []
    for name in args.only.split(","):
        rng, leases = random.Random(args.seed), [float(lease) for lease in args.leases.split(",")]
        source = (
            vipd_trials(leases, args.modes.split(","), args.repeat, rng)
            if name == "vipd"
            else peer_trials(name, args.peer_repeat)
        )
        for trial in source:
            trials.append(trial)
            print(
                f"    {trial.subject}, {trial.fault}: {trial.late:+.2f} ms, thawed {trial.thawed}",
                file=sys.stderr,
                flush=True,
            )
    compiled.cleanup()
    print(table(trials))
    if args.json:
        args.json.write_text(json.dumps([asdict(trial) for trial in trials], indent=1))
    gated = [
        moment
        for trial in trials
        if "with the gate" in trial.subject
        for moment in (trial.late, trial.thawed or 0.0)
    ]
    return int(any(moment > 1.0 for moment in gated))


if __name__ == "__main__":
    sys.exit(main())
