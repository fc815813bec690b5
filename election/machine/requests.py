"""What is asked of the store and written to it.

What a write promises is noted before it is sent (right). If that is less than what is promised now,
it is obeyed before it is sent: the shared word and the lifetimes come down first.
"""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from election.actions import Refresh, SetDeadline, WriteKind
from election.machine.handover import Handover
from election.machine.lease import FOLLOWED_COUNT
from election.machine.ownership import Ownership
from election.machine.schedule import Due, Task
from election.machine.situation import Situation
from election.model import FORMAT_VERSION, Candidate, Identity, Reason, Record, Release
from election.timing import HANDOVER_TIMEOUT, right_ends

# --------------------------------- the next content of a record (whoever sends it stamps the times)


def created(uid: str, epoch: int, lease_duration: int) -> Record:
    """Return a record without a holder, under a unique id.

    The absence it ends was seen once, and is waited out on it.
    """
    return Record(uid=uid, epoch=epoch, lease_duration=lease_duration)


def taken(
    base: Record,
    me: Identity,
    epoch: int,
    counter: int,
    lease_duration: int,
    priority: int,
    addresses: tuple[str, ...],
) -> Record:
    """Return the record with a new holder and tenure.

    A pin stays only if it pins the new holder.
    """
    return replace(
        base,
        holder=me.name,
        session=me.session,
        epoch=epoch,
        counter=counter,
        lease_duration=lease_duration,
        successor=None,
        bound=False,
        pin=base.pin if base.pin == me.name else "",
        priority=priority,
        addresses=addresses,
        release=None,
        acquire_time="",
        version=max(base.version, FORMAT_VERSION),
    )


def renewed(
    base: Record, mine: Record, counter: int, priority: int, bound: bool, pin: str
) -> Record:
    """Return the holder's record renewed on top of what is in the store, unknown fields kept."""
    return replace(
        mine,
        counter=counter,
        successor=None,
        priority=priority,
        bound=bound,
        pin=pin,
        release=None,
        extra=base.extra,
        version=max(base.version, FORMAT_VERSION),
    )


def named(base: Record, counter: int, successor: Candidate, pin: bool) -> Record:
    """Return the record that names a successor."""
    return replace(
        base,
        counter=counter,
        successor=Identity(successor.name, successor.session),
        pin=successor.name if pin else "",
    )


def released(base: Record, counter: int) -> Record:
    """Return the record without a holder, with the proof that the holder itself let go."""
    return replace(
        base,
        holder="",
        counter=counter,
        successor=None,
        bound=False,
        pin="",
        release=Release(base.session, base.epoch),
    )


# ---------------------------------------------------------------- what is sent


class Requests:
    """Builds and sends each request; one at a time is under way."""

    def __init__(self, situation: Situation, ownership: Ownership) -> None:
        self._s = situation
        self._ownership = ownership

    def run_task(self, now: float, due: Due) -> None:
        """Run a task."""
        match due.task:
            case Task.READ | Task.REREAD:
                self._read(now, due.task)
            case Task.CREATE:
                self._create(now)
            case Task.TAKE:
                self._take(now)
            case Task.RENEW:
                self._renew(now, WriteKind.RENEW)
            case Task.STRIKE:
                self._strike(now)
            case Task.RELEASE:
                self._release(now)
            case Task.NAME:
                self._name(now, due.handover)
            case Task.PROBE:
                self._s.out.append(self._s.probing.send_probe(now))
            case Task.RETIRE:
                self._ownership.leave_without_successor(now)
            case _:
                assert_never(due.task)

    # ------------------------------------------------------------------ reads

    def _read(self, now: float, task: Task) -> None:
        if task is Task.REREAD and self._s.handover is not None:
            self._s.handover.note_reread(now)
        self._s.out.append(self._s.pending.send_read(now, self._timeout()))

    # ------------------------------------------------------------------ a record that nobody holds

    def _create(self, now: float) -> None:
        seen = self._s.seen
        self._send(
            now,
            WriteKind.CREATE,
            created(self._new_uid(), seen.next_epoch - 1, round(seen.longest * 1000)),
        )

    def _take(self, now: float) -> None:
        s = self._s
        base = s.seen.record or Record(uid=self._new_uid())
        reason = self._take_reason(now, base)
        epoch = s.seen.next_epoch
        self._choose(epoch)
        self._ownership.expect_take(now, epoch, reason)
        counter = self._counter_after(base.counter)
        self._promise(now, counter, right_ends(now, s.lease))
        record = taken(
            base,
            s.me,
            epoch,
            counter,
            round(s.lease * 1000),
            s.fitness.priority,
            s.settings.addresses,
        )
        self._send(now, WriteKind.TAKE, record)

    def _take_reason(self, now: float, record: Record) -> Reason:
        s = self._s
        if s.is_mine:
            return Reason.TAKEN_BACK if record.session in s.former else Reason.RECOVERED
        if s.is_named(now):
            return Reason.PREEMPTED if s.preemption.asked else Reason.HANDED_OVER
        if record.released and not s.seen.older:
            return Reason.RELEASED
        return Reason.LEASE_EXPIRED if record.holder else Reason.ACQUIRED

    # ------------------------------------------------------------------ this node's own record

    def _renew(self, now: float, kind: WriteKind) -> None:
        s = self._s
        mine = s.mine
        if mine is None:
            return
        base = s.seen.record or mine
        highest = max(base.counter, mine.counter, s.seen.counter_floor(mine.epoch))
        counter = self._counter_after(highest)
        self._promise(now, counter, right_ends(now, s.lease))
        # A handover that failed leaves the pin as it was; the naming already carried the
        # successor's.
        pin = mine.pin if s.handover is None else s.handover.pin_before
        pin = "" if s.unpin or pin != s.me.name else pin
        epoch = s.seen.next_epoch
        if epoch <= FOLLOWED_COUNT and (epoch > mine.epoch + 1 or counter <= highest):
            # A foreign writer raised epoch or counter, or the store came back older than what
            # others saw: to them, all that this node writes at its own epoch would look old.
            mine = replace(mine, epoch=epoch)
            self._choose(epoch)
        self._send(now, kind, renewed(base, mine, counter, s.fitness.priority, s.serving, pin))

    def _name(self, now: float, handover: Handover | None) -> None:
        s = self._s
        record = s.seen.record
        if record is None or handover is None:
            return
        handover.begin(now, record.pin)
        s.moves.begin_handover(handover)
        counter = self._counter_after(record.counter)
        self._promise(now, counter, now + HANDOVER_TIMEOUT)
        self._send(now, WriteKind.NAME, named(record, counter, handover.successor, handover.pin))

    def _strike(self, now: float) -> None:
        if self._s.handover is not None:
            self._s.handover.note_strike()
        self._renew(now, WriteKind.STRIKE)

    def _release(self, now: float) -> None:
        record = self._s.seen.record
        if record is not None:
            self._send(
                now, WriteKind.RELEASE, released(record, self._counter_after(record.counter))
            )

    # ------------------------------------------------------------------ sending

    def _choose(self, epoch: int) -> None:
        """Use this epoch from now on; it is remembered before anything is bound with it."""
        self._s.own_epochs.add(epoch)
        self._s.seen.choose(epoch)
        self._s.remember()

    def _counter_after(self, seen: int) -> int:
        """Return a counter above the one seen, unless a foreign writer made that so high that
        nothing may come after it.
        """
        return self._s.right.next_counter(seen if seen <= FOLLOWED_COUNT else 0)

    def _promise(self, now: float, counter: int, ends_at: float) -> None:
        """Note what a write about to be sent promises.

        If that is less than now, obey it before it is sent.
        """
        s = self._s
        s.sent_at = now
        if s.right.attempt(counter, ends_at):
            s.out.append(SetDeadline(s.right.deadline))
            s.out.append(Refresh(s.right.deadline, s.lease, shrink=s.handover is not None))

    def _send(self, now: float, kind: WriteKind, record: Record) -> None:
        s = self._s
        s.written = record
        s.out.append(s.pending.send_write(now, self._timeout(), kind, record, s.seen.revision))

    def _timeout(self) -> float:
        """In a handover a lost answer must be noticed while the lowered deadline leaves time for a
        second try.
        """
        timeout = self._s.settings.timing.request_timeout
        return min(timeout, HANDOVER_TIMEOUT / 4) if self._s.handover is not None else timeout

    def _new_uid(self) -> str:
        return f"{self._s.me.session}-{self._s.pending.next_number}"
