"""The guard's lines: plain, once, and never waited for."""

from __future__ import annotations

import contextlib
import os
import re
import socket

from vipd.guard_log import Log


def test_a_line_has_a_time_and_no_line_breaks() -> None:
    """One event, one line."""
    reading, writing = os.pipe()
    Log(writing)("daemon 7 crashed\n(exit 1)")
    assert re.fullmatch(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z guard: daemon 7 crashed \(exit 1\)\n", os.read(reading, 1000))
    os.close(reading)
    os.close(writing)


def test_what_is_said_again_and_again_is_said_once() -> None:
    """A removal is tried fifty times a second."""
    reading, writing = os.pipe()
    log = Log(writing)
    for text in ("refused", "refused", "timed out", "timed out", "", "refused"):
        log.changed("one", text)
    assert [line.split(b"guard: ")[1] for line in os.read(reading, 1000).splitlines()] == [b"refused", b"timed out", b"refused"]
    os.close(reading)
    os.close(writing)


def test_a_reader_that_does_not_read_is_not_waited_for() -> None:
    """The pipe is full: the line is left out, and the next one that gets through says how many were."""
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
