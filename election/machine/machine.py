"""The election of one virtual IP as a value machine: `step(now, event)` returns what is to be done, in order.

    Initialize --fit, record seen--> Backup --take confirmed--> Active --deadline, loss, handover--> Backup
         any of them --check, link, operator, namesake--> Fault --fit again--> Backup

It does no I/O and knows no clock: `now` is a parameter (seconds, CLOCK_BOOTTIME). Safety rests on four rules:

- the right counts from the send of a write known to be applied (`right`, `answers`);
- a rival's lease counts from one's own observation of its record (`observation`);
- a promise of less is obeyed before it is made (`right`, `requests`);
- nothing is handled before `now` was compared with the deadline (`Machine.step`, `hold`).

Where the rules stand: `situation` is all that is known and under way; `answers` what the store's answers prove; `digest`
what a record means; `hold` what happens to the addresses and the state; `due` which request is next; `requests` what it
says, made of `records`, one at a time on the `desk`. `fitness`, `ranking`, `preemption`, `probing` and `handover` hold
the rules about who may, who comes first, who asks, who answers on the wire, and planned moves.
"""

from __future__ import annotations

from dataclasses import dataclass

from election import events
from election.actions import Action, Waits
from election.machine.evidence import Answers, Digest
from election.machine.handover import Wish
from election.machine.ownership import Hold
from election.machine.requests import Requests
from election.machine.schedule import Errand, Wait, next_due, waiting
from election.machine.situation import Kernel, Situation
from election.model import Candidacy, Identity, Reason, Record, State
from election.timing import Settings

# ---------------------------------------------------------------- what others are shown


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What status and metrics show. `since`, `deadline` and `changed_at` in seconds on CLOCK_BOOTTIME."""

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
    """Whether a stop that was asked for is complete: nothing bound, nothing held, no request under way."""
    settled = s.kernel is Kernel.CLEAR and s.desk.request is None and not s.desk.unread
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
        in_touch=s.desk.in_touch,
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
    """One election on one node. Feed it every event in order; call `step` with a Tick no later than `next_wake` says.

    `epoch`, `longest` (seconds) and `chosen` are what the state directory remembers: the highest epoch seen, the longest lease
    and the highest epoch seen or chosen.
    """

    def __init__(self, settings: Settings, me: Identity, epoch: int = 0, longest: float = 0.0, chosen: int = 0) -> None:
        self.situation = Situation(settings, me, epoch, longest, chosen)
        self._hold = Hold(self.situation)
        self._answers = Answers(self.situation, Digest(self.situation, self._hold))
        self._requests = Requests(self.situation)
        self._said_wait = ""

    def step(self, now: float, event: events.Event) -> list[Action]:
        """Take one event in and return the actions it causes; their order is part of the contract.

        The deadline comes first: after a pause of the process, queued events arrive before the timer does.
        """
        self.situation.out = []
        self._hold.fence(now)
        self._answers.give_up(now)
        self._take_in(now, event)
        self._advance(now)
        self._say_wait(now)
        return self.situation.out

    def next_wake(self, now: float) -> float:
        """Return when `step` must be called with a Tick at the latest (inf: only events matter)."""
        s = self.situation
        times = [s.unbind_again_at, self._hold.fenced_at(), self._hold.refresh_at(now), *s.fitness.changes_at(now), s.retries_at(now)]
        if s.taking is not None and s.taking.confirmed:
            times.append(s.taking.remember_by)
        asks_at = s.preemption.asks_at(now)
        if asks_at > now:
            times.append(asks_at)
        if s.handover is not None:
            times.append(s.handover.unbind_at())
        if s.desk.request is not None:
            times.append(s.desk.request.gives_up_at)
        else:
            times.append(max(s.desk.not_before, next_due(s, now).at))
        return min(times)

    # ------------------------------------------------------------------ what others may know

    @property
    def settings(self) -> Settings:
        """This election's configuration on this node."""
        return self.situation.settings

    @property
    def me(self) -> Identity:
        """Who speaks for this node."""
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
        """Whether the kernel refused an address here when it was last tried: a change of an interface is news."""
        return self.situation.fitness.was_refused

    @property
    def longest(self) -> float:
        """The longest lease_duration (s) that this node knows of: so long it waits for a record that says nothing."""
        return self.situation.seen.longest

    @property
    def stopped(self) -> bool:
        """Whether a stop that was asked for is complete: nothing bound, nothing held, no request under way."""
        return is_stopped(self.situation)

    def candidacy(self, now: float) -> Candidacy:
        """Return what this node's candidate record should say of this election."""
        return candidacy(self.situation, now)

    def snapshot(self, now: float) -> Snapshot:
        """Return what status and metrics show."""
        return snapshot(self.situation, now)

    # ------------------------------------------------------------------ events

    def _take_in(self, now: float, event: events.Event) -> None:
        s = self.situation
        match event:
            case events.Tick():
                pass
            case events.RecordSeen(content):
                self._answers.on_watch(now, content)
            case events.ReadDone(number, answer):
                self._answers.on_read(now, number, answer)
            case events.WriteDone(number, answer):
                self._answers.on_write(now, number, answer)
            case events.BindDone() | events.UnbindDone() | events.AddressLost() | events.RivalSeen():
                self._hold.on_kernel(now, event)
            case events.CandidatesSeen(candidates):
                s.field.see(candidates)
                s.seen.promises.see_live(candidate.session for candidate in candidates if candidate.live)
            case events.FitnessChanged(fit, priority, reason):
                s.fitness.judge(fit, priority, reason)
            case events.ProbeDone(mac):
                self._on_probe(now, mac)
            case events.Started():
                self._hold.start(now, event)
            case _:
                self._on_order(now, event)

    def _on_order(self, now: float, order: events.Order | events.NodeEvent) -> None:
        s = self.situation
        match order:
            case events.InterfaceChanged() | events.Remembered():
                self._hold.on_node(order)
            case events.NamesakeSeen(present):
                s.fitness.foreign_namesake = present
            case events.AddressClaimed(by):
                s.fitness.claimed_by = by
            case events.HandoverAsked(to, pin):
                s.wish = Wish(to, pin) if s.state is State.ACTIVE else None
            case events.UnpinAsked():
                s.unpin = True
            case events.DrainChanged(drained):
                s.fitness.drained = drained
            case events.StopAsked(patience, pause):
                s.fitness.stopping = True
                s.fitness.patient_until, s.fitness.pauses_until = now + patience, now + pause

    def _on_probe(self, now: float, mac: str) -> None:
        if self.situation.probing.answered(now, mac):
            self.situation.desk.unread = True

    def _say_wait(self, now: float) -> None:
        """Say what this node waits for whenever that is something else."""
        wait = waiting(self.situation, now)
        why = wait.why if wait is not None else ""
        if why != self._said_wait:
            self._said_wait = why
            if wait is not None:
                self.situation.out.append(Waits(wait.until, wait.why, wait.warning))

    # ------------------------------------------------------------------ what follows from all that is known

    def _advance(self, now: float) -> None:
        s = self.situation
        s.look_whether_to_retry(now)
        self._hold.look(now)
        self._drop_vain_wish(now)
        self._hold.unbind_again(now)
        rival = s.seen.record if s.state is State.BACKUP and not s.is_mine else None
        s.preemption.update(now, rival, s.eligible(now), s.fitness.priority, s.desk.in_touch)
        if s.desk.request is not None or now < s.desk.not_before:
            return
        due = next_due(s, now)
        if now < due.at:
            return
        if due.errand is Errand.RETIRE:
            self._hold.retire(now)
        else:
            self._requests.run(now, due)

    def _drop_vain_wish(self, now: float) -> None:
        s = self.situation
        if s.wish is not None and s.handover is None and s.field.best(now, s.wish.to) is None:
            s.warn_once(f"{s.wish.to or 'no other node'} is not fit to take {s.settings.election}")
            s.wish = None
