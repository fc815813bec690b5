"""One planned move.

The holder names a successor, which takes the lease, binds and announces before the holder unbinds.

NAMING --applied--> NAMED --record held by the successor--> TAKEN --mark or frame, + 10 ms; or 40 ms--> (unbind)
   |                  | 200 ms without an answer
   +--not applied--> STRIKING --confirmed--> (a full deadline again; this successor is not named soon again)
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

from election.model import Candidate, Identity, Reason
from election.timing import HANDOVER_REREAD, LINGER, STRIKE_AFTER, UNBIND_AFTER_TAKEN


class Phase(enum.Enum):
    """How far a handover has come."""

    NAMING = "naming"
    NAMED = "named"
    STRIKING = "striking"
    TAKEN = "taken"


@dataclass(slots=True)
class Handover:
    """A handover under way on the holder's side. Times are the holder's own."""

    successor: Candidate
    reason: Reason
    pin: bool
    pin_before: str = ""
    sent_at: float = 0.0
    phase: Phase = Phase.NAMING
    read_at: float = 0.0
    taken_at: float = 0.0
    served_at: float = math.inf

    @property
    def identity(self) -> Identity:
        """The successor as it stands in the record."""
        return Identity(self.successor.name, self.successor.session)

    def strike_at(self) -> float:
        """When a successor that has not answered is struck out."""
        return self.sent_at + STRIKE_AFTER

    def note_serving(self, now: float) -> None:
        """Note that the successor has bound: its mark was read, or its first frame seen."""
        self.served_at = min(self.served_at, now)

    def unbind_at(self) -> float:
        """When the former holder unbinds (inf: it has not seen the lease taken)."""
        return (
            min(self.taken_at + UNBIND_AFTER_TAKEN, self.served_at + LINGER)
            if self.phase is Phase.TAKEN
            else math.inf
        )

    def reread_at(self) -> float:
        """When the record is read again while the successor's answer is awaited."""
        return self.read_at + HANDOVER_REREAD


@dataclass(frozen=True, slots=True)
class Wish:
    """A planned move that an operator asked for; `to` empty: to the best."""

    to: str
    pin: bool
