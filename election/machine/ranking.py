"""Who comes next: the order of the candidates. Higher priority first, ties by node name (RFC 9568 uses the address)."""

from __future__ import annotations

from dataclasses import dataclass

from election.model import Candidate, Record

STRIKE_PATIENCE = 5.0
"""Seconds for which a successor that did not take the lease is not named again; each time in a row doubles them."""
LONGEST_PATIENCE = 60.0

Said = tuple[str, bool, int, bool, bool]


def order(candidate: Candidate) -> tuple[int, str]:
    """Sort key: the best candidate comes first."""
    return (-candidate.priority, candidate.name)


@dataclass(frozen=True, slots=True)
class Struck:
    """A successor that did not take the lease: what it said of itself then, until when that holds against it, and how often."""

    said: Said
    until: float
    times: int


def _said(candidate: Candidate) -> Said:
    """Return what a node says of itself; its counter only tells that it lives."""
    return (candidate.session, candidate.eligible, candidate.priority, candidate.asks, candidate.live)


class Field:
    """The candidates of one election as last reported; None until a first report. `me` is this node's name."""

    def __init__(self, me: str) -> None:
        self._me = me
        self._known: tuple[Candidate, ...] | None = None
        self._fit: list[Candidate] = []
        self._struck: dict[str, Struck] = {}

    def see(self, candidates: tuple[Candidate, ...]) -> None:
        """Take in a new report of all candidates."""
        self._known = candidates
        self._fit = sorted((c for c in candidates if c.live and c.eligible and c.name != self._me), key=order)

    def rank(self, record: Record | None, priority: int) -> int | None:
        """Return how many live, eligible nodes come before this one, the expired or releasing holder left out.

        None: nothing is known of the candidates.
        """
        if self._known is None:
            return None
        holder = record.holder if record else ""
        releaser = record.session if record and record.released else ""
        mine = (-priority, self._me)
        return sum(order(c) < mine and c.name != holder and c.session != (releaser or None) for c in self._fit)

    def is_stranger(self, name: str) -> bool:
        """Whether the candidates are known, and none of them, live or not, has this name."""
        return self._known is not None and name != self._me and all(candidate.name != name for candidate in self._known)

    @property
    def is_alone(self) -> bool:
        """Whether no other node lives, fit or not, as far as is known."""
        return self._known is not None and not any(c.live and c.name != self._me for c in self._known)

    def best(self, now: float, name: str = "") -> Candidate | None:
        """Return the best node to hand over to, or the named one if it is fit; None: there is none."""
        return next((c for c in self._fit if name in {"", c.name} and not self._is_struck(now, c)), None)

    def asker(self, now: float, priority: int) -> Candidate | None:
        """Return the best node that asks for the VIP and has a higher priority than this."""
        return next((c for c in self._fit if c.asks and c.priority > priority and not self._is_struck(now, c)), None)

    def strike(self, now: float, candidate: Candidate) -> None:
        """Don't name this node again until it says something else of itself, or for a while that doubles each time."""
        before = self._struck.get(candidate.name)
        times = before.times + 1 if before is not None and before.said == _said(candidate) else 1
        patience = min(LONGEST_PATIENCE, STRIKE_PATIENCE * 2.0 ** min(times - 1, 10))
        self._struck[candidate.name] = Struck(_said(candidate), now + patience, times)

    def forget_struck(self) -> None:
        """Start with a clean sheet: a new tenure."""
        self._struck.clear()

    def _is_struck(self, now: float, candidate: Candidate) -> bool:
        struck = self._struck.get(candidate.name)
        return struck is not None and now < struck.until and struck.said == _said(candidate)
