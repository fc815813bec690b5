"""The file store among processes that are killed or stopped at any instruction."""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from election.model import Applied, Found, Record, Revision
from election.stores.file.records import FileRecords
from tests.contract.places import PATIENCE

WRITER = Path(__file__).with_name("file_writer.py")
ELECTION = "ingress"


class Writer:
    """A file_writer process and its log."""

    def __init__(self, root: Path, number: int) -> None:
        self.log = root.with_name(f"log{number}")
        self.log.touch()
        self.process = subprocess.Popen(
            [sys.executable, str(WRITER), str(root), str(self.log), f"w{number}"]
        )

    def lines(self) -> list[list[str]]:
        """Return what it has logged, but for a line that it was killed in."""
        return [
            line.split(" ", 1)
            for line in self.log.read_text().splitlines(keepends=True)
            if line.endswith("\n")
        ]

    def wait_for(self, count: int) -> None:
        """Wait until it has done so many writes."""
        deadline = time.monotonic() + PATIENCE
        while len(self.lines()) < count:
            assert self.process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.005)

    def applied(self) -> list[int]:
        """Return the counters that it was told it wrote."""
        return [int(counter) for counter, answer in self.lines() if answer == "Applied\n"]


@contextlib.contextmanager
def writers(root: Path, numbers: range) -> Iterator[list[Writer]]:
    """Return running writers; in the end they are killed."""
    started = [Writer(root, number) for number in numbers]
    try:
        yield started
    finally:
        for writer in started:
            writer.process.kill()
            writer.process.wait()


def record_of(files: FileRecords) -> tuple[Record, Revision]:
    """Return the record, which must be there and whole."""
    seen = files.read(ELECTION)
    assert isinstance(seen, Found)
    return seen.record, seen.revision


def test_a_writer_killed_anywhere_leaves_the_old_record_or_the_new(tmp_path: Path) -> None:
    """Fifteen writers are killed in the middle of their work.

    The record is always whole, and no applied write is lost.
    """
    rng = random.Random(7)
    files = FileRecords(tmp_path / "store", 60.0)
    files.write(ELECTION, Record(uid="u"), None)
    applied: list[int] = []
    for first in range(0, 15, 5):
        with writers(tmp_path / "store", range(first, first + 5)) as started:
            for writer in started:
                writer.wait_for(20)
            for writer in started:
                time.sleep(rng.uniform(0, 0.01))
                writer.process.kill()
                writer.process.wait()
                assert record_of(files)[0].counter >= max([0, *writer.applied()])
            applied += [counter for writer in started for counter in writer.applied()]
            assert {answer for writer in started for _, answer in writer.lines()} <= {
                "Applied\n",
                "Conflict\n",
                "Unknown\n",
            }
    assert Counter(applied).most_common(1)[0][1] == 1
    # At most one write of each killed writer was applied without being logged.
    assert len(applied) <= record_of(files)[0].counter <= len(applied) + 15
    assert len(list((tmp_path / "store" / "tmp").iterdir())) <= 15


def test_a_stopped_writer_holds_nobody_up(tmp_path: Path) -> None:
    """Three writers, one after the other stopped at a random instruction while others write, then
    let go on.

    Whoever writes meanwhile needs no more than a few tries, and no write that was told to be
    applied is ever lost.
    """
    rng = random.Random(11)
    files = FileRecords(tmp_path / "store", 60.0)
    files.write(ELECTION, Record(uid="u"), None)
    applied: list[int] = []
    with writers(tmp_path / "store", range(3)) as started:
        for writer in started:
            writer.wait_for(20)
        for stopped in started * 12:
            time.sleep(rng.uniform(0, 0.005))
            stopped.process.send_signal(signal.SIGSTOP)
            for _ in range(15):
                record, revision = record_of(files)
                counter = record.counter + 1
                if isinstance(
                    files.write(
                        ELECTION, replace(record, counter=counter, holder="test"), revision
                    ),
                    Applied,
                ):
                    applied.append(counter)
            stopped.process.send_signal(signal.SIGCONT)
        assert len(applied) > 36
        for writer in started:
            writer.process.send_signal(signal.SIGSTOP)
    lines = [line for writer in started for line in writer.lines()]
    applied += [counter for writer in started for counter in writer.applied()]
    assert Counter(applied).most_common(1)[0][1] == 1
    unknown = sum(answer == "Unknown\n" for _, answer in lines)
    assert len(applied) <= record_of(files)[0].counter <= len(applied) + unknown + len(started)
