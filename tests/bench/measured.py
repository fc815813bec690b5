"""From what the client and the monitor saw in one step of a trial to its figures.

Pure; seconds in, milliseconds out.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from vipd.demo import measure
from vipd.demo.measure import Bound, Probe

TOGETHER = 0.250
"""A node that answers again after so many seconds or less, others in between, owned the VIP
together with them; later, it is a return."""
TWO_OR_MORE = range(2, 1000)
MS = 1000.0


@dataclass(frozen=True, slots=True)
class Window:
    """A step of a trial.

    `calm` the first probe that counts, `begin` the deed, `end` the last moment watched.
    CLOCK_MONOTONIC, seconds.
    """

    calm: float
    begin: float
    end: float


@dataclass(frozen=True, slots=True)
class Conditions:
    """What was known when the step was played.

    `phase` of the heartbeat period, 0 to 1 · `synced` with an observed heartbeat · `command` ms
    until the deed's own call returned · `crowded` two nodes still had the VIP when the fault was
    about to be undone, or at the end: their overlap had no end of its own.
    """

    phase: float
    synced: bool
    command: float
    crowded: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """The figures of one step, in ms unless said otherwise.

    `outage` longest time without an answer · `lost` probes of `sent` · `two` longest time with the
    VIP bound on two nodes (`endless`: until the fault was undone, or the watch was over) · `seen`
    longest time for which the client was answered by two nodes in turn · `none` longest time with
    the VIP on no node · `alone` from the deed until the node that should get the VIP alone has it,
    None if it never did · `changes` how often another node began to answer · `after` who answered
    last; empty: the outage did not end while it was watched · `outage6`, `lost6` the same as
    without 6, over IPv6, None where the daemon has no such address · `outage_at` when the outage
    began, from the deed on · `story` the changes of the VIP's owners: "12.3 +n2" is bound on n2
    12.3 ms after the deed.
    """

    outage: float
    lost: int
    sent: int
    two: float
    endless: bool
    seen: float
    none: float
    alone: float | None
    changes: int
    after: str
    command: float
    phase: float
    synced: bool
    outage_at: float = 0.0
    story: list[str] = field(default_factory=list)
    outage6: float | None = None
    lost6: int | None = None


def outcome(
    probes: Sequence[Probe],
    events: Iterable[Bound],
    window: Window,
    conditions: Conditions,
    wanted: frozenset[str],
) -> Outcome:
    """Return the figures of a step after which one of the nodes `wanted` should have the VIP."""
    own = [probe for probe in probes if window.calm <= probe.sent <= window.end]
    changes = list(events)
    alone = first_alone(changes, window, wanted)
    longest = measure.outage(own)
    return Outcome(
        outage=longest.length * MS,
        lost=measure.lost(own),
        sent=len(measure.served(own)),
        two=measure.longest_with(changes, TWO_OR_MORE, window.begin, window.end) * MS,
        endless=conditions.crowded,
        seen=answered_by_two(own) * MS,
        none=measure.longest_with(changes, range(1), window.begin, window.end) * MS,
        alone=None if alone is None else (alone - window.begin) * MS,
        changes=owner_changes(own),
        after=own[-1].node if own and own[-1].answered else "",
        command=conditions.command,
        phase=conditions.phase,
        synced=conditions.synced,
        outage_at=(longest.begin - window.begin) * MS if longest.length else 0.0,
        story=story(changes, window),
    )


def with_six(found: Outcome, window: Window, probes: Sequence[Probe] | None = None) -> Outcome:
    """Return the outcome with what was asked over IPv6, if anything was."""
    if probes is None:
        return found
    own = [probe for probe in probes if window.calm <= probe.sent <= window.end]
    return replace(found, outage6=measure.outage(own).length * MS, lost6=measure.lost(own))


def story(events: Iterable[Bound], window: Window) -> list[str]:
    """Return the changes of the VIP's owners within the window, the earliest first."""
    own = sorted(
        (event for event in events if window.calm <= event.at <= window.end),
        key=lambda event: event.at,
    )
    return [
        f"{(event.at - window.begin) * MS:.1f} {'+' if event.present else '-'}{event.node}"
        for event in own
    ]


def first_alone(events: Sequence[Bound], window: Window, wanted: frozenset[str]) -> float | None:
    """Return the first moment from `begin` to `end` at which one of the nodes wanted had the
    address and no other; None: there was none.
    """
    present: set[str] = set()
    for at, together in itertools.groupby(
        sorted(events, key=lambda event: event.at), key=lambda event: event.at
    ):
        if at > window.end:
            break
        for event in together:
            (present.add if event.present else present.discard)(event.node)
        if at >= window.begin and len(present) == 1 and present <= wanted:
            return float(at)
    return None


def owner_changes(probes: Iterable[Probe]) -> int:
    """Return how often another node than before answered."""
    nodes = [probe.node for probe in probes if probe.answered]
    return sum(one != two for one, two in itertools.pairwise(nodes))


def answered_by_two(probes: Iterable[Probe]) -> float:
    """Return the longest time for which two nodes answered in turn.

    Where a node answers again within TOGETHER after its last answer, and another one answered in
    between, both owned the VIP for all that time. Such times that touch are one.
    """
    last: dict[str, float] = {}
    newest = ""
    spans: list[tuple[float, float]] = []
    for probe in probes:
        if not probe.answered:
            continue
        before = last.get(probe.node)
        if before is not None and newest != probe.node and probe.sent - before <= TOGETHER:
            spans.append((before, probe.sent))
        last[probe.node], newest = probe.sent, probe.node
    return _longest_union(spans)


def _longest_union(spans: Iterable[tuple[float, float]]) -> float:
    longest, begin, end = 0.0, 0.0, -1.0
    for start, stop in sorted(spans):
        if start > end:
            begin, end = start, stop
        end = max(end, stop)
        longest = max(longest, end - begin)
    return longest
