"""The election of one virtual IP as a value machine: `step(now, event)` returns what is to be done.

It does no I/O and knows no clock: `now` is a parameter (seconds, CLOCK_BOOTTIME); the order of the
actions is part of the contract. TRANSITIONS below says which state follows which, and why.

Theory. There is no majority and no message between nodes: all that they share is one record,
changed by compare-and-swap. A node owns the VIP from a moment at which it has proved that nobody
else does, until a moment that it knows beforehand. Four rules make the proofs:

- the right counts from the send of a write known to be applied (`lease.Right`, `evidence`);
- a rival's lease counts from one's own observation of its record (`lease.Observation`);
- a promise of less is obeyed before it is made (`lease.Right`, `requests`);
- nothing is handled before `now` was compared with the deadline (`Machine.step`, `ownership`).

From this follows the form of a step:

1. leave the VIP if its deadline is reached; a request that ran out of time has an unknown outcome;
2. handle the event: what it proves (`evidence`), what it changes in the addresses (`ownership`),
   who may hold the VIP and who comes first (`eligibility`), what an operator wants (`handover`);
3. reconcile: from all that is known now, not from the event, follows the state in which this node
   rests, whether it has to leave, and which one request is next (`schedule`) and says (`requests`).

`situation` holds all that is known and under way; each of its fields has one writer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from election import events
from election.actions import Action, Waits
from election.machine.evidence import Evidence
from election.machine.handover import Wish
from election.machine.ownership import Ownership
from election.machine.requests import Requests
from election.machine.schedule import Wait, next_due, waiting
from election.machine.situation import Kernel, Situation
from election.model import Candidacy, Identity, Reason, Record, State
from election.timing import Settings

# ---------------------------------------------------------------- the states

FAULTS = (
    Reason.CHECK_FAILED,
    Reason.LINK_DOWN,
    Reason.FENCED,
    Reason.ADDRESS_IN_USE,
    Reason.ADDRESS_CLAIMED,
    Reason.NAMESAKE,
    Reason.BIND_FAILED,
    Reason.UNBIND_FAILED,
)
"""Why a node may not hold the VIP, whoever is there to take it."""

TRANSITIONS: dict[tuple[State, Reason], frozenset[State]] = {
    # A node that is not Active rests in the state that its fitness and its orders say.
    **{
        (State.INITIALIZE, fault): frozenset({State.FAULT})
        for fault in FAULTS
        if fault is not Reason.BIND_FAILED
    },
    (State.INITIALIZE, Reason.DRAINED): frozenset({State.FAULT}),
    (State.INITIALIZE, Reason.STARTUP): frozenset({State.BACKUP}),
    **{(State.BACKUP, fault): frozenset({State.FAULT}) for fault in FAULTS},
    (State.BACKUP, Reason.DRAINED): frozenset({State.FAULT}),
    (State.BACKUP, Reason.SHUTDOWN): frozenset({State.INITIALIZE}),
    (State.FAULT, Reason.STARTUP): frozenset({State.INITIALIZE}),
    (State.FAULT, Reason.RECOVERED): frozenset({State.BACKUP}),
    (State.FAULT, Reason.SHUTDOWN): frozenset({State.INITIALIZE}),
    # A take that is confirmed in time.
    (State.BACKUP, Reason.ACQUIRED): frozenset({State.ACTIVE}),
    (State.BACKUP, Reason.LEASE_EXPIRED): frozenset({State.ACTIVE}),
    (State.BACKUP, Reason.RELEASED): frozenset({State.ACTIVE}),
    (State.BACKUP, Reason.HANDED_OVER): frozenset({State.ACTIVE}),
    (State.BACKUP, Reason.PREEMPTED): frozenset({State.ACTIVE}),
    (State.BACKUP, Reason.RECOVERED): frozenset({State.ACTIVE}),
    (State.BACKUP, Reason.TAKEN_BACK): frozenset({State.ACTIVE}),
    # An Active node leaves to the state in which it rests then: an order may be under way as well.
    **{
        (State.ACTIVE, reason): frozenset({State.INITIALIZE, State.BACKUP, State.FAULT})
        for reason in (
            Reason.LEASE_EXPIRED,
            Reason.LOST,
            Reason.NAMESAKE,
            Reason.HANDED_OVER,
            Reason.PREEMPTED,
        )
    },
    **{
        (State.ACTIVE, fault): frozenset({State.INITIALIZE, State.FAULT})
        for fault in (*FAULTS, Reason.DRAINED)
        if fault not in {Reason.NAMESAKE, Reason.UNBIND_FAILED}
    },
    (State.ACTIVE, Reason.SHUTDOWN): frozenset({State.INITIALIZE}),
}
"""(state, reason) -> the states that a node may enter from it for this reason.
There are no others.
"""


# ---------------------------------------------------------------- what others are shown


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What status and metrics show.

    `since`, `deadline` and `changed_at` in seconds on CLOCK_BOOTTIME.
    """

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
    wait: Wait | None


def is_stopped(s: Situation) -> bool:
    """Whether a stop that was asked for is complete.

    Nothing bound, nothing held, no request under way.
    """
    settled = s.kernel is Kernel.CLEAR and s.pending.request is None and not s.pending.unread
    return s.fitness.stopping and settled and not s.is_mine


def snapshot(s: Situation, now: float) -> Snapshot:
    """Return what status and metrics show."""
    return Snapshot(
        state=s.state,
        reason=s.reason,
        since=s.since,
        detail=s.detail,
        deadline=s.right.deadline,
        priority=s.fitness.priority,
        record=s.seen.record,
        changed_at=s.seen.changed_at,
        asks=s.preemption.asks(now),
        stopped=is_stopped(s),
        in_touch=s.pending.in_touch,
        handing_over_to=s.handover.successor.name if s.handover else "",
        wait=waiting(s, now),
    )


def candidacy(s: Situation, now: float) -> Candidacy:
    """Return what this node's candidate record should say of this election."""
    refused = s.fitness.is_refused(now)
    return Candidacy(
        eligible=s.eligible(now) and not refused,
        priority=s.fitness.priority,
        asks=s.preemption.asks(now) and not refused,
        epoch=s.seen.highest[0],
        state=s.state.name.capitalize(),
        reason=str(s.reason),
    )


# ---------------------------------------------------------------- the machine


class Machine:
    """One election on one node.

    Feed it every event in order; call `step` with a Tick no later than `next_wake` says.

    `epoch`, `longest` (seconds) and `chosen` are what the state directory remembers: the highest
    epoch seen, the longest lease and the highest epoch seen or chosen.
    """

    def __init__(
        self,
        settings: Settings,
        me: Identity,
        epoch: int = 0,
        longest: float = 0.0,
        chosen: int = 0,
    ) -> None:
        self.situation = Situation(settings, me, epoch, longest, chosen)
        self._ownership = Ownership(self.situation)
        self._evidence = Evidence(self.situation, self._ownership)
        self._requests = Requests(self.situation, self._ownership)
        self._reported_wait = ""

    def step(self, now: float, event: events.Event) -> list[Action]:
        """Handle one event and return the actions it causes; their order is part of the contract.

        The deadline comes first: after a pause of the process, queued events arrive before the
        timer does.
        """
        self.situation.out = []
        self._ownership.leave_at_deadline(now)
        self._evidence.give_up_request(now)
        self._handle(now, event)
        self._advance(now)
        self._report_wait(now)
        return self.situation.out

    def next_wake(self, now: float) -> float:
        """Return when `step` must be called with a Tick at the latest (inf: only events matter)."""
        s = self.situation
        times = [
            s.unbind_again_at,
            self._ownership.unbind_begins_at(),
            self._ownership.lifetimes_refresh_at(now),
            *s.fitness.changes_at(now),
            s.retries_at(now),
        ]
        if s.taking is not None and s.taking.confirmed:
            times.append(s.taking.remember_by)
        asks_at = s.preemption.asks_at(now)
        if asks_at > now:
            times.append(asks_at)
        if s.handover is not None:
            times.append(s.handover.unbind_at())
        if s.pending.request is not None:
            times.append(s.pending.request.gives_up_at)
        else:
            times.append(max(s.pending.not_before, next_due(s, now, s.resting_state(now)[0]).at))
        return min(times)

    # ------------------------------------------------------------------ what others may know

    @property
    def settings(self) -> Settings:
        """This election's configuration on this node."""
        return self.situation.settings

    @property
    def me(self) -> Identity:
        """This node's name and session."""
        return self.situation.me

    @property
    def state(self) -> State:
        """This node's state in the election."""
        return self.situation.state

    @property
    def is_clear(self) -> bool:
        """Whether no address of this election has any business on this node."""
        return self.situation.kernel is Kernel.CLEAR

    @property
    def is_handing_over(self) -> bool:
        """Whether a successor is named: from now on it is the one that announces."""
        return self.situation.handover is not None

    @property
    def was_refused(self) -> bool:
        """Whether the kernel refused an address here when it was last tried.

        A change of an interface is news.
        """
        return self.situation.fitness.was_refused

    @property
    def longest(self) -> float:
        """The longest lease_duration (s) that this node knows of.

        So long it waits for a record that says nothing.
        """
        return self.situation.seen.longest

    @property
    def stopped(self) -> bool:
        """Whether a stop that was asked for is complete.

        Nothing bound, nothing held, no request under way.
        """
        return is_stopped(self.situation)

    def candidacy(self, now: float) -> Candidacy:
        """Return what this node's candidate record should say of this election."""
        return candidacy(self.situation, now)

    def snapshot(self, now: float) -> Snapshot:
        """Return what status and metrics show."""
        return snapshot(self.situation, now)

    # ------------------------------------------------------------------ events

    def _handle(self, now: float, event: events.Event) -> None:
        s = self.situation
        match event:
            case events.Tick():
                pass
            case events.RecordSeen(content):
                self._evidence.on_watch(now, content)
            case events.ReadDone(number, answer):
                self._evidence.on_read(now, number, answer)
            case events.WriteDone(number, answer):
                self._evidence.on_write(now, number, answer)
            case (
                events.BindDone() | events.UnbindDone() | events.AddressLost() | events.RivalSeen()
            ):
                self._ownership.on_kernel(now, event)
            case events.CandidatesSeen(candidates):
                s.field.set_candidates(candidates)
                s.seen.promises.set_live_sessions(
                    candidate.session for candidate in candidates if candidate.live
                )
            case events.FitnessChanged(fit, priority, reason):
                s.fitness.set_verdict(fit, priority, reason)
            case events.ProbeDone(mac):
                self._on_probe(now, mac)
            case events.Started():
                self._ownership.on_started(now, event)
            case _:
                self._on_order(now, event)

    def _on_order(self, now: float, order: events.Order | events.NodeEvent) -> None:
        s = self.situation
        match order:
            case events.InterfaceChanged() | events.Remembered():
                self._ownership.on_node(order)
            case events.NamesakeSeen(present):
                s.fitness.set_namesake(present)
            case events.AddressClaimed(by):
                s.fitness.set_claim(by)
            case events.HandoverAsked(to, pin):
                s.moves.set_wish(Wish(to, pin) if s.state is State.ACTIVE else None)
            case events.UnpinAsked():
                s.moves.want_unpin()
            case events.DrainChanged(drained):
                s.fitness.set_drained(drained)
            case events.StopAsked(patience, pause):
                s.fitness.stop(now + patience, now + pause)
            case _:
                assert_never(order)

    def _on_probe(self, now: float, mac: str) -> None:
        if self.situation.probing.note_answer(now, mac):
            self.situation.pending.need_read()

    def _report_wait(self, now: float) -> None:
        """Report what this node waits for whenever that changes."""
        wait = waiting(self.situation, now)
        why = wait.why if wait is not None else ""
        if why != self._reported_wait:
            self._reported_wait = why
            if wait is not None:
                self.situation.out.append(Waits(wait.until, wait.why, wait.warning))

    # ---------------------------------------------------------- what follows from all that is known

    def _advance(self, now: float) -> None:
        s = self.situation
        s.update_retrying(now)
        resting = s.resting_state(now)
        self._ownership.reconcile(now, resting)
        self._drop_impossible_wish(now)
        self._ownership.unbind_again(now)
        rival = s.seen.record if s.state is State.BACKUP and not s.is_mine else None
        s.preemption.update(
            now, rival, resting[0] is State.BACKUP, s.fitness.priority, s.pending.in_touch
        )
        if s.pending.request is not None or now < s.pending.not_before:
            return
        due = next_due(s, now, resting[0])
        if now >= due.at:
            self._requests.run_task(now, due)

    def _drop_impossible_wish(self, now: float) -> None:
        s = self.situation
        if s.wish is not None and s.handover is None and s.field.best(now, s.wish.to) is None:
            s.warn_once(f"{s.wish.to or 'no other node'} is not fit to take {s.settings.election}")
            s.moves.set_wish(None)
