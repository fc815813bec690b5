"""From what was seen in a soak to what was broken. Pure; seconds on one CLOCK_MONOTONIC.

Two witnesses: the kernels' news of addresses, and a client that asks every node by its own MAC for
every VIP. Both give spans of time in which a node had, or served, an address; where spans of two
nodes overlap there were two owners.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vipd.demo.measure import Bound

RESOLUTION = 0.005
"""The news of two hosts are read within so many seconds of one another on a busy machine: less is
no overlap."""
GOAL = 0.050
"""A planned handover may overlap for so long (ARCHITECTURE.md, handover)."""
LIMIT = 0.150
"""Beyond the goal a busy machine may be at fault; beyond this vipd is."""
BROKEN_LIMIT = 0.500
"""With a second fault in the middle of the handover (likewise)."""
HANDOVERS = frozenset({"handed_over", "preempted"})
"""Reasons with which a successor becomes Active."""
TOGETHER = 0.050
"""Addresses of one instance are bound within so many seconds of one another."""
NEAR = 1.0
"""A fault that began or was healed so many seconds before an overlap may have hit the handover; a
transition so near is its."""


@dataclass(frozen=True, slots=True)
class Span:
    """A node had an address, or served it, from `begin` to `end`."""

    address: str
    node: str
    begin: float
    end: float


@dataclass(frozen=True, slots=True)
class Window:
    """A time during which something held for a node, and for one address if it names one (empty:
    all).
    """

    node: str
    begin: float
    end: float
    address: str = ""


@dataclass(frozen=True, slots=True)
class Move:
    """A node became Active in an instance, by its own log."""

    at: float
    instance: str
    node: str
    reason: str


@dataclass(frozen=True, slots=True)
class Overlap:
    """Two nodes had an address at once. `witness`: kernel or client."""

    witness: str
    address: str
    nodes: tuple[str, str]
    begin: float
    end: float

    @property
    def length(self) -> float:
        """Seconds."""
        return self.end - self.begin


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is worth telling; a `violation` breaks a promise."""

    at: float
    text: str
    violation: bool = True


def spans_of(events: Iterable[Bound], end: float) -> list[Span]:
    """Return from when to when each node had each address; what is still bound counts to `end`."""
    since: dict[tuple[str, str], float] = {}
    found: list[Span] = []
    for event in events:
        key = (event.address, event.node)
        if event.present:
            since.setdefault(key, event.at)
        elif key in since:
            found.append(Span(*key, since.pop(key), event.at))
    return found + [Span(*key, at, end) for key, at in since.items()]


def overlaps(spans: Iterable[Span], witness: str, shortest: float = RESOLUTION) -> list[Overlap]:
    """Return where spans of one address on two nodes overlap for longer than `shortest`, in order
    of time.
    """
    by_address: dict[str, list[Span]] = {}
    for span in sorted(spans, key=lambda span: span.begin):
        by_address.setdefault(span.address, []).append(span)
    found = []
    for address, ordered in by_address.items():
        open_spans: list[Span] = []
        for span in ordered:
            open_spans = [other for other in open_spans if other.end > span.begin]
            for other in open_spans:
                end = min(other.end, span.end)
                if other.node != span.node and end - span.begin > shortest:
                    found.append(
                        Overlap(witness, address, (other.node, span.node), span.begin, end)
                    )
            open_spans.append(span)
    return sorted(found, key=lambda overlap: overlap.begin)


def without(overlap: Overlap, windows: Iterable[Window]) -> list[Overlap]:
    """Return what is left of an overlap outside these windows of its two nodes."""
    left = [(overlap.begin, overlap.end)]
    for window in windows:
        if window.node in overlap.nodes and window.address in {"", overlap.address}:
            cut = [
                ((begin, min(end, window.begin)), (max(begin, window.end), end))
                for begin, end in left
            ]
            left = [
                piece
                for piece in itertools.chain.from_iterable(cut)
                if piece[1] - piece[0] > RESOLUTION
            ]
    return [
        Overlap(overlap.witness, overlap.address, overlap.nodes, begin, end) for begin, end in left
    ]


def judge(
    found: Sequence[Overlap],
    excused: Sequence[Window],
    moves: Sequence[Move],
    faults: Sequence[Window],
    instances: dict[str, str],
) -> list[Finding]:
    """Return what is to be told of the overlaps.

    `excused` windows count for the kernel's witness only, never for the client's.

    `faults` are all faults with their times; `instances` tells which instance an address belongs
    to. An instance's addresses move together: what is the same for several is told of the first
    one.
    """
    findings = []
    told: set[tuple[object, ...]] = set()
    for overlap in found:
        pieces = without(overlap, excused) if overlap.witness == "kernel" else [overlap]
        for piece in pieces:
            text = _trouble(piece, moves, faults, instances.get(piece.address, ""))
            alike = (
                piece.witness,
                piece.nodes,
                instances.get(piece.address),
                round(piece.begin / TOGETHER),
                text,
            )
            if text and alike not in told:
                told.add(alike)
                broken = not text.startswith("beyond the goal")
                findings.append(Finding(piece.begin, f"{_described(piece)}: {text}", broken))
    return findings


def _described(overlap: Overlap) -> str:
    return (
        f"{overlap.address} on {' and '.join(overlap.nodes)} for {overlap.length * 1000:.0f} "
        f"ms ({overlap.witness})"
    )


def _trouble(
    overlap: Overlap, moves: Sequence[Move], faults: Sequence[Window], instance: str
) -> str:
    near = [
        move
        for move in moves
        if move.instance == instance and overlap.begin - NEAR <= move.at <= overlap.end + NEAR
    ]
    planned = [move for move in near if move.node in overlap.nodes and move.reason in HANDOVERS]
    if not planned:
        said = ", ".join(f"{move.node} {move.reason}" for move in near) or "no node became Active"
        return f"two owners without a handover ({said})"
    # The fault that caused the handover is the first one.
    disturbing = sum(
        fault.begin <= overlap.end and fault.end >= overlap.begin - NEAR for fault in faults
    )
    limit = BROKEN_LIMIT if disturbing > 1 else LIMIT
    if overlap.length > limit:
        return f"longer than {limit * 1000:.0f} ms in a handover, with {disturbing} faults near"
    return (
        f"beyond the goal of {GOAL * 1000:.0f} ms in a handover"
        if overlap.length > GOAL + RESOLUTION
        else ""
    )


# ---------------------------------------------------------------- leaks


@dataclass(frozen=True, slots=True)
class Sample:
    """One figure of one life of one process, or of a host, at a moment."""

    at: float
    life: str
    value: float


@dataclass(frozen=True, slots=True)
class Trend:
    """A slope per hour, with its standard error."""

    slope: float
    error: float

    @property
    def certain(self) -> bool:
        """Whether it rises for sure, by three standard errors."""
        return self.slope > 3 * self.error and self.slope > 0


def grown_up(samples: Sequence[Sample], age: float) -> list[Sample]:
    """Leave out what each life was in its first `age` seconds.

    A young process fills its caches, and no longer shares its pages.
    """
    begun: dict[str, float] = {}
    for sample in samples:
        begun[sample.life] = min(sample.at, begun.get(sample.life, sample.at))
    return [sample for sample in samples if sample.at - begun[sample.life] >= age]


def trend(samples: Sequence[Sample]) -> Trend | None:
    """Return the common trend within the lives.

    Least squares after each life's mean is taken away. None: too few.

    A daemon is replaced now and then; one life's level is not another's, but a leak grows in all of
    them alike.
    """
    by_life: dict[str, list[Sample]] = {}
    for sample in samples:
        by_life.setdefault(sample.life, []).append(sample)
    points: list[tuple[float, float]] = []
    for life in by_life.values():
        middle = sum(sample.at for sample in life) / len(life)
        mean = sum(sample.value for sample in life) / len(life)
        points += [(sample.at - middle, sample.value - mean) for sample in life]
    spread = sum(x * x for x, _ in points)
    free = len(points) - len(by_life) - 1
    if not spread or free < 1:
        return None
    slope = sum(x * y for x, y in points) / spread
    left = sum((y - slope * x) ** 2 for x, y in points)
    return Trend(slope * 3600, math.sqrt(left / free / spread) * 3600)


def thirds(samples: Sequence[Sample]) -> tuple[float, float]:
    """Return the medians of the first and of the last third, in order of time."""
    ordered = [sample.value for sample in sorted(samples, key=lambda sample: sample.at)]
    size = max(1, len(ordered) // 3)
    return _median(ordered[:size]), _median(ordered[-size:])


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
