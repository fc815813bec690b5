"""The kernel's events, from a real directory."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from asyncinotify import Event, Mask, Watch

from election.stores.file.watch import InotifyWaiter

PATIENCE = 10.0


def told(events: list[Event], watch: Watch) -> list[tuple[Mask, str]]:
    """Return what happened below a watch, and check that nothing happened elsewhere."""
    assert {event.watch for event in events} == {watch}
    return [(event.mask, str(event.name or "")) for event in events]


def test_each_way_to_change_a_directory_is_seen(tmp_path: Path) -> None:
    """Made, written, linked, renamed in and out, removed: the events come at once and in order."""
    elsewhere, here = tmp_path / "elsewhere", tmp_path / "here"
    elsewhere.mkdir()
    here.mkdir()

    async def scenario() -> None:
        with InotifyWaiter() as waiter:
            watch = waiter.watch(here)
            (here / "a").write_text("1")
            (elsewhere / "b").touch()
            os.link(elsewhere / "b", here / "b")
            (elsewhere / "b").rename(here / "ü")
            (here / "a").rename(elsewhere / "a")
            (here / "b").unlink()
            async with asyncio.timeout(PATIENCE):
                assert told(await waiter.events(), watch) == [
                    (Mask.CREATE, "a"),
                    (Mask.CLOSE_WRITE, "a"),
                    (Mask.CREATE, "b"),
                    (Mask.MOVED_TO, "ü"),
                    (Mask.MOVED_FROM, "a"),
                    (Mask.DELETE, "b"),
                ]

    asyncio.run(scenario())


def test_the_end_of_a_directory_is_seen(tmp_path: Path) -> None:
    """Its watch ends with it, and ending that once more is nothing."""
    (tmp_path / "here").mkdir()

    async def scenario() -> None:
        with InotifyWaiter() as waiter:
            watch = waiter.watch(tmp_path / "here")
            assert waiter.watch(tmp_path / "here") is watch
            (tmp_path / "here").rmdir()
            async with asyncio.timeout(PATIENCE):
                assert told(await waiter.events(), watch) == [
                    (Mask.DELETE_SELF, ""),
                    (Mask.IGNORED, ""),
                ]
            waiter.unwatch(watch)

    asyncio.run(scenario())


def test_what_is_not_watched_any_more_is_silent(tmp_path: Path) -> None:
    """All that comes is the kernel's word that the watch has ended.

    Then a wait lasts until it is ended from here.
    """

    async def scenario() -> None:
        with InotifyWaiter() as waiter:
            watch = waiter.watch(tmp_path)
            waiter.unwatch(watch)
            (tmp_path / "a").touch()
            async with asyncio.timeout(PATIENCE):
                assert told(await waiter.events(), watch) == [(Mask.IGNORED, "")]
                waiting = asyncio.create_task(waiter.events())
                await asyncio.wait({waiting}, timeout=0.05)
                assert not waiting.done()
                waiter.end()
                assert await waiting == []

    asyncio.run(scenario())


def test_what_cannot_be_watched_is_an_error(tmp_path: Path) -> None:
    """With the path in it."""
    (tmp_path / "file").touch()

    async def scenario() -> None:
        with InotifyWaiter() as waiter:
            for name, number in (("missing", errno.ENOENT), ("file", errno.ENOTDIR)):
                with pytest.raises(OSError, match=name) as caught:
                    waiter.watch(tmp_path / name)
                assert caught.value.errno == number

    asyncio.run(scenario())


def test_a_limit_of_the_kernel_is_named() -> None:
    """Its own text speaks of open files only."""

    async def scenario() -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        try:
            with pytest.raises(OSError, match="max_user_instances") as caught:
                InotifyWaiter()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert caught.value.errno == errno.EMFILE

    asyncio.run(scenario())


def test_a_thread_that_comes_too_late_gets_an_error(tmp_path: Path) -> None:
    """A disk that hung answers when the watch has ended.

    Its number may be another file's by now.
    """

    async def scenario() -> None:
        with InotifyWaiter() as waiter:
            watch = waiter.watch(tmp_path)
        with pytest.raises(ValueError, match="closed"):
            waiter.watch(tmp_path)
        with pytest.raises(ValueError, match="closed"):
            waiter.unwatch(watch)

    asyncio.run(scenario())


@pytest.mark.parametrize("backend", ["etcd", "kubernetes"])
def test_the_library_is_for_this_store_only(backend: str) -> None:
    """A node with another backend does not load it."""
    code = (
        f"import sys, vipd.daemon.daemon, election.stores.{backend}.store; "
        "sys.exit('asyncinotify' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
