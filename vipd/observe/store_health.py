"""Whether the store serves this node, and if not.

What is wrong, since when, and what vipd does about it. Pure.

One outage lasts from the first request that fails until none has failed for a lease_duration. A
store that stumbles, or three servers of which two are dead, would otherwise begin and end an outage
with every other request.

While it lasts it has the name that says most of the store now; afterwards that of its longest
phase: an API server that was away for a minute is not remembered as one that refused, because it
did so for the first second of its return.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from election.outage import Outage
from election.timing import Timing, fence_margin

WORDS = {
    Outage.UNREACHABLE: "not reachable",
    Outage.SLOW: "too slow",
    Outage.THROTTLED: "throttled",
    Outage.REFUSING: "refusing",
    Outage.READ_ONLY: "read-only",
    Outage.NO_QUORUM: "without quorum",
    Outage.FULL: "full",
    Outage.TOO_OLD: "too old",
    Outage.FAILING: "failing",
}
"""What is wrong with the store, to follow "the store is"."""
ADVICE = {
    Outage.REFUSING: "the files with certificates, password or token are read again when they "
    "change",
    Outage.FULL: "it can be read, but takes no renewal until it has room",
    Outage.READ_ONLY: "it can be read, but takes no renewal",
    Outage.TOO_OLD: "a server that is too old is not used",
}
FORGOTTEN_AFTER = 4
"""Lease_durations after which a failed write that nobody tried again says nothing any more; a
candidate record is written every one."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """An outage: its kind, a sentence about it, since when it lasts and when the last request
    failed (seconds, the daemon's clock).

    `lasted`: for how many seconds it had each kind.
    """

    kind: Outage
    why: str
    since: float
    failed_at: float
    lasted: Mapping[Outage, float] = field(default_factory=dict, compare=False)

    def goes_on(self, moment: float) -> Trouble:
        """Return it after another failure, of whatever kind: until then it had this one."""
        seconds = self.lasted.get(self.kind, 0.0) + moment - self.failed_at
        return replace(self, failed_at=moment, lasted={**self.lasted, self.kind: seconds})

    @property
    def longest(self) -> Outage:
        """The kind that it had for the longest time."""
        return max(self.lasted, key=lambda kind: self.lasted[kind], default=self.kind)


class StoreHealth:
    """Takes in how every request ended.

    Times are seconds on the daemon's clock; `answered_at` is 0.0 before the first answer.
    """

    def __init__(self, timing: Timing | None = None) -> None:
        self.timing = timing or Timing()
        self.trouble: Trouble | None = None
        self.answered_at = 0.0
        self._failed_at = 0.0
        self._write_failed_at = 0.0
        self._applied_at = 0.0
        self._kind_seen_at = 0.0

    @property
    def reachable(self) -> bool:
        """Whether the last request was answered."""
        return self.answered_at > self._failed_at

    @property
    def serves(self) -> bool:
        """Whether there is no outage, or both the last request and the last write were answered."""
        return self.trouble is None or (
            self.reachable and self._applied_at >= self._write_failed_at
        )

    def failed(self, moment: float, kind: Outage, why: str, *, write: bool) -> bool:
        """Take in a request whose outcome is unknown.

        Return whether this begins an outage, or changes its kind.
        """
        self._failed_at = moment
        if write:
            self._write_failed_at = moment
        before = self.trouble.goes_on(moment) if self.trouble is not None else None
        if before is None:
            self.trouble = Trouble(kind, why, moment, moment)
        elif kind is before.kind:
            self.trouble = replace(before, why=why)
        elif (
            kind.tells_more_than(before.kind)
            or moment - self._kind_seen_at >= self.timing.lease_duration
        ):
            self.trouble = replace(before, kind=kind, why=why)
        else:
            # Another server's fault, or what this one says between two words that tell more.
            self.trouble = before
            return False
        self._kind_seen_at = moment
        return before is None or self.trouble.kind is not before.kind

    def answered(self, moment: float, *, applied: bool) -> Trouble | None:
        """Take in an answer (`applied`: of a write, which took effect).

        Return the outage that is over with it.

        A store that is full or read-only answers reads all the time: after a failed write only one
        that is applied counts.
        """
        self.answered_at = moment
        if applied:
            self._applied_at = moment
        calm = moment - self._failed_at >= self.timing.lease_duration
        unwritten = self._write_failed_at > self._applied_at
        forgotten = moment - self._write_failed_at >= FORGOTTEN_AFTER * self.timing.lease_duration
        if self.trouble is None or not calm or (unwritten and not forgotten):
            return None
        over, self.trouble = self.trouble, None
        return replace(over, kind=over.longest)

    def reaction(self) -> str:
        """Return what vipd does while there is an outage, for an operator; empty: there is none."""
        if self.trouble is None:
            return ""
        timing = self.timing
        right = timing.lease_duration - fence_margin(timing.lease_duration)
        holding = (
            f"what this node holds it keeps until {right:.3g}s after its last renewal, and "
            f"it tries every {timing.retry_interval:.2g}s"
        )
        advice = ADVICE.get(self.trouble.kind)
        return f"{holding}; {advice}" if advice else holding
