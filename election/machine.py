"""The election of one virtual IP as a value machine: `step(now, event)` returns what is to be done, in order.

    Initialize --fit, record seen--> Backup --take confirmed--> Active --deadline, loss, handover--> Backup
         any of them --check, link, operator, namesake--> Fault --fit again--> Backup

It does no I/O and knows no clock: `now` is a parameter (seconds, CLOCK_BOOTTIME). Safety rests on four rules, each in a
module of its own: the right counts from the send of a write known to be applied (right), a rival's lease counts from
one's own observation (observation), a promise of less is obeyed before it is made (right, handover), and nothing is
handled before `now` was compared with the deadline (`step`). Unbind is confirmed before a release is written.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from election import model, records
from election.desk import Desk, Request
from election.fitness import Fitness
from election.handover import Handover, Phase, Wish
from election.model import Absent, Applied, Conflict, Found, Identity, Reason, Record, State, Unknown, WriteKind
from election.observation import Observation
from election.preemption import Preemption
from election.probing import Probing
from election.ranking import Field
from election.right import Right
from election.timing import (
    HANDOVER_TIMEOUT,
    SUCCESSOR_HOLDOFF,
    Timing,
    lifetime_seconds,
    next_refresh,
    right_ends,
    take_delay,
    unbind_lead,
)

NEVER = math.inf
UNBIND_RETRY = 0.010
Due = tuple[float, Callable[[float], None]]
"""Something to do and when."""


class Kernel(enum.Enum):
    """Where this node's addresses stand, as far as the machine has been told."""

    CLEAR = "clear"
    LEFTOVER = "leftover"  # an earlier life's, of unknown deadline: only their kernel lifetime stands behind them
    INHERITED = "inherited"  # a former daemon's of the same guard, under the deadline it left
    BOUND = "bound"
    LEAVING = "leaving"


UNDER_DEADLINE = (Kernel.BOUND, Kernel.INHERITED)
FORMER = (Kernel.INHERITED, Kernel.LEFTOVER)


@dataclass(frozen=True, slots=True)
class Settings:
    """One election's configuration on this node; `probe`: ask on the wire before taking a record that was absent."""

    election: str
    addresses: tuple[str, ...]
    timing: Timing
    preempt: bool = True
    preempt_delay: float = 0.0
    probe: bool = True


@dataclass(frozen=True, slots=True)
class Taking:
    """An acquisition that was sent, whatever became of it."""

    epoch: int
    reason: Reason


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What status, metrics and candidate records show."""

    state: State
    reason: Reason
    since: float
    detail: str
    deadline: float
    priority: int
    record: Record | None
    changed_at: float
    asks: bool
    stopped: bool
    in_touch: bool
    handing_over_to: str


class Machine:
    """One election on one node. Feed it every event in order; call `step` with a Tick no later than `next_wake` says."""

    def __init__(self, settings: Settings, me: Identity, epoch: int = 0, longest: float = 0.0) -> None:
        self.settings = settings
        self.me = me
        self.state = State.INITIALIZE
        self._reason, self._since, self._detail = Reason.STARTUP, 0.0, ""
        self._kernel = Kernel.CLEAR
        self._lead = unbind_lead(len(settings.addresses))
        self._lease = settings.timing.lease_duration
        self._right = Right()
        self._seen = Observation(self._lease, epoch, longest)
        self._remembered = (epoch, self._seen.longest)
        self._preemption = Preemption(settings.preempt, settings.preempt_delay)
        self._desk = Desk()
        self._fitness = Fitness()
        self._field = Field(me.name)
        self._probing = Probing(settings.probe)
        self._former: frozenset[str] = frozenset()
        self._may_have_named = False
        self._unbind_again_at = NEVER
        self._handover: Handover | None = None
        self._wish: Wish | None = None
        self._unpin = False
        self._taking: Taking | None = None
        self._mine: Record | None = None
        self._own_epochs: set[int] = set()
        self._holdoff_until = 0.0
        self._sent_at = self._renewed_at = self._refreshed_at = 0.0
        self._notices: set[str] = set()
        self._out: list[model.Action] = []

    # ------------------------------------------------------------------ surface

    def step(self, now: float, event: model.Event) -> list[model.Action]:
        """Take one event in and return the actions it causes; their order is part of the contract.

        The deadline comes first: after a pause of the process, queued events arrive before the timer does.
        """
        self._out = []
        self._fence(now)
        request = self._desk.request
        if request is not None and now >= request.gives_up_at:
            self._on_unknown(now, request)
        self._handle(now, event)
        self._advance(now)
        return self._out

    def next_wake(self, now: float) -> float:
        """Return when `step` must be called with a Tick at the latest (inf: only events matter)."""
        times = [self._unbind_again_at, *self._fitness.changes_at(now)]
        if self._preemption.asks_at(now) > now:
            times.append(self._preemption.asks_at(now))
        if self._kernel in UNDER_DEADLINE:
            times.append(self._right.deadline - self._lead)
        if self._handover is not None and self._handover.phase is Phase.TAKEN:
            times.append(self._handover.unbind_at())
        if self._kernel in UNDER_DEADLINE:
            times.append(self._refresh_at())
        if self._desk.request is not None:
            times.append(self._desk.request.gives_up_at)
        else:
            times.append(max(self._desk.not_before, self._next_due(now)[0]))
        return min(times)

    def candidacy(self, now: float) -> model.Candidacy:
        """Return what this node's candidate record should say of this election."""
        return model.Candidacy(
            eligible=self._eligible(now),
            priority=self._fitness.priority,
            asks=self._preemption.asks(now),
            epoch=self._seen.highest[0],
            state=self.state.name.capitalize(),
            reason=str(self._reason),
        )

    def snapshot(self, now: float) -> Snapshot:
        """Return what status and metrics show."""
        return Snapshot(
            state=self.state,
            reason=self._reason,
            since=self._since,
            detail=self._detail,
            deadline=self._right.deadline,
            priority=self._fitness.priority,
            record=self._seen.record,
            changed_at=self._seen.changed_at,
            asks=self._preemption.asks(now),
            stopped=self.stopped,
            in_touch=self._desk.in_touch,
            handing_over_to=self._handover.successor.name if self._handover else "",
        )

    @property
    def is_clear(self) -> bool:
        """Whether no address of this election has any business on this node."""
        return self._kernel is Kernel.CLEAR

    @property
    def longest(self) -> float:
        """The longest lease_duration (s) that this node knows of: so long it waits for a record that says nothing."""
        return self._seen.longest

    @property
    def stopped(self) -> bool:
        """Whether a stop that was asked for is complete: nothing bound, nothing held, no request under way."""
        settled = self._kernel is Kernel.CLEAR and self._desk.request is None and not self._desk.unread
        return self._fitness.stopping and settled and not self._is_mine()

    # ------------------------------------------------------------------ events

    def _handle(self, now: float, event: model.Event) -> None:
        match event:
            case model.Tick():
                pass
            case model.RecordSeen(content):
                self._on_watch(now, content)
            case model.ReadDone(number, answer):
                self._on_read(now, number, answer)
            case model.WriteDone(number, answer):
                self._on_write(now, number, answer)
            case model.BindDone() | model.UnbindDone() | model.AddressLost() | model.RivalSeen():
                self._on_kernel(now, event)
            case model.CandidatesSeen(candidates):
                self._field.see(candidates)
                self._seen.learn_epochs(candidates)
            case model.FitnessChanged(fit, priority, reason):
                self._fitness.judge(fit, priority, reason)
            case model.ProbeDone(mac):
                self._on_probe(now, mac)
            case model.Started():
                self._on_start(now, event)
            case _:
                self._on_order(event)

    def _on_order(self, event: model.Order) -> None:
        match event:
            case model.NamesakeSeen(present):
                self._fitness.foreign_namesake = present
            case model.AddressClaimed(by):
                self._fitness.claimed_by = by
            case model.HandoverAsked(to, pin):
                self._wish = Wish(to, pin) if self.state is State.ACTIVE else None
            case model.UnpinAsked():
                self._unpin = True
            case model.DrainChanged(drained):
                self._fitness.drained = drained
            case model.StopAsked():
                self._fitness.stopping = True

    def _on_start(self, now: float, event: model.Started) -> None:
        self._since = now
        self._former = event.former_sessions
        if event.former_sessions:
            # The former daemon may have taken the lease as a successor just before it ended.
            self._holdoff_until = now + SUCCESSOR_HOLDOFF
        if event.inherited > now:
            self._right.inherit(event.inherited)
            self._kernel = Kernel.INHERITED
            # Whoever names a successor has lowered its deadline to this.
            self._may_have_named = event.inherited <= now + HANDOVER_TIMEOUT
            # From here on this daemon answers for the addresses, the guard does not refresh them any more.
            self._refresh(now)
        elif event.leftover:
            self._kernel = Kernel.LEFTOVER
        else:
            self._unbind(Reason.STARTUP)

    def _on_kernel(self, now: float, event: model.KernelEvent) -> None:
        match event:
            case model.BindDone(epoch, ok=False, why=why) if self._kernel is Kernel.BOUND and epoch in self._own_epochs:
                if why:
                    self._fitness.bind_failed(now)
                self._leave(now, Reason.BIND_FAILED if why else Reason.LEASE_EXPIRED, why)
            case model.UnbindDone(ok=True) if self._kernel is Kernel.LEAVING:
                self._kernel = Kernel.CLEAR
                self._unbind_again_at = NEVER
                self._out.append(model.SetDeadline(0.0))
            case model.UnbindDone(ok=False) if self._kernel is Kernel.LEAVING:
                self._unbind_again_at = now + UNBIND_RETRY
            case model.AddressLost() if self._kernel is Kernel.BOUND and self._mine is not None:
                self._out.append(model.Bind(self._mine.epoch, self._right.deadline, self._lease, repair=True))
                self._out.append(model.Announce(self._mine.epoch))
            case model.RivalSeen() if self._handover is not None:
                if self._handover.phase is Phase.TAKEN:
                    self._leave(now, self._handover.reason, f"to {self._handover.successor.name}")
                else:
                    # Perhaps the successor's first frame, which came before its record did: look, now.
                    self._handover.frame_seen = self._desk.unread = True
            case _:
                pass

    def _on_watch(self, now: float, content: model.Content) -> None:
        """Believe a watch that shows something newer; anything else may be merely late, or a restored store: read."""
        if self._seen.is_news(content):
            self._seen.news_at = now
            self._digest(now, content)
        elif not self._seen.is_known(content) and not self._is_echo(content):
            self._desk.unread = True

    def _is_echo(self, content: model.Content) -> bool:
        return isinstance(content, Found) and content.record.held_by(self.me) and self._right.used(content.record.counter)

    def _on_read(self, now: float, number: int, answer: model.ReadAnswer) -> None:
        request = self._desk.answered(number)
        if request is None:
            return
        if isinstance(answer, Unknown):
            self._on_unknown(now, request)
            return
        self._desk.in_contact()
        # A watch may have shown a later content while this answer travelled: then it proves nothing about age.
        overtaken = self._seen.news_at >= request.sent_at and not self._seen.is_known(answer)
        if overtaken and not self._seen.is_news(answer):
            return
        self._desk.unread, self._desk.read_at = False, now
        self._digest(now, answer)

    def _on_write(self, now: float, number: int, answer: model.WriteAnswer) -> None:
        request = self._desk.answered(number)
        if request is None or request.write is None:
            return
        match answer:
            case Unknown():
                self._on_unknown(now, request)
            case Conflict():
                self._desk.in_contact()
                self._desk.unread = True
                if self._handover is not None and self._handover.phase is Phase.NAMING:
                    # A stranger's edit came between: nobody was named, so nobody is to blame. Try again.
                    self._handover = None
            case Applied(revision):
                self._desk.in_contact()
                written = Found(request.write.record, revision)
                if self._seen.news_at < request.sent_at:
                    self._digest(now, written)
                elif not self._seen.is_known(written):
                    # A watch was faster, with what came after this write: only a read tells.
                    self._desk.unread = True

    def _on_unknown(self, now: float, request: Request) -> None:
        timing = self.settings.timing
        pause = timing.retry_interval if self.state is State.ACTIVE else min(0.4, timing.renew_interval / 2)
        if self._handover is not None:
            pause = min(pause, HANDOVER_TIMEOUT / 25)
        self._desk.unknown(now, request, pause)

    def _on_probe(self, now: float, mac: str) -> None:
        self._probing.answered(now, mac)
        if mac:
            self._notice(f"{', '.join(self.settings.addresses)}: {mac} already answers for it; waiting (on_conflict: wait)")

    # ------------------------------------------------------------------ what the record says

    def _digest(self, now: float, content: model.Content) -> None:
        before = self._seen.record
        changed = self._seen.see(now, content)
        self._remember()
        record = self._seen.record
        if self._handover is not None and (record is None or (not record.holder and record.session != self.me.session)):
            # The successor may have taken the lease before somebody deleted the record: who has named another cannot put
            # its own record back, as a holder does that has its full right.
            self._leave(now, Reason.LOST)
        if record is None:
            if self._kernel is Kernel.LEFTOVER:
                self._unbind(Reason.STARTUP)
            return
        self._preemption.note_epoch(now, record.epoch)
        self._look_for_namesake(now, record, before, changed)
        self._compare_addresses(record)
        if record.held_by(self.me):
            if self._right.confirm(record.counter):
                self._on_confirmed(now, record)
        elif self.state is State.ACTIVE:
            if record.holder:
                self._on_other_holder(now, record)
        elif not self._is_mine():
            if self._kernel is Kernel.LEFTOVER or (self._kernel is Kernel.INHERITED and record.holder):
                self._leave(now, Reason.LOST)

    def _on_other_holder(self, now: float, record: Record) -> None:
        handover = self._handover
        if handover is None or handover.identity != Identity(record.holder, record.session):
            reason = Reason.NAMESAKE if record.holder == self.me.name else Reason.LOST
            self._leave(now, reason, f"to {record.holder}")
            return
        if handover.phase is not Phase.TAKEN:
            handover.phase, handover.taken_at = Phase.TAKEN, now
        if record.bound or handover.frame_seen:
            self._leave(now, handover.reason, f"to {record.holder}")

    def _on_confirmed(self, now: float, record: Record) -> None:
        """Act on a write of this session that is now known to be applied."""
        self._mine = record
        self._unpin = self._unpin and bool(record.pin)
        self._renewed_at = self._sent_at
        if self.state is State.ACTIVE:
            if self._handover is not None and self._still_handing_over(self._handover, record):
                return
            self._out.append(model.SetDeadline(self._right.deadline))
            self._refresh(now)
        elif self._taking is not None and self._taking.epoch == record.epoch:
            self._on_acquired(now, self._taking)

    def _still_handing_over(self, handover: Handover, record: Record) -> bool:
        """Look what a confirmed write means for the handover; False: it has failed, and the full deadline is back."""
        if record.successor == handover.identity:
            if handover.phase is Phase.NAMING:
                handover.phase = Phase.NAMED
        elif handover.phase is Phase.STRIKING:
            self._strike_out(handover)
            return False
        return True

    def _on_acquired(self, now: float, taking: Taking) -> None:
        self._taking = None
        enough = lifetime_seconds(self._right.deadline - self._lead, now, self._lease) >= 1
        if not self._eligible(now) or not enough or self._kernel is Kernel.LEAVING:
            return
        self._kernel = Kernel.BOUND
        self._refreshed_at = now
        self._handover = self._wish = None
        self._unpin = False
        self._field.forget_struck()
        self._out.append(model.SetDeadline(self._right.deadline))
        self._out.append(model.Bind(taking.epoch, self._right.deadline, self._lease))
        self._out.append(model.Announce(taking.epoch))
        self._transition(now, State.ACTIVE, taking.reason)

    def _strike_out(self, handover: Handover) -> None:
        self._field.strike(handover.successor)
        self._handover = self._wish = None
        text = f"{handover.successor.name} did not take {self.settings.election} within {HANDOVER_TIMEOUT:g}s and was struck out"
        self._out.append(model.Notice(text, warning=True))

    def _look_for_namesake(self, now: float, record: Record, before: Record | None, changed: bool) -> None:
        """A session that changes records under this node's name while it watches is another daemon of that name."""
        strange = record.holder == self.me.name and record.session != self.me.session and record.session not in self._former
        watched = before is not None and before.holder == self.me.name and before.session == record.session
        if strange and watched and changed and self.state is not State.ACTIVE:
            self._fitness.saw_namesake(now + record.lease_duration / 1000)

    def _compare_addresses(self, record: Record) -> None:
        """Nodes that disagree on an election's addresses say so and go on: a roll-out does that for minutes."""
        if record.holder not in {"", self.me.name} and set(record.addresses) != set(self.settings.addresses):
            theirs, ours = ", ".join(record.addresses), ", ".join(self.settings.addresses)
            self._notice(f"{record.holder} holds {self.settings.election} with {theirs}; here it has {ours}")

    def _remember(self) -> None:
        known = (self._seen.highest[0], self._seen.longest)
        if known[0] > self._remembered[0] or known[1] > self._remembered[1]:
            self._remembered = known
            self._out.append(model.Remember(known[0], round(known[1] * 1000)))

    # ------------------------------------------------------------------ states

    def _fence(self, now: float) -> None:
        """Leave in time for the addresses to be gone by the deadline."""
        if self._kernel in UNDER_DEADLINE and now >= self._right.deadline - self._lead:
            self._leave(now, Reason.LEASE_EXPIRED)

    def _leave(self, now: float, reason: Reason, detail: str = "") -> None:
        self._unbind(reason)
        self._handover = None
        if self.state is State.ACTIVE:
            self._transition(now, self._resting_state(now)[0], reason, detail)

    def _unbind(self, reason: Reason) -> None:
        self._right.forfeit()
        self._taking = None
        self._kernel = Kernel.LEAVING
        self._unbind_again_at = NEVER
        self._out.append(model.Unbind(reason))

    def _transition(self, now: float, after: State, reason: Reason, detail: str = "") -> None:
        epoch = self._seen.record.epoch if self._seen.record else 0
        self._out.append(model.Transition(self.state, after, reason, epoch, detail))
        self.state, self._reason, self._since, self._detail = after, reason, now, detail

    def _resting_state(self, now: float) -> tuple[State, Reason]:
        return self._fitness.resting_state(now, self.state, self._seen.content is not None)

    def _eligible(self, now: float) -> bool:
        return self._resting_state(now)[0] is State.BACKUP

    def _is_mine(self) -> bool:
        """Whether the record is held by this session, or by a former one of this node that is proven gone."""
        record = self._seen.record
        if record is None or record.holder != self.me.name:
            return False
        if record.session == self.me.session:
            return record.epoch in self._own_epochs and self._right.used(record.counter) and not self._seen.older
        return record.session in self._former and not self._seen.older

    def _is_intact(self) -> bool:
        """Whether the record is as this session last wrote it."""
        record = self._seen.record
        if record is None or self._mine is None or not record.held_by(self.me):
            return False
        return record.counter == self._right.confirmed and record.epoch == self._mine.epoch

    def _must_leave(self, now: float) -> bool:
        """Whether the address has to go now, whoever is there to take it."""
        if self.state is State.ACTIVE:
            return self._fitness.fault(now) is not None
        staying_out = self._fitness.stopping or self._resting_state(now)[0] is State.FAULT
        return staying_out and self._kernel in FORMER

    # ------------------------------------------------------------------ what is due

    def _advance(self, now: float) -> None:
        if self._must_leave(now):
            self._leave(now, self._fitness.fault(now) or self._resting_state(now)[1])
        handover = self._handover
        if handover is not None and handover.phase is Phase.TAKEN and now >= handover.unbind_at():
            self._leave(now, handover.reason, f"to {handover.successor.name}")
        if self.state is not State.ACTIVE:
            state, reason = self._resting_state(now)
            if state is not self.state:
                self._transition(now, state, reason)
        if self._kernel in UNDER_DEADLINE and now >= self._refresh_at():
            self._refresh(now)
        if self._wish is not None and self._handover is None and self._field.best(self._wish.to) is None:
            self._notice(f"{self._wish.to or 'no other node'} is not fit to take {self.settings.election}")
            self._wish = None
        if now >= self._unbind_again_at:
            self._unbind_again_at = NEVER
            self._out.append(model.Unbind(self._reason))
        rival = self._seen.record if self.state is State.BACKUP and not self._is_mine() else None
        self._preemption.update(now, rival, self._eligible(now), self._fitness.priority, self._desk.in_touch)
        if self._desk.request is None and now >= self._desk.not_before:
            at, act = self._next_due(now)
            if now >= at:
                act(now)

    def _next_due(self, now: float) -> Due:
        """Return the next thing that needs the store (or the wire), and when."""
        if self._desk.unread:
            return now, self._read
        if self.state is State.ACTIVE:
            return self._next_due_active(now) if self._handover is None else self._next_due_in_handover(self._handover)
        if self._kernel is Kernel.LEAVING:
            return NEVER, self._read
        if self._is_mine() and self._kernel is Kernel.CLEAR and (self._fitness.stopping or self._resting_state(now)[0] is State.FAULT):
            return self._holdoff_until, self._release
        return min(self._take_due(now), (self._reread_at(), self._read), key=lambda due: due[0])

    def _next_due_active(self, now: float) -> Due:
        leaving = self._fitness.stopping or self._fitness.drained
        if leaving and self._field.best() is None:
            return now, self._retire
        renewal: Due = (self._renew_at(), lambda at: self._renew(at, WriteKind.RENEW))
        chosen = self._choose_successor()
        if chosen is None or renewal[0] == 0.0:
            return renewal
        naming: Due = (self._holdoff_until, lambda at: self._name(at, chosen))
        # Both due: the naming first, a holder that is to go need not renew.
        return min(naming, renewal, key=lambda due: max(now, due[0]))

    def _next_due_in_handover(self, handover: Handover) -> Due:
        if handover.phase in {Phase.NAMING, Phase.STRIKING}:
            # The naming was not applied, or not answered: only a confirmed write without a name gives the full deadline back.
            return 0.0, self._strike
        reread = (handover.reread_at(), self._reread_in_handover)
        if handover.phase is Phase.TAKEN:
            return reread
        return min(reread, (handover.strike_at(), self._strike), key=lambda due: due[0])

    def _choose_successor(self) -> Handover | None:
        if self._fitness.stopping or self._fitness.drained:
            reason = Reason.SHUTDOWN if self._fitness.stopping else Reason.DRAINED
            successor, pin = self._field.best(), False
        elif self._wish is not None:
            reason, pin = Reason.HANDED_OVER, self._wish.pin
            successor = self._field.best(self._wish.to)
        elif self._mine is not None and self._mine.pin == self.me.name:
            return None
        else:
            reason, pin = Reason.PREEMPTED, False
            successor = self._field.asker(self._fitness.priority)
        return Handover(successor, reason, pin) if successor is not None else None

    def _take_due(self, now: float) -> Due:
        """Return when this node may take the record, or must do something before it may."""
        seen, record = self._seen, self._seen.record
        if not self._eligible(now) or seen.content is None:
            return NEVER, self._take
        if self._is_mine():
            return 0.0, self._take
        if self._kernel is Kernel.INHERITED:
            # The holder within its deadline puts its record back at once, unless its former self may have named a successor.
            gone = record is None or (not record.holder and record.session not in self._former)
            emptied = record is not None and not record.holder and not gone
            return (0.0 if emptied or (gone and not self._may_have_named) else NEVER), self._take
        if isinstance(seen.content, Absent):
            return 0.0, self._create
        if self._is_named(now):
            return 0.0, self._take
        priority = self._fitness.priority
        free_at = seen.free_at() + take_delay(self._field.rank(record, priority), priority, self.settings.timing)
        if free_at <= now and self._probing.needed(now, record):
            return self._probing.ask_at(), self._ask_on_wire
        return free_at, self._take

    def _is_named(self, now: float) -> bool:
        return self._seen.naming_of(self.me) and now <= self._seen.changed_at + HANDOVER_TIMEOUT

    def _renew_at(self) -> float:
        """All that a node holds is renewed on one tick: the multiples of renew_interval on its own clock."""
        record = self._seen.record
        unpinning = self._unpin and self._mine is not None and bool(self._mine.pin)
        as_it_should_be = self._is_intact() and not unpinning and not self._right.held_down
        if record is None or not as_it_should_be or not record.bound or record.priority != self._fitness.priority:
            return 0.0
        return self._grid_after(self._renewed_at)

    def _refresh_at(self) -> float:
        """A renewal that succeeds refreshes too; this is for the time in which none does."""
        return NEVER if self._handover is not None else next_refresh(self._right.deadline, self._refreshed_at, self._lease)

    def _grid_after(self, moment: float) -> float:
        interval = self.settings.timing.renew_interval
        # The small shift keeps a tick that came a rounding error early from being its own successor.
        return (math.floor(moment / interval + 1e-6) + 1) * interval

    def _reread_at(self) -> float:
        """Periodic re-reads make a silently dead watch harmless."""
        return max(self._desk.read_at, self._seen.news_at) + self._lease / 2

    # ------------------------------------------------------------------ requests

    def _request_timeout(self) -> float:
        """In a handover a lost answer must be noticed while the lowered deadline leaves time for a second try."""
        timeout = self.settings.timing.request_timeout
        return min(timeout, HANDOVER_TIMEOUT / 4) if self._handover is not None else timeout

    def _read(self, now: float) -> None:
        self._out.append(self._desk.read(now, self._request_timeout()))

    def _reread_in_handover(self, now: float) -> None:
        if self._handover is not None:
            self._handover.read_at = now
        self._read(now)

    def _send(self, now: float, kind: WriteKind, record: Record) -> None:
        self._out.append(self._desk.write(now, self._request_timeout(), kind, record, self._seen.revision))

    def _ask_on_wire(self, now: float) -> None:
        self._out.append(self._probing.ask(now))

    def _new_uid(self) -> str:
        return f"{self.me.session}-{self._desk.next_number}"

    def _create(self, now: float) -> None:
        self._send(now, WriteKind.CREATE, records.created(self._new_uid(), self._seen.next_epoch - 1, round(self._seen.longest * 1000)))

    def _take(self, now: float) -> None:
        base = self._seen.record or Record(uid=self._new_uid())
        reason = self._take_reason(now, base)
        epoch = self._seen.next_epoch
        self._own_epochs.add(epoch)
        self._taking = Taking(epoch, reason)
        if reason in {Reason.HANDED_OVER, Reason.PREEMPTED}:
            self._holdoff_until = now + SUCCESSOR_HOLDOFF
        counter = self._right.next_counter(base.counter)
        self._promise(now, counter, right_ends(now, self._lease))
        lease = round(self._lease * 1000)
        record = records.taken(base, self.me, epoch, counter, lease, self._fitness.priority, self.settings.addresses)
        self._send(now, WriteKind.TAKE, record)

    def _take_reason(self, now: float, record: Record) -> Reason:
        if self._is_mine():
            return Reason.TAKEN_BACK if record.session in self._former else Reason.RECOVERED
        if self._is_named(now):
            return Reason.PREEMPTED if self._preemption.asked else Reason.HANDED_OVER
        if record.released and not self._seen.older:
            return Reason.RELEASED
        return Reason.LEASE_EXPIRED if record.holder else Reason.ACQUIRED

    def _renew(self, now: float, kind: WriteKind) -> None:
        mine = self._mine
        if mine is None:
            return
        base = self._seen.record or mine
        counter = self._right.next_counter(max(base.counter, mine.counter))
        self._promise(now, counter, right_ends(now, self._lease))
        pin = "" if self._unpin or mine.pin != self.me.name else mine.pin
        if self._seen.next_epoch > mine.epoch + 1:
            # A stranger raised the epoch, or the store came back older than what others saw: to them, all that this node
            # writes at its own epoch would look old for ever.
            mine = replace(mine, epoch=self._seen.next_epoch)
            self._own_epochs.add(mine.epoch)
        record = records.renewed(base, mine, counter, self._fitness.priority, self._kernel is Kernel.BOUND, pin)
        self._send(now, kind, record)

    def _strike(self, now: float) -> None:
        if self._handover is not None:
            self._handover.phase = Phase.STRIKING
        self._renew(now, WriteKind.STRIKE)

    def _name(self, now: float, handover: Handover) -> None:
        record = self._seen.record
        if record is None:
            return
        handover.sent_at = handover.read_at = now
        self._handover = handover
        counter = self._right.next_counter(record.counter)
        self._promise(now, counter, now + HANDOVER_TIMEOUT)
        self._send(now, WriteKind.NAME, records.named(record, counter, handover.successor, handover.pin))

    def _retire(self, now: float) -> None:
        self._leave(now, Reason.SHUTDOWN if self._fitness.stopping else Reason.DRAINED)

    def _release(self, now: float) -> None:
        record = self._seen.record
        if record is not None:
            self._send(now, WriteKind.RELEASE, records.released(record, self._right.next_counter(record.counter)))

    def _promise(self, now: float, counter: int, ends_at: float) -> None:
        """Note what a write about to be sent promises; if that is less than now, obey it before it is sent."""
        self._sent_at = now
        if self._right.attempt(counter, ends_at):
            self._out.append(model.SetDeadline(self._right.deadline))
            self._out.append(model.Refresh(self._right.deadline, self._lease, shrink=self._handover is not None))

    def _refresh(self, now: float) -> None:
        self._refreshed_at = now
        if lifetime_seconds(self._right.deadline, now, self._lease) >= 1:
            self._out.append(model.Refresh(self._right.deadline, self._lease))

    def _notice(self, text: str) -> None:
        """Warn the operator, once."""
        if text not in self._notices:
            self._notices.add(text)
            self._out.append(model.Notice(text, warning=True))
