"""The code that runs and the code that is installed, which an upgrade in place parts."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from vipd.guard import installed

ROOT = Path(__file__).parents[4]


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of an installation of its own."""
    for package in installed.PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package)
    monkeypatch.setattr(installed, "_ROOT", str(tmp_path))
    return tmp_path


def test_what_was_not_changed_is_no_difference(copy: Path) -> None:
    """Nor is anything that Python itself writes beside the modules, or what is not known."""
    running = installed.digest()
    (copy / "vipd" / "__pycache__").mkdir(exist_ok=True)
    (copy / "vipd" / "__pycache__" / "clock.py").write_text("stale", encoding="ascii")
    (copy / "vipd" / "py.typed").write_text("", encoding="ascii")
    assert installed.difference(running) == ""
    assert installed.difference("") == ""


def test_another_version_is_named(copy: Path) -> None:
    """With what to do about it."""
    running = installed.digest()
    (copy / "vipd" / "version.py").write_text('VERSION = "99.0"\n', encoding="ascii")
    found = installed.difference(running, "1.0")
    assert (
        found
        == f"vipd 99.0 ({installed.digest()}) is installed, and 1.0 ({running}) runs: "
        + installed.ADVICE
    )


def test_a_module_that_moved_is_a_difference(copy: Path) -> None:
    """The same bytes under another name are other code."""
    running = installed.digest()
    (copy / "vipd" / "clock.py").rename(copy / "vipd" / "watch.py")
    assert installed.difference(running)


def test_a_version_that_cannot_be_read_is_said_so(copy: Path) -> None:
    """The modules differ all the same."""
    running = installed.digest()
    (copy / "vipd" / "version.py").unlink()
    assert installed.difference(running).startswith("vipd ? (")
    (copy / "vipd" / "version.py").write_text("VERSION = None\n", encoding="ascii")
    assert installed.difference(running).startswith("vipd ? (")


def test_an_installation_that_is_gone_is_a_difference(copy: Path) -> None:
    """In the middle of an upgrade there may be none for a while."""
    running = installed.digest()
    shutil.rmtree(copy / "health")
    found = installed.difference(running, "1.0")
    assert (
        found == "vipd 1.0 runs, and its installation is gone or cannot be read: "
        f"{installed.ADVICE} once it is there"
    )
