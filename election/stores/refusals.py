"""What a store refuses (401, 403, permission denied), and when it may be asked for it again. `now`
is a parameter.

Retries come every 0.1 s, from every election of a node, and would fill the store's audit log. What
was refused is asked again after half of the time for which it has been refused, soon one request in
two seconds for the whole node, in turns. Once one of them is granted (somebody has given the right,
or the server has started) all are asked again at once; and so they are when the files with the
credentials have changed.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from secrets import SystemRandom

SHORTEST_PAUSE, LONGEST_PAUSE = 0.1, 2.0
"""Seconds between two requests of a node that are expected to be refused."""
JITTER = 0.25
"""Part of a pause by which it may be longer: nodes that were refused together must not come back
together."""
LATELY = 0.5
"""Seconds for which a request that had to wait keeps its place before others; longer than any retry
interval."""
MOST = 1024
"""Refusals that are remembered: a node may be refused the removal of Leases whose names never come
again."""

CHANCE = SystemRandom().random
Key = Hashable
"""What is asked for."""
EVERYTHING: Key = None
"""The credentials were refused, whatever they were shown for."""


@dataclass(slots=True)
class Refusal:
    """`since` when it is refused, and `why`, as the store said last; whether `everything` is.

    Besides, when it was tried last, and asked for last; and whether it may be tried once at any
    time.
    """

    since: float
    why: str
    everything: bool
    tried_at: float
    asked_at: float
    free: bool = False


class Refusals:
    """One for a node. `chance` returns a number from 0 to 1.

    Times are seconds of any clock that does not jump.
    """

    def __init__(self, chance: Callable[[], float] = CHANCE) -> None:
        self._chance = chance
        self._refused: dict[Key, Refusal] = {}
        self._next_at = 0.0
        self._credentials: object = None

    def wait(self, key: Key, now: float, credentials: object) -> float:
        """Return for how many seconds this must not be asked; 0: now, and the outcome has to be
        noted.

        `credentials` is anything that changes with the files that the credentials are in.
        """
        refused = self._find(key)
        if refused is None:
            return 0.0
        if credentials != self._credentials:
            self._refused.clear()
            return 0.0
        refused.asked_at = now
        if not refused.free:
            if now < self._next_at:
                return self._next_at - now
            others = (other for other in self._refused.values() if other is not refused)
            if any(
                other.tried_at < refused.tried_at and now - other.asked_at < LATELY
                for other in others
            ):
                return SHORTEST_PAUSE
            self._next_at = now + LONGEST_PAUSE
        refused.tried_at, refused.free = now, False
        return 0.0

    def of(self, key: Key) -> Refusal:
        """Return what is known of a refusal that was noted; raises KeyError."""
        return self._refused[EVERYTHING if EVERYTHING in self._refused else key]

    def expected(self, key: Key) -> bool:
        """Whether this was refused when it was asked for last."""
        return self._find(key) is not None

    def refused(self, key: Key, now: float, credentials: object, why: str) -> None:
        """Note that it was refused; EVERYTHING: the credentials were."""
        self._credentials = credentials
        refused = self._refused.setdefault(key, Refusal(now, why, key is EVERYTHING, now, now))
        refused.tried_at, refused.why = now, why
        pause = min(max((now - refused.since) / 2, SHORTEST_PAUSE), LONGEST_PAUSE)
        self._next_at = now + pause * (1 + JITTER * self._chance())
        while len(self._refused) > MOST:
            del self._refused[next(iter(self._refused))]

    def granted(self, key: Key) -> None:
        """Note that it was not refused.

        If it had been, whatever else was refused may be tried again.
        """
        if self._find(key) is None:
            return
        self._refused.pop(EVERYTHING, None)
        self._refused.pop(key, None)
        for refused in self._refused.values():
            refused.free = True

    def unanswered(self, key: Key, now: float) -> None:
        """Note that nobody knows, since there was no answer: that is no reason to wait."""
        if self._find(key) is not None:
            self._next_at = now

    def _find(self, key: Key) -> Refusal | None:
        return self._refused.get(EVERYTHING) or self._refused.get(key)
