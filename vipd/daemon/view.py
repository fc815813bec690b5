"""What an operator sees of the running daemon.

The status document, and whether it is alive and ready.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from election import model
from vipd.clock import duration, now, rfc3339
from vipd.config.values import Config
from vipd.control import status
from vipd.daemon.instance import Instance
from vipd.daemon.member import Member
from vipd.daemon.stores import kind
from vipd.guard.link import ConfigState
from vipd.observe.observe import waits_until
from vipd.version import VERSION

if TYPE_CHECKING:
    from vipd.daemon.peers import Peers
    from vipd.observe.observe import Observe

ALIVE_WITHIN = 1.0
"""Seconds without a beat after which the event loop no longer counts as alive."""


@dataclass(frozen=True, slots=True)
class View:
    """Reads, and changes nothing.

    `fence` tells what ends the right to the VIP if the daemon does not.
    """

    config: Config
    me: model.Identity
    members: dict[str, Member]
    peers: Peers
    observe: Observe
    started_at: float
    fence: Callable[[], status.Fence]
    configured: Callable[[], ConfigState] = ConfigState
    code: str = ""

    def document(self, *, drained: bool) -> status.Status:
        """Return the status document of this moment."""
        moment = now()
        return status.Status(
            node=self.me.name,
            session=self.me.session,
            version=VERSION,
            drained=drained,
            store=self._store(moment),
            fence=self.fence(),
            instances=tuple(
                shown
                for member in self.members.values()
                for shown in self._instances(member, moment)
            ),
            uptime=moment - self.started_at,
            code=self.code,
            config=self._config(),
        )

    def _config(self) -> status.Config:
        known = self.configured()
        file = os.path.realpath(self.config.path) if self.config.path else ""
        return status.Config(
            rfc3339(known.loaded_at), known.refused, rfc3339(known.refused_at), file
        )

    def ready(self) -> str:
        """Return why this node is not ready to take instance, or nothing.

        Configured, store seen, checks ran.
        """
        if not self.observe.store.answered_at:
            return "the store has not answered yet"
        waiting = [
            instance.name
            for member in self.members.values()
            for instance in member.instances
            if instance.verdict.fit is None
        ]
        return f"no verdict of the checks yet: {', '.join(waiting)}" if waiting else ""

    def _store(self, moment: float) -> status.Store:
        health = self.observe.store
        trouble = health.trouble
        age = moment - health.answered_at if health.answered_at else None
        shown = status.Store(kind(self.config), health.reachable, age)
        lost = self.peers.watch_lost
        if lost is not None:
            since = moment - self.peers.watch_lost_at
            shown = replace(shown, watch=lost.why, watch_kind=str(lost.outage), watch_since=since)
        if trouble is None:
            return shown
        since = moment - trouble.since
        outage = str(trouble.kind)
        return replace(
            shown,
            outage=trouble.why,
            outage_kind=outage,
            outage_since=since,
            reaction=health.reaction(),
        )

    def _instances(self, member: Member, moment: float) -> Iterator[status.Instance]:
        """Yield the instances of one election: what they have in common is looked up once."""
        common = self._common(member, moment)
        bound = member.executor.bound()
        for instance in member.instances:
            yield replace(
                common,
                name=instance.name,
                interface=instance.interface,
                addresses=tuple(
                    status.Address(str(address), str(address.ip) in bound)
                    for address in instance.settings.addresses
                ),
                checks=self._checks(instance, moment),
                notes=self._notes(member, instance),
                group=instance.settings.group,
            )

    def _common(self, member: Member, moment: float) -> status.Instance:
        """Return what is known of an election."""
        settings, seen = member.settings, member.snapshot()
        record = seen.record
        holder = None
        if record is not None and record.holder:
            # The machine knows its own record without the wall-clock times, which are stamped on
            # the way to the store.
            since = record.acquire_time or (member.acquired_at if record.held_by(self.me) else "")
            holder = status.Holder(record.holder, record.session, since, record.priority)
        return status.Instance(
            name=member.name,
            interface="",
            addresses=(),
            state=seen.state.name.capitalize(),
            since=moment - seen.since,
            reason=str(seen.reason),
            detail=seen.detail,
            epoch=record.epoch if record else 0,
            priority=settings.priority,
            effective_priority=seen.priority or settings.priority,
            preempt=settings.preempt,
            pin=record.pin if record and record.pin == record.holder else "",
            holder=holder,
            lease_remaining=_remaining(seen.deadline, record, seen.changed_at, moment),
            candidates=self._candidates(member, moment),
        )

    @staticmethod
    def _checks(instance: Instance, moment: float) -> tuple[status.Check, ...]:
        known = instance.checks.statuses()
        return tuple(
            status.Check(c.name, c.kind, c.up, max(0.0, moment - c.since), c.detail, c.seconds)
            for c in known
        )

    def _candidates(self, member: Member, moment: float) -> tuple[status.Candidate, ...]:
        own = {member.name: member.candidacy()}
        states = {self.me.name: own[member.name].state}
        states.update(
            {name: said.state for name, said in self.peers.candidates.states(member.name).items()}
        )
        known = self.peers.candidates.of(moment, member.name, own)
        return tuple(
            status.Candidate(c.name, c.live, c.eligible, c.priority, c.asks, states.get(c.name, ""))
            for c in known
        )

    def _notes(self, member: Member, instance: Instance) -> tuple[str, ...]:
        said = (*self.observe.notes(instance.name), *self.observe.notes(member.name))
        # An instance may be in Fault for the sake of another one of its group.
        failing = [
            other for other in member.instances if other is not instance and other.verdict.detail
        ]
        others = [f"{other.name}, of the same group: {other.verdict.detail}" for other in failing]
        notes = (
            instance.problem,
            member.gate_problem,
            member.address_problem,
            member.obstacle,
            instance.verdict.detail,
            _waits(member),
            *others,
        )
        true = dict.fromkeys(note for note in notes if note)
        past = dict(sorted(said, key=lambda note: -note[1]))
        return (
            *true,
            *(f"{text} ({duration(age)} ago)" for text, age in past.items() if text not in true),
        )


def _waits(member: Member) -> str:
    """Return for what this node waits before it takes the VIP, or nothing."""
    wait = member.snapshot().wait
    return waits_until(wait.until, wait.why) if wait is not None else ""


def _remaining(
    deadline: float, record: model.Record | None, changed_at: float, moment: float
) -> float | None:
    """Return how long the right lasts here, or by this node's observation there; None: nobody holds
    it.
    """
    if deadline:
        return max(0.0, deadline - moment)
    if record is None or not record.holder:
        return None
    return max(0.0, changed_at + record.lease_duration / 1000 - moment)
