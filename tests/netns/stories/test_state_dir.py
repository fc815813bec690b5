"""What lies in the state directory, and what does not: full, another user's, copied."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.netns.stories.conftest import tmpfs
from tests.netns.stories.node import VIP, VipdNode, instance, wait_for
from tests.netns.stories.world import Build

pytestmark = [pytest.mark.root, pytest.mark.netns]

REFUSED = 4
NOBODY = 65534
RIGHTS = "-all,+net_admin,+net_raw,+bpf"


def start_as_in_a_pod(node: VipdNode) -> None:
    """Start vipd as uid 0 with nothing but its three capabilities.

    It may not look into other users' directories.
    """
    argv = [
        "setpriv",
        "--bounding-set",
        RIGHTS,
        "--inh-caps",
        RIGHTS,
        sys.executable,
        "-m",
        "vipd",
        "run",
        "-c",
        str(node.config_file),
    ]
    with (node.folder / "log").open("ab") as log:
        node._process = node.lab.spawn(node.host, argv, log)


def fill(path: Path) -> None:
    """Write to a file until its disk has no room."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def test_a_drain_that_was_refused_has_no_later_effect(build: Build) -> None:
    """The disk is full: exit code 4, not drained now, and not after the next start."""
    net = build("ab")
    first, second = net.node("a", profile="default"), net.node("b", profile="default")
    first.configure(instance(priority=150))
    second.configure(instance(priority=100))
    with tmpfs(first.state_dir):
        subprocess.run(["mount", "-o", "remount,size=64k", str(first.state_dir)], check=True)
        first.start()
        first.wait_state("Active")
        second.start()
        wait_for(lambda: first.knows_fit("a", "b"), "the second node to be known")
        fill(first.state_dir / "fill")
        refused = first.vipd("drain")
        assert refused.code == REFUSED
        assert "No space left" in refused.err
        assert (first.status() or {})["drained"] is False
        assert first.state() == "Active"
        assert first.stop() == 0
        first.start()
        wait_for(lambda: first.state() in {"Active", "Backup"}, "the next start to take part")
        assert (first.status() or {})["drained"] is False
        assert first.stop() == second.stop() == 0


def test_another_users_state_directory_is_a_sentence(build: Build) -> None:
    """A service's directory under a DaemonSet: said once, with what to do.

    It serves, and no daemon dies of it.
    """
    net = build("a")
    node = net.node("a")
    node.configure(instance())
    node.state_dir.mkdir(mode=0o750)
    (node.state_dir / "state.json").write_text("{}")
    os.chown(node.state_dir, NOBODY, NOBODY)
    node.folder.chmod(0o755)
    start_as_in_a_pod(node)
    node.wait_state("Active")
    time.sleep(1.0)
    assert node.metric("vipd_crashes_total") == 0
    said = [line for line in node.log.splitlines() if str(node.state_dir) in line]
    assert len(said) == 1
    assert f"belongs to uid {NOBODY}, and vipd runs as uid 0; chown it" in said[0]
    assert "Traceback" not in node.log
    refused = node.vipd("drain", "--force")
    assert (refused.code, VIP in node.bound()) == (REFUSED, True)
    assert node.stop() == 0


def test_a_copied_state_directory_proves_nothing(build: Build) -> None:
    """The same name, the same kernel, the sessions of a daemon that runs.

    The later one does not take its lease.
    """
    net = build("ab")
    first, copy = (
        net.node("a", name="twin", profile="default"),
        net.node("b", name="twin", profile="default"),
    )
    for node in (first, copy):
        node.configure(instance())
    first.start()
    first.wait_state("Active")
    wait_for((first.state_dir / "state.json").exists, "the session to be noted")
    time.sleep(0.5)
    shutil.copytree(first.state_dir, copy.state_dir)
    begin, epoch = time.monotonic(), first.instance()["epoch"]
    copy.start()
    assert copy.wait_state("Fault")["reason"] == "namesake"
    assert (first.state(), first.instance()["epoch"]) == ("Active", epoch)
    assert net.events(begin) == []
    assert copy.stop() == first.stop() == 0
