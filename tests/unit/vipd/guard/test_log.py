"""The guard's lines: plain, once, and never waited for."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import time
from dataclasses import replace
from pathlib import Path

import pytest

from election.fencing import NEVER, UNREAPED_PATIENCE, Life, Slot, View, Why
from vipd.guard.log import ERROR, LONGEST_LINE, Log, gave_up, killed_for, quits_for


def test_a_line_has_a_time_and_no_line_breaks() -> None:
    """One event, one line."""
    reading, writing = os.pipe()
    Log(writing)("daemon 7 crashed\n(exit 1)")
    assert re.fullmatch(
        rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} warning  guard: daemon 7 crashed \(exit 1\)\n",
        os.read(reading, 1000),
    )
    os.close(reading)
    os.close(writing)


def written(
    *,
    as_json: bool = False,
    journal: bool = False,
    text: str = "daemon 7 crashed",
    below: tuple[str, ...] = (),
) -> list[str]:
    """Return the lines that become of one that is an error."""
    reading, writing = os.pipe()
    found = os.fstat(writing)
    log = Log(writing, {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"} if journal else {})
    log.json = as_json
    log(text, ERROR, below)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        return pipe.read().splitlines()


def test_the_journal_learns_how_grave_it_is() -> None:
    """Each line below it too; time and zone are the journal's own."""
    assert written(journal=True, below=("one", "two")) == [
        "<3>guard: daemon 7 crashed",
        "<3>    one",
        "<3>    two",
    ]


def test_guard_and_daemon_have_one_form() -> None:
    """Time, zone and level stand where the daemon's do."""
    [line] = written()
    when, level, text = line[:23], line[24:32], line[33:]
    assert abs(time.mktime(time.strptime(when[:19], "%Y-%m-%d %H:%M:%S")) - time.time()) < 60  # noqa: TID251 -- what people are shown
    assert (level, text) == ("error   ", "guard: daemon 7 crashed")


def test_json_is_json() -> None:
    """One object a line, as the daemon's, whatever its length.

    What does not fit is left out from the end.
    """
    [line] = written(as_json=True, below=("frame 1", "frame 2"))
    found = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", found.pop("time"))
    assert found == {
        "level": "error",
        "logger": "vipd.guard",
        "message": "daemon 7 crashed",
        "below": ["frame 1", "frame 2"],
    }
    [long] = written(as_json=True, text="x" * 9000, below=("y" * 900,) * 9)
    assert len(long) <= LONGEST_LINE
    assert set(json.loads(long)["below"]) == {"y" * 900}


def test_what_is_said_again_and_again_is_said_once() -> None:
    """A removal is tried fifty times a second."""
    reading, writing = os.pipe()
    log = Log(writing)
    for text in ("refused", "refused", "timed out", "timed out", "", "refused"):
        log.changed("one", text)
    assert [line.split(b"guard: ")[1] for line in os.read(reading, 1000).splitlines()] == [
        b"refused",
        b"timed out",
        b"refused",
    ]
    os.close(reading)
    os.close(writing)


def test_a_reader_that_does_not_read_is_not_waited_for() -> None:
    """The pipe is full.

    The line is left out, and the next one that gets through says how many were.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        while True:
            os.write(writing, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(writing, True)
    log = Log(writing)
    log("lost")
    log("lost as well")
    os.set_blocking(reading, False)
    with contextlib.suppress(BlockingIOError):
        while os.read(reading, 65536):
            pass
    log("heard")
    assert b"guard: heard (2 lines before this one were lost)" in os.read(reading, 1000)
    os.close(reading)
    os.close(writing)


def test_the_journals_socket_is_not_waited_for_either() -> None:
    """A stream socket may be called writable and have no room for a line."""
    one, two = socket.socketpair()
    log = Log(one.fileno())
    for _ in range(5000):
        log("x" * 900)
    assert log._lost > 0
    assert len(two.recv(900)) == 900
    one.close()
    two.close()


def test_no_stderr_at_all_is_no_error() -> None:
    """The terminal is gone."""
    reading, writing = os.pipe()
    os.close(reading)
    Log(writing)("nobody hears this")
    os.close(writing)


@pytest.mark.parametrize("kind", ["pipe", "file", "socket"])
def test_a_thousand_lines_cost_no_descriptor(kind: str, tmp_path: Path) -> None:
    """A guard lives for months; without descriptors it could not fork the next daemon."""
    reading, writing = {"pipe": os.pipe, "file": lambda: two_ends(tmp_path), "socket": connected}[
        kind
    ]()
    try:
        log = Log(writing)
        log("the first")
        before = descriptors()
        for number in range(1000):
            log(f"line {number}")
            os.read(reading, 4096)
        assert descriptors() == before
    finally:
        os.close(reading)
        os.close(writing)


def descriptors() -> int:
    """Return how many descriptors this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def two_ends(folder: Path) -> tuple[int, int]:
    """Return a file opened for reading and for appending."""
    path = folder / "log"
    return os.open(path, os.O_RDONLY | os.O_CREAT), os.open(path, os.O_WRONLY | os.O_APPEND)


def connected() -> tuple[int, int]:
    """Return the two ends of a stream socket, as the journal has."""
    one, other = socket.socketpair()
    return one.detach(), other.detach()


# ---------------------------------------------------------------- reasons

OVERDUE = Slot(number=1, deadline=99.5, lease_duration=3.0)
VIEW = View(slots=(OVERDUE,), life=Life.RUNNING, alive_at=99.0)


@pytest.mark.parametrize(
    ("why", "text"),
    [
        (Why.STUCK, "silent for 1000 ms, allowed are 500 ms"),
        (Why.DEADLINE, "the right to ingress has ended"),
        (Why.START_TIMEOUT, "did not come up: killed (it had 4 s)"),
        (Why.STOP_TIMEOUT, "did not stop in time: killed (it had 5 s)"),
        (Why.LEAVING, "is in the way of the end"),
    ],
)
def test_each_kill_has_its_sentence(why: Why, text: str) -> None:
    """With the numbers that it was decided by."""
    assert text in killed_for(why, 100.0, VIEW, {1: "ingress"}.__getitem__)


def test_silence_counts_from_where_the_guard_could_have_seen_a_beat() -> None:
    """If the guard itself was not scheduled, a missing heartbeat proves nothing."""
    assert "silent for 250 ms" in killed_for(Why.STUCK, 100.0, replace(VIEW, late_at=99.75), str)


def test_who_is_to_blame_is_only_named_if_it_missed_something() -> None:
    """The word may have been closed between the decision and its sentence."""
    closed = replace(VIEW, slots=(replace(OVERDUE, deadline=0.0), replace(OVERDUE, armed=False)))
    assert "the right to an address has ended" in killed_for(Why.DEADLINE, 100.0, closed, str)


def test_giving_up_says_when_another_node_takes_over() -> None:
    """With nothing armed there is no lease to wait for."""
    crashed = replace(VIEW, crashes=(1.0, 90.0, 91.0, 93.5))
    assert gave_up(crashed).startswith("giving up: 3 deaths in 3.5 s;")
    assert gave_up(crashed).endswith("takes over once its lease of 3 s has expired")
    assert gave_up(replace(crashed, slots=())).endswith("another node takes over")


def test_an_unasked_end_has_its_reason() -> None:
    """A daemon that cannot die, an address that cannot be removed; else there is nothing to add."""
    stuck = replace(VIEW, killed_at=100.0 - UNREAPED_PATIENCE)
    assert "was killed 5 s ago and has not ended" in quits_for(100.0, stuck)
    assert "could not be removed within 2 s" in quits_for(100.0, VIEW)
    assert quits_for(100.0, replace(VIEW, slots=(replace(OVERDUE, deadline=NEVER),))) == ""
