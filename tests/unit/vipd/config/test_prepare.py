"""A configuration as bytes through a real pipe, from a process of its own."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

from vipd.config import prepare
from vipd.config.load import load
from vipd.config.values import Config
from vipd.guard import installed
from vipd.guard.preparation import Header, unpacked

ROOT = Path(__file__).parents[4]
GOOD = (
    "backend: {file: {path: /tmp/store}}\ninstances:\n  - {name: ingress, interface: eth0, "
    "addresses: [192.0.2.10]}\n"
)


def run(file: Path, **environ: str) -> tuple[int, bytes, str]:
    """Prepare a file in a child; return its exit code, the bytes and stderr."""
    reading, writing = os.pipe()
    argv = [sys.executable, "-m", "vipd.config.prepare", str(file), str(writing)]
    try:
        done = subprocess.run(
            argv,
            pass_fds=[writing],
            cwd=ROOT,
            env={**os.environ, **environ},
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        os.close(writing)
        with os.fdopen(os.dup(reading), "rb") as pipe:
            return done.returncode, pipe.read(), done.stderr
    finally:
        os.close(reading)


def test_a_good_file_becomes_bytes(file: Path) -> None:
    """The daemon gets exactly what a load gives."""
    file.write_text(GOOD)
    code, data, stderr = run(file)
    header, blob = unpacked(data)
    config = pickle.loads(blob)  # noqa: S301 - our own child's bytes
    assert isinstance(config, Config)
    assert (code, config, stderr) == (0, load(str(file)), "")
    assert header == Header(json=False, code=installed.digest())


def test_equal_files_become_equal_bytes(file: Path) -> None:
    """So the guard, which cannot look into them, knows a reload that changes nothing."""
    file.write_text(GOOD)
    one = unpacked(run(file)[1])[1]
    file.write_text("# a remark\n" + GOOD.replace("eth0", "'eth0'") + "log: {level: info}\n")
    assert unpacked(run(file)[1])[1] == one
    file.write_text(GOOD + "log: {level: debug}\n")
    assert unpacked(run(file)[1])[1] != one


def test_who_wants_json_gets_json(file: Path) -> None:
    """The header says it to the guard.

    Findings are objects too, also where the file is wrong, and where only the running one says so.
    """
    file.write_text(GOOD + "log: {format: json}\n")
    assert unpacked(run(file)[1])[0].json is True
    file.write_text(GOOD + "log: {format: json}\npriority: 1\n")
    [line] = run(file)[2].splitlines()
    assert (json.loads(line)["level"], "priority" in json.loads(line)["message"]) == ("error", True)
    file.write_text("nonsense")
    [line] = run(file, VIPD_LOG_FORMAT="json")[2].splitlines()
    assert json.loads(line)["logger"] == "vipd.config"


def test_a_bad_file_becomes_sentences(file: Path) -> None:
    """Exit code 2, not one byte that could be taken for a configuration, and for status the first
    of them.
    """
    file.write_text(GOOD + "priority: 1\nlog: {level: x}\n")
    code, data, stderr = run(file)
    header, blob = unpacked(data)
    assert (code, blob, stderr.count(" error: ")) == (2, b"", 2)
    assert header.refused == f"{stderr.splitlines()[0]} (and 1 more)"


def test_the_journal_learns_what_is_an_error(file: Path) -> None:
    """Warnings too are said at a start."""
    timing = "timing: {lease_duration: 1s, renew_interval: 400ms, request_timeout: 250ms}\n"
    file.write_text(GOOD + timing)
    code, _, stderr = run(file, JOURNAL_STREAM="1:2")
    assert (code, stderr.startswith(f"<4>{file}:4:9: warning: timing: ")) == (0, True)
    file.write_text("")
    assert run(file, JOURNAL_STREAM="1:2")[2].startswith("<3>")


def test_the_descriptor_is_closed_whatever_happens(file: Path) -> None:
    """The guard waits for the end of the pipe, not for a length."""
    for content in (GOOD, ""):
        file.write_text(content)
        reading, writing = os.pipe()
        prepare.main(str(file), writing)
        with os.fdopen(reading, "rb") as pipe:
            assert bool(unpacked(pipe.read())[1]) is bool(content)


def test_a_guard_that_is_gone_is_a_failure_and_no_traceback(file: Path) -> None:
    """Nobody is left to take the configuration."""
    file.write_text(GOOD)
    reading, writing = os.pipe()
    os.close(reading)
    assert prepare.main(str(file), writing) == prepare.FAILED
