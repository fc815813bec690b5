"""Which lease durations somebody may still hold by: what a record that says nothing has to be waited out for.

A lease_duration counts from a write of vipd's, and for that long after it was last seen in force. Only time under
observation counts: of what happened while the store was out of reach nobody here can tell. What a session promised last
goes on counting while its node lives, since it may take the record again, unseen, with the same promise.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

KEPT = 16
"""Promises kept apart; beyond that the two shortest become one that stands for both."""


@dataclass(slots=True)
class Promise:
    """A lease_duration and for how long it still counts, in seconds. `session`: whose latest it is; empty: a past one."""

    lease: float
    left: float
    session: str = ""


class Promises:
    """The promises known, in seconds: `own` is this node's, below which nothing falls; `remembered` is the state directory's."""

    def __init__(self, own: float, remembered: float) -> None:
        self._own = own
        self._known = [Promise(remembered, remembered)] if remembered > own else []
        self._live: frozenset[str] = frozenset()
        self._looked_at: float | None = None

    @property
    def longest(self) -> float:
        """The longest lease_duration (s) by which somebody may hold the VIP, as far as this node knows; at least its own."""
        return max([self._own, *(promise.lease for promise in self._known)])

    def see_live(self, sessions: Iterable[str]) -> None:
        """Note which sessions live, by their candidate records: advice that only keeps a promise for longer."""
        self._live = frozenset(sessions)

    def look(self, now: float) -> None:
        """Let the time since the last look pass; a gap longer than a node's look at the record counts as one such look."""
        passed = 0.0 if self._looked_at is None else min(now - self._looked_at, self._own)
        self._looked_at = now
        for promise in self._known:
            if not promise.session or promise.session not in self._live:
                promise.left -= passed
        self._known = [promise for promise in self._known if promise.left > 0]

    def see(self, session: str, lease: float) -> None:
        """Note that this session has written a record with this lease_duration (s)."""
        for promise in self._known:
            if session and promise.session == session and promise.lease > lease:
                # A shorter one does not end a longer one at once: either may be a foreign edit.
                promise.session = ""
        self._known = [promise for promise in self._known if promise.session != session or promise.lease > lease]
        if lease > self._own:
            self._known.append(Promise(lease, lease, session))
        self._fold()

    def _fold(self) -> None:
        self._known.sort(key=lambda promise: promise.lease)
        while len(self._known) > KEPT:
            shortest = self._known.pop(0)
            self._known[0].left = max(self._known[0].left, shortest.left)
