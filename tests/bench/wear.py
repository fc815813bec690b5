"""What long life and many moves leave behind in a daemon.

Memory, descriptors, sockets and threads, after each of many planned moves.

    python -m tests.bench.wear [--minutes 5] [--store etcd] [--json FILE]

Needs root, and etcd from the distribution's packages. Two nodes hand an instance with a check to
and fro for so long, are asked for status and metrics, and lose their store for a moment now and
then. A soak cannot show this: its daemons are killed too often. Prints the first and the last
figure, and the trend over a thousand moves after the first fifth; exit code 1 if something leaks.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.soak_census import ALLOWED, processes
from tests.bench.soak_judge import Sample, trend
from tests.bench.takeover import store
from tests.netns.stories.node import METRICS_PORT, WEB, VipdNode, instance, wait_for
from vipd.control.errors import FailedError
from vipd.demo.lab import Lab

CALM = 0.55
"""Seconds between two moves: who took as successor names nobody for 510 ms."""
SAMPLE_EVERY = 20
OUTAGE_EVERY = 50
OUTAGE = 0.5
"""Seconds without the store: less than a lease."""
SETTLING = 0.2
"""The share of all moves in which caches may still fill."""
MOVES = 1000


@dataclass
class Wear:
    """All samples so far, by what they are of.

    The moment of a sample is the number of moves made.
    """

    samples: dict[str, list[Sample]] = field(default_factory=dict)

    def take(self, nodes: Sequence[VipdNode], moves: int) -> None:
        """Count everything once."""
        for node in nodes:
            for what, life, value in processes(node):
                self.samples.setdefault(what, []).append(
                    Sample(moves, f"{node.name} {life}", value)
                )

    def rows(self, moves: int) -> list[tuple[str, float, float, float, bool]]:
        """Return what it is, its first and its last median, what a thousand moves add, and whether
        that is a leak.
        """
        found = []
        for what, samples in sorted(self.samples.items()):
            settled = [sample for sample in samples if sample.at >= SETTLING * moves]
            rise = trend(settled)
            # The judge of the soak counts in hours; here the clock counts moves.
            grown = rise.slope / 3600 * MOVES if rise else 0.0
            allowed = next((allowed for word, allowed in ALLOWED.items() if word in what), 0.0)
            leaks = rise is not None and rise.certain and grown > allowed
            found.append(
                (what, _mean(samples, samples[0].at), _mean(samples, samples[-1].at), grown, leaks)
            )
        return found


def _mean(samples: Sequence[Sample], at: float) -> float:
    values = [sample.value for sample in samples if sample.at == at]
    return sum(values) / len(values)


def play(minutes: float, backend: str, wear: Wear) -> int:
    """Move to and fro for so long; return the number of moves."""
    moves, end = 0, time.monotonic() + 60 * minutes
    with (
        tempfile.TemporaryDirectory(prefix="vipd-bench-") as name,
        Lab("vw-") as lab,
        store(backend, lab, Path(name)) as where,
    ):
        nodes = [VipdNode(lab, lab.add(one), Path(name) / one, where, "default") for one in "ab"]
        check = {
            "name": "own",
            "tcp": {"host": "127.0.0.1", "port": METRICS_PORT},
            "interval": "200ms",
        }
        for node in nodes:
            node.configure(instance(preempt=False, checks=[check]))
            node.start()
        wait_for(lambda: all(node.knows_fit("a", "b") for node in nodes), "both nodes to be fit")
        while time.monotonic() < end:
            if moves % SAMPLE_EVERY == 0:
                wear.take(nodes, moves)
            if backend == "etcd" and moves % OUTAGE_EVERY == OUTAGE_EVERY - 1:
                lab.split(lab.hosts)
                time.sleep(OUTAGE)
                lab.join(lab.hosts)
            time.sleep(CALM)
            holder = wait_for(
                lambda: next((node for node in nodes if node.state() == "Active"), None),
                "one to be Active",
            )
            assert holder is not None
            with contextlib.suppress(FailedError):  # it fell into the moment without the store
                holder.ask("handover", instance=WEB)
                moves += 1
            for node in nodes:
                node.get("/metrics")
        wear.take(nodes, moves)
    return moves


def main() -> int:
    """Measure and print; 1 if something leaks."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--store", default="etcd", choices=("etcd", "file"))
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    wear = Wear()
    moves = play(args.minutes, args.store, wear)
    rows = wear.rows(moves)
    print(
        f"{moves} planned moves between two daemons that lived through all of them, {args.store}\n"
    )
    print(
        "| counted in both nodes | at first | at last | a thousand moves add | "
        "|\n|---|---|---|---|---|"
    )
    for what, first, last, grown, leaks in rows:
        print(f"| {what} | {first:.1f} | {last:.1f} | {grown:+.2f} | {'LEAKS' if leaks else ''} |")
    if args.json:
        args.json.write_text(json.dumps({"moves": moves, "rows": rows}, indent=1))
    return 1 if any(row[-1] for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
