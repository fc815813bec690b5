"""The guard's own lines in the log: few, in the daemon's form, and never waited for."""

from __future__ import annotations

import os
import select
import socket
import stat
from collections.abc import Callable, Mapping, Sequence

from election.fencing import (
    CRASHES,
    REMOVE_PATIENCE,
    START_PATIENCE,
    STOP_PATIENCE,
    UNREAPED_PATIENCE,
    View,
    Why,
    patience,
)
from vipd.clock import unix
from vipd.observe.log_line import as_json, as_text, is_journal

STDERR = 2
LONGEST_LINE = 4000
"""Bytes; a pipe that poll calls writable takes at least a page (4096)."""
LOGGER = "vipd.guard"
INFO, WARNING, ERROR, CRITICAL = "info", "warning", "error", "critical"


class Log:
    """Writes to stderr.

    A line that the reader does not take now is left out and counted. `json`: one object a line.

    Behind stderr may be a pipe that nobody empties. A guard that waits for its log would not see a
    deadline pass.
    """

    def __init__(self, descriptor: int = STDERR, environ: Mapping[str, str] = os.environ) -> None:
        self.json = False
        self._descriptor = descriptor
        self._journal = is_journal(descriptor, environ)
        self._lost = 0
        self._last: dict[str, str] = {}

    def __call__(self, text: str, level: str = WARNING, below: Sequence[str] = ()) -> None:
        """Write one line, and those that belong below it."""
        lost = f" ({self._lost} lines before this one were lost)" if self._lost else ""
        line = " ".join(text.split())
        written = all(map(self._write, self._lines(line[: LONGEST_LINE // 2] + lost, level, below)))
        self._lost = 0 if written else self._lost + 1

    def changed(self, key: str, text: str, level: str = WARNING) -> None:
        """Write one line unless it equals the last one of this key.

        An empty text: all is well again.
        """
        if text and text != self._last.get(key):
            self(text, level)
        self._last[key] = text

    def _lines(self, text: str, level: str, below: Sequence[str]) -> list[bytes]:
        when = unix()
        if not self.json:
            lines = as_text(
                when, level, f"guard: {text}", below, journal=self._journal
            ).splitlines()
            return [line.encode(errors="backslashreplace")[:LONGEST_LINE] + b"\n" for line in lines]
        kept = list(below)
        while True:
            values = {"below": kept} if kept else {}
            data = as_json(when, level, LOGGER, text, values).encode()
            if len(data) <= LONGEST_LINE or not kept:
                return [data[:LONGEST_LINE] + b"\n"]
            kept.pop()

    def _write(self, data: bytes) -> bool:
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        try:
            if not poll.poll(0):
                return False
            return self._sent(data)
        except OSError:
            return False

    def _sent(self, data: bytes) -> bool:
        if not stat.S_ISSOCK(os.fstat(self._descriptor).st_mode):
            return os.write(self._descriptor, data) > 0
        # The journal is a stream socket: it may be writable and yet have no room for a whole line.
        with socket.fromfd(self._descriptor, socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            return sock.send(data, socket.MSG_DONTWAIT) > 0


# ---------------------------------------------------------------- why the guard did something


def killed_for(why: Why, moment: float, view: View, name: Callable[[int], str]) -> str:
    """Return why a daemon is killed, to follow its number.

    `view` is that of before, `name` gives a slot's election.
    """
    match why:
        case Why.STUCK:
            silent = moment - max(view.alive_at, view.late_at)
            return (
                f"gives no sign of life: killed (silent for {silent * 1000:.0f} ms, allowed "
                f"are {patience(view) * 1000:.0f} ms)"
            )
        case Why.DEADLINE:
            missed = [
                name(slot.number)
                for slot in view.slots
                if slot.armed and slot.deadline and moment >= slot.deadline
            ]
            return (
                f"missed a deadline: killed (the right to {', '.join(missed) or 'an address'} "
                "has ended, and it has not let go)"
            )
        case Why.START_TIMEOUT:
            return f"did not come up: killed (it had {START_PATIENCE:g} s)"
        case Why.STOP_TIMEOUT:
            return f"did not stop in time: killed (it had {STOP_PATIENCE:g} s)"
        case Why.LEAVING:
            return "is in the way of the end: killed"


def gave_up(view: View) -> str:
    """Return what follows from too many deaths of the daemon."""
    last = view.crashes[-CRASHES:]
    within = last[-1] - last[0]
    lease = max((slot.lease_duration for slot in view.slots), default=0.0)
    when = f" once its lease of {lease:g} s has expired" if lease else ""
    return (
        f"giving up: {len(last)} deaths in {within:.1f} s; the addresses are removed, and "
        f"another node takes over{when}"
    )


def quits_for(moment: float, view: View) -> str:
    """Return why the guard ends unasked; empty: it was asked to, or the reason is logged
    already.
    """
    if view.killed_at and moment >= view.killed_at + UNREAPED_PATIENCE:
        return (
            f"giving up: the daemon was killed {moment - view.killed_at:.0f} s ago and has not "
            "ended: it is asleep in the kernel"
        )
    if any(slot.deadline and moment >= slot.deadline for slot in view.slots):
        return (
            f"giving up: an address could not be removed within {REMOVE_PATIENCE:g} s; a new "
            "start tries again"
        )
    return ""
