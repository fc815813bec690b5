"""What a daemon was doing when the guard had to kill it: its stack, written by itself into memory that both share.

    some time before the kill   the guard sends DUMP_SIGNAL; the C handler of faulthandler writes the stacks of all threads
                                without running any Python code, and the daemon goes on
    at the kill                 the guard reads what is there

So the dump delays no kill. A daemon that makes progress again is not killed, and its dump forgotten.
"""

from __future__ import annotations

import os
import signal

from election.fencing import NEVER, Life, View, offences

DUMP_SIGNAL = signal.SIGUSR2
DUMP_EARLY = 0.050
"""Seconds before a daemon would be killed in which it can still say what it is doing."""
MOST_LINES = 40
_MOST_BYTES = 16384
_STATES = {
    "T": "it was stopped by a signal",
    "t": "it was stopped by a debugger",
    "D": "it was asleep in the kernel: a disk or a driver does not answer",
    "Z": "it had ended already",
}


def dump_at(view: View, asked_at: float) -> float:
    """Return when to ask the daemon for its stack, shortly before it would be killed; NEVER: not as things are.

    `asked_at`: when it was asked last; it is asked once for each moment at which it would be killed.
    """
    if view.life is Life.NONE or view.killed_at:
        return NEVER
    at = min(at for at, _ in offences(view)) - DUMP_EARLY
    return at if at > asked_at else NEVER


def main_first(text: str) -> list[str]:
    """Return the lines of faulthandler's dump, the threads in reverse order: it begins with the newest, and ends with the main one."""
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
