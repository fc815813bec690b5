"""What the standard library lacks for the guard.

Children, signals, a timer, and the one poll for all of them.

Linux only; constants are those of linux/prctl.h, linux/timerfd.h and linux/time.h.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import struct
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator

PR_SET_PDEATHSIG = 1
PR_SET_NAME = 15
PR_SET_CHILD_SUBREAPER = 36
TFD_TIMER_ABSTIME = 1
_NANOSECONDS = 1_000_000_000
_ITIMERSPEC = struct.Struct("=qqqq")
_ADOPTION_LOOK = 0.0002
STDERR = 2
_PIPE = 4096

OPERATOR_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Signals that operators and systemd send to vipd."""
HANDLED = (*OPERATOR_SIGNALS, signal.SIGCHLD)
"""Signals that the guard handles."""

_libc = ctypes.CDLL(None, use_errno=True)


def _called(name: str, *arguments: object) -> int:
    result = int(getattr(_libc, name)(*arguments))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result


def _prctl(option: int, argument: int) -> None:
    _called("prctl", option, *map(ctypes.c_ulong, (argument, 0, 0, 0)))


def become_subreaper() -> None:
    """Become the parent of every descendant whose own parent dies."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def set_name(name: str) -> None:
    """Set the name that `ps` and `top` show; the first 15 characters count."""
    with contextlib.suppress(OSError):
        _called("prctl", PR_SET_NAME, name.encode()[:15] + b"\0", *map(ctypes.c_ulong, (0, 0, 0)))


def die_with_parent(number: signal.Signals, parent: int) -> None:
    """Ask the kernel for this signal when the parent dies, and end now if it is dead already.

    The request is about the parent that this process has at the time: one that is adopted later
    waits for that first.
    """
    _prctl(PR_SET_PDEATHSIG, int(number))
    if os.getppid() != parent:
        os._exit(1)


def wait_for_adoption(former: int) -> None:
    """Return as soon as the former parent is gone and the next subreaper is the parent."""
    while os.getppid() == former:
        time.sleep(_ADOPTION_LOOK)


# ---------------------------------------------------------------- children


def fork(
    child: Callable[[], int | None], keep: Collection[int], *, block_signals: bool = False
) -> int:
    """Fork a process that runs `child` and exits with what it returns.

    Return its process id. Raises OSError.

    The child has the signal dispositions of a fresh process, and no descriptors but `keep` and the
    standard ones. `block_signals`: TERM, INT and HUP stay blocked, for one that ends with its
    connection. Signals are blocked across the fork: one that comes between fork and the new
    dispositions would be taken by the guard's handlers in the child, and be lost.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
    try:
        pid = os.fork()
        if pid == 0:
            _run_child(child, keep, block_signals=block_signals)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return pid


def _run_child(
    child: Callable[[], int | None], keep: Collection[int], *, block_signals: bool
) -> None:
    """Never returns: the frames above belong to the parent, and their objects must not be finalised
    here.
    """
    code = 1
    try:
        with contextlib.suppress(ValueError):
            signal.set_wakeup_fd(-1)
        for number in HANDLED:
            signal.signal(number, signal.SIG_DFL)
        close_all_but(keep)
        signal.pthread_sigmask(signal.SIG_SETMASK, OPERATOR_SIGNALS if block_signals else ())
        code = child() or 0
    except SystemExit as ending:
        code = ending.code if isinstance(ending.code, int) else int(ending.code is not None)
    except BaseException:  # noqa: BLE001 -- whatever it is, it ends here and is shown
        sys.excepthook(*sys.exc_info())
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _listed(directory: str) -> list[str]:
    return os.listdir(directory)  # noqa: PTH208 -- pathlib would cost the guard 0.4 MB


def threads() -> int:
    """Return how many threads this process has, those of libraries included."""
    return len(_listed("/proc/self/task"))


def close_all_but(keep: Collection[int]) -> None:
    """Close all descriptors but these and the standard ones."""
    # os.closerange up to the limit takes seconds where the limit is 2^30 and Python was built
    # without close_range(2).
    for number in map(int, _listed("/proc/self/fd")):
        if number > STDERR and number not in keep:
            with contextlib.suppress(OSError):
                os.close(number)


def reaped() -> Iterator[tuple[int, int]]:
    """Reap every child that has ended, adopted ones included, and yield process id and exit status
    (negative: a signal).
    """
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        yield pid, os.waitstatus_to_exitcode(status)


def child_pids(pid: int) -> set[int]:
    """Return the children of all threads of a process.

    None where the kernel does not tell (CONFIG_PROC_CHILDREN).
    """
    found: set[int] = set()
    with contextlib.suppress(OSError):
        for thread in _listed(f"/proc/{pid}/task"):
            with (
                contextlib.suppress(OSError),
                open(f"/proc/{pid}/task/{thread}/children", encoding="ascii") as file,  # noqa: PTH123 -- likewise
            ):
                found |= {int(word) for word in file.read().split()}
    return found


def descendants(pid: int) -> set[int]:
    """Return the children of a process, their children and so on."""
    found: set[int] = set()
    todo = child_pids(pid)
    while todo:
        found |= todo
        todo = {grandchild for child in todo for grandchild in child_pids(child)} - found
    return found


def send_signal(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process; one that is gone is as good.

    A child's id stays its own until it is reaped.
    """
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def kill(pid: int) -> None:
    """Kill a process."""
    send_signal(pid, signal.SIGKILL)


# ---------------------------------------------------------------- the timer


class BootTimer:
    """A timer on CLOCK_BOOTTIME to wait for in a poll.

    The timeout of poll itself stands still while the machine is suspended: 1. 2 s are left and the
    machine is suspended, 2. another node takes the VIP, 3. on waking 2 s are left again: two
    owners. This timer fires on waking.
    """

    def __init__(self) -> None:
        self._fd = _called("timerfd_create", time.CLOCK_BOOTTIME, os.O_CLOEXEC | os.O_NONBLOCK)

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._fd

    def set(self, at: float) -> None:
        """Fire at this moment (seconds; at once if it has passed), and not at the one set before.
        Infinity: never.
        """
        # A microsecond late rather than a nanosecond early: woken before the moment, there would be
        # nothing to do yet.
        nanoseconds = 0 if at == float("inf") else max(1, int(at * _NANOSECONDS) + 1000)
        value = _ITIMERSPEC.pack(0, 0, *divmod(nanoseconds, _NANOSECONDS))
        _called("timerfd_settime", self._fd, TFD_TIMER_ABSTIME, value, None)

    def clear(self) -> None:
        """Take note that it fired."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._fd, 8)

    def close(self) -> None:
        """Close the timer."""
        os.close(self._fd)


# ---------------------------------------------------------------- the poll


class Waiter:
    """Waits. `counter` is the eventfd that a daemon writes to when it has lowered a deadline."""

    def __init__(self) -> None:
        self.counter = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._signals, self._signals_written = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._timer = BootTimer()

    def listen(self) -> None:
        """Take signals from now on."""
        for number in HANDLED:
            signal.signal(number, _ignore)
        signal.set_wakeup_fd(self._signals_written, warn_on_full_buffer=False)

    def wait(self, until: float, sources: Iterable[tuple[int, int]]) -> list[int]:
        """Wait until that moment, a signal, a poke, or one of the sources (descriptor and poll
        events); return those that are ready.
        """
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


def _ignore(_number: int, _frame: object) -> None:
    """Do nothing: the wakeup descriptor carries the signal, and without a handler the kernel would
    act by itself.
    """
