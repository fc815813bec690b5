"""The store as a model.

Linearizable records with unique revisions, behind a network that delays, loses and reorders.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from election.actions import Write
from election.model import (
    Absent,
    Applied,
    CandidateRecord,
    Conflict,
    Content,
    Found,
    ReadAnswer,
    Record,
    Revision,
    Unknown,
    Unreadable,
    WriteAnswer,
)

if TYPE_CHECKING:
    from tests.sim.daemon import Daemon
    from tests.sim.host import Host
    from tests.sim.world import World

Answer = ReadAnswer | WriteAnswer


@dataclass(frozen=True, slots=True)
class Backup:
    """An older copy of everything in the store."""

    records: dict[str, Content]
    candidates: dict[str, CandidateRecord]


class Store:
    """Records and candidate records, and the watches on them.

    `down_until` and `stalled_until` are true times.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.records: dict[str, Content] = {}
        self.candidates: dict[str, CandidateRecord] = {}
        self.down_until = 0.0
        self.stalled_until = 0.0
        self._revisions = 0

    # ------------------------------------------------------------------ what nodes do

    def read(self, election: str) -> ReadAnswer:
        """Return the record as it is at this instant."""
        return self.records.get(election, Absent())

    def write(self, host: Host, election: str, write: Write) -> WriteAnswer:
        """Compare and swap."""
        before = self.records.get(election, Absent())
        if write.expected != (None if isinstance(before, Absent) else before.revision):
            return Conflict()
        after = self._put(election, write.record)
        self._world.judge.wrote(host, election, before, after, write.kind)
        return Applied(after.revision)

    def write_candidate(self, record: CandidateRecord) -> WriteAnswer:
        """Replace a candidate record, whatever is there."""
        self.candidates[record.name] = record
        for watch in self._world.watches():
            watch.candidate_changed(record.name, record)
        return Applied("")

    def delete_candidate(self, name: str) -> WriteAnswer:
        """Remove a candidate record."""
        self.candidates.pop(name, None)
        for watch in self._world.watches():
            watch.candidate_changed(name, None)
        return Applied("")

    def submit(
        self, host: Host, perform: Callable[[], Answer], reply: Callable[[Answer], None]
    ) -> None:
        """Carry a request there and its answer back, if the weather lets them through."""
        weather = self._world.weather
        if host.store_cut or self._world.now < self.down_until:
            if weather.refuses():
                self._world.after(weather.latency, reply, Unknown("connection refused"))
            return
        if weather.loses_request():
            return
        self._world.after(
            weather.delay() + host.distance + host.slowness, self._arrive, host, perform, reply
        )

    def _arrive(
        self, host: Host, perform: Callable[[], Answer], reply: Callable[[Answer], None]
    ) -> None:
        now, weather = self._world.now, self._world.weather
        if now < self.down_until:
            return
        if now < self.stalled_until:
            self._world.at(self.stalled_until + weather.delay(), self._arrive, host, perform, reply)
            return
        if weather.errs_before():
            self._world.after(weather.delay(), reply, Unknown("429 throttled"))
            return
        answer = perform()
        if weather.errs_after():
            answer = Unknown("500 after the fact")
        if weather.loses_reply() or host.replies_cut:
            return
        self._world.after(weather.delay() + host.distance, reply, answer)

    # ------------------------------------------------------------------ what befalls it

    def edit(self, election: str, **changes: object) -> None:
        """Change fields as a foreign writer does, with kubectl or etcdctl."""
        content = self.records.get(election)
        if isinstance(content, Found):
            self._put(election, replace(content.record, **changes))  # type: ignore[arg-type] # a foreign writer writes anything

    def put(self, election: str, record: Record) -> None:
        """Write a whole record as a foreign writer does."""
        self._put(election, record)

    def corrupt(self, election: str) -> None:
        """Make the record unreadable."""
        self._set(election, Unreadable(self._revision(), "not JSON"))

    def delete(self, election: str) -> None:
        """Remove the record."""
        self._set(election, Absent())

    def backup(self) -> Backup:
        """Return a copy to restore later."""
        return Backup(dict(self.records), dict(self.candidates))

    def restore(self, backup: Backup) -> None:
        """Come back with older content; revisions are never used twice."""
        for election, content in {
            **dict.fromkeys(self.records, Absent()),
            **backup.records,
        }.items():
            match content:
                case Found(record):
                    self._put(election, record)
                case Unreadable():
                    self.corrupt(election)
                case Absent():
                    self.delete(election)
        self.candidates = dict(backup.candidates)

    def _put(self, election: str, record: Record) -> Found:
        found = Found(record, self._revision())
        self._set(election, found)
        return found

    def _set(self, election: str, content: Content) -> None:
        self.records[election] = content
        for watch in self._world.watches():
            watch.record_changed(election, content)

    def _revision(self) -> Revision:
        self._revisions += 1
        return f"r{self._revisions}"


class Watch:
    """One daemon's watch.

    It may lag, reorder, or die silently; then it is set up again after a while.

    `stands_since`: the true time from which on it reports every change (inf: it does not).
    """

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._host = daemon.host
        self._world = daemon.world
        self.stands_since = math.inf
        self._last = 0.0
        self._set_up()

    @property
    def stands(self) -> bool:
        """Whether changes are reported."""
        return self._world.now >= self.stands_since

    def record_changed(self, election: str, content: Content) -> None:
        """Report a change of a record."""
        if self.stands:
            self._send(self._daemon.record_seen, election, content)

    def candidate_changed(self, name: str, record: CandidateRecord | None) -> None:
        """Report a change of a candidate record."""
        if self.stands:
            self._send(self._daemon.candidate_seen, name, record)

    def break_off(self, silence: float) -> None:
        """Stop reporting without a word, for so long."""
        if self.stands:
            self.stands_since = math.inf
            self._world.after(silence, self._set_up)

    def _send(self, report: Callable[..., None], *what: object) -> None:
        weather = self._world.weather
        at = self._world.now + weather.lag()
        if not weather.reorders():
            at = self._last = max(self._last, at)
        self._world.at(at, self._deliver, report, *what)

    def _deliver(self, report: Callable[..., None], *what: object) -> None:
        if self._host.store_cut or self._host.replies_cut:
            self.break_off(self._world.weather.watch_retry())
        elif self.stands and self._daemon.alive:
            report(*what)

    def _set_up(self) -> None:
        """Stand (again): from here on every change is reported, and what there is follows."""
        if not self._daemon.alive:
            return
        store = self._world.store
        if self._host.store_cut or self._host.replies_cut or self._world.now < store.down_until:
            self._world.after(self._world.weather.watch_retry(), self._set_up)
            return
        self.stands_since = self._world.now
        for election in self._daemon.machines:
            self._send(self._daemon.record_seen, election, store.records.get(election, Absent()))
        self._send(self._daemon.all_candidates_seen, tuple(store.candidates.values()))
