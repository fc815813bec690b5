"""What has changed in a directory of records since the last look. Blocking, but for InotifyWaiter.

The kernel's events only say where to look; what is reported is what was read then. So an event that
is lost, doubled or late does no harm, and several quick changes of one record may be reported as
the last of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from asyncinotify import Event, Inotify, Mask, Watch

from election.model import Absent, CandidateRecord, Content
from election.stores.contract import CandidateChanged, ElectionChanged, WatchEvent
from election.stores.file.records import FileRecords, file_name, is_generation

CHANGES = (
    Mask.CLOSE_WRITE
    | Mask.MOVED_FROM
    | Mask.MOVED_TO
    | Mask.CREATE
    | Mask.DELETE
    | Mask.DELETE_SELF
    | Mask.MOVE_SELF
    | Mask.ONLYDIR
)
"""What makes a name in a directory appear, disappear or get another content."""
LIMITS = {
    errno.EMFILE: "too many inotify instances (fs.inotify.max_user_instances) or open files "
    "(ulimit -n)",
    errno.ENOSPC: "too many inotify watches (fs.inotify.max_user_watches)",
}
"""What the kernel means by errors of inotify(7) whose own text leads astray."""


class InotifyWaiter:
    """An inotify instance and the coroutine that waits for its events. Raises OSError.

    To be used on the event loop's thread, but for `watch` and `unwatch`, which may block on a dead
    disk. A thread that still calls them after the end gets ValueError, not another descriptor.
    """

    def __init__(self) -> None:
        with _explained():
            self._inotify = Inotify(sync_timeout=0)
        self._woken = asyncio.Event()
        self._ended = False
        self._loop = asyncio.get_running_loop()

    def __enter__(self) -> Self:
        self._loop.add_reader(self._inotify.fd, self._woken.set)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.remove_reader(self._inotify.fd)
        self._inotify.close()

    def end(self) -> None:
        """End the wait for events, now and later."""
        self._ended = True
        self._woken.set()

    async def events(self) -> list[Event]:
        """Return the next events, at least one; none after `end`."""
        while not self._ended:
            await self._woken.wait()
            self._woken.clear()
            # The loop may report what the round before has read already.
            if events := list(self._inotify):
                return events
        return []

    def watch(self, directory: Path) -> Watch:
        """Watch a directory; the watch is the same one if it is watched already."""
        with _explained():
            return self._inotify.add_watch(directory, CHANGES)

    def unwatch(self, watch: Watch) -> None:
        """End a watch; one that the kernel has ended already is no error."""
        with contextlib.suppress(OSError):
            self._inotify.rm_watch(watch)


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Put what the kernel means into the errors of the block."""
    try:
        yield
    except OSError as error:
        raise OSError(
            error.errno, LIMITS.get(error.errno or 0, error.strerror), error.filename
        ) from None


class Tree:
    """What one watch has reported so far.

    Its methods return what is to be reported next; they raise OSError.
    """

    def __init__(self, files: FileRecords) -> None:
        self._files = files
        self._elections: dict[str, Content] = {}
        self._candidates: dict[str, CandidateRecord] = {}
        self._places: dict[Watch, str | None] = {}
        """The election whose directory a watch covers; None: the directory of the nodes."""
        self._top: set[Watch] = set()

    def stand(self, waiter: InotifyWaiter) -> list[WatchEvent]:
        """Set up new watches.

        Return all there is, and what went away since this was called before.
        """
        self._places, self._top = {}, set()
        changed = self._look_everywhere(waiter)
        reported = {event.election for event in changed if isinstance(event, ElectionChanged)}
        rest: list[WatchEvent] = [
            ElectionChanged(name, content)
            for name, content in self._elections.items()
            if name not in reported
        ]
        nodes = {event.name for event in changed if isinstance(event, CandidateChanged)}
        rest += [
            CandidateChanged(name, record)
            for name, record in self._candidates.items()
            if name not in nodes
        ]
        return changed + rest

    def follow(self, waiter: InotifyWaiter, events: Iterable[Event]) -> list[WatchEvent]:
        """Return what has changed at the places that these events name."""
        elections: dict[str, None] = {}
        nodes: dict[str, None] = {}
        for event in events:
            watch, name = event.watch, str(event.name or "")
            if watch is None or watch not in self._places:
                # Directories came or went, or the kernel dropped events (its report of that belongs
                # to no watch).
                return self._look_everywhere(waiter)
            place = self._places[watch]
            if place is not None and is_generation(name):
                elections[place] = None
            elif place is None:
                nodes[name] = None
        names = (
            [name for name in self._files.candidate_names() if file_name(name) in nodes]
            if nodes
            else []
        )
        gone = [name for name in self._candidates if file_name(name) in nodes and name not in names]
        return [*self._changed_elections(elections), *self._changed_nodes([*names, *gone])]

    def _look_everywhere(self, waiter: InotifyWaiter) -> list[WatchEvent]:
        # First the watches, then the look: a change in between is then seen twice, not missed.
        self._cover(waiter)
        elections = dict.fromkeys([*self._elections, *self._files.election_names()])
        nodes = dict.fromkeys([*self._candidates, *self._files.candidate_names()])
        return [*self._changed_elections(elections), *self._changed_nodes(nodes)]

    def _cover(self, waiter: InotifyWaiter) -> None:
        files = self._files
        files.make_root()
        top = {waiter.watch(files.root)}
        places: dict[Watch, str | None] = {}
        if files.elections.is_dir():
            top.add(waiter.watch(files.elections))
        if files.nodes.is_dir():
            places[waiter.watch(files.nodes)] = None
        for name in files.election_names():
            directory = files.elections / file_name(name)
            if directory.is_dir():
                places[waiter.watch(directory)] = name
        for watch in (self._places.keys() | self._top) - places.keys() - top:
            waiter.unwatch(watch)
        self._places, self._top = places, top

    def _changed_elections(self, names: Iterable[str]) -> list[WatchEvent]:
        changed: list[WatchEvent] = []
        for name in names:
            content = self._files.read(name)
            if content != self._elections.get(name, Absent()):
                changed.append(ElectionChanged(name, content))
            self._elections[name] = content
        return changed

    def _changed_nodes(self, names: Iterable[str]) -> list[WatchEvent]:
        changed: list[WatchEvent] = []
        for name in names:
            record = self._files.read_candidate(name)
            if record != self._candidates.pop(name, None):
                changed.append(CandidateChanged(name, record))
            if record is not None:
                self._candidates[name] = record
        return changed
