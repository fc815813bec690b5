"""Who may run what, and that nothing is skipped unseen or left behind."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import settings

NAMESPACES = Path("/run/netns")
STRICT = bool(os.environ.get("VIPD_TEST_STRICT"))
"""Set by the Makefile, where nobody else makes namespaces meanwhile: a namespace left behind is
then an error, else a remark."""

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


def namespaces() -> frozenset[str]:
    """Return the named network namespaces of this host, without those of container networks, which
    come and go.
    """
    names = (path.name for path in NAMESPACES.iterdir()) if NAMESPACES.is_dir() else ()
    return frozenset(name for name in names if not name.startswith("cni-"))


class Watchman:
    """Sees what a session skipped and left behind.

    Runs in the process that prints the result, not in xdist's workers.
    """

    def __init__(self) -> None:
        self.before = namespaces()
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
        if STRICT:
            found += [
                f"network namespace left behind: {name}"
                for name in sorted(namespaces() - self.before)
            ]
        return found

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Turn a green session with complaints red."""
        if self.complaints() and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say what is wrong, and without strictness what may be somebody else's."""
        for line in self.complaints():
            terminalreporter.write_line(f"ERROR {line}", red=True)
        if not STRICT and (left := namespaces() - self.before):
            terminalreporter.write_line(f"new network namespaces: {' '.join(sorted(left))}")


def pytest_configure(config: pytest.Config) -> None:
    """Set the watchman up where the result is printed."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Watchman(), "vipd-watchman")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip with a reason what this user cannot run."""
    if not (why := missing_right()):
        return
    for item in items:
        if item.get_closest_marker("root"):
            item.add_marker(pytest.mark.skip(reason=why))
