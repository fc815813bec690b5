"""One planned move.

The holder names a successor, which takes the lease, binds and announces before the holder unbinds.

NAMING --applied--> NAMED --record held by the successor--> TAKEN --(unbind)
   |                  | 200 ms without an answer              mark or frame, + 10 ms; or 40 ms
   +--not applied--> STRIKING --confirmed--> (a full deadline again;
                                              this successor is not named soon again)
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

    def begin(self, now: float, pin_before: str) -> None:
        """Note that the naming is sent, and the pin that the record has until then."""
        self.sent_at = self.read_at = now
        self.pin_before = pin_before

    def note_named(self) -> None:
        """Note that the naming is known to be applied."""
        if self.phase is Phase.NAMING:
            self.phase = Phase.NAMED

    def note_taken(self, now: float) -> None:
        """Note that the record is held by the successor."""
        if self.phase is not Phase.TAKEN:
            self.phase, self.taken_at = Phase.TAKEN, now

    def note_strike(self) -> None:
        """Note that the write that strikes the successor out is sent."""
        self.phase = Phase.STRIKING

    def note_reread(self, now: float) -> None:
        """Note that the record is read again."""
        self.read_at = now

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


class PlannedMoves:
    """The planned moves of a holder.

    The one under way, the one that an operator wants, and whether a pin is to go.
    """

    def __init__(self) -> None:
        self.handover: Handover | None = None
        self.wish: Wish | None = None
        self.unpin = False

    def set_wish(self, wish: Wish | None) -> None:
        """Want this move, or none."""
        self.wish = wish

    def want_unpin(self) -> None:
        """Want the record without its pin."""
        self.unpin = True

    def note_pin(self, pin: str) -> None:
        """Note the pin of the record as confirmed; empty: nothing is left to unpin."""
        self.unpin = self.unpin and bool(pin)

    def begin_handover(self, handover: Handover) -> None:
        """Begin this move: its naming is about to be sent."""
        self.handover = handover

    def withdraw_naming(self) -> None:
        """Forget a naming that was not applied; it may be sent again."""
        self.handover = None

    def end_handover(self) -> None:
        """End the move under way, and drop what was wanted."""
        self.handover = self.wish = None

    def begin_tenure(self) -> None:
        """Want nothing: what was asked for belonged to an earlier tenure."""
        self.end_handover()
        self.unpin = False
