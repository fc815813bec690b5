"""When the programs that a former life left are replaced by new ones. Pure.

After a full kill the old programs stay attached, with the old deadlines, which nobody can write any
more: they close by themselves, in time. The new ones are closed until the new life has the right.
Replacing at once would cut off a VIP whose right still lasts; never replacing would cut it off when
the old deadline passes. So:

    a VIP that is still bound       its new word is opened when the lease has been taken back:
    replace then, no gap several of them                 the others follow within moments: wait for
    them, but not for long a VIP that was not bound        opened means that it is about to be bound
    and announced: replace at once no VIP was bound                replace as soon as all are known
    none of them opened             after the longest right that the former life can have had, all
    old deadlines have passed

Nothing is extended: what the old programs let pass, the old deadlines allow, and those were rights.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

GRACE = 0.1
"""Seconds that the first VIP taken back waits for the others. Its own old deadline was about the
same as theirs: all of a node's leases are renewed on one tick."""


@dataclass(slots=True)
class Succession:
    """One interface's change from old programs to new ones. Moments are seconds on CLOCK_BOOTTIME.

    `until`: when no right of the former life can be left. `inherited`: slots whose addresses were
    bound when they became known. `settled`: all slots are known.
    """

    until: float
    inherited: set[int] = field(default_factory=set)
    settled: bool = False
    opened_at: float | None = None

    def replace_at(self, now: float, open_slots: AbstractSet[int]) -> float:
        """Return the moment to replace the programs at, `now` meaning at once.

        To be asked again whenever a slot opens.
        """
        waiting = self.inherited - open_slots
        if open_slots - self.inherited or (not waiting and (open_slots or self.settled)):
            return now
        if self.opened_at is None and open_slots:
            self.opened_at = now
        return self.until if self.opened_at is None else min(self.until, self.opened_at + GRACE)
