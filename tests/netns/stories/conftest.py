"""The networks in which the stories happen, and what a story that failed tells of them."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.netns.stories.node import VIP, VIP6
from tests.netns.stories.pair import Pair
from tests.netns.stories.world import World, world

FAILED = pytest.StashKey[bool]()
EXTRA = "192.0.2.101"
"""An address of an instance that some stories add."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add what the nodes have logged to the report of a story that failed."""
    report = yield
    if report.failed:
        item.stash[FAILED] = True
        worlds = [fixture.world if isinstance(fixture, Pair) else fixture for fixture in _fixtures(item)]
        told = {id(found): found.told() for found in worlds if isinstance(found, World)}
        report.sections += [("the nodes and the kernels", text) for text in told.values()]
    return report


def _fixtures(item: pytest.Item) -> list[object]:
    return list(item.funcargs.values()) if isinstance(item, pytest.Function) else []


@pytest.fixture(scope="session")
def shared_pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Two nodes whose store is a file system of its own, so that a story can make it read-only for all namespaces at once."""
    folder = tmp_path_factory.mktemp("pair")
    with tmpfs(folder / "store") as store:
        backend = {"file": {"path": str(store / "records")}}
        with world(f"sp{os.getpid()}-", folder, "abc", (VIP, VIP6, EXTRA), backend) as net:
            yield Pair(net, net.node("a", profile="default"), net.node("b", profile="default"))


@contextlib.contextmanager
def tmpfs(path: Path) -> Iterator[Path]:
    """Mount an empty file system."""
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", str(path)], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


@pytest.fixture
def pair(shared_pair: Pair, request: pytest.FixtureRequest) -> Iterator[Pair]:
    """Two equal, calm nodes with leases of three seconds: long enough that a crash moves nothing, also on a busy machine."""
    shared_pair.settle()
    try:
        yield shared_pair
    finally:
        shared_pair.broken = request.node.stash.get(FAILED, False)
