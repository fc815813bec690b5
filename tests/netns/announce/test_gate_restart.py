"""A full kill and a new life.

No gap for a VIP that stays, no right beyond the old deadline for one that does not.
"""

from __future__ import annotations

import contextlib
import itertools
import mmap
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.netns.announce.gating import (
    KINDS,
    SLOT,
    VIPS,
    Client,
    Echo,
    Gate,
    Heard,
    bind,
    boottime,
    dress,
    now,
    unbind,
)

if TYPE_CHECKING:
    from tests.netns.announce.conftest import Cable

pytestmark = [pytest.mark.root, pytest.mark.netns]

ROOT = Path(__file__).parents[3]
MILLISECOND = 1_000_000
TOLERANCE = MILLISECOND
"""What the product promises: no frame later than that after the deadline."""

LIFE = """
import mmap, os, sys, time
from tests.netns.announce.gating import Gate, boottime, now
path, count, step, right = sys.argv[1], *map(int, sys.argv[2:])
promise = memoryview(mmap.mmap(os.open(path, os.O_RDWR), 8)).cast("Q")
gate = Gate()
assert gate.cover() == ""
print("covered", flush=True)
start = boottime()
for number in range(count):
    # What a confirmed write of this moment gives; it is stored later, perhaps much later.
    deadline = start + number * step + right
    promise[0] = deadline
    gate.words[1] = deadline
    gate.gates.tick(now())
    time.sleep(max(0, start + (number + 1) * step - boottime()) / 1e9)
print("done", flush=True)
time.sleep(3600)
"""
"""All of vipd in one process: it has a gate, and renews its right every `step` ns for `right`
ns."""


@dataclass
class Life:
    """A process that does the above, on the host on which it was started."""

    process: subprocess.Popen[str]
    promise: memoryview

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def said(self, word: str) -> None:
        """Wait until it has said so."""
        assert self.process.stdout
        assert self.process.stdout.readline().strip() == word

    def kill(self) -> None:
        """Kill it, and wait until it is gone."""
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def living(path: Path, *, count: int, step: int, right: int) -> Iterator[Life]:
    """Start a life, and end it in any case."""
    path.write_bytes(bytes(8))
    with path.open("r+b") as file:
        promise = memoryview(mmap.mmap(file.fileno(), 8)).cast("Q")
    command = [sys.executable, "-c", LIFE, str(path), str(count), str(step), str(right)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        life = Life(process, promise)
        try:
            life.said("covered")
            yield life
        finally:
            life.kill()


@dataclass
class Questions:
    """Asks in all ways every millisecond and keeps what was heard; a moment passes by asking."""

    client: Client
    asked: int = 0
    heard: list[Heard] = field(default_factory=list)

    def until(self, moment: int) -> None:
        """Go on until this moment (ns)."""
        while (at := boottime()) < moment:
            self.client.ask()
            self.asked += 1
            while found := self.client.hear(max(0.0001, (at + MILLISECOND - boottime()) / 1e9)):
                self.heard.append(found)

    def last(self) -> int:
        """Return the moment of the last answer."""
        self.until(boottime() + 20 * MILLISECOND)
        return max(found.at for found in self.heard)

    def most_silent(self, begin: int, end: int) -> int:
        """Return the longest time without an answer, in ns."""
        times = [begin, *(found.at for found in self.heard if begin <= found.at <= end), end]
        return max(later - earlier for earlier, later in itertools.pairwise(times))


def inherited(gate: Gate) -> bool:
    """Whether the programs of the earlier vipd are still in force."""
    return gate.state.inherited


@pytest.fixture
def questions(cable: Cable) -> Iterator[Questions]:
    """Return a client of an owner that has the VIPs bound and serves them,
    without a gate so far.
    """
    dress(cable)
    bind(cable.a)
    with contextlib.closing(Echo()), contextlib.closing(Client(cable)) as client:
        yield Questions(client)


def test_a_vip_that_is_taken_back_in_time_is_never_silent(
    questions: Questions, tmp_path: Path
) -> None:
    """Killed, started again, right regained before the old one ends.

    The old programs serve until the new ones may.
    """
    with living(tmp_path / "promise", count=1, step=0, right=1000 * MILLISECOND) as life:
        life.said("done")
        questions.until(boottime() + 20 * MILLISECOND)
        life.kill()
        with contextlib.closing(Gate()) as gate:
            begin = boottime()
            assert gate.cover() == ""
            gate.gates.settle(now())
            assert inherited(gate)
            questions.until(begin + 100 * MILLISECOND)
            gate.open()
            assert not inherited(gate)
            # Beyond the old deadline: only the new right counts.
            questions.until(life.promise[0] + 100 * MILLISECOND)
            assert {found.kind for found in questions.heard if found.at > life.promise[0]} == KINDS
            assert len(questions.heard) >= (questions.asked - 1) * len(KINDS)


def test_a_vip_that_is_not_taken_back_ends_with_its_old_right(
    questions: Questions, tmp_path: Path
) -> None:
    """The new life never gets the lease.

    The old programs close by themselves, and are replaced when that is sure.
    """
    with living(tmp_path / "promise", count=1, step=0, right=150 * MILLISECOND) as life:
        life.said("done")
        life.kill()
        with contextlib.closing(Gate()) as gate:
            assert gate.gates.cover(SLOT, {gate.ifindex: VIPS}, 0.4, now()) == ""
            gate.gates.settle(now())
            questions.until(life.promise[0])
            assert questions.last() <= life.promise[0] + TOLERANCE
            assert inherited(gate)
            while inherited(gate):
                due = gate.gates.tick(now())
                questions.until(min(int(due * 1e9), boottime() + 50 * MILLISECOND))
            assert questions.last() <= life.promise[0] + TOLERANCE


def test_a_vip_that_was_not_bound_can_be_announced_at_once(
    cable: Cable, questions: Questions, tmp_path: Path
) -> None:
    """The earlier vipd was Backup.

    Its closed programs may not outlive the moment at which the new one becomes Active.
    """
    with living(tmp_path / "promise", count=0, step=0, right=0) as life:
        life.said("done")
        life.kill()
        unbind(cable.a)
        with contextlib.closing(Gate()) as gate:
            assert gate.cover() == ""
            assert inherited(gate)
            gate.open()
            assert not inherited(gate)
            bind(cable.a)
            assert questions.client.answered({"arp", "nd"}) == {"arp", "nd"}


def freeze(questions: Questions, path: Path, rng: random.Random) -> int:
    """Freeze a life at a random moment, thaw it when all its promises have passed.

    Return how late the last answer was, in ns.
    """
    begun = len(questions.heard)
    step, right, count = 10 * MILLISECOND, 40 * MILLISECOND, 12
    questions.client.synchronize()
    with living(path, count=count, step=step, right=right) as life:
        questions.until(boottime() + rng.randrange(20 * MILLISECOND, count * step))
        life.signal(signal.SIGSTOP)
        questions.until(boottime() + count * step + right)
        deadline = life.promise[0]
        life.signal(signal.SIGCONT)
        life.said("done")
        questions.until(boottime() + 30 * MILLISECOND)
        life.kill()
    heard = questions.heard[begun:]
    assert {found.kind for found in heard} == KINDS
    return max(found.at for found in heard) - deadline


def test_a_process_that_wakes_up_late_extends_nothing(questions: Questions, tmp_path: Path) -> None:
    """What it stores then are moments that have passed."""
    rng = random.Random(5)
    late = [freeze(questions, tmp_path / "promise", rng) for _ in range(5)]
    assert max(late) <= TOLERANCE


@pytest.mark.long
def test_a_hundred_processes_that_wake_up_late_extend_nothing(
    questions: Questions, tmp_path: Path
) -> None:
    """At a hundred random moments, among them between a promise and its store."""
    rng = random.Random(time.time_ns())
    late = sorted(freeze(questions, tmp_path / "promise", rng) / MILLISECOND for _ in range(100))
    print(
        f"last answer against the deadline, 100 freezes: p50 {late[50]:+.3f} ms, max "
        f"{late[-1]:+.3f} ms"
    )
    assert late[-1] <= TOLERANCE / MILLISECOND
