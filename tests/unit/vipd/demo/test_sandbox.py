"""What the demo says where it cannot run."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


def demo(*before: str, path: str) -> subprocess.CompletedProcess[str]:
    """Run the demo behind a command that takes something away."""
    argv = [*before, sys.executable, "-m", "vipd", "demo"]
    return subprocess.run(
        argv,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        env={**os.environ, "PATH": path},
    )


def test_a_missing_program_is_named_with_its_package() -> None:
    """Exit code 1, no traceback."""
    done = demo(path="/nonexistent")
    assert (done.returncode, done.stdout) == (1, "")
    assert (
        done.stderr
        == "vipd demo: the program unshare is missing: apt-get install iproute2 util-linux\n"
    )


@pytest.mark.root
def test_a_root_that_may_not_make_namespaces_is_told_why() -> None:
    """As in a container without privileges."""
    done = demo("setpriv", "--bounding-set=-sys_admin", path=os.environ["PATH"])
    assert (done.returncode, done.stdout) == (1, "")
    assert "CAP_SYS_ADMIN" in done.stderr
    assert "Traceback" not in done.stderr
