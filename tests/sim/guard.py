"""The guard as a process.

Carries out what `election.fencing` decides, with the words that daemon and gate share.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from election.fencing import (
    CRASH_WINDOW,
    CRASHES,
    EXIT_RELOAD,
    GuardAction,
    Kill,
    Life,
    Quit,
    Refresh,
    Remove,
    Slot,
    Start,
    View,
    decide,
    is_crash,
    next_wake,
    patience,
)
from election.timing import came_late, fence_margin
from tests.sim.clock import SLACK
from tests.sim.process import Process, Turn

if TYPE_CHECKING:
    from tests.sim.host import Host

LATE = 0.050
"""Seconds of delay from which on the guard notices that it was stopped itself."""
MANY = 40
"""Rounds of decisions without time passing; more than that is an endless loop."""


@dataclass(slots=True)
class Held:
    """What the guard knows of one election's slot."""

    number: int
    lease_duration: float
    armed: bool = False
    refreshed_at: float = 0.0
    removal_tried_at: float = 0.0
    places: set[int] = field(default_factory=set)


class Guard(Process):
    """One life of a node's guard. It starts daemons, and outlives them."""

    def __init__(self, host: Host) -> None:
        super().__init__(host, "guard")
        self.words = host.kernel.fresh_words(
            tuple(host.settings), max(s.timing.lease_duration for s in host.settings.values())
        )
        self._held = {
            e: Held(i, s.timing.lease_duration) for i, (e, s) in enumerate(host.settings.items())
        }
        self._life = Life.NONE
        self._ready_at = self.now + host.start_delay()
        self._started_at = self._late_at = self._killed_at = self._ended_at = (
            self._stop_asked_at
        ) = 0.0
        self._status: int | None = None
        self._crashes: list[float] = []
        self._wake_at = self._gate_at = float("inf")
        self._reloading = False
        self.poke()

    @property
    def now(self) -> float:
        """This node's time."""
        return self.host.clock.local(self.world.now)

    # ------------------------------------------------------------------ what comes in

    def arm(self, election: str) -> None:
        """Learn that the present daemon answers for this election from now on."""
        held = self._held[election]
        held.places |= {place for place in (self.host.index,) if place is not None}
        held.armed, held.lease_duration = True, self.host.settings[election].timing.lease_duration
        held.refreshed_at = held.removal_tried_at = 0.0
        self.host.kernel.cover(election)
        self.poke()

    def first_beat(self) -> None:
        """Learn that the daemon runs."""
        if self._life is Life.STARTING:
            self._life = Life.STOPPING if self._stop_asked_at else Life.RUNNING
        self.host.kernel.settle()
        self.poke()

    def daemon_ended(self, status: int) -> None:
        """Learn of the daemon's end: SIGCHLD."""
        now = self.now
        if is_crash(status, stop_asked=self._stop_asked_at > 0, reload_asked=self._reloading):
            self._crashes = [at for at in self._crashes if at > now - CRASH_WINDOW] + [now]
        if (
            status
            and (self._stop_asked_at or len(self._crashes) >= CRASHES)
            and status != EXIT_RELOAD
        ):
            # Nobody takes the lease back, and nobody released it: it has to expire.
            self.world.availability.permit_recovery()
        self._reloading = self._reloading and status != EXIT_RELOAD
        self._life, self._status, self._ended_at, self._killed_at = Life.NONE, status, now, 0.0
        for held in self._held.values():
            held.refreshed_at = held.removal_tried_at = 0.0
        self.poke()

    def ask_stop(self) -> None:
        """SIGTERM: pass it on, and end when the daemon has ended."""
        if self._stop_asked_at == 0.0:
            self._stop_asked_at = self.now
            if self._life is Life.RUNNING:
                self._life = Life.STOPPING
            if self.host.daemon is not None:
                self.host.daemon.ask_stop()
            self.poke()

    def ask_reload(self) -> None:
        """SIGHUP with a valid new file."""
        if self.host.daemon is not None and self._life is Life.RUNNING:
            self._reloading = True
            self.host.daemon.ask_reload()

    @property
    def started_one(self) -> bool:
        """Whether a daemon was ever started."""
        return self._started_at > 0

    @property
    def stopping(self) -> bool:
        """Whether a stop was asked for."""
        return self._stop_asked_at > 0

    # ------------------------------------------------------------------ the loop

    @property
    def patience(self) -> float:
        """Seconds without a sign of life after which a daemon counts as stuck.

        No later does the guard look again.
        """
        return patience(self._view())

    def work(self) -> Turn:
        """Decide and act until nothing is left to do."""
        if self.now > self._wake_at + LATE:
            self._late_at = self.now
        for _ in range(MANY):
            self._gate_at = self.host.kernel.succeed()
            actions = decide(self.now, self._view())
            if not actions:
                self._set_timer()
                return
            for action in actions:
                if self.hazard():
                    yield 0.0
                yield from self._do(action)
        self.world.judge.blame(self.host, "", "the guard spins")

    def freeze(self, seconds: float) -> None:
        """Stop the guard; it notices when it runs again."""
        super().freeze(seconds)
        self._wake_at = min(self._wake_at, self.now)

    def on_idle(self) -> None:
        """Nothing is left to do."""
        self.host.acted()
        if self._life is Life.NONE:
            self.world.judge.nothing_orphaned(self.host, self.words)

    def on_death(self) -> None:
        """Let the kernel tell the daemon (parent-death signal), and systemd."""
        self.host.guard_ended(self, None)

    def _view(self, *, healthy: float = 0.0) -> View:
        daemon = self.host.daemon
        beat = self.host.clock.local(daemon.last_sign()) if daemon is not None else 0.0
        slots = tuple(
            Slot(
                h.number,
                self.words.get(e),
                h.lease_duration,
                h.armed,
                h.refreshed_at,
                h.removal_tried_at,
            )
            for e, h in self._held.items()
        )
        return View(
            slots=slots,
            life=self._life,
            can_start=self.now >= self._ready_at,
            started_at=self._started_at,
            alive_at=beat + healthy,
            late_at=self._late_at,
            killed_at=self._killed_at,
            ended_at=self._ended_at,
            status=self._status,
            crashes=tuple(self._crashes),
            stop_asked_at=self._stop_asked_at,
        )

    def _set_timer(self) -> None:
        daemon = self.host.daemon
        # A daemon in good health beats all the time; it pokes this guard when it falls silent,
        # which saves many looks.
        beating = daemon is not None and daemon.silent_since is None
        wake = next_wake(self.now, self._view(healthy=1e6 if beating else 0.0))
        wake = min(wake, self._gate_at)
        if self.now < self._ready_at and self._life is Life.NONE:
            wake = min(wake, self._ready_at)
        at = max(self.host.clock.true(wake), self.world.now) + SLACK
        self._wake_at = wake
        self.world.at(at, self._timer, wake)

    def _timer(self, wake: float) -> None:
        if wake == self._wake_at:
            self.poke()

    # ------------------------------------------------------------------ what it does

    def _do(self, action: GuardAction) -> Turn:
        if self.world.tracing:
            self.world.say(self.name, f"{action}")
        match action:
            case Kill():
                self._killed_at = self.now
                if self.host.daemon is not None:
                    self.host.daemon.kill()
            case Remove(number, _, close):
                yield from self._remove(self._election(number), close=close)
            case Refresh(number, seconds):
                yield from self._refresh(self._election(number), seconds)
            case Start():
                self._start()
            case Quit(code):
                self.alive = False
                self._turn = None
                if not any(self.host.kernel.bound(election) for election in self._held):
                    self.host.kernel.detach()
                self.host.guard_ended(self, code)
                yield 0.0

    def _election(self, number: int) -> str:
        return next(e for e, h in self._held.items() if h.number == number)

    def _remove(self, election: str, *, close: bool) -> Turn:
        held = self._held[election]
        held.removal_tried_at = self.now
        spent = self.world.weather.kernel_time(fence_margin(held.lease_duration))
        if spent:
            yield spent
        self.host.kernel.remove(election)
        if close:
            self.host.kernel.open_until(self.words, election, 0.0)

    def _refresh(self, election: str, seconds: int) -> Turn:
        held = self._held[election]
        held.refreshed_at = self.now
        if came_late(self.now, self.words.get(election)):
            return
        if self.host.kernel.gate and self.hazard():
            yield 0.0
        for index in self.host.kernel.places(election) or held.places:
            self.host.kernel.add(election, index, seconds, held.lease_duration)
        if self.host.kernel.gate and self.hazard():
            yield 0.0
        if came_late(self.now, self.words.get(election)):
            self.host.kernel.remove(election)
        self.world.judge.touched(self.host, election)

    def _start(self) -> None:
        self._life = Life.STARTING
        self._started_at = self.now
        self._killed_at = 0.0
        self._ready_at = self.now + self.host.start_delay()
        for held in self._held.values():
            held.armed = False
        self.host.fork_daemon(self)
