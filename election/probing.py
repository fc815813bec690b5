"""Asking on the wire before a record that was absent is taken: keepalived, or another backend's group, may still be there."""

from __future__ import annotations

from election.actions import Probe
from election.model import Record

TIMEOUT = 0.2
"""Seconds to wait for an answer; a host on the same link answers within a few milliseconds."""
AGAIN = 1.0
"""Seconds between two questions."""
VALID = 2.0
"""Seconds for which silence counts."""


class Probing:
    """What was asked and answered. `wanted`: the configuration says `on_conflict: wait`."""

    def __init__(self, wanted: bool) -> None:
        self._wanted = wanted
        self._asked_at = 0.0
        self._asking = False
        self._free_until = 0.0

    def needed(self, now: float, record: Record | None) -> bool:
        """Whether silence on the wire has to be proved before this record is taken: nobody ever held it."""
        never_held = record is None or (not record.holder and not record.session)
        return self._wanted and never_held and now >= self._free_until

    def ask_at(self) -> float:
        """When the next question may be put (inf: one is under way)."""
        return float("inf") if self._asking else self._asked_at + AGAIN

    def ask(self, now: float) -> Probe:
        """Put the question."""
        self._asking, self._asked_at = True, now
        return Probe(TIMEOUT)

    def answered(self, now: float, mac: str) -> None:
        """Take the answer: somebody's MAC address, or silence."""
        self._asking = False
        self._free_until = 0.0 if mac else now + VALID
