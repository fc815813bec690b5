"""The networks in which the stories happen, and what a story that failed tells of them."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from tests.netns.stories.node import VIP, VIP6
from tests.netns.stories.pair import EXTRA, Pair
from tests.netns.stories.world import Build, World, listed, world

FAILED = pytest.StashKey[bool]()
WORLDS = pytest.StashKey[list[World]]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add what the nodes have logged to the report of a story that failed."""
    report = yield
    if report.failed:
        item.stash[FAILED] = True
        for net in item.session.stash.get(WORLDS, []):
            report.sections.append(("the nodes and the kernels", net.told()))
    return report


@pytest.fixture(scope="session")
def worlds(request: pytest.FixtureRequest) -> list[World]:
    """Return the networks that stand at present: a story that fails tells of all of them."""
    return request.session.stash.setdefault(WORLDS, [])


@pytest.fixture
def build(tmp_path: Path, worlds: list[World]) -> Iterator[Build]:
    """Build a network for one story only."""
    with contextlib.ExitStack() as stack:

        def built(
            hosts: Sequence[str],
            addresses: Sequence[str] = (VIP, VIP6),
            store: Mapping[str, object] | None = None,
        ) -> World:
            net = stack.enter_context(world(f"so{os.getpid()}-", tmp_path, hosts, addresses, store))
            return stack.enter_context(listed(worlds, net))

        yield built


@pytest.fixture(scope="session")
def shared_pair(tmp_path_factory: pytest.TempPathFactory, worlds: list[World]) -> Iterator[Pair]:
    """Two nodes whose store is a file system of its own, so that a story can make it read-only for
    all namespaces at once.
    """
    folder = tmp_path_factory.mktemp("pair")
    with tmpfs(folder / "store") as store:
        backend = {"file": {"path": str(store / "records")}}
        with (
            world(f"sp{os.getpid()}-", folder, "abc", (VIP, VIP6, EXTRA), backend) as net,
            listed(worlds, net),
        ):
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
    """Two equal, calm nodes with leases of three seconds.

    Long enough that a crash moves nothing, also on a busy machine.
    """
    shared_pair.settle()
    try:
        yield shared_pair
    finally:
        shared_pair.broken = request.node.stash.get(FAILED, False)
