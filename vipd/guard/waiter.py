"""The guard's one poll, and what wakes it besides its children: signals, the daemon's pokes, the time."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Iterable

from vipd.guard.processes import HANDLED, BootTimer

_PIPE = 4096


class Waiter:
    """Waits. `counter` is the eventfd that a daemon writes to when it has lowered a deadline."""

    def __init__(self) -> None:
        self.counter = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._signals, self._signals_written = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._timer = BootTimer()

    def listen(self) -> None:
        """Take signals from now on."""
        for number in HANDLED:
            signal.signal(number, _noted)
        signal.set_wakeup_fd(self._signals_written, warn_on_full_buffer=False)

    def wait(self, until: float, sources: Iterable[tuple[int, int]]) -> list[int]:
        """Wait until that moment, a signal, a poke, or one of the sources (descriptor and poll events); return those that are ready."""
        poll = select.poll()
        own = (self.counter, self._signals, self._timer.fileno())
        for number in own:
            poll.register(number, select.POLLIN)
        for number, events in sources:
            poll.register(number, events)
        self._timer.set(until)
        ready = [number for number, _ in poll.poll()]
        self._timer.clear()
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.counter)
        return [number for number in ready if number not in own]

    def signals(self) -> list[int]:
        """Return the signals that have come, in order."""
        with contextlib.suppress(BlockingIOError):
            return list(os.read(self._signals, _PIPE))
        return []

    def close(self) -> None:
        """Take no more signals and close everything."""
        signal.set_wakeup_fd(-1)
        self._timer.close()
        for number in (self.counter, self._signals, self._signals_written):
            os.close(number)


def _noted(_number: int, _frame: object) -> None:
    """Let the wakeup descriptor tell of the signal; without a handler the kernel would act by itself."""
