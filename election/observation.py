"""What this node has seen of an election's record, when it changed by this node's own clock, and when it is free to take.

Wall-clock times in a record are never read. A record that is absent, unreadable, or older than one already seen promises
nothing about its holder, so the longest lease_duration known is waited out from the moment this content was first seen.
"""

from __future__ import annotations

from election.model import Absent, Candidate, Content, Found, Identity, Record, Revision, Unreadable
from election.timing import LONGEST_LEASE, SMALLEST_LEASE

LARGEST_COUNT = 2**53
"""An epoch or counter above this is a stranger's edit: at a thousand writes a second it is reached after 280,000 years."""

Key = tuple[object, ...]


def sane(content: Content) -> Content:
    """Turn a record with impossible figures into an unreadable one."""
    if not isinstance(content, Found):
        return content
    record = content.record
    if not SMALLEST_LEASE <= record.lease_duration / 1000 <= LONGEST_LEASE:
        return Unreadable(content.revision, f"lease_duration {record.lease_duration} ms is out of range")
    if not (0 <= record.epoch <= LARGEST_COUNT and 0 <= record.counter <= LARGEST_COUNT):
        return Unreadable(content.revision, "epoch or counter is out of range")
    return content


class Observation:
    """The last content seen and its age. `epoch` and `longest` (seconds) start from what the state directory remembers."""

    def __init__(self, lease_duration: float, epoch: int, longest: float) -> None:
        self._own_lease = lease_duration
        self.content: Content | None = None
        self.changed_at = 0.0
        self.news_at = 0.0
        self.highest = (epoch, 0)
        self.epoch_floor = epoch
        self.longest = max(longest, lease_duration)
        self.older = False
        self.advanced = False
        self._key: Key | None = None
        self._lease = 0.0

    @property
    def record(self) -> Record | None:
        """The record, if there is a readable one."""
        return self.content.record if isinstance(self.content, Found) else None

    @property
    def revision(self) -> Revision | None:
        """What the next write must find in the store; None: nothing."""
        return None if self.content is None or isinstance(self.content, Absent) else self.content.revision

    def is_news(self, content: Content) -> bool:
        """Whether a watch's report can be believed as it is: newer than all that was seen, so not merely a late one."""
        content = sane(content)
        if not isinstance(content, Found):
            return False
        return (content.record.epoch, content.record.counter) > self.highest

    def is_known(self, content: Content) -> bool:
        """Whether this content is just what was seen last, by the store's own revision."""
        if isinstance(content, Absent) or isinstance(self.content, Absent) or self.content is None:
            return content == self.content
        return content.revision == self.content.revision

    def see(self, now: float, content: Content) -> bool:
        """Take in content that the store is known to have had; return whether it changed by the election's measure.

        Foreign edits (an annotation, a label) give the record a new revision, but neither renew nor age a lease.
        """
        content = sane(content)
        before = self.record
        self.content = content
        key = self._key_of(content)
        changed = key != self._key
        if isinstance(content, Found):
            self._take_in(content.record, before, changed)
        else:
            self.older = self.advanced = False
        self._key = key
        if changed:
            self.changed_at = now
        return changed

    def learn_epochs(self, candidates: tuple[Candidate, ...]) -> None:
        """Choose later epochs above all that other nodes remember. Advice only: it never makes a record look older."""
        known = [c.epoch for c in candidates if c.epoch <= LARGEST_COUNT]
        self.epoch_floor = max([self.epoch_floor, *known])

    @property
    def next_epoch(self) -> int:
        """An epoch above every one known."""
        seen = self.record.epoch if self.record else 0
        return max(seen, self.highest[0], self.epoch_floor) + 1

    def counter_floor(self, epoch: int) -> int:
        """Return the highest counter seen at this epoch (0: none): a write at it with less looks old to all who saw that."""
        return self.highest[1] if self.highest[0] == epoch else 0

    def free_at(self) -> float:
        """Return from when on anybody may take the record, apart from ranks; its holder may hold it until then."""
        record = self.record
        if record is None or self.older:
            return self.changed_at + self.longest
        if record.released:
            return self.changed_at
        if not record.holder:
            return self.changed_at + max(self.longest, self._lease)
        return self.changed_at + self._lease

    def naming_of(self, identity: Identity) -> bool:
        """Whether the record names this session as successor and the naming came with a write of the holder's own."""
        record = self.record
        return record is not None and record.successor == identity and self.advanced and not self.older

    def _key_of(self, content: Content) -> Key:
        match content:
            case Absent():
                return ("absent",)
            case Unreadable(revision=revision):
                # By revision: between two unreadable contents the holder may have renewed unseen.
                return ("unreadable", revision)
            case Found(record=r):
                return (r.uid, r.holder, r.session, r.epoch, r.counter, r.successor)

    def _take_in(self, record: Record, before: Record | None, changed: bool) -> None:
        age = (record.epoch, record.counter)
        newest = age > self.highest
        self.older = age < self.highest
        lease = record.lease_duration / 1000
        if changed:
            # A stranger may shorten lease_duration in the store while the holder counts on what it wrote: within one
            # tenure the longer of two successive promises stands.
            same_tenure = before is not None and (before.session, before.epoch) == (record.session, record.epoch)
            earlier = before.lease_duration / 1000 if before is not None and same_tenure else 0.0
            self._lease = max(lease, earlier)
            self.advanced = newest
        self.highest = max(self.highest, age)
        self.longest = max(self.longest, lease)
