"""The kernel's events, from a real directory."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from election.stores.file.inotify import HEADER, Event, Inotify, Mask, parse


@pytest.fixture
def inotify() -> Iterator[Inotify]:
    """Return an instance that is closed in the end."""
    made = Inotify()
    yield made
    made.close()


def test_each_way_to_change_a_directory_is_seen(tmp_path: Path, inotify: Inotify) -> None:
    """Made, written, linked, renamed in and out, removed: the events come at once and in order."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    here = tmp_path / "here"
    here.mkdir()
    watch = inotify.add(str(here))
    assert inotify.read() == []
    (here / "a").write_text("1")
    (elsewhere / "b").touch()
    os.link(elsewhere / "b", here / "b")
    (elsewhere / "b").rename(here / "ü")
    (here / "a").rename(elsewhere / "a")
    (here / "b").unlink()
    assert inotify.read() == [
        Event(watch, Mask.CREATE, "a"),
        Event(watch, Mask.CLOSE_WRITE, "a"),
        Event(watch, Mask.CREATE, "b"),
        Event(watch, Mask.MOVED_TO, "ü"),
        Event(watch, Mask.MOVED_FROM, "a"),
        Event(watch, Mask.DELETE, "b"),
    ]
    assert inotify.read() == []


def test_the_end_of_a_directory_is_seen(tmp_path: Path, inotify: Inotify) -> None:
    """Its watch ends with it, and removing that once more is nothing."""
    (tmp_path / "here").mkdir()
    watch = inotify.add(str(tmp_path / "here"))
    assert inotify.add(str(tmp_path / "here")) == watch
    (tmp_path / "here").rmdir()
    assert [event.mask for event in inotify.read()] == [Mask.DELETE_SELF, Mask.IGNORED]
    inotify.remove(watch)


def test_what_cannot_be_watched_is_an_error(tmp_path: Path, inotify: Inotify) -> None:
    """With the path in it."""
    (tmp_path / "file").touch()
    for name, number in (("missing", errno.ENOENT), ("file", errno.ENOTDIR)):
        with pytest.raises(OSError, match=name) as caught:
            inotify.add(str(tmp_path / name))
        assert caught.value.errno == number


def test_events_are_cut_out_of_what_was_read() -> None:
    """Names are padded with zeros, an overflow has none."""
    data = HEADER.pack(1, Mask.CREATE | Mask.ISDIR, 0, 16) + b"ab".ljust(16, b"\0") + HEADER.pack(-1, Mask.OVERFLOW, 0, 0)
    assert parse(data) == [Event(1, Mask.CREATE | Mask.ISDIR, "ab"), Event(-1, Mask.OVERFLOW, "")]
    assert parse(b"") == []
