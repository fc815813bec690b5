"""The result of a bench: as JSON that can be merged, and as a Markdown table. Pure."""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.bench.measured import Outcome
from tests.bench.trials import RESOLUTION, ROWS

SCHEMA = 1
VOID = "void"
HEAD = (
    "scenario",
    "daemon",
    "trials",
    "outage ms",
    "probes lost",
    "IPv6 outage ms",
    "IPv6 lost",
    "two owners, addresses ms",
    "two owners, client ms",
    "no owner ms",
    "moved after ms",
    "command ms",
    "overlap in",
)


@dataclass(slots=True)
class PeerResult:
    """What one daemon gave.

    `settings`: a sentence on how it was configured · `rows`: outcomes by row · `unable`: rows that
    it cannot be asked for, and why · `void`: why a round is void (it was played again, at most
    twice) · `missing`: how many rounds stayed void · `failed`: trials that could not be played, and
    why.
    """

    settings: str = ""
    rows: dict[str, list[Outcome]] = field(default_factory=dict)
    unable: dict[str, str] = field(default_factory=dict)
    void: list[str] = field(default_factory=list)
    missing: int = 0
    failed: list[str] = field(default_factory=list)

    def add(self, other: PeerResult) -> None:
        """Take in what another run gave."""
        self.settings = other.settings or self.settings
        for row, outcomes in other.rows.items():
            self.rows.setdefault(row, []).extend(outcomes)
        self.unable.update(other.unable)
        self.void += other.void
        self.missing += other.missing
        self.failed += other.failed


@dataclass(slots=True)
class Results:
    """What all daemons gave, and the runs (date, command, machine, versions) that it comes from."""

    runs: list[dict[str, Any]] = field(default_factory=list)
    peers: dict[str, PeerResult] = field(default_factory=dict)

    def peer(self, key: str) -> PeerResult:
        """Return the result of one daemon, empty at first."""
        return self.peers.setdefault(key, PeerResult())

    def add(self, other: Results) -> None:
        """Take in another result."""
        self.runs += other.runs
        for key, found in other.peers.items():
            self.peer(key).add(found)


def to_json(results: Results) -> str:
    """Return all of it as JSON."""
    return json.dumps({"schema": SCHEMA, **dataclasses.asdict(results)}, indent=1)


def from_json(text: str) -> Results:
    """Return what `to_json` wrote. ValueError for another schema."""
    plain = json.loads(text)
    if plain.pop("schema", None) != SCHEMA:
        raise ValueError(f"not a result of schema {SCHEMA}")
    peers = {}
    for key, peer in plain["peers"].items():
        rows = {
            row: [Outcome(**one) for one in outcomes] for row, outcomes in peer.pop("rows").items()
        }
        peers[key] = PeerResult(rows=rows, **peer)
    return Results(plain["runs"], peers)


def merged(texts: Iterable[str], order: Sequence[str] = ()) -> Results:
    """Return several results as one, the daemons in this order and others after them."""
    total = Results()
    for text in texts:
        total.add(from_json(text))
    total.peers = {key: total.peers[key] for key in (*order, *total.peers) if key in total.peers}
    return total


def spread(values: Sequence[float], *, endless: bool = False) -> str:
    """Return the median, with minimum and maximum unless there is one value only. `endless`: at
    least that.
    """
    sign = "≥ " if endless else ""
    if not values:
        return "-"
    if len(values) == 1:
        return f"{sign}{values[0]:.0f}"
    return f"{sign}{statistics.median(values):.0f} ({min(values):.0f} to {max(values):.0f})"


def overlapping(row: str, outcomes: Sequence[Outcome]) -> int:
    """Return in how many trials two nodes had the VIP, or answered the client, for longer than
    vipd's contract allows in this row.
    """
    allowed = (ROWS[row].overlap + RESOLUTION) * 1000
    return sum(max(one.two, one.seen) > allowed for one in outcomes)


def cells(row: str, outcomes: Sequence[Outcome]) -> list[str]:
    """Return the figures of one row of one daemon, from the number of trials on."""

    def column(of: Callable[[Outcome], float]) -> str:
        return spread([of(one) for one in outcomes])

    moved = [one.alone for one in outcomes if one.alone is not None]
    never = len(outcomes) - len(moved)
    return [
        str(len(outcomes)),
        spread([one.outage for one in outcomes], endless=any(not one.after for one in outcomes)),
        column(lambda one: one.lost),
        spread([one.outage6 for one in outcomes if one.outage6 is not None]),
        spread([one.lost6 for one in outcomes if one.lost6 is not None]),
        spread([one.two for one in outcomes], endless=any(one.endless for one in outcomes)),
        column(lambda one: one.seen),
        column(lambda one: one.none),
        spread(moved) + (f", {never} never" if moved and never else ""),
        column(lambda one: one.command) if row == "planned" else "-",
        f"{overlapping(row, outcomes)} of {len(outcomes)}",
    ]


def table(results: Results) -> str:
    """Return every row of every daemon, scenario by scenario, as Markdown."""
    lines = ["| " + " | ".join(HEAD) + " |", "|---" * len(HEAD) + "|"]
    for row, step in ROWS.items():
        for key, peer in results.peers.items():
            if outcomes := peer.rows.get(row):
                found = cells(row, outcomes)
            elif row in peer.unable:
                found = ["-"] * (len(HEAD) - 2)
            elif peer.missing and any(row in other.rows for other in results.peers.values()):
                found = [VOID] * (len(HEAD) - 2)
            else:
                continue
            lines.append("| " + " | ".join([step.title, key, *found]) + " |")
    return "\n".join(lines)


def overview(results: Results) -> str:
    """Return the outages alone in ms, a column for each daemon.

    With the trials in which two nodes had the VIP for too long.
    """
    head = ["outage ms", *results.peers]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row, step in ROWS.items():
        if any(row in peer.rows for peer in results.peers.values()):
            lines.append(
                "| "
                + " | ".join([step.title, *(_brief(row, peer) for peer in results.peers.values())])
                + " |"
            )
    return "\n".join(lines)


def _brief(row: str, peer: PeerResult) -> str:
    outcomes = peer.rows.get(row, [])
    if not outcomes:
        return VOID if peer.missing and row not in peer.unable else "-"
    two = overlapping(row, outcomes)
    text = spread([one.outage for one in outcomes], endless=any(not one.after for one in outcomes))
    return f"{text}; two owners in {two} of {len(outcomes)}" if two else text


def remarks(results: Results) -> list[str]:
    """Return a sentence for each thing that a reader of the figures has to know."""
    said = []
    for key, peer in results.peers.items():
        said += [f"{key}: {peer.settings}"] if peer.settings else []
        said += [f"{key}: a round is void: {why}" for why in peer.void]
        said += (
            [f"{key}: {peer.missing} rounds stayed void and are missing"] if peer.missing else []
        )
        said += [f"{key}: not played: {why}" for why in peer.failed]
        by_reason: dict[str, list[str]] = {}
        for row, why in peer.unable.items():
            by_reason.setdefault(why, []).append(ROWS[row].title if row in ROWS else row)
        said += [f"{key}: -: {', '.join(titles)}: {why}" for why, titles in by_reason.items()]
    return said


def report(results: Results) -> str:
    """Return overview, all figures and remarks as one Markdown text."""
    notes = "\n".join(f"- {remark}" for remark in remarks(results))
    runs = "\n".join(f"- {_run(run)}" for run in results.runs)
    legend = (
        "Median (minimum to maximum). `≥`: it did not end by itself while it was watched. "
        "`overlap in`: trials in which two nodes had "
        "the VIP, or answered the client, for longer than 3 ms, in planned moves than 53 ms."
    )
    return "\n\n".join(
        part for part in (overview(results), table(results), legend, notes, runs) if part
    )


def _run(run: Mapping[str, Any]) -> str:
    machine = run["machine"]
    # Most programs begin with their name when they tell their version.
    versions = ", ".join(
        said if name.lower() in said.lower() else f"{name} {said}"
        for name, said in run["versions"].items()
    )
    where = (
        f"{machine['cpus']} CPUs, Linux {machine['kernel']}, Python {machine['python']}, load "
        f"{machine['load']:.1f} at start"
    )
    end = "; interrupted" if run.get("interrupted") else ""
    return f"{run['date']}: `{run['command']}`; {where}; {versions}{end}"
