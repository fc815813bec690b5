"""Taking, keeping and leaving the addresses, and the state that goes with them.

Before a bind the shared word is written, so that guard and gate know the deadline of what is about
to be bound. An unbind forfeits the right first: no answer to an earlier write may bring it back.
"""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from election.actions import Announce, Bind, Refresh, SetDeadline, Transition, Unbind
from election.events import (
    AddressLost,
    BindDone,
    InterfaceChanged,
    KernelEvent,
    NodeEvent,
    Remembered,
    RivalSeen,
    Started,
    UnbindDone,
)
from election.machine.handover import Phase
from election.machine.situation import FORMER, NEVER, UNDER_DEADLINE, Kernel, Situation, Taking
from election.model import Reason, State
from election.timing import (
    HANDOVER_TIMEOUT,
    REMEMBER_IN_HANDOVER,
    REMEMBER_PATIENCE,
    SUCCESSOR_HOLDOFF,
    lifetime_seconds,
    next_refresh,
)

UNBIND_RETRY = 0.010
"""Seconds between two tries to remove an address: several fit into the fence margin, and a kernel
that refuses makes nothing spin. Doubled after every ten: what was refused so often is refused for
long."""
LONGEST_UNBIND_RETRY = 1.0


class Ownership:
    """What this node does with its addresses."""

    def __init__(self, situation: Situation) -> None:
        self._s = situation

    # ------------------------------------------------------------------ coming

    def on_started(self, now: float, event: Started) -> None:
        """Begin with what a former daemon left on the interface."""
        s = self._s
        s.since = now
        s.former = event.former_sessions
        if event.former_sessions:
            # The former daemon may have taken the lease as a successor just before it ended.
            s.holdoff_until = now + SUCCESSOR_HOLDOFF
        if event.inherited > now:
            s.right.inherit(event.inherited)
            s.kernel = Kernel.INHERITED
            # Whoever names a successor has lowered its deadline to this.
            s.may_have_named = event.inherited <= now + HANDOVER_TIMEOUT
            # From here on this daemon answers for the addresses, the guard does not refresh them
            # any more.
            self.refresh_lifetimes(now)
        elif event.leftover:
            s.kernel = Kernel.LEFTOVER
        else:
            self.unbind(Reason.STARTUP)

    def expect_take(self, now: float, epoch: int, reason: Reason) -> None:
        """Expect the answer to a take that is about to be sent."""
        s = self._s
        if reason in {Reason.HANDED_OVER, Reason.PREEMPTED}:
            s.taking = Taking(epoch, reason, now + REMEMBER_IN_HANDOVER)
            s.holdoff_until = now + SUCCESSOR_HOLDOFF
        else:
            s.taking = Taking(epoch, reason, now + REMEMBER_PATIENCE)

    def become_active(self, now: float, taking: Taking) -> None:
        """Become Active, if the take was confirmed while there is still time and reason to.

        1. A node takes at epoch 5 and binds. 2. All of vipd there is killed before the disk has the
        5, and the record is deleted.
        3. The next daemon takes at epoch 5 again, or below: a fencing token that falls. So the disk
        comes before the bind.
        """
        s = self._s
        if s.remembered < taking.epoch and now < taking.remember_by:
            s.taking = replace(taking, confirmed=True)
            return
        s.taking = None
        enough = lifetime_seconds(s.right.deadline - s.lead, now, s.lease) >= 1
        if not self._may_begin(now, taking) or not enough or s.kernel is Kernel.LEAVING:
            return
        s.kernel, s.serving = Kernel.BOUND, False
        s.refreshed_at = now
        s.moves.begin_tenure()
        s.field.clear_strikes()
        s.out.append(SetDeadline(s.right.deadline))
        s.out.append(Bind(taking.epoch, s.right.deadline, s.lease))
        s.out.append(Announce(taking.epoch))
        self.change_state(now, State.ACTIVE, taking.reason)

    def _may_begin(self, now: float, taking: Taking) -> bool:
        """Whether this node may serve.

        A successor does so although it was told to leave since: it may release nothing yet, and
        hands over when it may.
        """
        s = self._s
        moved = taking.reason in {Reason.HANDED_OVER, Reason.PREEMPTED} and s.leaving_for_good
        return s.eligible(now) or (moved and s.fitness.fit is True and s.fitness.fault(now) is None)

    def _acquire_late(self, now: float, taking: Taking) -> None:
        """Become Active once the epoch is remembered, unless the record that gives the right was
        changed meanwhile.
        """
        if self._s.is_intact:
            self.become_active(now, taking)
        else:
            self._s.taking = None

    # ------------------------------------------------------------------ staying

    def extend_deadline(self, now: float) -> None:
        """Stay for as long as the renewal just confirmed allows."""
        self._s.out.append(SetDeadline(self._s.right.deadline))
        self.refresh_lifetimes(now)

    def shrink_lifetimes(self) -> None:
        """Tell guard and gate a handover's deadline, and give the addresses the shortest lifetime
        there is.
        """
        s = self._s
        s.out.append(SetDeadline(s.right.deadline))
        s.out.append(Refresh(s.right.deadline, s.lease, shrink=True))

    def refresh_lifetimes(self, now: float) -> None:
        """Give the addresses their kernel lifetimes again, as long as one whole second fits into
        the right.
        """
        s = self._s
        s.refreshed_at = now
        if lifetime_seconds(s.right.deadline, now, s.lease) >= 1:
            s.out.append(Refresh(s.right.deadline, s.lease))

    def lifetimes_refresh_at(self, now: float) -> float:
        """Return when to refresh though no renewal succeeds; one that does refreshes too.

        In a handover lifetimes stay short.
        """
        s = self._s
        if s.kernel not in UNDER_DEADLINE or s.handover is not None:
            return NEVER
        return next_refresh(now, s.right.deadline, s.refreshed_at, s.lease)

    def on_kernel(self, now: float, event: KernelEvent) -> None:
        """Handle what kernel and wire report of the addresses."""
        match event:
            case BindDone():
                self._on_bind_done(now, event)
            case UnbindDone():
                self._on_unbind_done(now, event)
            case AddressLost():
                self._put_back_addresses()
            case RivalSeen():
                self._on_rival(now)
            case _:
                assert_never(event)

    def _on_bind_done(self, now: float, event: BindDone) -> None:
        s = self._s
        if s.kernel is not Kernel.BOUND or event.epoch not in s.own_epochs:
            return
        if event.ok:
            s.serving = True
            s.fitness.note_bound()
            return
        if event.why:
            s.fitness.note_refusal(now)
        self.leave(now, Reason.BIND_FAILED if event.why else Reason.LEASE_EXPIRED, event.why)

    def _on_unbind_done(self, now: float, event: UnbindDone) -> None:
        s = self._s
        if s.kernel is not Kernel.LEAVING:
            return
        if event.ok:
            s.kernel = Kernel.CLEAR
            s.fitness.note_unbound()
            s.unbind_again_at = NEVER
            s.out.append(SetDeadline(0.0))
        else:
            s.unbind_again_at = now + min(
                LONGEST_UNBIND_RETRY, UNBIND_RETRY * 2.0 ** min(s.fitness.unbind_fails // 10, 7)
            )
            s.fitness.note_unbind_failure()

    def _put_back_addresses(self) -> None:
        s = self._s
        if s.kernel is Kernel.BOUND and s.mine is not None:
            s.out.append(Bind(s.mine.epoch, s.right.deadline, s.lease, repair=True))
            s.out.append(Announce(s.mine.epoch))

    def _on_rival(self, now: float) -> None:
        s = self._s
        if s.handover is not None:
            s.handover.note_serving(now)
            if s.handover.phase is not Phase.TAKEN:
                # Perhaps the successor's first frame, which came before its record did: read now.
                s.pending.need_read()

    def on_node(self, event: NodeEvent) -> None:
        """Handle that the disk has kept an epoch, and that the kernel may grant what it refused."""
        s = self._s
        match event:
            case Remembered(chosen):
                s.remembered = max(s.remembered, chosen)
            case InterfaceChanged():
                s.fitness.note_interface_change()
            case _:
                assert_never(event)

    # ------------------------------------------------------------------ leaving

    def leave_at_deadline(self, now: float) -> None:
        """Leave in time for the addresses to be gone by the deadline."""
        if now >= self.unbind_begins_at():
            self.leave(now, Reason.LEASE_EXPIRED)

    def unbind_begins_at(self) -> float:
        """Return when the unbind has to begin, whatever else goes on."""
        s = self._s
        return s.right.deadline - s.lead if s.kernel in UNDER_DEADLINE else NEVER

    def reconcile(self, now: float, resting: tuple[State, Reason]) -> None:
        """Leave if there is a reason to, rest in the right state if not Active, refresh if it is
        time.
        """
        s = self._s
        if s.taking is not None and s.taking.confirmed:
            self._acquire_late(now, s.taking)
        if self._must_leave(now, resting[0]):
            self.leave(now, s.fitness.fault(now) or resting[1])
        if s.handover is not None and now >= s.handover.unbind_at():
            self.leave(now, s.handover.reason, f"to {s.handover.successor.name}")
        if s.state not in {State.ACTIVE, resting[0]}:
            self.change_state(now, *resting)
        if now >= self.lifetimes_refresh_at(now):
            self.refresh_lifetimes(now)

    def leave_without_successor(self, now: float) -> None:
        """Leave without a successor: an operator wants it, and there is no other fit node."""
        self.leave(now, Reason.SHUTDOWN if self._s.fitness.stopping else Reason.DRAINED)

    def leave(self, now: float, reason: Reason, detail: str = "") -> None:
        """Unbind, and be Active no more."""
        s = self._s
        self.unbind(reason)
        s.moves.end_handover()
        if s.state is State.ACTIVE:
            self.change_state(now, s.resting_state(now)[0], reason, detail)

    def unbind(self, reason: Reason) -> None:
        """Give up the right, then the addresses."""
        s = self._s
        s.right.forfeit()
        s.taking = None
        s.kernel, s.serving = Kernel.LEAVING, False
        s.unbind_again_at = NEVER
        s.out.append(Unbind(reason))

    def unbind_again(self, now: float) -> None:
        """Try again if the kernel refused: nothing is released before it is confirmed."""
        s = self._s
        if now >= s.unbind_again_at:
            s.unbind_again_at = NEVER
            s.out.append(Unbind(s.reason))

    def change_state(self, now: float, after: State, reason: Reason, detail: str = "") -> None:
        """Change the state, and say why."""
        s = self._s
        epoch = s.seen.record.epoch if s.seen.record else 0
        s.out.append(Transition(s.state, after, reason, epoch, detail))
        s.state, s.reason, s.since, s.detail = after, reason, now, detail

    def _must_leave(self, now: float, resting: State) -> bool:
        """Whether the address has to go now, whoever is there to take it."""
        s = self._s
        if s.state is State.ACTIVE:
            return s.fitness.fault(now) is not None
        staying_out = s.fitness.stopping or resting is State.FAULT
        return staying_out and s.kernel in FORMER
