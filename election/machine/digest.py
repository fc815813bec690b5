"""What a record means for this node once the store is known to have had it: mine and confirmed, lost, handed over, absent.

Only another holder or session is a loss. A foreign edit is not: the holder writes its record again.
"""

from __future__ import annotations

from election.actions import ForeignEdit
from election.candidates import namesake
from election.machine.foreign import foreign_edit
from election.machine.handover import Handover, Phase
from election.machine.ownership import Hold
from election.machine.situation import Kernel, Situation
from election.model import Absent, Content, Found, Identity, Reason, Record, State
from election.timing import STRIKE_AFTER


class Digest:
    """Draws the conclusions from each content of the record."""

    def __init__(self, situation: Situation, hold: Hold) -> None:
        self._s = situation
        self._hold = hold
        self._foreign: str | None = None

    def take_in(self, now: float, content: Content) -> None:
        """Take in content that the store is known to have had."""
        s = self._s
        before = s.seen.record
        if s.state is State.ACTIVE and s.handover is None:
            self._look_for_foreign_edit(content)
        changed = s.seen.see(now, content)
        s.remember()
        record = s.seen.record
        if s.handover is not None and (record is None or (not record.holder and record.session != s.me.session)):
            # The successor may have taken the lease before somebody deleted the record: who has named another cannot put
            # its own record back, as a holder does that has its full right.
            self._hold.leave(now, Reason.LOST)
        if record is None:
            if s.kernel is Kernel.LEFTOVER:
                self._hold.unbind(Reason.STARTUP)
            return
        s.preemption.note_epoch(now, record.epoch)
        self._look_for_namesake(now, record, before, changed)
        self._compare_addresses(record)
        if record.held_by(s.me):
            known_until = s.right.deadline
            if s.right.confirm(record.counter):
                self._on_confirmed(now, record, known_until)
        elif s.state is State.ACTIVE:
            if record.holder:
                self._on_other_holder(now, record)
        elif not s.is_mine and (s.kernel is Kernel.LEFTOVER or (s.kernel is Kernel.INHERITED and record.holder)):
            self._hold.leave(now, Reason.LOST)

    # ------------------------------------------------------------------ held by this session

    def _on_confirmed(self, now: float, record: Record, known_until: float) -> None:
        """Act on a write of this session that is now known to be applied; `known_until` is the deadline told so far."""
        s = self._s
        s.mine = record
        s.unpin = s.unpin and bool(record.pin)
        s.renewed_at = s.sent_at
        if s.state is State.ACTIVE:
            if s.handover is None or not self._still_handing_over(now, s.handover, record):
                self._hold.renewed(now)
            elif s.right.deadline > known_until:
                # Named with less than handover_timeout left, which the naming itself made longer: a guard that is not told
                # kills a daemon that would leave in time.
                self._hold.shrink()
        elif s.taking is not None and s.taking.epoch == record.epoch:
            self._hold.acquired(now, s.taking)

    def _still_handing_over(self, now: float, handover: Handover, record: Record) -> bool:
        """Look what a confirmed write means for the handover; False: it has failed, and the full deadline is back."""
        if record.successor == handover.identity:
            if handover.phase is Phase.NAMING:
                handover.phase = Phase.NAMED
        elif handover.phase is Phase.STRIKING:
            self._strike_out(now, handover)
            return False
        return True

    def _strike_out(self, now: float, handover: Handover) -> None:
        s = self._s
        s.field.strike(now, handover.successor)
        s.handover = s.wish = None
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
            self._hold.leave(now, reason, f"to {record.holder}")
            return
        if handover.phase is not Phase.TAKEN:
            handover.phase, handover.taken_at = Phase.TAKEN, now
        if record.bound:
            handover.saw_it_serve(now)

    def _look_for_namesake(self, now: float, record: Record, before: Record | None, changed: bool) -> None:
        """Stay out for a while if a session changes the record under this node's name: another daemon of that name."""
        s = self._s
        strange = record.holder == s.me.name and record.session != s.me.session and record.session not in s.former
        watched = before is not None and before.holder == s.me.name and before.session == record.session
        if strange and watched and changed and s.state is not State.ACTIVE:
            if s.fitness.fault(now) is not Reason.NAMESAKE:
                s.warn(namesake(s.me.name))
            s.fitness.saw_namesake(now + record.lease_duration / 1000)

    def _look_for_foreign_edit(self, content: Content) -> None:
        """Say once of each content that somebody else changed the record, which its holder writes again without a word else."""
        s = self._s
        seen = content.revision if not isinstance(content, Absent) else ""
        late = isinstance(content, Found) and content.record.held_by(s.me) and s.right.is_awaited(content.record.counter)
        if late or s.seen.is_known(content) or seen == self._foreign:
            return
        if what := foreign_edit(content, [one for one in (s.mine, s.written) if one is not None]):
            self._foreign = seen
            record = content.record if isinstance(content, Found) else None
            s.out.append(ForeignEdit(what, lost=record is not None and record.holder not in {"", s.me.name}))
        else:
            self._foreign = None

    def _compare_addresses(self, record: Record) -> None:
        """Say that nodes disagree on an election's addresses, and go on: a roll-out does that for minutes."""
        s = self._s
        if record.holder not in {"", s.me.name} and _ips(record.addresses) != _ips(s.settings.addresses):
            theirs, ours = ", ".join(record.addresses), ", ".join(s.settings.addresses)
            s.warn_once(f"{record.holder} holds {s.settings.election} with {theirs}; here it has {ours}")


def _ips(addresses: tuple[str, ...]) -> set[str]:
    """Return the addresses without their prefix lengths, which some versions write as the file has them."""
    return {address.partition("/")[0] for address in addresses}
