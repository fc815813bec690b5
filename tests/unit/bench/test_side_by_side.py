"""Programs side by side.

All are run, never more at a time than asked for, and an interrupt ends them.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.bench import side_by_side

PATIENCE = 20.0


def script(text: str, *arguments: object) -> list[str]:
    """Return a command that runs this Python text."""
    return [sys.executable, "-c", text, *map(str, arguments)]


def test_all_are_run_and_never_more_than_so_many_at_a_time(tmp_path: Path) -> None:
    """Each leaves a file while it runs, waits for the other of its pair, and
    counts those that run.
    """
    text = """if True:
        import pathlib, sys, time
        folder, number = pathlib.Path(sys.argv[1]), int(sys.argv[2])
        (folder / f"{number}.runs").touch()
        (folder / f"{number}.began").touch()
        while number < 4 and not (folder / f"{number ^ 1}.began").exists():
            time.sleep(0.01)
        time.sleep(0.1)
        (folder / f"{number}.seen").write_text(str(len(list(folder.glob("*.runs")))))
        (folder / f"{number}.runs").unlink()
    """
    assert side_by_side.run([script(text, tmp_path, number) for number in range(5)], 2)
    seen = [int((tmp_path / f"{number}.seen").read_text()) for number in range(5)]
    assert max(seen) <= 2


def test_one_that_fails_keeps_nobody_from_being_run(tmp_path: Path) -> None:
    """Its result is missing, and whoever asked sees that."""
    commands = [
        script("raise SystemExit(1)"),
        script("import pathlib, sys; pathlib.Path(sys.argv[1]).touch()", tmp_path / "ran"),
    ]
    assert side_by_side.run(commands, 1)
    assert (tmp_path / "ran").exists()


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_while_one_is_started_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes when the child runs already and the call that started it has not returned."""
    start, started = subprocess.Popen, []

    def interrupted(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:  # noqa: ANN401 - those of Popen
        started.append(start(*arguments, **options))
        os.kill(os.getpid(), signal.SIGINT)
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", interrupted)
    assert not side_by_side.run([script("import time; time.sleep(60)"), script("pass")], 1)
    assert [one.returncode for one in started] == [-signal.SIGTERM]


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Let SIGINT count: a background process of a shell ignores it, and so do its children."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, former)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_is_passed_on_and_awaited(tmp_path: Path) -> None:
    """They have something to tidy up; what had not begun is not begun."""
    text = """if True:
        import pathlib, signal, sys, time
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        folder = pathlib.Path(sys.argv[1])
        try:
            (folder / "began").touch()
            time.sleep(60)
        except KeyboardInterrupt:
            time.sleep(0.2)
            (folder / "tidied").touch()
    """

    def interrupt() -> None:
        end = time.monotonic() + PATIENCE
        while not (tmp_path / "began").exists() and time.monotonic() < end:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    assert not side_by_side.run(
        [script(text, tmp_path), script("import sys; open(sys.argv[1], 'w')", tmp_path / "later")],
        1,
    )
    assert (tmp_path / "tidied").exists()
    assert not (tmp_path / "later").exists()
