"""This node among the others.

Publishes its candidate record, follows theirs, and tells the machines what concerns them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from election import events, model
from election.candidates import Candidates
from election.candidates import namesake as namesake_sentence
from election.claims import Claims, hosts
from election.outage import Outage
from election.stores.contract import (
    CandidateChanged,
    ElectionChanged,
    Store,
    WatchEvent,
    WatchLost,
    WatchStands,
)
from election.timing import Timing
from vipd.clock import now
from vipd.daemon.member import Member
from vipd.version import VERSION

WATCH_RETRY = 0.5
"""Seconds before a watch that ended is begun again; the machines re-read meanwhile."""

LAST_WORD = 0.2
"""Seconds for it: some fifty times what the store takes as a rule."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Shown:
    """What one machine was last given, so that nothing is given twice."""

    candidates: tuple[model.Candidate, ...] | None = None
    namesake: bool = False
    claimed_by: str = ""


class Peers:
    """One for the daemon.

    `said` gets a sentence for the log when the watch or the candidate record fails or works again.

    `watch_lost` is what keeps the watch from standing, None: nothing; `watch_lost_at` when it was
    lost. `on_watch` is called with the kind of its trouble whenever that changes.
    """

    def __init__(
        self,
        me: model.Identity,
        store: Store,
        timing: Timing,
        former: frozenset[str],
        said: Say,
        on_watch: Callable[[Outage | None], None] = lambda _kind: None,
    ) -> None:
        self.candidates = Candidates(me, former)
        self._me = me
        self._store = store
        self._timing = timing
        self._said = said
        self._members: Mapping[str, Member] = {}
        self._shown: dict[str, Shown] = {}
        self._claims = Claims()
        self._at: dict[str, list[str]] = {}
        self._published: dict[str, model.Candidacy] = {}
        self._counter = 0
        self._wanted = asyncio.Event()
        self._looking = False
        self._on_watch = on_watch
        self.watch_lost: WatchLost | None = None
        self.watch_lost_at = 0.0
        self._claims_known: Callable[[], object] = lambda: None
        self.knows_claims = False
        self._listed = False
        self.watching = False

    def serve(self, members: Mapping[str, Member], claims_known: Callable[[], object]) -> None:
        """Tell these members from now on.

        `claims_known` is called once: when what other elections claim was seen, or cannot be.
        """
        self._members = members
        self._claims_known = claims_known
        for name, member in members.items():
            for address in hosts(member.addresses):
                self._at.setdefault(address, []).append(name)

    # ------------------------------------------------------------------ what others say

    async def watch(self) -> None:
        """Follow the store for as long as the daemon lives."""
        while True:
            async for event in self._store.watch():
                self._on_event(event)
            await asyncio.sleep(WATCH_RETRY)

    def _on_event(self, event: WatchEvent) -> None:
        match event:
            case ElectionChanged(election, content):
                claimed = self._claims.observe_election(now(), event)
                member = self._members.get(election)
                if member is not None:
                    member.order(events.RecordSeen(content))
                # At once, before a machine that has just seen a free record takes it; and only
                # those that it concerns: with 250 elections that change hands together each would
                # look at 250.
                self._tell_claims(
                    {name for address in claimed for name in self._at.get(address, ())}
                )
            case CandidateChanged(name, record):
                if self.candidates.observe_record(now(), name, record):
                    self.tell()
                else:
                    # Of thirty nodes ten refresh their records every second: only who may hand over
                    # has to know how new they are.
                    self._tell_candidates(self._active())
            case WatchLost(why, outage):
                self.watching = False
                # Without a watch nobody learns of claims, perhaps for long: a VIP without an owner
                # is the greater evil.
                self._know_claims()
                if self.watch_lost is None:
                    self.watch_lost_at = now()
                    self._said(
                        f"the store's watch is lost: {why}; records are re-read until it is back"
                    )
                self.watch_lost = event
                self._on_watch(outage)
            case WatchStands():
                self.watching = True
                self._know_claims()
                if self.watch_lost is not None:
                    self.watch_lost = None
                    self._on_watch(None)
                    self._said("the store's watch is back")

    def _know_claims(self) -> None:
        if not self.knows_claims:
            self.knows_claims = True
            self._claims_known()

    def tell(self) -> None:
        """Give every machine what it does not know yet of the other nodes.

        Also called as time passes.
        """
        self._tell_candidates(self._members)
        self._tell_claims(self._members)

    def _active(self) -> list[str]:
        return [
            name for name, member in self._members.items() if member.state is model.State.ACTIVE
        ]

    def _tell_candidates(self, names: Iterable[str]) -> None:
        moment = now()
        namesake = self.candidates.namesake(moment)
        for name in names:
            member = self._members[name]
            shown = self._shown.get(name, Shown())
            own = {name: member.candidacy()}
            # Before all were read once, this node would look like the only one, and take an expired
            # lease ahead of its rank.
            candidates = self.candidates.of(moment, name, own) if self._listed else None
            self._shown[name] = Shown(candidates, namesake, shown.claimed_by)
            if namesake != shown.namesake:
                if namesake:
                    member.notice(namesake_sentence(self._me.name))
                member.order(events.NamesakeSeen(namesake))
            if candidates is not None and candidates != shown.candidates:
                member.order(events.CandidatesSeen(candidates))

    def _tell_claims(self, names: Iterable[str]) -> None:
        for name in names:
            member = self._members[name]
            by = self._claims.against(
                now(), name, hosts(member.addresses), active=member.state is model.State.ACTIVE
            )
            shown = self._shown.get(name, Shown())
            if by != shown.claimed_by:
                self._shown[name] = Shown(shown.candidates, shown.namesake, by)
                if by:
                    member.notice(
                        f"the election {by} holds an address of {name} and was there first: "
                        f"{name} stays out of its own election"
                    )
                member.order(events.AddressClaimed(by))

    # ------------------------------------------------------------------ what this node says

    def _own(self) -> dict[str, model.Candidacy]:
        return {name: member.candidacy() for name, member in self._members.items()}

    def stepped(self) -> None:
        """Look soon whether this node has something new to say of itself: a machine has moved.

        Once for all that move in one turn of the loop: a hundred that are renewed together would
        look at a hundred each.
        """
        if not self._looking:
            self._looking = True
            asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        self._looking = False
        if self._own() != self._published:
            self._wanted.set()
            # Who has just become Active is judged by another rule.
            self._tell_claims(self._members)

    async def publish(self) -> None:
        """Write the candidate record on every change, and refresh it slowly."""
        await self._look_first()
        while True:
            if self.candidates.may_publish(now()) and await self._write():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._timing.candidate_refresh):
                        await self._wanted.wait()
            else:
                await asyncio.sleep(self._timing.renew_interval / 2)

    async def _look_first(self) -> None:
        """See whose record stands under this node's name.

        Once it were overwritten, nobody could tell who was there first.
        """
        while True:
            found = await self._store.read_candidates(self._timing.request_timeout)
            if not isinstance(found, model.Unknown):
                break
            await asyncio.sleep(self._timing.renew_interval / 2)
        self.candidates.see_all(now(), found)
        self._listed = True
        self.tell()

    async def _write(self) -> bool:
        self._wanted.clear()
        own = self._own()
        sent_at = now()
        answer = await self._store.write_candidate(self._record(own), self._timing.request_timeout)
        for member in list(self._members.values())[:1]:
            # One request for all members. While this node holds nothing, it alone tells whether the
            # store takes writes.
            member.store_request("candidate", answer, now() - sent_at)
        if not isinstance(answer, model.Applied):
            return False
        self._published = own
        self.candidates.published()
        self.tell()
        return True

    def _record(self, own: Mapping[str, model.Candidacy]) -> model.CandidateRecord:
        self._counter += 1
        refresh = round(self._timing.candidate_refresh * 1000)
        return model.CandidateRecord(
            self._me.name, self._me.session, self._counter, own, VERSION, refresh
        )

    async def last_word(self) -> None:
        """Say what this node gives up before its next daemon starts.

        A holder that is reloaded too would name it as its successor.
        """
        if self.candidates.may_publish(now()) and self._own() != self._published:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_WORD):
                    await self._write()

    async def withdraw(self) -> None:
        """Remove this node's candidate record: it ends."""
        if self.candidates.may_publish(now()):
            await self._store.delete_candidate(self._me.name, self._timing.request_timeout)
