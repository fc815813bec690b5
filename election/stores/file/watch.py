"""What has changed in a directory of records since the last look. Blocking, but for the doorbell.

The kernel's events only say where to look; what is reported is what was read then. So an event that is lost, doubled or
late does no harm, and several quick changes of one record may be reported as the last of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from election.model import Absent, CandidateRecord, Content
from election.stores.contract import CandidateChanged, ElectionChanged, WatchEvent
from election.stores.file.inotify import Event, Inotify
from election.stores.file.records import FileRecords, file_name, is_generation


class Doorbell:
    """Wakes a coroutine when an inotify instance has something to read. To be used on the event loop's thread."""

    def __init__(self) -> None:
        self.inotify = Inotify()
        self._rung = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def __enter__(self) -> Self:
        self._loop.add_reader(self.inotify.fd, self._rung.set)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._loop.remove_reader(self.inotify.fd)
        self.inotify.close()

    def ring(self) -> None:
        """Wake the coroutine by hand."""
        self._rung.set()

    async def events(self) -> list[Event]:
        """Return the next events, at least one unless it was rung by hand."""
        await self._rung.wait()
        self._rung.clear()
        return self.inotify.read()


class Tree:
    """What one watch has reported so far. Its methods return what is to be reported next; they raise OSError."""

    def __init__(self, files: FileRecords) -> None:
        self._files = files
        self._elections: dict[str, Content] = {}
        self._candidates: dict[str, CandidateRecord] = {}
        self._places: dict[int, str | None] = {}
        """The election whose directory a watch covers; None: the directory of the nodes."""
        self._top: set[int] = set()

    def stand(self, inotify: Inotify) -> list[WatchEvent]:
        """Set up new watches; return all there is, and what went away since this was called before."""
        self._places, self._top = {}, set()
        changed = self._look_everywhere(inotify)
        reported = {event.election for event in changed if isinstance(event, ElectionChanged)}
        rest: list[WatchEvent] = [ElectionChanged(name, content) for name, content in self._elections.items() if name not in reported]
        nodes = {event.name for event in changed if isinstance(event, CandidateChanged)}
        rest += [CandidateChanged(name, record) for name, record in self._candidates.items() if name not in nodes]
        return changed + rest

    def follow(self, inotify: Inotify, events: Iterable[Event]) -> list[WatchEvent]:
        """Return what has changed at the places that these events name."""
        elections: dict[str, None] = {}
        nodes: dict[str, None] = {}
        for event in events:
            if event.watch not in self._places:
                # Directories came or went, or the kernel dropped events (its report of that belongs to no watch).
                return self._look_everywhere(inotify)
            place = self._places[event.watch]
            if place is not None and is_generation(event.name):
                elections[place] = None
            elif place is None:
                nodes[event.name] = None
        names = [name for name in self._files.candidate_names() if file_name(name) in nodes] if nodes else []
        gone = [name for name in self._candidates if file_name(name) in nodes and name not in names]
        return [*self._changed_elections(elections), *self._changed_nodes([*names, *gone])]

    def _look_everywhere(self, inotify: Inotify) -> list[WatchEvent]:
        # First the watches, then the look: a change in between is then seen twice, not missed.
        self._cover(inotify)
        elections = dict.fromkeys([*self._elections, *self._files.election_names()])
        nodes = dict.fromkeys([*self._candidates, *self._files.candidate_names()])
        return [*self._changed_elections(elections), *self._changed_nodes(nodes)]

    def _cover(self, inotify: Inotify) -> None:
        files = self._files
        files.make_root()
        top = {inotify.add(str(files.root))}
        places: dict[int, str | None] = {}
        if files.elections.is_dir():
            top.add(inotify.add(str(files.elections)))
        if files.nodes.is_dir():
            places[inotify.add(str(files.nodes))] = None
        for name in files.election_names():
            directory = files.elections / file_name(name)
            if directory.is_dir():
                places[inotify.add(str(directory))] = name
        for watch in (self._places.keys() | self._top) - places.keys() - top:
            inotify.remove(watch)
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
