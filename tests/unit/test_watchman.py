"""What makes a run of tests red though every test passed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests import conftest


def test_only_what_this_process_made_counts_as_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other programs on the host, and other runs of these tests, make namespaces meanwhile."""
    monkeypatch.setattr(conftest, "NAMESPACES", tmp_path)
    for name in ("cni-1234", "blue", f"vl{os.getpid()}0-one", f"vl{os.getpid()}-one"):
        (tmp_path / name).touch()
    assert conftest.left_behind() == [f"vl{os.getpid()}-one"]
    watchman = conftest.Watchman()
    watchman.left = conftest.left_behind()
    assert watchman.complaints() == [f"network namespace left behind: vl{os.getpid()}-one"]


def test_what_a_worker_left_reaches_the_process_that_prints_the_result() -> None:
    """xdist runs the tests in processes of its own."""
    watchman = conftest.Watchman()

    class Node:
        workeroutput = {conftest.LEFT: ["vl1-one"]}  # noqa: RUF012 -- as xdist has it

    watchman.pytest_testnodedown(Node())
    assert watchman.left == ["vl1-one"]
