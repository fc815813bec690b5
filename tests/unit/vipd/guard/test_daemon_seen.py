"""What a daemon that is about to be killed can still say: a real process, its real stack."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from election.fencing import NEVER, Life, Slot, View
from vipd.guard.daemon_seen import DUMP_EARLY, MOST_LINES, Stack, dump_at

ROOT = Path(__file__).parents[4]
PROGRAM = """
import faulthandler, sys, threading, time
from vipd.guard.daemon_seen import DUMP_SIGNAL
faulthandler.register(DUMP_SIGNAL, file=int(sys.argv[1]), all_threads=True, chain=False)
for _ in range(20):
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
def stuck_here():
    print("there", flush=True)
    while True:
        pass
stuck_here()
"""


def test_the_main_threads_stack_comes_first() -> None:
    """Without running any Python code of the daemon, and bounded however many threads there are.

    Asked twice, the last one counts.
    """
    stack = Stack()
    argv = [sys.executable, "-c", PROGRAM, str(stack.descriptor)]
    with subprocess.Popen(
        argv, cwd=ROOT, pass_fds=[stack.descriptor], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        for moment in (1.0, 2.0):
            stack.ask(process.pid, moment)
            end = time.monotonic() + 20
            while "stuck_here" not in " ".join(stack.read(process.pid)) and time.monotonic() < end:
                time.sleep(0.01)
        lines = stack.read(process.pid)
        process.kill()
    assert "thread 0x" in lines[0]
    assert lines[1].endswith(" in stuck_here")
    assert len(lines) <= MOST_LINES
    assert sum("stuck_here" in line for line in lines) == 1
    stack.close()


def test_one_that_cannot_say_anything_is_said_to_be_so() -> None:
    """Stopped: the handler does not run, and the kernel knows why."""
    stack = Stack()
    with subprocess.Popen(["/bin/sleep", "60"]) as process:
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        assert stack.read(process.pid) == ["no stack: it was stopped by a signal"]
        process.kill()
    assert stack.read(process.pid) == ["no stack: it is gone"]
    stack.close()


def test_it_is_asked_once_shortly_before_each_kill() -> None:
    """A beat moves the kill, and with it the question.

    Nobody is asked who is killed already, or is not there.
    """
    view = View(slots=(Slot(1, 110.0, 3.0),), life=Life.RUNNING, alive_at=100.0)
    at = dump_at(view, 0.0)
    assert abs(at - (100.5 - DUMP_EARLY)) < 1e-9
    assert dump_at(view, at) == NEVER
    assert dump_at(View(life=Life.RUNNING, alive_at=101.0), at) > at
    assert dump_at(View(life=Life.RUNNING, alive_at=100.0, killed_at=101.0), 0.0) == NEVER
    assert dump_at(View(), 0.0) == NEVER
