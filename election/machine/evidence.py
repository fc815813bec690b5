"""What the store's answers prove and what a record means.

Mine and confirmed, lost, handed over, absent.

Applied and read are certain, a conflict only says that somebody else wrote, an unknown outcome says
nothing: both are read back before they are judged. A watch is a hint: what it shows is believed
only if it is newer than all that was seen.

Only another holder or session is a loss. A foreign edit is not: the holder writes its record again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

from election.actions import ForeignEdit
from election.candidates import namesake
from election.machine.handover import Handover, Phase
from election.machine.ownership import Ownership
from election.machine.situation import Kernel, Request, Situation
from election.model import (
    Absent,
    Applied,
    Conflict,
    Content,
    Found,
    Identity,
    ReadAnswer,
    Reason,
    Record,
    State,
    Unknown,
    Unreadable,
    WriteAnswer,
)
from election.timing import HANDOVER_REREAD, STRIKE_AFTER

# ---------------------------------------------------------------- what somebody else changed

OWN_FIELDS = (
    "uid",
    "holder",
    "session",
    "epoch",
    "counter",
    "lease_duration",
    "successor",
    "bound",
    "pin",
    "priority",
    "addresses",
    "release",
)
"""What a holder writes again. The times are for people, and unknown fields are not vipd's."""
LONGEST_VALUE = 40


def foreign_edit(content: Content, own: Iterable[Record]) -> str:
    """Return what is not as one of this session's `own` writes left it; empty: nothing, or
    another session took the record.
    """
    match content:
        case Absent():
            return "deleted"
        case Unreadable(why=why):
            return f"made unreadable: {why}"
        case Found(record):
            return _changed_fields(record, own)
        case _:
            assert_never(content)


def _changed_fields(record: Record, own: Iterable[Record]) -> str:
    differences = [_differences(record, one) for one in own]
    if not differences or not all(differences) or all("session" in found for found in differences):
        return ""
    fewest = min(differences, key=len)
    return ", ".join(f"{name}: {_shown(getattr(record, name))}" for name in fewest)


def _differences(record: Record, own: Record) -> list[str]:
    return [name for name in OWN_FIELDS if getattr(record, name) != getattr(own, name)]


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return (text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}...") or "empty"


# --------------------------------------------------- what an answer proves, and what a record means

LONGEST_PAUSE = 0.4
"""Most seconds that a node which holds nothing waits after a request that failed at once: so late
may it learn of a release."""


class Evidence:
    """Handles what comes from the store, and draws the conclusions from what is certain."""

    def __init__(self, situation: Situation, ownership: Ownership) -> None:
        self._s = situation
        self._ownership = ownership
        self._foreign: str | None = None

    def on_watch(self, now: float, content: Content) -> None:
        """Believe a watch that shows something newer.

        Anything else may be merely late, or a restored store: read.
        """
        seen = self._s.seen
        if seen.is_news(content):
            seen.note_news(now)
            self._interpret_content(now, content)
            if self._s.is_named(now) and not self._s.pending.unread:
                # What a read that was sent before will answer is known now, and a successor has no
                # time to wait for it.
                self._s.pending.forget_read()
        elif not seen.is_known(content) and not self._is_echo(content):
            self._s.pending.need_read()

    def on_read(self, now: float, number: int, answer: ReadAnswer) -> None:
        """Take the answer to a read."""
        s = self._s
        request = s.pending.match_answer(number)
        if request is None:
            return
        if isinstance(answer, Unknown):
            self._on_unknown(now, request)
            return
        s.pending.note_contact()
        # A watch may have shown a later content while this answer travelled: then it proves nothing
        # about age.
        overtaken = s.seen.news_at >= request.sent_at and not s.seen.is_known(answer)
        if overtaken and not s.seen.is_news(answer):
            return
        s.pending.note_read(now)
        self._interpret_content(now, answer)
        s.probing.compare_with_record(request.sent_at, s.seen.record)

    def on_write(self, now: float, number: int, answer: WriteAnswer) -> None:
        """Take the answer to a write."""
        s = self._s
        request = s.pending.match_answer(number)
        if request is None or request.write is None:
            return
        match answer:
            case Unknown():
                self._on_unknown(now, request)
            case Conflict():
                s.pending.note_contact()
                s.pending.need_read()
                if s.handover is not None and s.handover.phase is Phase.NAMING:
                    # A foreign edit came between: nobody was named, so nobody is struck out. Try
                    # again.
                    s.moves.withdraw_naming()
            case Applied(revision):
                s.pending.note_contact()
                written = Found(request.write.record, revision)
                # A write that news of the watch caused has replaced just that: nothing that was
                # seen came after it.
                expected = request.write.expected
                if s.seen.news_at < request.sent_at or (
                    expected is not None and s.seen.revision == expected
                ):
                    self._interpret_content(now, written)
                elif not s.seen.is_known(written):
                    # A watch was faster, with what came after this write: only a read shows what
                    # stands.
                    s.pending.need_read()
            case _:
                assert_never(answer)

    def give_up_request(self, now: float) -> None:
        """Take a request that has run out of time for one whose outcome is unknown."""
        request = self._s.pending.request
        if request is not None and now >= request.gives_up_at:
            self._on_unknown(now, request)

    def _on_unknown(self, now: float, request: Request) -> None:
        s = self._s
        timing = s.settings.timing
        pause = (
            timing.retry_interval
            if s.state is State.ACTIVE
            else min(LONGEST_PAUSE, timing.renew_interval / 2)
        )
        if s.handover is not None:
            pause = min(pause, HANDOVER_REREAD)
        s.pending.note_unknown(now, request, pause)

    def _is_echo(self, content: Content) -> bool:
        s = self._s
        return (
            isinstance(content, Found)
            and content.record.held_by(s.me)
            and s.right.used(content.record.counter)
        )

    # ------------------------------------------------------------------ what a record means

    def _interpret_content(self, now: float, content: Content) -> None:
        """Draw the conclusions from content that the store is known to have had."""
        s = self._s
        before = s.seen.record
        if s.state is State.ACTIVE and s.handover is None:
            self._report_foreign_edit(content)
        changed = s.seen.observe_content(now, content)
        s.remember()
        record = s.seen.record
        if s.handover is not None and (
            record is None or (not record.holder and record.session != s.me.session)
        ):
            # The successor may have taken the lease before somebody deleted the record: who has
            # named another cannot put its own record back, as a holder does that has its full
            # right.
            self._ownership.leave(now, Reason.LOST)
        if record is None:
            if s.kernel is Kernel.LEFTOVER:
                self._ownership.unbind(Reason.STARTUP)
            return
        s.preemption.note_epoch(now, record.epoch)
        self._check_namesake(now, record, before, changed)
        self._report_other_addresses(record)
        if record.held_by(s.me):
            known_until = s.right.deadline
            if s.right.confirm(record.counter):
                self._on_confirmed(now, record, known_until)
        elif s.state is State.ACTIVE:
            if record.holder:
                self._on_other_holder(now, record)
        elif not s.is_mine and (
            s.kernel is Kernel.LEFTOVER or (s.kernel is Kernel.INHERITED and record.holder)
        ):
            self._ownership.leave(now, Reason.LOST)

    # ------------------------------------------------------------------ held by this session

    def _on_confirmed(self, now: float, record: Record, known_until: float) -> None:
        """Act on a write of this session that is now known to be applied.

        `known_until` is the deadline last set.
        """
        s = self._s
        s.mine = record
        s.moves.note_pin(record.pin)
        s.renewed_at = s.sent_at
        if s.state is State.ACTIVE:
            if s.handover is None or not self._still_handing_over(now, s.handover, record):
                self._ownership.extend_deadline(now)
            elif s.right.deadline > known_until:
                # Named with less than handover_timeout left, which the naming itself made longer.
                # Without a new word the guard kills a daemon that would leave in time.
                self._ownership.shrink_lifetimes()
        elif s.taking is not None and s.taking.epoch == record.epoch:
            self._ownership.become_active(now, s.taking)

    def _still_handing_over(self, now: float, handover: Handover, record: Record) -> bool:
        """Apply a confirmed write to the handover; False: it has failed, and the full deadline
        is back.
        """
        if record.successor == handover.identity:
            handover.note_named()
        elif handover.phase is Phase.STRIKING:
            self._strike_out(now, handover)
            return False
        return True

    def _strike_out(self, now: float, handover: Handover) -> None:
        s = self._s
        s.field.strike_out(now, handover.successor)
        s.moves.end_handover()
        name, election = handover.successor.name, s.settings.election
        s.warn(f"{name} did not take {election} within {STRIKE_AFTER:g}s and was struck out")

    # ------------------------------------------------------------------ held by another

    def _on_other_holder(self, now: float, record: Record) -> None:
        s = self._s
        handover = s.handover
        if handover is None or handover.identity != Identity(record.holder, record.session):
            reason = Reason.NAMESAKE if record.holder == s.me.name else Reason.LOST
            if reason is Reason.NAMESAKE:
                s.warn(namesake(s.me.name))
            self._ownership.leave(now, reason, f"to {record.holder}")
            return
        handover.note_taken(now)
        if record.bound:
            handover.note_serving(now)

    def _check_namesake(
        self, now: float, record: Record, before: Record | None, changed: bool
    ) -> None:
        """Stay out for a while if a session changes the record under this node's name.

        Another daemon of that name.
        """
        s = self._s
        strange = (
            record.holder == s.me.name
            and record.session != s.me.session
            and record.session not in s.former
        )
        watched = (
            before is not None and before.holder == s.me.name and before.session == record.session
        )
        if strange and watched and changed and s.state is not State.ACTIVE:
            if s.fitness.fault(now) is not Reason.NAMESAKE:
                s.warn(namesake(s.me.name))
            s.fitness.note_namesake(now + record.lease_duration / 1000)

    def _report_foreign_edit(self, content: Content) -> None:
        """Say once of each content that somebody else changed the record, which its holder then
        writes again.
        """
        s = self._s
        seen = content.revision if not isinstance(content, Absent) else ""
        late = (
            isinstance(content, Found)
            and content.record.held_by(s.me)
            and s.right.is_awaited(content.record.counter)
        )
        if late or s.seen.is_known(content) or seen == self._foreign:
            return
        if what := foreign_edit(content, [one for one in (s.mine, s.written) if one is not None]):
            self._foreign = seen
            record = content.record if isinstance(content, Found) else None
            s.out.append(
                ForeignEdit(what, lost=record is not None and record.holder not in {"", s.me.name})
            )
        else:
            self._foreign = None

    def _report_other_addresses(self, record: Record) -> None:
        """Say that nodes disagree on an election's addresses, and go on.

        A roll-out does that for minutes.
        """
        s = self._s
        if record.holder not in {"", s.me.name} and _ips(record.addresses) != _ips(
            s.settings.addresses
        ):
            theirs, ours = ", ".join(record.addresses), ", ".join(s.settings.addresses)
            s.warn_once(
                f"{record.holder} holds {s.settings.election} with {theirs}; here it has {ours}"
            )


def _ips(addresses: tuple[str, ...]) -> set[str]:
    """Return the addresses without their prefix lengths, which some versions write as the file has
    them.
    """
    return {address.partition("/")[0] for address in addresses}
