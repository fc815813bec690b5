"""`vipd demo` as its users run it.

Every scenario ends as the contract says, and nothing is left however it ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = [pytest.mark.root, pytest.mark.netns]

PATIENCE = 30.0
NOBODY = 65534
WORLDS = Path("/proc/self/ns")


def demo(*args: str) -> list[str]:
    """Return the command."""
    return [sys.executable, "-m", "vipd", "demo", *args]


def below(pid: int) -> set[int]:
    """Return a process and all below it."""
    children: dict[int, set[int]] = {}
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, set()).add(int(entry.name))
    found, todo = {pid}, [pid]
    while todo:
        for child in children.get(todo.pop(), ()):
            found.add(child)
            todo.append(child)
    return found


def mounts() -> list[str]:
    """Return what is mounted here, without named network namespaces and test folders.

    Other tests make and change such at the same time.
    """
    others = (" /run/netns/", "/pytest-of-")
    return [
        line
        for line in Path("/proc/self/mounts").read_text().splitlines()
        if not any(other in line for other in others)
    ]


def alive(pids: set[int]) -> set[int]:
    """Return those that still run."""
    return {pid for pid in pids if Path(f"/proc/{pid}").exists()}


def lines_until(process: subprocess.Popen[str], word: str) -> Iterator[str]:
    """Yield what it prints, up to the line that has this word."""
    for line in process.stdout or ():
        yield line
        if word in line:
            return


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_demo_leaves_nothing(number: signal.Signals) -> None:
    """Whatever ends it in the middle.

    Every process ends with it, and so its namespaces, links and files.
    """
    before = mounts()
    with subprocess.Popen(
        demo("--backend", "file"), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert "started" in list(lines_until(process, "started"))[-1]
        inside = below(process.pid)
        assert len(inside) >= 8
        process.send_signal(number)
        process.wait(PATIENCE)
    end = time.monotonic() + PATIENCE
    while alive(inside) and time.monotonic() < end:
        time.sleep(0.02)
    assert alive(inside) == set()
    assert mounts() == before


@pytest.mark.long
@pytest.mark.parametrize("backend", ["etcd", "file"])
def test_every_scenario_ends_as_the_contract_says(backend: str) -> None:
    """All of them, as root, within two minutes."""
    check(
        subprocess.run(
            demo("--backend", backend, "--json"),
            capture_output=True,
            text=True,
            check=False,
            timeout=180,
        ),
        backend,
    )


@pytest.mark.long
def test_an_ordinary_user_can_run_it() -> None:
    """In a user namespace, where the kernel gives no CAP_BPF.

    The address lifetimes stand behind the guard.
    """
    python = next((path for path in (sys.executable, "/usr/bin/python3") if usable(path)), None)
    if python is None:
        pytest.fail("no Python on this host that user nobody may run")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    argv = [python, "-m", "vipd", "demo", "--backend", "file", "--json"]
    check(
        subprocess.run(
            argv,
            capture_output=True,
            text=True,
            check=False,
            timeout=180,
            user=NOBODY,
            group=NOBODY,
            env=environment,
            cwd="/",
        ),
        "file",
    )


def usable(python: str) -> bool:
    """Tell whether user nobody may run this Python, and it is of this version."""
    if shutil.which(python) is None:
        return False
    code = f"import sys; sys.exit(sys.version_info[:2] != {sys.version_info[:2]})"
    try:
        return (
            subprocess.run(
                [python, "-c", code], user=NOBODY, group=NOBODY, extra_groups=[], check=False
            ).returncode
            == 0
        )
    except PermissionError:
        return False


def check(done: subprocess.CompletedProcess[str], backend: str) -> None:
    """Compare a demo's result with what vipd promises."""
    assert done.stdout, done.stderr
    result = json.loads(done.stdout)
    wrong = [scenario for scenario in result["scenarios"] if not scenario["ok"]]
    assert (done.returncode, wrong) == (0, []), done.stderr
    unplayed = {scenario["key"] for scenario in result["scenarios"] if not scenario["played"]}
    assert unplayed == ({"cut_off", "comes_back"} if backend == "file" else set())
    stayed = {
        scenario["key"]: scenario["probes_lost"]
        for scenario in result["scenarios"]
        if scenario["from"] == scenario["to"] != ""
    }
    stayed.pop("full_kill_restarted", None)  # whether a new start is in time is up to the machine
    assert stayed.keys() == {"baseline", "daemon_crash", "split", "address_deleted"} | (
        {"comes_back"} if backend == "etcd" else set()
    )
    assert {key for key, lost in stayed.items() if lost} <= {"address_deleted"}
