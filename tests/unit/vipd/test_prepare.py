"""A configuration as bytes through a real pipe, from a process of its own."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

from vipd import prepare
from vipd.config import Config
from vipd.config_load import load

ROOT = Path(__file__).parents[3]
GOOD = "backend: {file: {path: /tmp/store}}\ninstances:\n  - {name: ingress, interface: eth0, addresses: [192.0.2.10]}\n"


def run(file: Path, **environ: str) -> tuple[int, bytes, str]:
    """Prepare a file in a child; return its exit code, the bytes and stderr."""
    reading, writing = os.pipe()
    argv = [sys.executable, "-m", "vipd.prepare", str(file), str(writing)]
    try:
        done = subprocess.run(
            argv, pass_fds=[writing], cwd=ROOT, env={**os.environ, **environ}, stderr=subprocess.PIPE, text=True, check=False
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
    config = pickle.loads(data)  # noqa: S301 - our own child's bytes
    assert isinstance(config, Config)
    assert (code, config, stderr) == (0, load(str(file)), "")


def test_a_bad_file_becomes_sentences(file: Path) -> None:
    """Exit code 2, and not one byte that could be taken for a configuration."""
    file.write_text(GOOD + "priority: 1\nlog: {level: x}\n")
    code, data, stderr = run(file)
    assert (code, data, stderr.count(" error: ")) == (2, b"", 2)


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
            assert bool(pipe.read()) is bool(content)


def test_a_guard_that_is_gone_is_a_failure_and_no_traceback(file: Path) -> None:
    """Nobody is left to take the configuration."""
    file.write_text(GOOD)
    reading, writing = os.pipe()
    os.close(reading)
    assert prepare.main(str(file), writing) == prepare.FAILED
