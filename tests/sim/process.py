"""A process that does its work in turns, and that can be stopped or killed between any two steps of
a turn.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.sim.host import Host

Turn = Iterator[float]
"""One piece of work: yields the seconds that pass before it goes on."""
KILL_DISTURBS = 0.5
"""Seconds for which a death is felt: the time in which another process takes over its work."""


class Process:
    """Runs one turn at a time.

    SIGSTOP is `freeze`, SIGKILL is `kill`; both act at the points where a turn yields.
    """

    def __init__(self, host: Host, kind: str) -> None:
        self.host = host
        self.world = host.world
        self.name = f"{host.label}.{kind}"
        self.alive = True
        self.frozen_until = 0.0
        self.silent_since: float | None = None
        self._turn: Turn | None = None
        self._thaw_due = False
        self._stop_for = 0.0

    @property
    def frozen(self) -> bool:
        """Whether the process is stopped from outside at present."""
        return self.world.now < self.frozen_until

    @property
    def is_in_call(self) -> bool:
        """Whether the process waits for the kernel."""
        return self._turn is not None and self.silent_since is not None and not self.frozen

    def last_sign(self) -> float:
        """Return the true time of the last heartbeat.

        Now, unless the process is stopped, in a long call, or dead.
        """
        return self.world.now if self.silent_since is None else self.silent_since

    def freeze(self, seconds: float) -> None:
        """Stop the process for so long."""
        if self.alive:
            self.world.disturb(seconds)
            self.world.say(self.name, f"stopped for {seconds:.4f} s")
            self.frozen_until = max(self.frozen_until, self.world.now + seconds)
            self._fall_silent()
            self.on_silence(seconds)
            self._thaw_later()

    def freeze_at_next_step(self, seconds: float) -> None:
        """Stop the process for so long when it comes to its next step."""
        self._stop_for = seconds

    def kill(self) -> None:
        """End the process at once, wherever it is."""
        if self.alive:
            self.world.stir(KILL_DISTURBS)
            self.world.say(self.name, "ends")
            self._fall_silent()
            self.alive = False
            self._turn = None
            self.on_death()

    def poke(self) -> None:
        """Give the process something to do, now or when it runs again."""
        if not self.alive or self._turn is not None:
            return
        if self.frozen:
            self._thaw_later()
            return
        self._turn = self.work()
        self._go_on(self._turn)

    def work(self) -> Turn:
        """Do all that there is to do."""
        raise NotImplementedError

    def on_idle(self) -> None:
        """Act at the end of a turn, without any time passing."""

    def on_silence(self, seconds: float) -> None:
        """Act when the process stops beating for so long, on behalf of whoever watches it."""

    def on_death(self) -> None:
        """Act at the process's end, on its parent's or the kernel's behalf."""

    def hazard(self) -> bool:
        """Perhaps stop or kill this process right here.

        Whether the turn must yield for it to take effect.
        """
        if self.alive and self._stop_for:
            seconds, self._stop_for = self._stop_for, 0.0
            self.freeze(seconds)
            return True
        # Who wakes the guard may be killed by it on the spot: the rest of its turn must not happen.
        return not self.alive or self.world.faults.strike(self)

    def _go_on(self, turn: Turn) -> None:
        while turn is self._turn:
            if self.frozen:
                self.world.at(self.frozen_until, self._go_on, turn)
                return
            self.silent_since = None
            delay = next(turn, None)
            if turn is not self._turn:
                return
            if delay is None:
                self._turn = None
                self.on_idle()
                return
            if delay > 0.0 or self.frozen:
                if not self.frozen:
                    self._fall_silent()
                    self.on_silence(delay)
                self.world.after(delay, self._go_on, turn)
                return

    def _fall_silent(self) -> None:
        if self.silent_since is None:
            self.silent_since = self.world.now

    def _thaw_later(self) -> None:
        if not self._thaw_due:
            self._thaw_due = True
            self.world.at(self.frozen_until, self._thaw)

    def _thaw(self) -> None:
        self._thaw_due = False
        if self.frozen:
            self._thaw_later()
        elif self._turn is None:
            self.silent_since = None
            self.poke()
