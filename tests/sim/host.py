"""One node: its clock, kernel, state directory and service manager, and the lives of guard and
daemon.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from election.actions import Remember
from election.events import (
    AddressLost,
    DrainChanged,
    Event,
    FitnessChanged,
    InterfaceChanged,
    Remembered,
    Started,
)
from election.model import Reason
from election.timing import Settings
from tests.sim.clock import Clock
from tests.sim.daemon import Daemon
from tests.sim.guard import Guard
from tests.sim.interfaces import NAME
from tests.sim.kernel import Kernel

if TYPE_CHECKING:
    from tests.sim.store import Watch
    from tests.sim.world import World

RESTART_SEC = 0.1
"""systemd's RestartSec in the unit."""

KILLED = -9
LINK_NEWS = 0.003
"""Seconds until the daemon has heard what became of an interface."""
SAVE_TIME = 0.015
"""Seconds until something to be remembered is on the disk, if that is slow."""
SLOW_SAVES = 0.2
ORPHAN_PAUSE = 0.1
"""Seconds between the guard's death and the daemon's handover."""
SILENCE = 0.2
"""Seconds without a heartbeat that the guard's patience always covers."""


@dataclass(slots=True)
class State:
    """The state directory.

    Sessions of this boot, and what the machines asked to remember (longest in seconds).

    `chosen`: the highest epochs seen or chosen here.

    `place`: whose it is; in a copy on another node, or under another inode, no session is proven to
    be gone.
    """

    place: str = ""
    sessions: frozenset[str] = frozenset()
    epochs: dict[str, int] = field(default_factory=dict)
    longest: dict[str, float] = field(default_factory=dict)
    chosen: dict[str, int] = field(default_factory=dict)


class Host:
    """A node. `label` is unique.

    `name` is what its configuration says, so two hosts may share one by mistake.

    `distance`: seconds that each request and each answer takes longer than the weather has it,
    always; a watch does not. `slowness`: seconds that each request takes longer to reach the store,
    for a while.
    """

    def __init__(
        self, world: World, label: str, name: str, settings: dict[str, Settings], priority: int
    ) -> None:
        self.world = world
        self.label = label
        self.name = name
        self.settings = settings
        self.priority = priority
        self.clock = Clock()
        self.wall_offset = 0.0
        self.state = State(label)
        self.fit: dict[str, FitnessChanged] = {
            e: FitnessChanged(fit=True, priority=priority) for e in settings
        }
        self.drained = False
        self.distance = self.slowness = 0.0
        self.store_cut = self.replies_cut = self.link_cut = False
        self.wanted = self.powered = True
        self.dead = False
        self.kernel = Kernel(self, gate=True, sloppy=False)
        self.guard: Guard | None = None
        self.daemon: Daemon | None = None
        self.daemon_status = KILLED
        self.last_killed = self.gave_up = False
        self.stunned = False
        self.state_readable = True
        self._boots = self.lives = 0
        self._unsaved: list[Callable[[], None]] = []

    @property
    def watch(self) -> Watch | None:
        """The running daemon's watch."""
        return self.daemon.watch if self.daemon is not None else None

    @property
    def index(self) -> int | None:
        """The index of the interface that the configuration means now."""
        found = self.kernel.links.find(NAME)
        return found.index if found is not None else None

    @property
    def known(self) -> State:
        """What a daemon that starts now finds in the state directory, and may go by."""
        if not self.state_readable:
            return State(self.label)
        return (
            self.state
            if self.state.place == self.label
            else replace(self.state, sessions=frozenset())
        )

    @property
    def running(self) -> bool:
        """Whether guard or daemon makes progress."""
        return any(p is not None and p.alive and not p.frozen for p in (self.guard, self.daemon))

    def orders(self) -> list[Event]:
        """Return what the daemon tells a new machine besides: the drain flag outlives restarts."""
        return [DrainChanged(self.drained)] if self.drained else []

    def start_delay(self) -> float:
        """Return how long the next daemon takes to become ready to be forked."""
        return self.world.rng.uniform(0.05, 0.3) if self.world.weather.rough else 0.1

    # ------------------------------------------------------------------ the service manager

    def start(self) -> None:
        """Start the service, unless the old one's lock still stands."""
        self.world.availability.look()
        if not self.wanted or not self.powered or self.guard is not None:
            return
        if self.daemon is not None:
            self.world.after(RESTART_SEC, self.start)
            return
        self.guard = Guard(self)

    def want(self) -> None:
        """Start the service again, for good."""
        self.wanted = True
        self.start()

    def stop(self) -> None:
        """Stop the service in an orderly way."""
        self.world.availability.look()
        self.wanted = False
        if self.guard is not None:
            self.guard.ask_stop()

    def power_off(self) -> None:
        """Lose power: processes, addresses, gate and the boot are gone.

        The state directory stays.
        """
        self._boots += 1
        self.powered = False
        for process in (self.guard, self.daemon):
            if process is not None:
                process.kill()
        self.kernel.reset()
        self.state = replace(self.state, sessions=frozenset())

    def power_on(self) -> None:
        """Boot: the clock starts anew."""
        if not self.powered and not self.dead:
            self.powered = True
            self.clock.offset = 5.0 - self.clock.rate * self.world.now
            self.want()

    def guard_ended(self, guard: Guard, code: int | None) -> None:
        """Tell the daemon to stop, since the guard is gone, and start both again unless that was
        wanted.
        """
        self.guard = None
        self.note_stunned()
        if self.world.tracing:
            self.world.say(self.label, f"guard ended ({code})")
        if self.daemon is not None:
            # A kill of everything often hits the guard first: the daemon waits until the blow has
            # fallen.
            self.world.after(ORPHAN_PAUSE, self.daemon.ask_stop)
        elif code == 0 and guard.started_one:
            # A guard whose daemon did not live to remove what a former daemon bound leaves that to
            # its lifetimes.
            self.world.judge.stopped(self)
        if self.wanted:
            self.world.after(RESTART_SEC, self.start)

    # ------------------------------------------------------------------ the daemon

    def fork_daemon(self, guard: Guard) -> None:
        """Start the daemon; it beats for the first time a little later."""
        delay = self.world.rng.uniform(0.002, 0.05) if self.world.weather.rough else 0.01
        self.world.after(delay, self._daemon_runs, guard, self._boots)

    def _daemon_runs(self, guard: Guard, boot: int) -> None:
        if boot != self._boots or not guard.alive or self.daemon is not None:
            return
        self.world.availability.look()
        started = {}
        for election in self.settings:
            word = self.kernel.words.get(election)
            started[election] = Started(
                self.known.sessions, word, leftover=self.kernel.bound(election) and word == 0.0
            )
        self.lives += 1
        self._unsaved.clear()
        daemon = Daemon(self, started)
        self._remember_session(daemon)
        self.daemon = daemon
        if guard.stopping:
            daemon.ask_stop()
        guard.first_beat()
        daemon.poke()

    def _remember_session(self, daemon: Daemon) -> None:
        """Write the session down, a moment later: the disk must not hold up the election."""

        def write() -> None:
            self.state = replace(
                self.known, place=self.label, sessions=self.known.sessions | {daemon.me.session}
            )

        self._save(daemon, write)

    def remember(self, daemon: Daemon, election: str, what: Remember) -> None:
        """Keep what a machine wants remembered, a moment later, and tell it then."""

        def write() -> None:
            state = self.state
            state.epochs[election], state.longest[election] = what.epoch, what.lease_duration / 1000
            state.chosen[election] = what.chosen
            daemon.deliver(election, Remembered(what.chosen))

        if not self.state_readable:
            # Who cannot keep anything is not kept waiting for it.
            daemon.deliver(election, Remembered(what.chosen))
        self._save(daemon, write)

    def _save(self, daemon: Daemon, write: Callable[[], None]) -> None:
        """Let a daemon write to the state directory.

        What it has not written when it is killed is lost.
        """
        if not self.state_readable:
            return
        self._unsaved.append(write)
        # As a rule at once: a bind that always waited for the disk would hide what comes a few
        # milliseconds too early.
        slow = self.world.weather.rough and self.world.rng.random() < SLOW_SAVES
        self.world.after(
            SAVE_TIME if slow else 0.0, lambda: self._write(write) if daemon.alive else None
        )

    def save_all(self) -> None:
        """Write what is not written yet: a daemon does so before it ends by itself."""
        while self._unsaved:
            self._unsaved.pop(0)()

    def _write(self, write: Callable[[], None]) -> None:
        # What was asked for earlier is in the same file.
        while write in self._unsaved:
            self._unsaved.pop(0)()

    def daemon_ended(self) -> None:
        """Tell the guard that the daemon is gone."""
        self.world.availability.forgotten()
        if self.daemon is not None and any(
            machine.is_handing_over for machine in self.daemon.machines.values()
        ):
            # The next daemon unbinds as soon as it finds the lease taken; the successor may still
            # wait for its disk.
            self.world.availability.permit(self.world.availability.succession())
        if self.daemon is not None and self.daemon.me.session not in self.known.sessions:
            # Nobody can prove that a session is gone which was never written down.
            self.world.availability.permit_recovery()
        self.daemon = None
        status, self.daemon_status = self.daemon_status, KILLED
        self.last_killed = status == KILLED
        self.note_stunned()
        if self.world.tracing:
            self.world.say(self.label, f"daemon ended ({status})")
        if self.guard is not None:
            self.guard.daemon_ended(status)

    def arm(self, daemon: Daemon, election: str) -> None:
        """Carry the daemon's word to the guard that it now answers for this election."""
        if self.guard is not None and daemon.alive:
            self.guard.arm(election)

    def poke_guard(self, daemon: Daemon) -> None:
        """Wake the guard, so that it reads the words again."""
        if self.guard is not None and daemon is self.daemon:
            self.guard.poke()

    def daemon_silent(self, seconds: float) -> None:
        """Let the guard watch a daemon that gives no sign of life for longer than a netlink call
        takes.
        """
        if seconds > SILENCE:
            self.guard_looks_soon()

    def guard_looks_soon(self) -> None:
        """Let the guard look at the words and the heartbeat as it does anyway.

        Once within its patience, and nobody knows when.
        """
        if self.guard is not None:
            self.world.after(self.world.weather.phase(self.guard.patience), self.guard.poke)

    def reload(self, settings: dict[str, Settings]) -> None:
        """Take over a new configuration."""
        self.settings = settings
        if self.guard is not None:
            self.guard.ask_reload()

    def kill_daemon(self) -> None:
        """Let the daemon crash, or somebody kill -9 it."""
        if self.daemon is not None:
            self.daemon.kill()

    def note_stunned(self) -> None:
        """Note when nobody of vipd is left to act.

        From here on only the kernel stands behind the right.
        """
        if not self.running:
            self.stunned = True
            if any(self.kernel.bound(election) for election in self.settings):
                self.world.availability.permit_recovery()

    def acted(self) -> None:
        """Note that guard or daemon has done all that there was to do.

        What a former guard's life left is bound under words that nobody reads any more: only its
        lifetime ends it for certain.
        """
        orphaned = any(
            self.kernel.bound(e) and self.kernel.bound_under[e] is not self.kernel.words
            for e in self.settings
        )
        if self.stunned and self.running and not orphaned:
            for election in self.settings:
                self.world.judge.account(election)
            self.stunned = False

    def interface_changed(self) -> None:
        """Tell the daemon that a setting of the interface changed.

        What the kernel refused it may now grant.
        """
        self.world.after(LINK_NEWS, self._tell_of_interface)

    def _tell_of_interface(self) -> None:
        for election, machine in self.daemon.machines.items() if self.daemon is not None else ():
            if machine.was_refused and self.daemon is not None:
                self.daemon.deliver(election, InterfaceChanged())

    def links_changed(self) -> None:
        """Tell the daemon, a moment later, that an interface or one of its settings changed."""
        self.world.after(LINK_NEWS, self._see_links)

    def _see_links(self) -> None:
        daemon, up = self.daemon, self.index is not None
        self._tell_of_interface()
        if daemon is not None:
            daemon.executor.look()
            for election in self.settings:
                # Each wakes the guard, which may be killed by it.
                self.arm(daemon, election)
        for election, verdict in list(self.fit.items()):
            if verdict.fit is not up and (verdict.reason is Reason.LINK_DOWN or not up):
                self.world.availability.look()
                if up:
                    self.world.availability.returns(self, election)
                self.fit[election] = event = replace(verdict, fit=up, reason=Reason.LINK_DOWN)
                if daemon is not None:
                    daemon.deliver(election, event)

    def address_lost(self, election: str) -> None:
        """Tell the daemon, as the kernel does, that an address went away."""
        if self.daemon is not None:
            self.daemon.deliver(election, AddressLost())
