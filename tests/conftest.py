"""Who may run what, and that nothing is skipped unseen or left behind."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import settings

NAMESPACES = Path("/run/netns")
LEFT = "namespaces left behind"

# Two shared cores: a slow example says nothing about the code.
settings.register_profile("vipd", deadline=None)
settings.load_profile("vipd")


@functools.cache
def missing_right() -> str:
    """Say why this process cannot run tests marked `root`; empty: it can."""
    if os.geteuid() != 0:
        return "needs root: run `sudo make test`"
    unshare = shutil.which("unshare")
    if unshare is None:
        return "needs the program unshare"
    if subprocess.run([unshare, "--net", "true"], capture_output=True, check=False).returncode != 0:
        return "this root may not make network namespaces (CAP_SYS_ADMIN)"
    return ""


def left_behind() -> list[str]:
    """Return the named network namespaces that this process made and did not remove.

    Their names have its number in them; those of others on this host come and go.
    """
    names = [path.name for path in NAMESPACES.iterdir()] if NAMESPACES.is_dir() else []
    return sorted(name for name in names if str(os.getpid()) in re.findall(r"\d+", name))


class Watchman:
    """Sees what a session skipped and left behind.

    Runs in the process that prints the result, not in xdist's workers.
    """

    def __init__(self) -> None:
        self.left: list[str] = []
        self.skipped: list[str] = []

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            self.skipped.append(report.nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a test that was skipped."""
        self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note a whole file that was skipped."""
        self._note(report)

    def complaints(self) -> list[str]:
        """Return what makes this session a failure though every test that ran passed."""
        found = (
            [f"skipped, though root can run it: {name}" for name in self.skipped]
            if not missing_right()
            else []
        )
        return found + [f"network namespace left behind: {name}" for name in self.left]

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: object) -> None:
        """Take over what one of xdist's workers found that it left."""
        self.left += getattr(node, "workeroutput", {}).get(LEFT, [])

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Turn a green session with complaints red."""
        self.left += left_behind()
        if self.complaints() and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say what is wrong."""
        for line in self.complaints():
            terminalreporter.write_line(f"ERROR {line}", red=True)


def pytest_configure(config: pytest.Config) -> None:
    """Set the watchman up where the result is printed."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Watchman(), "vipd-watchman")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Report what a worker of xdist leaves to the process that prints the result."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput[LEFT] = left_behind()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip with a reason what this user cannot run."""
    if not (why := missing_right()):
        return
    for item in items:
        if item.get_closest_marker("root"):
            item.add_marker(pytest.mark.skip(reason=why))
