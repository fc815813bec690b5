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
    """What was asked and answered. `wanted`: the configuration says `on_conflict: wait`.

    1. Three nodes start from an empty store. 2. One of them takes and binds. 3. Another one's question is answered by it before
    the record that says so arrives. So an answer counts only if the record, read after it, still was never held.
    """

    def __init__(self, wanted: bool) -> None:
        self._wanted = wanted
        self._asked_at = 0.0
        self._asking = False
        self._free_until = 0.0
        self._rival = ""
        self._suspect: tuple[str, float] | None = None

    def needed(self, now: float, record: Record | None) -> bool:
        """Whether silence on the wire has to be proved before this record is taken: nobody ever held it."""
        return self._wanted and _never_held(record) and now >= self._free_until

    def ask_at(self) -> float:
        """When the next question may be put (inf: one is under way)."""
        return float("inf") if self._asking else self._asked_at + AGAIN

    def ask(self, now: float) -> Probe:
        """Put the question."""
        self._asking, self._asked_at = True, now
        return Probe(TIMEOUT)

    def answered(self, now: float, mac: str) -> bool:
        """Take the answer: somebody's MAC address, or silence. Return whether the record has to be read to judge it."""
        self._asking = False
        self._free_until = 0.0 if mac else now + VALID
        if not mac:
            self._rival, self._suspect = "", None
        elif mac != self._rival:
            self._suspect = (mac, now)
        return self._suspect is not None

    def judge(self, sent_at: float, record: Record | None) -> None:
        """Look at a record that was read, by a request sent at `sent_at`."""
        if not _never_held(record):
            self._rival, self._suspect = "", None
        elif self._suspect is not None and sent_at >= self._suspect[1]:
            self._rival, self._suspect = self._suspect[0], None

    def rival(self, record: Record | None) -> str:
        """Return who answers for the VIP although nobody ever held this record; empty: nobody, as far as is known."""
        return self._rival if _never_held(record) else ""


def _never_held(record: Record | None) -> bool:
    return record is None or (not record.holder and not record.session)
