"""Random faults for half an hour, on real etcd, with the promises watched from outside all the
time.

    python -m tests.bench.soak [--minutes 30] [--seed N] [--json FILE]

Needs root and etcd. Three nodes with two instances that prefer different ones, three members of
etcd. A failed run tells its seed and keeps all logs in a folder that it names; the same seed plays
the same faults again. Exit code 1: a promise was broken.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.bench import soak_census
from tests.bench.soak_census import Census
from tests.bench.soak_deeds import UNREACHED, Deeds, Done
from tests.bench.soak_judge import Finding, Move, Overlap, Span, judge, overlaps, spans_of, without
from tests.bench.soak_plan import CATALOGUE, Round, rounds
from tests.bench.soak_world import ASKED, INSTANCE_OF, Client, Group, group
from vipd.cli.exit_codes import USAGE

ONE_OWNER = 20.0
"""Seconds after the last fault was healed within which every address has exactly one owner: a
start, several leases, a busy machine."""
BEST_OWNER = 90.0
"""And within which it is the best node: an election that flaps is damped for up to a minute."""
START_PATIENCE = 60.0
CALM = 1.5
LOOK = 0.1
TIDY = 1.0
SHORTEST_SPAN = 0.010
"""One answer alone stands for the time between two questions."""
CALM_OUTAGE = 0.100
"""An outage in calm shorter than this is this busy machine's."""


@dataclass
class Played:
    """A round as it happened.

    `one` and `best` are seconds after the last healing until there was one owner, and the best.
    """

    plan: Round
    begin: float
    done: list[Done]
    healed: float = 0.0
    one: float = 0.0
    best: float = 0.0
    end: float = 0.0


@dataclass
class Soak:
    """A run."""

    group: Group
    seed: int
    client: Client
    census: Census = field(default_factory=Census)
    overlaps: list[Overlap] = field(default_factory=list)
    played: list[Played] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    begin: float = field(default_factory=time.monotonic)

    def run(self, minutes: float) -> None:
        """Play rounds until the time is over, or until the group does not become calm."""
        deeds = Deeds(self.group)
        for plan in rounds(self.seed):
            if time.monotonic() > self.begin + minutes * 60:
                return
            now = Played(plan, time.monotonic(), deeds.play(plan))
            self.played.append(now)
            now.healed = time.monotonic()
            if not self._calm(now):
                return
            self.census.take(self.group)
            now.end = time.monotonic()
            self._tell(now)

    def _calm(self, now: Played) -> bool:
        """Wait until all is as it should be; return whether it became so."""
        tidied = now.healed
        while not self.group.settled():
            waited = time.monotonic() - now.healed
            one = all(len(self.group.monitor.owners(address)) == 1 for address in INSTANCE_OF)
            now.one = now.one or (waited if one else 0.0)
            if waited > BEST_OWNER or (waited > ONE_OWNER and not now.one):
                now.end = time.monotonic()
                self._tell(now)
                what = "the best node has it" if now.one else "every address has one owner"
                text = (
                    f"round {now.plan.number}: not so after {waited:.0f} s: {what}\n{self._told()}"
                )
                self.findings.append(Finding(now.healed, text))
                return False
            if time.monotonic() > tidied + TIDY:
                tidied = time.monotonic()
                self._tidy()
            time.sleep(LOOK)
        now.best = time.monotonic() - now.healed
        now.one = now.one or now.best
        time.sleep(CALM)
        return True

    def _tidy(self) -> None:
        """Take back the orders of an operator that could not be taken back when their time was
        over.
        """
        for node in self.group.nodes:
            document = node.vipd.status() or {"drained": False, "instances": []}
            with contextlib.suppress(*UNREACHED):
                if document["drained"]:
                    node.vipd.ask("resume")
                for shown in document["instances"]:
                    if shown["pin"] == node.name:
                        node.vipd.ask("handover", instance=shown["name"], auto=True)

    def _told(self) -> str:
        lines = []
        for node in self.group.nodes:
            shown = (node.vipd.status() or {}).get("instances", [])
            states = ", ".join(
                f"{one['name']} {one['state']} ({one['reason']}) {one['detail']} {one['notes']}"
                for one in shown
            )
            lines.append(
                f"    {node.name}: {states or 'no answer'}; bound "
                f"{sorted(node.vipd.bound() & INSTANCE_OF.keys())}"
            )
        return "\n".join(lines)

    def _tell(self, now: Played) -> None:
        faults = "; ".join(
            f"{one.strike.kind.key} {one.victim} "
            f"{one.end - one.begin:.1f}s{f' ({one.why})' if one.why else ''}"
            for one in now.done
        )
        print(
            f"{now.begin - self.begin:7.1f}s round {now.plan.number}: {faults}; best again after "
            f"{now.best:.1f}s",
            file=sys.stderr,
            flush=True,
        )

    # ------------------------------------------------------------ the end

    def close(self) -> None:
        """Hear the witnesses."""
        self.client.stop()
        end = time.monotonic()
        kernel = spans_of(self.group.monitor.events, end)
        seen = [
            Span(one.address, one.node, one.begin, max(one.end, one.begin + SHORTEST_SPAN))
            for one in self.client.spans
        ]
        self.overlaps = [*overlaps(kernel, "kernel"), *overlaps(seen, "client")]
        self.findings += judge(
            self.overlaps, self.group.excused, self.moves(), self.group.faults, INSTANCE_OF
        )
        self.findings += self.census.findings()
        refused = [(at, node) for at, node, code in self.group.exits if code == USAGE]
        self.findings += [
            Finding(at, f"vipd on {node} refused its configuration") for at, node in refused
        ]
        for now in self.played:
            calm = (now.healed + now.best + LOOK, now.end)
            for vip, begin, until in self.client.outages:
                if now.best and calm[0] < begin < calm[1] and until - begin > CALM_OUTAGE:
                    self.findings.append(
                        Finding(
                            begin, f"{vip} was away for {(until - begin) * 1000:.0f} ms in calm"
                        )
                    )
        self.findings.sort(key=lambda finding: finding.at)

    def moves(self) -> list[Move]:
        """Return every time that a node became Active, from the nodes' logs."""
        ahead = time.clock_gettime(time.CLOCK_REALTIME) - time.monotonic()
        found = []
        for node in self.group.nodes:
            for line in node.vipd.log.splitlines():
                said = json.loads(line) if line.startswith("{") and line.endswith("}") else {}
                if said.get("state") == "Active":
                    at = dt.datetime.fromisoformat(said["time"]).timestamp() - ahead
                    found.append(Move(at, said["instance"], node.name, said["reason"]))
        return sorted(found, key=lambda move: move.at)

    def longest_outages(self) -> dict[str, list[float]]:
        """Return the longest outage of each round in seconds, by the round's
        name; both VIPs count.
        """
        found: dict[str, list[float]] = {}
        for now in self.played:
            lengths = [
                until - begin
                for _, begin, until in self.client.outages
                if until > now.begin and begin < now.end
            ]
            found.setdefault(now.plan.name, []).append(max(lengths, default=0.0))
        return found


# ---------------------------------------------------------------- the report


def report(soak: Soak) -> str:
    """Return all tables."""
    moves = soak.moves()
    by_reason = {
        reason: sum(move.reason == reason for move in moves)
        for reason in sorted({move.reason for move in moves})
    }
    parts = [
        (
            f"Soak of {(time.monotonic() - soak.begin) / 60:.1f} minutes, seed {soak.seed}: "
            f"{len(soak.played)} rounds,"
            f" {sum(len(now.done) for now in soak.played)} faults; became Active: {by_reason};"
            f" vipd ended by itself {len(soak.group.exits)} times "
            f"{sorted({(node, code) for _, node, code in soak.group.exits})}"
        ),
        _two_owners(soak),
        _faults(soak),
        soak_census.table(soak.census),
    ]
    parts += [
        f"- {'VIOLATION' if one.violation else 'note'} at {_moment(soak, one.at)}: {one.text}"
        for one in soak.findings
    ]
    parts.append(f"{sum(one.violation for one in soak.findings)} violations")
    return "\n\n".join(parts[:4]) + "\n\n" + "\n".join(parts[4:])


def _moment(soak: Soak, at: float) -> str:
    wall = dt.datetime.fromtimestamp(
        at + time.clock_gettime(time.CLOCK_REALTIME) - time.monotonic(), dt.UTC
    )
    return f"{at - soak.begin:.3f} s ({wall:%H:%M:%S.%f} UTC, seed {soak.seed})"


def _two_owners(soak: Soak) -> str:
    """Return how long two nodes had, or served, an address at once."""
    said = []
    for witness in ("kernel", "client"):
        mine = [one for one in soak.overlaps if one.witness == witness]
        judged = [
            piece
            for one in mine
            for piece in (without(one, soak.group.excused) if witness == "kernel" else [one])
        ]
        longest = max((piece.length for piece in judged), default=0.0)
        said.append(f"by the {witness} {len(judged)} times, {longest * 1000:.0f} ms at the longest")
    excused = max((one.length for one in soak.overlaps if one.witness == "kernel"), default=0.0)
    return (
        f"Two owners at once: {'; '.join(said)}. With those bound but silent behind a closed "
        f"gate, by the kernel {excused:.1f} s."
    )


def _faults(soak: Soak) -> str:
    outages = soak.longest_outages()
    done = [one for now in soak.played for one in now.done]
    lines = [
        (
            "| fault | done | of these not as planned | alone | longest outage alone, s | of so "
            "many s | until the best had it, s |"
        ),
        "|---|---|---|---|---|---|---|",
    ]
    names = [kind.key for kind in CATALOGUE] + sorted(name for name in outages if "at once" in name)
    for name in names:
        count = sum(one.strike.kind.key == name for one in done) or len(outages.get(name, []))
        failed = sum(bool(one.why) for one in done if one.strike.kind.key == name)
        alone = [now for now in soak.played if now.plan.name == name]
        if not count:
            lines.append(f"| {name} | 0 | 0 | 0 | - | - | - |")
            continue
        longest = max((one.strike.lasts for now in alone for one in now.done), default=0.0)
        settle = max((now.best for now in alone), default=0.0)
        lines.append(
            f"| {name} | {count} | {failed} | {len(alone)} | {max(outages.get(name, [0.0])):.3f} "
            f"| {longest:.1f} | {settle:.1f} |"
        )
    return "\n".join(lines)


def as_json(soak: Soak) -> dict[str, object]:
    """Return everything for a machine."""
    return {
        "seed": soak.seed,
        "findings": [{**asdict(one), "at": one.at - soak.begin} for one in soak.findings],
        "outages_s": soak.longest_outages(),
        "faults": [
            {
                "kind": one.strike.kind.key,
                "victim": one.victim,
                "at": one.begin - soak.begin,
                "lasts": one.end - one.begin,
                "why": one.why,
            }
            for now in soak.played
            for one in now.done
        ],
        "settled_s": [[now.plan.name, now.one, now.best] for now in soak.played],
        "overlaps_s": [
            [one.witness, one.address, one.nodes, one.begin - soak.begin, one.length]
            for one in soak.overlaps
        ],
        "leaks": [
            [*row[:3], asdict(row[3]) if row[3] else None, row[4]] for row in soak.census.rows()
        ],
    }


def start(made: Group) -> None:
    """Start the group and wait until it is calm; TimeoutError if it does not become so."""
    made.start()
    end = time.monotonic() + START_PATIENCE
    while not made.settled():
        if time.monotonic() > end:
            raise TimeoutError(
                "the group did not become calm at its start: "
                + "".join(node.vipd.log[-600:] for node in made.nodes)
            )
        time.sleep(LOOK)
    time.sleep(CALM)


def _end(*_: object) -> None:
    raise KeyboardInterrupt


def main(argv: Sequence[str] | None = None) -> int:
    """Run a soak and print what came of it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, _end)
    folder = Path(tempfile.mkdtemp(prefix="vipd-soak-"))
    print(
        f"seed {args.seed}, {args.minutes:g} minutes, asked: {ASKED}", file=sys.stderr, flush=True
    )
    # As an installed package has it; a source tree that may not be written to would be compiled at
    # every start.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = str(folder / "compiled")
    failed = True
    try:
        with group(f"vs{os.getpid()}-", folder) as made:
            start(made)
            soak = Soak(made, args.seed, Client(made.lab, made))
            # what was seen so far is told all the same
            with contextlib.suppress(KeyboardInterrupt):
                soak.run(args.minutes)
            soak.close()
            print(report(soak))
            if args.json:
                args.json.write_text(json.dumps(as_json(soak), indent=1))
            failed = any(finding.violation for finding in soak.findings)
    finally:
        if failed:
            print(f"the logs are in {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
