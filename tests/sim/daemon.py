"""The daemon as a process.

One inbox, the machines, what they want carried out, and this node's candidate record.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING

from election.candidates import Candidates
from election.events import (
    CandidatesSeen,
    Event,
    FitnessChanged,
    NamesakeSeen,
    RecordSeen,
    Started,
    StopAsked,
    Tick,
)
from election.fencing import EXIT_RELOAD
from election.machine.machine import Machine
from election.model import Applied, Candidacy, Candidate, CandidateRecord, Content, Identity, State
from tests.sim.clock import SLACK
from tests.sim.executor import Executor
from tests.sim.process import Process, Turn
from tests.sim.store import Answer, Watch

if TYPE_CHECKING:
    from tests.sim.host import Host

LONGEST_SPIN = 60
"""Steps of one machine without time passing; more than that is an endless loop."""
RELOAD_PATIENCE, RELOAD_PAUSE = 1.5, 0.3
"""Seconds; a third of the shipped daemon's, so that they fit into the time that a stop has."""
STOP_PATIENCE = 3.0
"""Seconds after which a daemon that was told to stop ends though the store did not let it
release."""


class Daemon(Process):
    """One life of a node's daemon."""

    def __init__(self, host: Host, started: dict[str, Started]) -> None:
        super().__init__(host, "daemon")
        self.clock = host.clock
        self.born_at = host.world.now
        self.me = Identity(host.name, f"{host.label}{host.lives}")
        known = host.known
        self.machines = {
            election: Machine(
                settings,
                self.me,
                known.epochs.get(election, 0),
                known.longest.get(election, 0.0),
                known.chosen.get(election, 0),
            )
            for election, settings in host.settings.items()
        }
        self.remembered = dict(known.epochs)
        self.inbox: deque[tuple[str, Event]] = deque()
        self.stopping_since: float | None = None
        self.reloading = False
        self.executor = Executor(self)
        self.candidates = Candidates(self.me, known.sessions)
        self.own: dict[str, Candidacy] = {}
        self._published: dict[str, Candidacy] | None = None
        self._publish_at = 0.0
        self._refresh = max(s.timing.candidate_refresh for s in host.settings.values())
        self._patience = max(s.timing.request_timeout for s in host.settings.values())
        self._counter = 0
        self._answer_due = 0.0
        self._seen: dict[str, tuple[Candidate, ...]] = {}
        self._namesake = False
        self._wake_at = float("inf")
        self._spin = (-1.0, 0)
        self._wakes = dict.fromkeys(self.machines, 0.0)
        self._candidates_change_at = float("inf")
        for election, event in started.items():
            # What is remembered comes first, as in the daemon: the drain flag, then the last
            # verdict.
            self.inbox += [(election, order) for order in host.orders()]
            self.inbox += [(election, host.fit[election]), (election, event)]
            host.arm(self, election)
        self.watch = Watch(self)

    # ------------------------------------------------------------------ what comes in

    def deliver(self, election: str, event: Event) -> None:
        """Queue an event."""
        if self.alive:
            self.inbox.append((election, event))
            self.poke()

    def deliver_all(self, event: Event) -> None:
        """Queue an event for each election."""
        for election in self.machines:
            self.inbox.append((election, event))
        self.poke()

    def judge_fitness(self, election: str, event: FitnessChanged) -> None:
        """Report a check's verdict."""
        self.deliver(election, event)

    def record_seen(self, election: str, content: Content) -> None:
        """Take a report of the watch."""
        self.deliver(election, RecordSeen(content))

    def candidate_seen(self, name: str, record: CandidateRecord | None) -> None:
        """Take a report of the watch on candidate records."""
        self.candidates.observe_record(self.now, name, record)
        self._look_at_candidates()

    def all_candidates_seen(self, records: Iterable[CandidateRecord]) -> None:
        """Take in all candidate records at once."""
        self.candidates.see_all(self.now, records)
        self._look_at_candidates()

    def ask_stop(self) -> None:
        """Tell the daemon to hand over and end.

        SIGTERM, or the kernel's word that the guard is dead.
        """
        if self.alive and self.stopping_since is None:
            self.stopping_since = self.now
            # A reload that changes addresses waits for a successor. Rough weather has both kinds,
            # without a throw of its dice.
            patient = self.world.weather.rough and int(self.now * 1000) % 2
            self.deliver_all(StopAsked(RELOAD_PATIENCE, RELOAD_PAUSE) if patient else StopAsked())

    def ask_reload(self) -> None:
        """Tell the daemon to give way for one with a new configuration."""
        if self.alive:
            self.reloading = True
            self.poke()

    # ------------------------------------------------------------------ the loop

    @property
    def now(self) -> float:
        """This node's time."""
        return self.clock.local(self.world.now)

    def work(self) -> Turn:
        """Hand every queued event to its machine, then let those whose time has come look again."""
        while self.alive:
            if self.reloading:
                self.exit(EXIT_RELOAD)
                return
            if self.inbox:
                election, event = self.inbox.popleft()
            else:
                due = [e for e, at in self._wakes.items() if at <= self.now]
                if not due:
                    break
                election, event = due[0], Tick()
            yield from self._step(election, event)

    def _step(self, election: str, event: Event) -> Turn:
        self._count_spin(election, event)
        if self.hazard():
            yield 0.0
        machine, now = self.machines[election], self.now
        actions = machine.step(now, event)
        if self.world.tracing:
            self.world.trace_step(self, election, event, actions)
        yield from self.executor.carry_out(election, actions)
        self._wakes[election] = machine.next_wake(self.now)
        self.own[election] = machine.candidacy(self.now)

    def on_idle(self) -> None:
        """Publish what changed, end if asked to, and set the timer."""
        now = self.now
        self.host.acted()
        if self.stopping_since is not None:
            settled = all(machine.stopped for machine in self.machines.values())
            self.host.gave_up = not settled
            if settled or now >= self.stopping_since + STOP_PATIENCE:
                self.exit(0)
                return
        if now >= self._publish_at or self.own != self._published:
            self._publish(now)
        if self._candidates_change_at <= now:
            self._look_at_candidates()
        self._set_timer()

    def exit(self, status: int) -> None:
        """End by itself."""
        if status == 0:
            self.world.store.submit(
                self.host, lambda: self.world.store.delete_candidate(self.host.name), lambda _: None
            )
        self.host.save_all()
        self.host.daemon_status = status
        self.kill()

    def on_silence(self, seconds: float) -> None:
        """Let the guard miss the heartbeat."""
        self.host.daemon_silent(seconds)

    def on_death(self) -> None:
        """Tell the guard: SIGCHLD."""
        self.host.daemon_ended()

    def _set_timer(self) -> None:
        times = [*self._wakes.values(), self._publish_at, self._candidates_change_at]
        if self.stopping_since is not None:
            times.append(self.stopping_since + STOP_PATIENCE)
        at = max(self.clock.true(min(times)), self.world.now) + SLACK
        if at < self._wake_at:
            self._wake_at = at
            self.world.at(at, self._timer, at)

    def _timer(self, at: float) -> None:
        if self.alive and at == self._wake_at:
            self._wake_at = float("inf")
            self.poke()

    def _count_spin(self, election: str, event: Event) -> None:
        if not isinstance(event, Tick):
            return
        at, count = self._spin
        self._spin = (self.world.now, count + 1 if at == self.world.now else 1)
        if self._spin[1] > LONGEST_SPIN:
            self.world.judge.blame(
                self.host, election, "the machine spins: next_wake does not move on"
            )

    # ------------------------------------------------------------------ candidates

    def _publish(self, now: float) -> None:
        if now < self._answer_due:
            # One write at a time: a second one might reach the store first.
            self._publish_at = self._answer_due
            return
        self._publish_at = now + self._refresh
        if not self.candidates.may_publish(now) or self.stopping_since is not None:
            return
        self._published = dict(self.own)
        self._counter += 1
        record = CandidateRecord(
            self.me.name,
            self.me.session,
            self._counter,
            dict(self.own),
            refresh_interval=round(self._refresh * 1000),
        )
        store = self.world.store
        self._answer_due = self._publish_at = now + self._patience
        store.submit(
            self.host,
            lambda: store.write_candidate(record),
            lambda answer: self._candidate_written(record, answer),
        )
        self._look_at_candidates()

    def _candidate_written(self, record: CandidateRecord, answer: Answer) -> None:
        if record.counter != self._counter or self.now >= self._answer_due:
            return
        self._publish_at = self._answer_due - self._patience + self._refresh
        self._answer_due = 0.0
        if isinstance(answer, Applied):
            self.candidates.published()
        else:
            self._published = None
            self._answer_due = self._publish_at = self.now + 0.5
        self.poke()

    def _look_at_candidates(self) -> None:
        now = self.now
        self._candidates_change_at = self.candidates.changes_at(now)
        for election in self.machines:
            seen = self.candidates.of(now, election, self.own)
            if seen != self._seen.get(election):
                self._seen[election] = seen
                self.deliver(election, CandidatesSeen(seen))
        namesake = self.candidates.namesake(now)
        if namesake != self._namesake:
            self._namesake = namesake
            self.deliver_all(NamesakeSeen(namesake))

    def is_active(self, election: str) -> bool:
        """Whether this node believes that it is Active."""
        return self.machines[election].state is State.ACTIVE
