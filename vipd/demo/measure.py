"""From what the prober and the monitor saw to figures. Pure; seconds on one CLOCK_MONOTONIC."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

ANSWER_LIMIT = 0.250
"""A probe answered later than this counts as lost: it waited in a queue for an owner, and no user
would have."""


@dataclass(frozen=True, slots=True)
class Probe:
    """One question to the VIP.

    When it was sent, when the answer came (None: never) and which node gave it.
    """

    sent: float
    received: float | None = None
    node: str = ""

    @property
    def answered(self) -> bool:
        """Whether the answer came in time."""
        return self.received is not None and self.received - self.sent <= ANSWER_LIMIT


@dataclass(frozen=True, slots=True)
class Bound:
    """An address appeared on a node, or went away."""

    at: float
    node: str
    address: str
    present: bool


@dataclass(frozen=True, slots=True)
class Outage:
    """The longest time without an answer.

    From the last answered probe before it to the first one after it, both as sent.

    The VIP was away for no longer than that.
    """

    begin: float = 0.0
    length: float = 0.0


def served(probes: Sequence[Probe]) -> Sequence[Probe]:
    """Leave out what was sent before the first answer.

    The client was still asking for the VIP's MAC address.
    """
    return tuple(itertools.dropwhile(lambda probe: not probe.answered, probes))


def lost(probes: Sequence[Probe]) -> int:
    """Return how many probes got no answer in time."""
    return sum(not probe.answered for probe in served(probes))


def outage(probes: Sequence[Probe]) -> Outage:
    """Return the longest outage; where no probe was lost there was none.

    One that lasts to the end counts to the last probe.
    """
    longest, last_good, lost_since = Outage(), 0.0, False
    for probe in served(probes):
        lost_since = lost_since or not probe.answered
        if lost_since and probe.sent - last_good > longest.length:
            longest = Outage(last_good, probe.sent - last_good)
        if probe.answered:
            last_good, lost_since = probe.sent, False
    return longest


def seen_twice(probes: Sequence[Probe]) -> float:
    """Return for how long the client got answers from two nodes in turn.

    That is from the first probe that a new owner answered to the last one that a former owner still
    answered. Each node is expected to own the VIP once within the probes given.
    """
    spans: dict[str, tuple[float, float]] = {}
    for probe in probes:
        if probe.answered:
            spans[probe.node] = (spans.get(probe.node, (probe.sent, 0.0))[0], probe.sent)
    overlaps = (
        min(one[1], two[1]) - max(one[0], two[0])
        for one, two in itertools.combinations(spans.values(), 2)
    )
    return max(0.0, *overlaps, 0.0)


def longest_with(events: Iterable[Bound], owners: range, begin: float, end: float) -> float:
    """Return the longest time between `begin` and `end` in which the number of nodes with an
    address was one of `owners`.

    Taken for each address by itself, then the longest of all.
    """
    by_address: dict[str, list[Bound]] = {}
    for event in sorted(events, key=lambda event: event.at):
        by_address.setdefault(event.address, []).append(event)
    return max(
        (_longest(changes, owners, begin, end) for changes in by_address.values()), default=0.0
    )


def _longest(changes: Sequence[Bound], owners: range, begin: float, end: float) -> float:
    present: set[str] = set()
    longest, since = 0.0, begin if 0 in owners else None
    # News of two nodes that were read at one moment are one change: their order means nothing.
    for at, together in itertools.groupby(changes, key=lambda change: change.at):
        for change in together:
            (present.add if change.present else present.discard)(change.node)
        if len(present) in owners:
            since = max(at, begin) if since is None else since
        elif since is not None:
            longest = max(longest, min(at, end) - since)
            since = None
    return longest if since is None else max(longest, end - since)
