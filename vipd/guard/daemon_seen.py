"""The daemon as the guard sees it: whether it lives, since when, how its lives ended; turned into the decisions' view."""

from __future__ import annotations

import signal
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

from election.fencing import CRASHES, Life, Slot, View, is_crash
from vipd.guard.channel import Wire
from vipd.guard.link import Birth, ConfigState, GateReport
from vipd.guard.processes import kill, send_signal
from vipd.guard.shared_words import Words


@dataclass(slots=True)
class Daemon:
    """One daemon after the other. Moments are seconds on CLOCK_BOOTTIME, 0.0 is never.

    `pid` is 0 while none lives or while it is not known yet whether the one that was asked for does. `told` is what the
    present one knows of the gate; `config` and `code` are for the next one too.
    """

    words: Words
    pid: int = 0
    wire: Wire | None = None
    started: bool = False
    started_at: float = 0.0
    killed_at: float = 0.0
    ended_at: float = 0.0
    late_at: float = 0.0
    status: int | None = None
    stop_asked_at: float = 0.0
    reload_asked: bool = False
    crash_times: tuple[float, ...] = ()
    crashes: int = 0
    fenced: Counter[str] = field(default_factory=Counter)
    told: GateReport = field(default_factory=GateReport)
    config: ConfigState = field(default_factory=ConfigState)
    code: str = ""

    def view(self, slots: tuple[Slot, ...], *, can_start: bool) -> View:
        """Return all that the decisions depend on, the heartbeat as it is now."""
        return View(
            slots=slots,
            life=self._life(),
            can_start=can_start,
            started_at=self.started_at,
            alive_at=self.words.alive_at(),
            late_at=self.late_at,
            killed_at=self.killed_at,
            ended_at=self.ended_at,
            status=self.status,
            crashes=self.crash_times,
            stop_asked_at=self.stop_asked_at,
        )

    def _life(self) -> Life:
        if not self.started:
            return Life.NONE
        if self.stop_asked_at:
            return Life.STOPPING
        return Life.RUNNING if self.words.alive_at() else Life.STARTING

    def start(self, moment: float, ask: Callable[[socket.socket, Birth], None], no_gate: str = "") -> None:
        """Begin a new life; `ask` gets the daemon's end of the connection. Raises OSError: then it was not born."""
        self.started, self.started_at, self.killed_at, self.status = True, moment, 0.0, None
        self.reload_asked = False
        self.told = GateReport()
        self.words.beat(0.0)
        mine, others = socket.socketpair()
        self.wire = Wire(mine)
        with others:
            ask(others, Birth(self.crashes, dict(self.fenced), no_gate, self.config, self.code))

    def born(self, pid: int) -> None:
        """Note its process id, and tell it what could not be told before."""
        self.pid = pid
        if self.killed_at:
            kill(pid)
        elif self.stop_asked_at:
            send_signal(pid, signal.SIGTERM)

    def ask_stop(self, moment: float) -> None:
        """Tell the daemon to hand over and end; once is enough."""
        if not self.stop_asked_at:
            self.stop_asked_at = moment
            if self.pid:
                send_signal(self.pid, signal.SIGTERM)

    def ask_reload(self, blob: bytes) -> None:
        """Tell a living daemon of a new configuration; the next one starts with it anyway."""
        if self.started and self.wire is not None:
            self.reload_asked = True
            self.wire.send({"op": "reload", "blob": blob.hex()})

    def tell_config(self, state: ConfigState) -> None:
        """Tell the daemon, and those after it, what became of the configuration file."""
        self.config = state
        if self.wire is not None:
            self.wire.send({"op": "config", "state": asdict(state)})

    def tell_gate(self, report: GateReport) -> None:
        """Tell the daemon how the kernel's gate is, if that is news."""
        if self.wire is not None and report != self.told:
            self.told = report
            self.wire.send({"op": "gate", **asdict(report)})

    def kill(self, moment: float, abort_start: Callable[[], None]) -> None:
        """Kill it; if it is not known yet who it is, whoever is about to fork it."""
        self.killed_at = moment
        if self.pid:
            kill(self.pid)
        else:
            abort_start()

    def ended(self, moment: float, status: int) -> bool:
        """Note how it ended; return whether that was a crash."""
        crash = is_crash(status, stop_asked=self.stop_asked_at > 0, reload_asked=self.reload_asked)
        if crash:
            self.crashes += 1
            self.crash_times = (*self.crash_times, moment)[-CRASHES:]
        self.hang_up()
        self.pid, self.started, self.killed_at, self.ended_at, self.status = 0, False, 0.0, moment, status
        return crash

    def not_born(self, moment: float) -> bool:
        """Note that the start failed; return whether one was under way. It counts as a crash, so that it is not tried for ever."""
        if self.pid:
            return False
        self.ended(moment, -int(signal.SIGKILL))
        return True

    def hang_up(self) -> None:
        """Close the connection: the daemon sees it as the guard's end."""
        if self.wire is not None:
            self.wire.close()
            self.wire = None
