"""Until when this session may hold the VIP, and from when on it may take a lease that another one
holds.

The own right ends at the send time of the last write known to be applied, plus what that very write
promised. Every attempt uses a counter value that this session never used before, so a record that
is read back tells which attempt was applied, and gives the right of that attempt's send time, never
of the read's own.

A rival's lease counts from this node's own observation of its record. Wall-clock times in a record
are never read. A record that is absent, unreadable, or older than one already seen promises nothing
about its holder, so the longest lease_duration known is waited out from the moment this content was
first seen.

A lease_duration counts from a write of vipd's, and for that long after it was last seen in force.
Only time under observation counts: of what happened while the store was out of reach nobody here
can tell. What a session promised last goes on counting while its node lives, since it may take the
record again, unseen, with the same promise.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import assert_never

from election.model import Absent, Content, Found, Identity, Record, Revision, Unreadable
from election.timing import LONGEST_LEASE, SMALLEST_LEASE

# ---------------------------------------------------------------- this session's own right


class Right:
    """The deadline (seconds on CLOCK_BOOTTIME, 0.0: no right) and the attempts whose outcome may
    still become known.

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
        """Whether an attempt that came to nothing, as far as is known, still holds the deadline
        down: a new one frees it.
        """
        return any(
            ends <= self.deadline
            for counter, ends in self._ends.items()
            if counter > self.confirmed
        )

    def attempt(self, counter: int, ends_at: float) -> bool:
        """Note a write about to be sent that gives a right until `ends_at` if applied.

        Return whether the deadline fell.

        A write that promises less than the present deadline lowers it before it is sent, whatever
        its answer: if the answer is lost, others may already act on the shorter promise.
        """
        self._ends[counter] = ends_at
        if ends_at < self.deadline:
            self.deadline = ends_at
            return True
        return False

    def confirm(self, counter: int) -> bool:
        """Take the right of the attempt with this counter, known to be applied.

        Return whether it was news.

        An attempt sent after it whose outcome is unknown still holds the deadline down: it may be
        applied yet.
        """
        if counter <= self.confirmed or counter not in self._ends:
            return False
        self.confirmed = counter
        self._ends = {later: ends for later, ends in self._ends.items() if later >= counter}
        self.deadline = min(self._ends.values())
        del self._ends[counter]
        return True

    def inherit(self, deadline: float) -> None:
        """Take over the deadline of a former daemon of this node that is known to have ended."""
        self.deadline = deadline

    def forfeit(self) -> None:
        """Give up the right: no answer to a write sent until now will ever give one again."""
        self.deadline = 0.0
        self._ends.clear()


# ---------------------------------------------------------------- what others may still hold by

KEPT = 16
"""Promises kept apart; beyond that the two shortest become one that stands for both."""


@dataclass(slots=True)
class Promise:
    """A lease_duration and for how long it still counts, in seconds.

    `session`: whose latest it is; empty: a past one.
    """

    lease: float
    left: float
    session: str = ""


class Promises:
    """The promises known, in seconds: `own` is this node's, below which nothing falls.

    `remembered` is the state directory's.
    """

    def __init__(self, own: float, remembered: float) -> None:
        self._own = own
        self._known = [Promise(remembered, remembered)] if remembered > own else []
        self._live: frozenset[str] = frozenset()
        self._looked_at: float | None = None

    @property
    def longest(self) -> float:
        """The longest lease_duration (s) by which somebody may hold the VIP, as far as this node
        knows; at least its own.
        """
        return max([self._own, *(promise.lease for promise in self._known)])

    def set_live_sessions(self, sessions: Iterable[str]) -> None:
        """Note which sessions live, by their candidate records.

        Advice that only keeps a promise for longer.
        """
        self._live = frozenset(sessions)

    def count_time(self, now: float) -> None:
        """Let the time since the last look pass.

        A gap longer than a node's look at the record counts as one such look.
        """
        passed = 0.0 if self._looked_at is None else min(now - self._looked_at, self._own)
        self._looked_at = now
        for promise in self._known:
            if not promise.session or promise.session not in self._live:
                promise.left -= passed
        self._known = [promise for promise in self._known if promise.left > 0]

    def add_promise(self, session: str, lease: float) -> None:
        """Note that this session has written a record with this lease_duration (s)."""
        for promise in self._known:
            if session and promise.session == session and promise.lease > lease:
                # A shorter one does not end a longer one at once: either may be a foreign edit.
                promise.session = ""
        self._known = [
            promise
            for promise in self._known
            if promise.session != session or promise.lease > lease
        ]
        if lease > self._own:
            self._known.append(Promise(lease, lease, session))
        self._fold()

    def _fold(self) -> None:
        self._known.sort(key=lambda promise: promise.lease)
        while len(self._known) > KEPT:
            shortest = self._known.pop(0)
            self._known[0].left = max(self._known[0].left, shortest.left)


# ---------------------------------------------------------------- the record as seen

LARGEST_COUNT = 2**53
"""An epoch or counter above this is a foreign edit: at a thousand writes a second it is reached
after 280,000 years."""
FOLLOWED_COUNT = 2**52
"""An epoch above this is not remembered, nor a counter above it continued: each needs room for what
comes after it."""

Key = tuple[object, ...]


def sane(content: Content) -> Content:
    """Turn a record with impossible figures into an unreadable one."""
    if not isinstance(content, Found):
        return content
    record = content.record
    if not SMALLEST_LEASE <= record.lease_duration / 1000 <= LONGEST_LEASE:
        return Unreadable(
            content.revision, f"lease_duration {record.lease_duration} ms is out of range"
        )
    if not (0 <= record.epoch <= LARGEST_COUNT and 0 <= record.counter <= LARGEST_COUNT):
        return Unreadable(content.revision, "epoch or counter is out of range")
    return content


class Observation:
    """The last content seen and its age.

    `epoch`, `longest` (seconds) and `chosen` start from what the state directory remembers.

    `highest` is the age of the newest record seen, `floor` the highest epoch seen or chosen by this
    node: no epoch of its own is ever below it.
    """

    def __init__(self, lease_duration: float, epoch: int, longest: float, chosen: int = 0) -> None:
        self.content: Content | None = None
        self.changed_at = 0.0
        self.news_at = 0.0
        self.highest = (epoch, 0)
        self.floor = max(epoch, chosen)
        self.promises = Promises(lease_duration, longest)
        self.older = False
        self.advanced = False
        self._key: Key | None = None
        self._wait = lease_duration
        self._held_until = 0.0
        self._tenure = -1
        self._older_until = 0.0

    @property
    def longest(self) -> float:
        """The longest lease_duration (s) by which somebody may hold the VIP, as far as this node
        knows.
        """
        return self.promises.longest

    @property
    def record(self) -> Record | None:
        """The record, if there is a readable one."""
        return self.content.record if isinstance(self.content, Found) else None

    @property
    def revision(self) -> Revision | None:
        """What the next write must find in the store; None: nothing."""
        return (
            None
            if self.content is None or isinstance(self.content, Absent)
            else self.content.revision
        )

    def is_news(self, content: Content) -> bool:
        """Whether a watch's report can be believed as it is.

        Newer than all that was seen, so not merely a late one.
        """
        content = sane(content)
        if not isinstance(content, Found):
            return False
        return (content.record.epoch, content.record.counter) > self.highest

    def is_known(self, content: Content) -> bool:
        """Whether this content is just what was seen last, by the store's own revision."""
        if isinstance(content, Absent) or isinstance(self.content, Absent) or self.content is None:
            return content == self.content
        return content.revision == self.content.revision

    def note_news(self, now: float) -> None:
        """Note that a watch has shown something newer than all that was seen."""
        self.news_at = now

    def observe_content(self, now: float, content: Content) -> bool:
        """Take in content that the store is known to have had.

        Return whether it changed by the election's measure.

        Foreign edits (an annotation, a label) give the record a new revision, but neither renew nor
        age a lease.
        """
        content = sane(content)
        self.content = content
        key = self._key_of(content)
        changed = key != self._key
        self._key = key
        self.promises.count_time(now)
        if isinstance(content, Found):
            self._compare(now, content.record, changed)
        else:
            self.older = self.advanced = False
        if changed:
            self.changed_at = now
            # Whoever wrote unseen before this did so by a promise that was known then; what is
            # forgotten meanwhile still counts.
            self._wait = self.longest
        return changed

    @property
    def next_epoch(self) -> int:
        """An epoch above every one known, of the record, seen or chosen.

        Above what this node remembers, if there is no room for that.
        """
        known = max(self.record.epoch if self.record else 0, self.highest[0], self.floor)
        return (known if known < LARGEST_COUNT else self.floor) + 1

    def choose(self, epoch: int) -> None:
        """Note that this node is about to write with this epoch."""
        if epoch <= FOLLOWED_COUNT:
            self.floor = max(self.floor, epoch)

    @property
    def remembered(self) -> tuple[int, float, int]:
        """What the state directory is to keep.

        The highest epoch seen, the longest lease (s), and `floor`.
        """
        return min(self.highest[0], self.floor), self.longest, self.floor

    def counter_floor(self, epoch: int) -> int:
        """Return the highest counter seen at this epoch (0: none).

        A write at it with less looks old to all who saw that.
        """
        return self.highest[1] if self.highest[0] == epoch else 0

    def free_at(self) -> float:
        """Return from when on anybody may take the record, apart from ranks.

        Its holder may hold it until then.
        """
        record = self.record
        if record is None:
            return self.changed_at + self._wait
        if record.released and not self.older:
            return self.changed_at
        if self.older or not record.holder or record.epoch >= LARGEST_COUNT:
            return max(self._held_until, self.changed_at + self._wait)
        return self._held_until

    def naming_of(self, identity: Identity) -> bool:
        """Whether the record names this session as successor and the naming came with a write of
        the holder's own.
        """
        record = self.record
        return (
            record is not None and record.successor == identity and self.advanced and not self.older
        )

    def _key_of(self, content: Content) -> Key:
        match content:
            case Absent():
                return ("absent",)
            case Unreadable(revision=revision):
                # By revision: between two unreadable contents the holder may have renewed unseen.
                return ("unreadable", revision)
            case Found(record=r):
                return (r.uid, r.holder, r.session, r.epoch, r.counter, r.successor)
            case _:
                assert_never(content)

    def _compare(self, now: float, record: Record, changed: bool) -> None:
        """Look how old the record is, and until when it is promised to its holder."""
        age = (record.epoch, record.counter)
        newest, was_older = age > self.highest, self.older
        self.older = age < self.highest
        if self.older:
            if not was_older:
                self._older_until = now + self.longest
            elif changed and now >= self._older_until:
                # 1. Somebody writes an epoch of 2**53 into the record. 2. The holder writes its own
                # again, which is older to
                # all who saw the other. 3. Nobody can hold by anything written before that any
                # more. So this record is the one that counts: without that nobody would ever take
                # it in time, or be named in it, again.
                self.highest, self.older = age, False
        if changed:
            self._promise(now, record)
            self.advanced = newest
        self.highest = max(self.highest, age)
        self.choose(record.epoch)

    def _promise(self, now: float, record: Record) -> None:
        """Take in what a write of the record promises.

        An edit that changes nothing but lease_duration is none of vipd's.

        Within one tenure a longer promise stands until its end, however often a foreign writer
        shortens it.
        """
        lease = record.lease_duration / 1000
        same_tenure = record.epoch <= self._tenure
        self._held_until = max(self._held_until, now + lease) if same_tenure else now + lease
        self._tenure = max(self._tenure, record.epoch)
        self.promises.add_promise(record.session, lease)
