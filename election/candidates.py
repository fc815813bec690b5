"""What is known of the other nodes through their candidate records.

Who is live, and whether somebody uses this node's name.

Pure; `now` is in seconds of one's own CLOCK_BOOTTIME. A record is live while it changed, by one's
own observation, within three of its own refresh intervals. All of it is advice: for speed and for
people, never needed for safety.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from election.model import Candidacy, Candidate, CandidateRecord, Identity

REFRESHES_UNTIL_DEAD = 3


def namesake(name: str) -> str:
    """Return the sentence for a node that has found another one with its name."""
    return (
        f"another node is named {name} too and was there first: this one stays out; give it a "
        "name of its own"
    )


@dataclass(frozen=True, slots=True)
class Sighting:
    """A node's candidate record and when it was last seen to change.

    With what it says of each election, as of a node that is live.
    """

    record: CandidateRecord
    changed_at: float
    live: Mapping[str, Candidate]

    def dies_at(self) -> float:
        """When the node no longer counts as live unless its record changes."""
        return self.changed_at + REFRESHES_UNTIL_DEAD * self.record.refresh_interval / 1000

    def only_refreshed(self, before: Sighting) -> bool:
        """Whether the node, which was live before, says what it said before."""
        mine, others = self.record, before.record
        same = (mine.session, mine.refresh_interval, mine.elections) == (
            others.session,
            others.refresh_interval,
            others.elections,
        )
        return same and self.changed_at < before.dies_at()


def sighting(record: CandidateRecord, now: float) -> Sighting:
    """Return what was seen now."""
    return Sighting(
        record,
        now,
        {election: _candidate(record, said) for election, said in record.elections.items()},
    )


def _candidate(record: CandidateRecord, said: Candidacy) -> Candidate:
    eligible, priority = said.eligible, said.priority
    return Candidate(
        record.name,
        record.session,
        record.counter,
        eligible,
        priority,
        said.asks,
        live=True,
        epoch=said.epoch,
    )


class Candidates:
    """The candidate records of all nodes as this node sees them.

    `former` are sessions of this node that are known to have ended.
    """

    def __init__(self, me: Identity, former: frozenset[str] = frozenset()) -> None:
        self._me = me
        self._former = former
        self._seen: dict[str, Sighting] = {}
        self._established = False
        self._namesake: Sighting | None = None
        self._namesake_writes = False

    def observe_record(self, now: float, name: str, record: CandidateRecord | None) -> bool:
        """Take in one record, or that it is gone.

        Return whether it says anything new: most are a live node's refreshes.
        """
        if name == self._me.name:
            self._see_own(now, record)
            return True
        before = self._seen.get(name)
        if record is None:
            return self._seen.pop(name, None) is not None
        if before is not None and (before.record.session, before.record.counter) == (
            record.session,
            record.counter,
        ):
            return False
        self._seen[name] = sighting(record, now)
        return before is None or not self._seen[name].only_refreshed(before)

    def see_all(self, now: float, records: Iterable[CandidateRecord]) -> None:
        """Take in a complete list: who is not in it is gone."""
        listed = {record.name: record for record in records}
        for name in set(self._seen) - set(listed):
            self._seen.pop(name)
        for name, record in listed.items():
            self.observe_record(now, name, record)

    def _see_own(self, now: float, record: CandidateRecord | None) -> None:
        """Tell a namesake by this.

        Its session changes the record under this node's name while this node watches.
        """
        if record is None or record.session == self._me.session or record.session in self._former:
            return
        before = self._namesake
        if before is None or before.record.session != record.session:
            self._namesake_writes = False
        elif before.record.counter == record.counter:
            return
        else:
            self._namesake_writes = True
        self._namesake = sighting(record, now)

    def published(self) -> None:
        """Note that this node's own record stands in the store."""
        self._established = True

    def may_publish(self, now: float) -> bool:
        """Whether this node may write its own record.

        Not over that of another daemon of its name that may be alive.
        """
        if self._namesake is None or now >= self._namesake.dies_at():
            return True
        return self._established and not self.namesake(now)

    def namesake(self, now: float) -> bool:
        """Whether another live daemon uses this node's name and this one has to give way.

        The later start gives way: the one that found the other's record already there. If both
        started in one moment and found the name free, the smaller session does; decided anew each
        time, so that never both do for long.
        """
        if self._namesake is None or not self._namesake_writes or now >= self._namesake.dies_at():
            return False
        return not self._established or self._me.session < self._namesake.record.session

    def of(self, now: float, election: str, own: Mapping[str, Candidacy]) -> tuple[Candidate, ...]:
        """Return the candidates of one election by name; `own` is what this node says of itself."""
        found = []
        for seen in self._seen.values():
            live = seen.live.get(election)
            if live is not None:
                found.append(live if now < seen.dies_at() else replace(live, live=False))
        mine = own.get(election)
        if mine is not None:
            found.append(
                Candidate(
                    self._me.name,
                    self._me.session,
                    0,
                    mine.eligible,
                    mine.priority,
                    mine.asks,
                    live=True,
                    epoch=mine.epoch,
                )
            )
        return tuple(sorted(found, key=lambda candidate: candidate.name))

    def states(self, election: str) -> dict[str, Candidacy]:
        """Return what each other node says of itself in one election, for status."""
        return {
            name: s.record.elections[election]
            for name, s in self._seen.items()
            if election in s.record.elections
        }

    def changes_at(self, now: float) -> float:
        """Return when a node's liveness changes by itself (inf: never)."""
        sightings = [*self._seen.values(), *([self._namesake] if self._namesake else [])]
        return min((s.dies_at() for s in sightings if s.dies_at() > now), default=float("inf"))
