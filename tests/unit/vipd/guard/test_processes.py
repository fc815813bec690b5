"""Children, their signals and their death, in processes of their own; and the timer."""

from __future__ import annotations

import select
import subprocess
import sys
from pathlib import Path

from vipd.clock import now
from vipd.guard.processes import BootTimer

ROOT = Path(__file__).parents[4]


def output(program: str) -> list[str]:
    """Return the lines that a program prints."""
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")[:-1]


EXITS = """
import os, sys
from vipd.guard.processes import fork
def status(child):
    return os.waitstatus_to_exitcode(os.waitpid(fork(child, keep=()), 0)[1])
sys.stderr = open(os.devnull, "w")
print(status(lambda: None), status(lambda: 7), status(lambda: sys.exit(4)), status(lambda: sys.exit("why")), status(lambda: 1 // 0))
"""


def test_a_child_exits_with_what_it_returns_or_raises() -> None:
    """And never runs on in the parent's code."""
    assert output(EXITS) == ["0 7 4 1 1"]


SIGNALS = """
import os, signal
from vipd.guard.processes import fork, OPERATOR_SIGNALS
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
    signal.signal(number, lambda *_: None)
reading, writing = os.pipe()
os.set_blocking(writing, False)
signal.set_wakeup_fd(writing)
def child():
    wakeup = signal.set_wakeup_fd(-1)
    default = all(signal.getsignal(number) is signal.SIG_DFL for number in OPERATOR_SIGNALS)
    print(wakeup, default, sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())) == sorted(blocked), flush=True)
for block_signals, blocked in ((False, ()), (True, OPERATOR_SIGNALS)):
    os.waitpid(fork(child, keep=(), block_signals=block_signals), 0)
print(signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set())
"""


def test_a_child_starts_with_the_signals_of_a_fresh_process() -> None:
    """The guard's handlers stay in the guard, and its mask is as before."""
    assert output(SIGNALS) == ["-1 True True", "-1 True True", "True"]


EARLY_SIGNAL = """
import os, signal
from vipd.guard.processes import fork
signal.signal(signal.SIGTERM, lambda *_: None)
ends = set()
for _ in range(50):
    pid = fork(lambda: signal.pause(), keep=())
    os.kill(pid, signal.SIGTERM)
    ends.add(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
print(ends)
"""


def test_a_signal_right_after_the_fork_is_not_lost() -> None:
    """The parent's handler, still installed in the child for a moment, would swallow it."""
    assert output(EARLY_SIGNAL) == ["{-15}"]


DESCRIPTORS = """
import os
from pathlib import Path
from vipd.guard.processes import fork
kept, _ = os.pipe()
os.dup2(kept, 100)
def child():
    found = sorted({int(entry.name) for entry in Path("/proc/self/fd").iterdir()} - {0, 1, 2, kept})
    print(found[1:], os.fstat(kept).st_ino > 0, flush=True)  # the first is that of the look itself
os.waitpid(fork(child, keep={kept}), 0)
"""


def test_a_child_has_no_descriptors_but_those_it_was_given() -> None:
    """A copy of an address lock in the wrong process would hold the address for ever."""
    assert output(DESCRIPTORS) == ["[] True"]


ADOPTED = """
import os, signal, time
from vipd.guard.processes import become_subreaper, die_with_parent, fork, wait_for_adoption
become_subreaper()
me = os.getpid()
reading, writing = os.pipe()
def go_between():
    parent = os.getpid()
    def child():
        wait_for_adoption(parent)
        die_with_parent(signal.SIGKILL, me)
        os.write(writing, b"adopted" if os.getppid() == me else b"lost")
        return 3
    fork(child, keep={writing})
os.waitpid(fork(go_between, keep={writing}), 0)
print(os.read(reading, 10).decode(), os.waitstatus_to_exitcode(os.wait()[1]))
"""


def test_a_grandchild_becomes_the_subreapers_child() -> None:
    """So the guard can reap the daemon that the template forked."""
    assert output(ADOPTED) == ["adopted 3"]


ORPHAN = """
import os, signal
from vipd.guard.processes import become_subreaper, die_with_parent, fork
become_subreaper()
reading, writing = os.pipe()
def parent():
    me = os.getpid()
    told, tell = os.pipe()
    def child():
        die_with_parent(signal.SIGTERM, me)
        os.write(tell, b"x")
        signal.pause()
    pid = fork(child, keep={tell})
    os.read(told, 1)
    os.write(writing, str(pid).encode())
    signal.pause()
middle = fork(parent, keep={writing})
orphan = int(os.read(reading, 20))
os.kill(middle, signal.SIGKILL)
ends = dict(os.wait() for _ in range(2))
print(os.waitstatus_to_exitcode(ends[orphan]))
"""


def test_a_child_is_told_of_its_parents_death() -> None:
    """By the kernel, since nobody else is left to tell."""
    assert output(ORPHAN) == ["-15"]


WRONG_PARENT = """
import os, signal
from vipd.guard.processes import die_with_parent, fork
pid = fork(lambda: die_with_parent(signal.SIGTERM, 999999999), keep=())
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def test_a_child_whose_parent_is_dead_already_ends() -> None:
    """The kernel tells of deaths to come only."""
    assert output(WRONG_PARENT) == ["1"]


REAPED = """
import os, time
from vipd.guard.processes import child_pids, descendants, fork, reaped
pids = [fork(lambda: 5, keep=()) for _ in range(3)]
assert child_pids(os.getpid()) == set(pids)
found = {}
while len(found) < 3:
    found.update(reaped())
print(found == dict.fromkeys(pids, 5), child_pids(os.getpid()), descendants(os.getpid()))
"""


def test_every_child_is_reaped() -> None:
    """Several ends may come with one SIGCHLD."""
    assert output(REAPED) == ["True set() set()"]


def fired(timer: BootTimer, within: float) -> bool:
    """Wait for the timer for at most so many seconds."""
    poll = select.poll()
    poll.register(timer.fileno(), select.POLLIN)
    return bool(poll.poll(within * 1000))


def test_the_timer_fires_at_its_moment_and_not_before() -> None:
    """The moment is absolute: it may have passed already."""
    timer = BootTimer()
    at = now() + 0.02
    timer.set(at)
    assert fired(timer, 5.0)
    assert now() >= at
    timer.clear()
    assert not fired(timer, 0.0)
    timer.set(now() - 100)
    assert fired(timer, 5.0)
    timer.close()


def test_the_timer_can_be_told_never() -> None:
    """A moment set before is forgotten, and so is one that was reached but not looked at."""
    timer = BootTimer()
    timer.set(now() - 1)
    timer.set(float("inf"))
    assert not fired(timer, 0.01)
    timer.close()
