"""Until when this session may hold the VIP: the deadline and the writes that can move it.

The right ends at the send time of the last write known to be applied, plus what that very write promised. Every attempt
uses a counter value that this session never used before, so a record that is read back tells which attempt was applied,
and gives the right of that attempt's send time, never of the read's own.
"""

from __future__ import annotations


class Right:
    """The deadline (seconds on CLOCK_BOOTTIME, 0.0: no right) and the attempts whose outcome may still become known.

    `confirmed` is the counter of the last attempt known to be applied.
    """

    def __init__(self) -> None:
        self.deadline = 0.0
        self._ends: dict[int, float] = {}
        self.confirmed = 0
        self._last_counter = 0

    def next_counter(self, seen: int) -> int:
        """Return a counter value above the record's and above every one this session ever used."""
        self._last_counter = max(self._last_counter, seen) + 1
        return self._last_counter

    def used(self, counter: int) -> bool:
        """Whether this session can have written this counter value."""
        return 0 < counter <= self._last_counter

    def is_awaited(self, counter: int) -> bool:
        """Whether this is the counter of an attempt whose outcome may still become known."""
        return counter > self.confirmed and counter in self._ends

    @property
    def held_down(self) -> bool:
        """Whether an attempt that came to nothing, as far as is known, still holds the deadline down: a new one frees it."""
        return any(ends <= self.deadline for counter, ends in self._ends.items() if counter > self.confirmed)

    def attempt(self, counter: int, ends_at: float) -> bool:
        """Note a write about to be sent that gives a right until `ends_at` if applied; return whether the deadline fell.

        A write that promises less than the present deadline lowers it before it is sent, whatever its answer: if the
        answer is lost, others may already act on the shorter promise.
        """
        self._ends[counter] = ends_at
        if ends_at < self.deadline:
            self.deadline = ends_at
            return True
        return False

    def confirm(self, counter: int) -> bool:
        """Take the right of the attempt with this counter, known to be applied; return whether it was news.

        An attempt sent after it whose outcome is unknown still holds the deadline down: it may be applied yet.
        """
        if counter <= self.confirmed or counter not in self._ends:
            return False
        self.confirmed = counter
        self._ends = {later: ends for later, ends in self._ends.items() if later >= counter}
        self.deadline = min(self._ends.values())
        del self._ends[counter]
        return True

    def inherit(self, deadline: float) -> None:
        """Take over the deadline of a former daemon of this node that is proven gone."""
        self.deadline = deadline

    def forfeit(self) -> None:
        """Give up the right: no answer to a write sent until now will ever give one again."""
        self.deadline = 0.0
        self._ends.clear()
