"""The guard's own lines in the log: few, plain, and never waited for."""

from __future__ import annotations

import os
import select
import socket
import stat

from vipd.clock import wall

STDERR = 2
LONGEST_LINE = 1000
"""Bytes; a pipe that poll calls writable takes at least a page (4096)."""


class Log:
    """Writes to stderr. A line that the reader does not take now is left out and counted.

    Behind stderr may be a pipe that nobody empties. A guard that waits for its log would not see a deadline pass.
    """

    def __init__(self, descriptor: int = STDERR) -> None:
        self._descriptor = descriptor
        self._lost = 0
        self._last: dict[str, str] = {}

    def __call__(self, text: str) -> None:
        """Write one line."""
        lost = f" ({self._lost} lines before this one were lost)" if self._lost else ""
        line = " ".join(text.split()) + lost
        written = self._write(f"{wall()} guard: {line}".encode()[:LONGEST_LINE] + b"\n")
        self._lost = 0 if written else self._lost + 1

    def changed(self, key: str, text: str) -> None:
        """Write one line unless it is what was last said about this; an empty text says that all is well again."""
        if text and text != self._last.get(key):
            self(text)
        self._last[key] = text

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
