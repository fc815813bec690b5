"""When a Backup asks for the VIP: better than the holder, fit and in touch with the store for its preempt_delay.

Flapping is damped: an election that moved too often within a minute makes every asker wait longer before a preemption,
never before a failover.
"""

from __future__ import annotations

from collections import deque

from election.model import Record

WINDOW = 60.0
"""Seconds over which moves are counted."""
CALM_MOVES = 3
"""So many moves a minute are normal: a return, a drain and its end."""
LONGEST_DAMPING = 60.0


class Preemption:
    """Counts how long this node has been better, and how often the VIP has moved. `asked`: it asks at present."""

    def __init__(self, preempt: bool, preempt_delay: float) -> None:
        self._preempt = preempt
        self._delay = preempt_delay
        self._better_since: float | None = None
        self._moves: deque[float] = deque(maxlen=32)
        self._epoch = 0
        self.asked = False

    def note_epoch(self, now: float, epoch: int) -> None:
        """Count an acquisition, by whomever; the first one seen is not a move."""
        if self._epoch and epoch > self._epoch:
            self._moves.append(now)
        self._epoch = max(self._epoch, epoch)

    def delay(self, now: float) -> float:
        """Return the preempt_delay in force, longer while the election flaps."""
        excess = sum(now - moved < WINDOW for moved in self._moves) - CALM_MOVES
        if excess <= 0:
            return self._delay
        return max(self._delay, min(LONGEST_DAMPING, max(self._delay, 1.0) * 2.0**excess))

    def update(self, now: float, record: Record | None, eligible: bool, priority: int, in_touch: bool) -> None:
        """Look again whether this node is better than the record's holder."""
        better = (
            self._preempt
            and eligible
            and in_touch
            and record is not None
            and bool(record.holder)
            and record.pin != record.holder
            and priority > record.priority
            # A naming under way moves the pin before the address: no reason to begin to ask.
            and (record.successor is None or self._better_since is not None)
        )
        if not better:
            self._better_since = None
        elif self._better_since is None:
            self._better_since = now
        self.asked = self.asks(now)

    def asks_at(self, now: float) -> float:
        """Return when this node asks (inf: not as things are)."""
        return float("inf") if self._better_since is None else self._better_since + self.delay(now)

    def asks(self, now: float) -> bool:
        """Whether this node asks for the VIP now."""
        return now >= self.asks_at(now)
