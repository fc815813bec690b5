"""One planned move: the holder names a successor, which takes the lease, binds and announces before the holder unbinds.

NAMING --applied--> NAMED --record held by the successor--> TAKEN --mark, frame or 40 ms--> (unbind)
   |                  | 200 ms without an answer
   +--not applied--> STRIKING --confirmed--> (a full deadline again; this successor is not named soon again)
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

from election.model import Candidate, Identity, Reason
from election.timing import HANDOVER_REREAD, STRIKE_AFTER, UNBIND_AFTER_TAKEN


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
    frame_seen: bool = False

    @property
    def identity(self) -> Identity:
        """The successor as it stands in the record."""
        return Identity(self.successor.name, self.successor.session)

    def strike_at(self) -> float:
        """When a successor that has not answered is struck out."""
        return self.sent_at + STRIKE_AFTER

    def unbind_at(self) -> float:
        """When the former holder unbinds at the latest (inf: it has not seen the lease taken)."""
        return self.taken_at + UNBIND_AFTER_TAKEN if self.phase is Phase.TAKEN else math.inf

    def reread_at(self) -> float:
        """When the record is read again while the successor's answer is awaited."""
        return self.read_at + HANDOVER_REREAD


@dataclass(frozen=True, slots=True)
class Wish:
    """A planned move that an operator asked for; `to` empty: to the best."""

    to: str
    pin: bool
