"""The kernel's report of changes in directories, inotify(7), through ctypes: no library for it is still looked after."""

from __future__ import annotations

import ctypes
import enum
import errno
import os
import struct
from dataclasses import dataclass

HEADER = struct.Struct("iIII")
"""struct inotify_event without the name: watch, mask, cookie, length of the padded name."""
READ_SIZE = 64 * 1024
LIMITS = {
    errno.EMFILE: "too many inotify instances (fs.inotify.max_user_instances) or open files (ulimit -n)",
    errno.ENOSPC: "too many inotify watches (fs.inotify.max_user_watches)",
}
"""What the kernel means by errors whose own text leads astray."""


class Mask(enum.IntFlag):
    """The bits of a watch and of an event that are used here, with the kernel's values."""

    CLOSE_WRITE = 0x8
    MOVED_FROM = 0x40
    MOVED_TO = 0x80
    CREATE = 0x100
    DELETE = 0x200
    DELETE_SELF = 0x400
    MOVE_SELF = 0x800
    OVERFLOW = 0x4000
    IGNORED = 0x8000
    ONLYDIR = 0x1000000
    ISDIR = 0x40000000


CHANGES = Mask.CLOSE_WRITE | Mask.MOVED_FROM | Mask.MOVED_TO | Mask.CREATE | Mask.DELETE | Mask.DELETE_SELF | Mask.MOVE_SELF | Mask.ONLYDIR
"""Whatever makes a name in a directory appear, disappear or get another content."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something happened to `name` in the directory of a watch; no name: to the directory itself."""

    watch: int
    mask: Mask
    name: str


class Inotify:
    """One inotify instance. Raises OSError."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.fd = self._checked(self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))

    def add(self, directory: str) -> int:
        """Watch a directory and return the watch's number: the same one if it is watched already. May block on a dead disk."""
        return self._checked(self._libc.inotify_add_watch(self.fd, os.fsencode(directory), CHANGES), directory)

    def remove(self, watch: int) -> None:
        """End a watch; one that the kernel has ended already is no error."""
        self._libc.inotify_rm_watch(self.fd, watch)

    def read(self) -> list[Event]:
        """Return what has happened since the last call; never blocks."""
        events: list[Event] = []
        while True:
            try:
                data = os.read(self.fd, READ_SIZE)
            except BlockingIOError:
                return events
            events += parse(data)

    def close(self) -> None:
        """End all watches. A thread that is still adding one then gets an error, not somebody else's descriptor."""
        fd, self.fd = self.fd, -1
        os.close(fd)

    @staticmethod
    def _checked(result: int, path: str | None = None) -> int:
        if result >= 0:
            return result
        number = ctypes.get_errno()
        raise OSError(number, LIMITS.get(number) or os.strerror(number), path)


def parse(data: bytes) -> list[Event]:
    """Return the events in what a read of an inotify descriptor returned."""
    events: list[Event] = []
    at = 0
    while at < len(data):
        watch, mask, _cookie, length = HEADER.unpack_from(data, at)
        at += HEADER.size
        name = data[at : at + length].rstrip(b"\0")
        at += length
        events.append(Event(watch, Mask(mask), os.fsdecode(name)))
    return events
