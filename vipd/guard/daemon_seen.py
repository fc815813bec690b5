"""The daemon as the guard sees it.

Alive or not, since when, how the ones before ended, and what it was doing.

Before it is killed, a daemon writes its stack into memory that it shares with the guard:

    some time before the kill   the guard sends DUMP_SIGNAL; the C handler of faulthandler writes
    the stacks of all threads
                                without running any Python code, and the daemon goes on
    at the kill                 the guard reads what is there

So the dump delays no kill. A daemon that makes progress again is not killed, and its dump
forgotten.
"""

from __future__ import annotations

import os
import signal
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

from election.fencing import CRASHES, NEVER, Life, Slot, View, is_crash, offences
from vipd.guard.channel import Channel
from vipd.guard.link import ConfigState, GateReport, StartInfo
from vipd.guard.processes import kill, send_signal
from vipd.guard.shared_words import Words

DUMP_SIGNAL = signal.SIGUSR2
DUMP_EARLY = 0.050
"""Seconds before the kill at which a daemon is asked for its stack."""
MOST_LINES = 40
_MOST_BYTES = 16384
_STATES = {
    "T": "it was stopped by a signal",
    "t": "it was stopped by a debugger",
    "D": "it was asleep in the kernel: a disk or a driver does not answer",
    "Z": "it had ended already",
}


@dataclass(slots=True)
class Daemon:
    """One daemon after the other. Moments are seconds on CLOCK_BOOTTIME, 0.0 is never.

    `pid` is 0 while none runs, or while it is not known yet whether the one that was asked for
    does. `reported` is the last report on the gate that the present one got; `config` and `code`
    are for the next one too.
    """

    words: Words
    pid: int = 0
    channel: Channel | None = None
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
    reported: GateReport = field(default_factory=GateReport)
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

    def start(
        self, moment: float, ask: Callable[[socket.socket, StartInfo], None], no_gate: str = ""
    ) -> None:
        """Start a daemon; `ask` gets its end of the connection.

        Raises OSError: then none is started.
        """
        self.started, self.started_at, self.killed_at, self.status = True, moment, 0.0, None
        self.reload_asked = False
        self.reported = GateReport()
        self.words.beat(0.0)
        mine, others = socket.socketpair()
        self.channel = Channel(mine)
        with others:
            ask(others, StartInfo(self.crashes, dict(self.fenced), no_gate, self.config, self.code))

    def on_started(self, pid: int) -> None:
        """Note its process id, and send the signal that it should have had meanwhile."""
        self.pid = pid
        if self.killed_at:
            kill(pid)
        elif self.stop_asked_at:
            send_signal(pid, signal.SIGTERM)

    def ask_stop(self, moment: float) -> None:
        """Ask the daemon to hand over and end. Idempotent."""
        if not self.stop_asked_at:
            self.stop_asked_at = moment
            if self.pid:
                send_signal(self.pid, signal.SIGTERM)

    def ask_reload(self, blob: bytes) -> None:
        """Send a running daemon the new configuration; the next one starts with it anyway."""
        if self.started and self.channel is not None:
            self.reload_asked = True
            self.channel.send({"op": "reload", "blob": blob.hex()})

    def send_config_state(self, state: ConfigState) -> None:
        """Note what became of the configuration file, for this daemon and those after it."""
        self.config = state
        if self.channel is not None:
            self.channel.send({"op": "config", "state": asdict(state)})

    def send_gate_report(self, report: GateReport) -> None:
        """Send the daemon the report on the kernel's gate if it differs from the last one."""
        if self.channel is not None and report != self.reported:
            self.reported = report
            self.channel.send({"op": "gate", **asdict(report)})

    def kill(self, moment: float, abort_start: Callable[[], None]) -> None:
        """Kill it; while its process id is not known yet, the process that forks it."""
        self.killed_at = moment
        if self.pid:
            kill(self.pid)
        else:
            abort_start()

    def on_ended(self, moment: float, status: int) -> bool:
        """Note how it ended; return whether that was a crash."""
        crash = is_crash(status, stop_asked=self.stop_asked_at > 0, reload_asked=self.reload_asked)
        if crash:
            self.crashes += 1
            self.crash_times = (*self.crash_times, moment)[-CRASHES:]
        self.hang_up()
        self.pid, self.started, self.killed_at, self.ended_at, self.status = (
            0,
            False,
            0.0,
            moment,
            status,
        )
        return crash

    def on_start_failed(self, moment: float) -> bool:
        """Note that the start failed; return whether one was under way.

        It counts as a crash, so that it is not tried for ever.
        """
        if self.pid:
            return False
        self.on_ended(moment, -int(signal.SIGKILL))
        return True

    def hang_up(self) -> None:
        """Close the connection; the daemon takes that for the end of the guard."""
        if self.channel is not None:
            self.channel.close()
            self.channel = None


# ---------------------------------------------------------------- what it was doing


def dump_at(view: View, asked_at: float) -> float:
    """Return when to ask the daemon for its stack, shortly before it would be killed; NEVER: not as
    things are.

    `asked_at`: when it was asked last; it is asked once for each moment at which it would be
    killed.
    """
    if view.life is Life.NONE or view.killed_at:
        return NEVER
    at = min(at for at, _ in offences(view)) - DUMP_EARLY
    return at if at > asked_at else NEVER


def main_first(text: str) -> list[str]:
    """Return the lines of faulthandler's dump, the threads in reverse order.

    It begins with the newest, and ends with the main one.
    """
    threads: list[list[str]] = []
    for line in text.splitlines():
        if line and not line.startswith(" "):
            threads.append([])
        if line.strip() and threads:
            threads[-1].append(line.rstrip())
    return [line for thread in reversed(threads) for line in thread]


class Stack:
    """The shared memory, on the guard's side. `descriptor` is what the daemon writes to."""

    def __init__(self) -> None:
        self.descriptor = os.memfd_create("vipd-stack", os.MFD_CLOEXEC)
        self.asked_at = 0.0

    def ask(self, pid: int, moment: float) -> None:
        """Have the daemon write its stack. Never waits."""
        self.asked_at = moment
        os.ftruncate(self.descriptor, 0)
        # The daemon has the same open file, and so the same position.
        os.lseek(self.descriptor, 0, os.SEEK_SET)
        try:
            os.kill(pid, DUMP_SIGNAL)
        except OSError:
            return

    def read(self, pid: int) -> list[str]:
        """Return the stacks, that of the main thread first, or in one line why there are none."""
        lines = main_first(os.pread(self.descriptor, _MOST_BYTES, 0).decode(errors="replace"))
        return lines[:MOST_LINES] if lines else [f"no stack: {_state(pid)}"]

    def close(self) -> None:
        """Give the memory back."""
        os.close(self.descriptor)


def _state(pid: int) -> str:
    """Return in words what the kernel says of a process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 -- pathlib would cost the guard 0.4 MB
            letter = file.read(512).rpartition(b")")[2].split()[0].decode()
    except (OSError, IndexError):
        return "it is gone"
    return _STATES.get(letter, f"it did not get to it (state {letter})")
