"""The takeover path.

From the record's change to the first frame on the wire and to the last of N addresses.

    python -m tests.bench.takeover [--stores file,etcd] [--addresses 1,10,100,1000] [--repeat 100]
    [--json FILE] [--quick]

Needs root, and etcd from the distribution's packages. Two nodes hand one instance to and fro: a
planned handover (the holder names the successor), and a release (the holder's check fails, it lets
go, and the successor finds a released record). Both nodes share this machine's clock and its
kernel, where only one at a time can change addresses (the RTNL lock): the former holder's unbind
and the successor's bind of a thousand addresses stand in each other's way here, on two machines
not. Prints p50 / p99 / max in ms. A takeover of which something was not seen is void, and counted.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.bench.takeover_steps import (
    STEPS,
    WHOLES,
    Note,
    Takeover,
    VoidError,
    gathered,
    shown,
    table,
    takeover,
)
from tests.bench.takeover_wire import Wire
from tests.etcd_server import EtcdServer
from tests.netns.stories.node import WEB, VipdNode, inside, instance, wait_for
from vipd.control.errors import FailedError, RefusedError, UnreachableError
from vipd.demo.lab import Lab

KINDS = ("handover", "release")
PORT = 7070
"""Of the check that makes a holder let go."""
CALM = 0.6
"""Seconds between two takeovers: who took as successor names nobody for 510 ms."""
PATIENCE = 10.0
MANY = 100
"""From so many addresses on a fifth of the repeats is made, and a tenth of a thousand."""
FIRST4, FIRST6 = "10.80", "2001:db8:80:"


@dataclass(frozen=True, slots=True)
class Case:
    """One column of the result. `family` is 4 or 6."""

    store: str
    kind: str
    count: int
    family: int = 4

    @property
    def name(self) -> str:
        """What it is called."""
        return f"{self.store}, {self.kind}, {self.count} IPv{self.family}"

    def addresses(self) -> list[str]:
        """Return the addresses of the instance, without prefix lengths."""
        if self.family == 4:
            return [f"{FIRST4}.{number >> 8}.{number & 255}" for number in range(1, self.count + 1)]
        return [f"{FIRST6}:{number:x}" for number in range(1, self.count + 1)]


@dataclass(slots=True)
class Outcome:
    """What one case gave."""

    takeovers: list[Takeover] = field(default_factory=list)
    void: list[str] = field(default_factory=list)


def answer(server: socket.socket) -> None:
    """Take connections, and hang up, until the server is closed."""
    with contextlib.suppress(OSError):
        while True:
            server.accept()[0].close()


class TracedNode(VipdNode):
    """A node whose daemon writes down when it comes by certain places, and which has a check that
    can be made to fail.
    """

    healthy: socket.socket | None = None

    def start(self) -> None:
        """Start it."""
        with (self.folder / "log").open("ab") as log:
            argv = [
                sys.executable,
                "-m",
                "tests.bench.takeover_traced",
                str(self.folder / "trace"),
                str(self.config_file),
            ]
            self._process = self.lab.spawn(self.host, argv, log)

    def heal(self) -> None:
        """Let its check succeed."""
        if self.healthy is None:
            self.healthy = inside(
                self.host.namespace, lambda: socket.create_server(("127.0.0.1", PORT))
            )
            # Connections that nobody takes fill the queue, and the check fails by itself.
            threading.Thread(target=answer, args=(self.healthy,), daemon=True).start()

    def spoil(self) -> None:
        """Let its check fail."""
        if self.healthy is not None:
            self.healthy.shutdown(socket.SHUT_RDWR)
            self.healthy.close()
            self.healthy = None

    def notes(self, since: int) -> list[Note]:
        """Return what its daemon has noted since then."""
        lines = (json.loads(line) for line in (self.folder / "trace").read_text().splitlines())
        return [(what, at) for what, at in lines if at >= since]


class Rig:
    """Two nodes, their store and the instruments, for one case."""

    def __init__(self, lab: Lab, folder: Path, backend: Mapping[str, object], case: Case) -> None:
        self.case = case
        self.nodes = [
            TracedNode(lab, lab.add(name), folder / name, backend, "default") for name in "ab"
        ]
        prefix = 32 if case.family == 4 else 128
        check = {
            "name": "own",
            "tcp": {"host": "127.0.0.1", "port": PORT},
            "interval": "100ms",
            "timeout": "90ms",
            "rise": 1,
            "fall": 1,
        }
        addresses = [f"{address}/{prefix}" for address in case.addresses()]
        # One announcement for each takeover: bursts of the one before would be seen in the next.
        checks = [check] if case.kind == "release" else []
        self.web = instance(
            addresses=addresses,
            preempt=False,
            checks=checks,
            announce={"burst": 0, "refresh": "1h"},
        )
        self.wire = Wire(lab._switch, [node.host for node in self.nodes], case.addresses())

    def start(self) -> TracedNode:
        """Start both nodes; return the holder."""
        for node in self.nodes:
            node.heal()
            node.configure(self.web)
            node.start()
        wait_for(
            lambda: all(node.knows_fit("a", "b") for node in self.nodes), "both nodes to be fit"
        )
        return self.holder()

    def holder(self) -> TracedNode:
        """Return who has it, once one node has it and the other does not."""
        wait_for(
            lambda: sorted(node.state() for node in self.nodes) == ["Active", "Backup"],
            "one node to be Active, the other Backup",
        )
        return next(node for node in self.nodes if node.state() == "Active")

    def move(self, holder: TracedNode) -> Takeover:
        """Let the other node take over, and return how that went. Raises VoidError."""
        other = self.nodes[1 - self.nodes.index(holder)]
        time.sleep(CALM)
        self.wire.forget()
        begin = time.clock_gettime_ns(time.CLOCK_REALTIME)
        if self.case.kind == "handover":
            holder.ask("handover", instance=WEB, to=other.name)
        else:
            holder.spoil()
        self._wait(other, begin)
        if self.case.kind == "release":
            holder.heal()
            wait_for(lambda: other.knows_fit("a", "b"), f"{holder.name} to be fit again")
        kind = "name" if self.case.kind == "handover" else "release"
        seen = [one for one in self.wire.since(begin) if one.node == other.name]
        return takeover(holder.notes(begin), other.notes(begin), seen, self.wire.expected, kind)

    def _wait(self, other: TracedNode, since: int) -> None:
        """Return when all addresses were announced and the traces are written.

        Nobody is asked: that would cost them time.
        """
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            time.sleep(0.1)
            announced = {
                one.address
                for one in self.wire.since(since)
                if one.node == other.name and one.what == "announced"
            }
            if announced == self.wire.expected:
                break
        time.sleep(0.2)

    def close(self) -> None:
        """Stop the instruments."""
        self.wire.__exit__(None, None, None)
        for node in self.nodes:
            node.spoil()


@contextlib.contextmanager
def store(name: str, lab: Lab, folder: Path) -> Iterator[Mapping[str, object]]:
    """Give a store to the nodes of a lab."""
    if name == "file":
        yield {"file": {"path": str(folder / "store")}}
        return
    host = lab.add("store")
    with EtcdServer(folder / "etcd", host=host.address, netns=host.namespace) as server:
        yield {"etcd": {"endpoints": [server.url]}}


def play(case: Case, repeat: int, disk: str | None) -> Outcome:
    """Play one case so often."""
    outcome = Outcome()
    try:
        _play(case, repeat, disk, outcome)
    except (AssertionError, FailedError, RefusedError, UnreachableError) as error:
        # The nodes did not come to rest: what was measured until then stands, and this is told
        # beside it.
        outcome.void.append(f"ended early: {error}")
    return outcome


def _play(case: Case, repeat: int, disk: str | None, outcome: Outcome) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="vipd-bench-", dir=disk) as name,
        Lab(f"vt{os.getpid()}-") as lab,
        store(case.store, lab, Path(name)) as backend,
    ):
        rig = Rig(lab, Path(name), backend, case)
        with contextlib.closing(rig):
            holder = rig.start()
            # The first moves of a daemon are slower: it reads pages that it never touched before.
            # They are not left out.
            for _ in range(repeat):
                try:
                    outcome.takeovers.append(rig.move(holder))
                except VoidError as error:
                    outcome.void.append(str(error))
                holder = rig.holder()
            if lost := rig.wire.lost():
                outcome.void.append(f"all: {lost}")


# ---------------------------------------------------------------- what is told


def cases(
    stores: Sequence[str], kinds: Sequence[str], counts: Sequence[int], six: Sequence[int]
) -> Iterator[Case]:
    """Yield what is to be played."""
    for name in stores:
        for kind in kinds:
            for count in counts:
                yield Case(name, kind, count)
        for count in six:
            yield Case(name, "handover", count, 6)


def repeats(case: Case, repeat: int) -> int:
    """Return how often to play a case: what takes a second each time is made less often."""
    share = 10 if case.count >= 10 * MANY else 5 if case.count >= MANY else 1
    return max(3, repeat // share)


def report(outcomes: Mapping[Case, Outcome]) -> str:
    """Return the tables."""
    wholes = {
        case: gathered(one.wholes() for one in outcome.takeovers)
        for case, outcome in outcomes.items()
    }
    steps = {
        case: gathered(one.steps() for one in outcome.takeovers)
        for case, outcome in outcomes.items()
    }
    judged = [case for case in outcomes if wholes[case]]
    rows = [
        [
            case.name,
            str(len(outcomes[case].takeovers)),
            str(len(outcomes[case].void)),
            *(shown(wholes[case][name]) for name in WHOLES),
        ]
        for case in judged
    ]
    parts = [table(["case (ms: p50 / p99 / max)", "takeovers", "void", *WHOLES], rows), ""]
    rows = [[name, *(shown(steps[case][name]) for case in judged)] for name in STEPS]
    parts.append(table(["step (ms: p50 / p99 / max)", *(case.name for case in judged)], rows))
    parts += [
        f"\nvoid in {case.name}: {why}"
        for case, outcome in outcomes.items()
        for why in dict.fromkeys(outcome.void)
    ]
    return "\n".join(parts)


def document(outcomes: Mapping[Case, Outcome]) -> dict[str, object]:
    """Return everything for a file."""
    return {
        "machine": f"{platform.release()}, {os.cpu_count()} cores, Python "
        f"{platform.python_version()}",
        "cases": [
            {
                **asdict(case),
                "ms": gathered(one.wholes() for one in outcome.takeovers),
                "steps_ms": gathered(one.steps() for one in outcome.takeovers),
                "void": outcome.void,
                "takeovers_ms": [one.wholes() | one.steps() for one in outcome.takeovers],
            }
            for case, outcome in outcomes.items()
        ],
    }


def numbers(text: str) -> list[int]:
    """Return a list like 1,10,100."""
    return [int(part) for part in text.split(",") if part]


def main() -> int:
    """Measure and print; 1 if nothing could be judged."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stores", default="file,etcd")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--addresses", default="1,10,100,1000", help="how many IPv4 addresses")
    parser.add_argument(
        "--ipv6", default="1,100,500", help="how many IPv6 addresses; planned handovers only"
    )
    parser.add_argument(
        "--repeat",
        type=int,
        default=100,
        help="of one or ten addresses; a fifth of a hundred, a tenth of a thousand",
    )
    parser.add_argument(
        "--disk", help="the folder for store and state; default: that of temporary files"
    )
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--quick", action="store_true", help="two minutes")
    args = parser.parse_args()
    six = numbers(args.ipv6)
    counts, repeat = numbers(args.addresses), args.repeat
    if args.quick:
        counts, six, repeat = [1, 1000], [], 25
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    outcomes: dict[Case, Outcome] = {}
    try:
        for case in cases(args.stores.split(","), args.kinds.split(","), counts, six):
            print(f"{case.name} …", file=sys.stderr)
            outcomes[case] = play(case, repeats(case, repeat), args.disk)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
    print(report(outcomes))
    if args.json:
        args.json.write_text(json.dumps(document(outcomes), indent=1))
    return 0 if outcomes and all(outcome.takeovers for outcome in outcomes.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
