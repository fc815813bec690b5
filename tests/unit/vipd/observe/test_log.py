"""Lines of the log as they arrive at the other end of a pipe."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
from collections.abc import Iterator

import pytest

from vipd.config.values import Log, LogFormat, LogLevel
from vipd.observe.log import configure, fields

log = logging.getLogger("vipd.test")


class Pipe:
    """A pipe in the place of stderr."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()
        fcntl.fcntl(self.writing, fcntl.F_SETPIPE_SZ, 65536)

    @property
    def journal(self) -> dict[str, str]:
        """The environment in which this pipe is systemd's own."""
        found = os.fstat(self.writing)
        return {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}

    def read(self) -> list[str]:
        """Return the lines written so far."""
        os.set_blocking(self.reading, False)
        data = b""
        try:
            while part := os.read(self.reading, 1 << 20):
                data += part
        except BlockingIOError:
            pass
        return data.decode().splitlines()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """Return a pipe, and restore the logging that pytest had before."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {
        name: logging.getLogger(name).level for name in ("vipd", "election", "announce", "health")
    }
    pipe = Pipe()
    yield pipe
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    for name, number in levels.items():
        logging.getLogger(name).setLevel(number)
    for fd in (pipe.reading, pipe.writing):
        os.close(fd)


def test_text_is_one_line_for_people(pipe: Pipe) -> None:
    """Time, level, sentence, fields; values with spaces in quotes."""
    configure(Log(), pipe.writing, {})
    log.info(
        "Backup -> Active (%s)",
        "lease_expired",
        extra=fields(instance="ingress", epoch=7, detail="a b", none=""),
    )
    (line,) = pipe.read()
    when, rest = line[:23], line[24:]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}", when)
    assert (
        rest
        == 'info     Backup -> Active (lease_expired) instance=ingress epoch=7 detail="a b" none=""'
    )


def test_json_is_one_object_a_line(pipe: Pipe) -> None:
    """Fields are keys; those of the line itself cannot be taken over by one."""
    configure(Log(LogFormat.JSON), pipe.writing, {})
    log.warning(
        "store gone", extra=fields(instance="ingress", epoch=7, level="forged", state=object)
    )
    line = json.loads(pipe.read()[0])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
    assert line.pop("state") == "<class 'object'>"
    assert line == {
        "level": "warning",
        "logger": "vipd.test",
        "message": "store gone",
        "instance": "ingress",
        "epoch": 7,
    }


def test_the_journal_gets_levels_and_no_time(pipe: Pipe) -> None:
    """Only if this very descriptor is the journal's: a redirected child is not."""
    configure(Log(level=LogLevel.DEBUG), pipe.writing, pipe.journal)
    for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL):
        log.log(level, "x")
    assert pipe.read() == ["<7>x", "<6>x", "<4>x", "<3>x", "<2>x"]
    configure(Log(), pipe.writing, {"JOURNAL_STREAM": "1:2"})
    log.info("x")
    assert not pipe.read()[0].startswith("<")


@pytest.mark.parametrize("format_", LogFormat)
def test_an_exception_stays_with_its_line(pipe: Pipe, format_: LogFormat) -> None:
    """Below it, with the same prefix, or inside of the object."""
    configure(Log(format_), pipe.writing, pipe.journal)
    try:
        int("why")
    except ValueError:
        log.exception("failed")
    lines = pipe.read()
    if format_ is LogFormat.JSON:
        assert json.loads(lines[0])["exception"].endswith("'why'")
    else:
        assert lines[0] == "<3>failed"
        assert lines[-1].startswith("<3>    ValueError: invalid literal")
        assert all(line.startswith("<3>") for line in lines)


def test_no_value_can_forge_a_line(pipe: Pipe) -> None:
    """Names come from stores and other nodes."""
    configure(Log(), pipe.writing, pipe.journal)
    log.info("node %s", "a\n<0>panic\x1b[2J", extra=fields(name="b\nc", other='x="y'))
    assert pipe.read() == ["<6>node a\\n<0>panic\\x1b[2J name=b\\nc other=" + json.dumps('x="y')]


def test_levels_hold_for_the_own_packages(pipe: Pipe) -> None:
    """A library's chatter is heard from warnings on, whatever the level."""
    configure(Log(level=LogLevel.DEBUG), pipe.writing, pipe.journal)
    for name in ("vipd", "election.machine.machine", "announce", "health.runner", "asyncio"):
        logging.getLogger(name).debug("x")
    assert len(pipe.read()) == 4
    configure(Log(level=LogLevel.ERROR), pipe.writing, pipe.journal)
    log.warning("x")
    logging.getLogger("asyncio").warning("y")
    assert pipe.read() == ["<4>y"]


def test_a_bad_call_is_a_line_and_not_an_exception(pipe: Pipe) -> None:
    """A bug in a log call is not a fault of the election."""
    configure(Log(), pipe.writing, {})
    log.info("%d", "x")
    assert "a line of the log could not be made: TypeError" in pipe.read()[0]


def test_a_reader_that_stands_still_costs_lines_and_no_time(pipe: Pipe) -> None:
    """The test itself would hang if a write waited.

    Later the loss is told, and whole lines follow.
    """
    configure(Log(LogFormat.JSON), pipe.writing, {})
    for number in range(2000):
        log.info("x" * 500, extra=fields(number=number))
    before = pipe.read()
    log.info("again")
    after = pipe.read()
    whole = [json.loads(line)["number"] for line in before[:-1]]
    assert whole == list(range(len(whole)))
    assert 50 < len(whole) < 200
    assert any(
        re.fullmatch(r"\d+ lines of the log were lost: nobody read them", line) for line in after
    )
    assert json.loads(after[-1])["message"] == "again"


def test_a_reader_that_is_gone_is_survived(pipe: Pipe) -> None:
    """There is no other place to complain."""
    configure(Log(), pipe.writing, {})
    os.close(pipe.reading)
    log.info("x")
    pipe.reading = os.open(os.devnull, os.O_RDONLY)
