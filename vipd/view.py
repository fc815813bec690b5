"""What an operator sees of the running daemon: the status document, and whether it is alive and ready."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from election import model
from vipd import status
from vipd.clock import now
from vipd.config import Config
from vipd.member import Member
from vipd.stores import kind
from vipd.version import VERSION

if TYPE_CHECKING:
    from vipd.observe import Observe
    from vipd.peers import Peers

ALIVE_WITHIN = 1.0
"""Seconds without a beat after which the event loop no longer counts as alive."""


@dataclass(frozen=True, slots=True)
class View:
    """Reads, and changes nothing. `fence` tells what ends the right to the VIP if the daemon does not."""

    config: Config
    me: model.Identity
    members: dict[str, Member]
    peers: Peers
    observe: Observe
    started_at: float
    fence: Callable[[], status.Fence]

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
            instances=tuple(self._instance(member, moment) for member in self.members.values()),
            uptime=moment - self.started_at,
        )

    def ready(self) -> str:
        """Return why this node is not ready to take part, or nothing: configured, store seen, checks ran."""
        if not self.observe.store.answered_at:
            return "the store has not answered yet"
        waiting = [name for name, member in self.members.items() if member.verdict.fit is None]
        return f"no verdict of the checks yet: {', '.join(waiting)}" if waiting else ""

    def _store(self, moment: float) -> status.Store:
        health = self.observe.store
        trouble = health.trouble
        age = moment - health.answered_at if health.answered_at else None
        if trouble is None:
            return status.Store(kind(self.config), health.reachable, age)
        since = moment - trouble.since
        return status.Store(kind(self.config), health.reachable, age, trouble.why, str(trouble.kind), since, health.reaction())

    def _instance(self, member: Member, moment: float) -> status.Instance:
        machine, settings = member.instance.machine, member.settings
        seen = machine.snapshot(moment)
        record = seen.record
        bound = member.executor.bound()
        holder = None
        if record is not None and record.holder:
            # The machine knows its own record without the wall-clock times, which are stamped on the way to the store.
            since = record.acquire_time or (member.instance.acquired_at if record.held_by(self.me) else "")
            holder = status.Holder(record.holder, record.session, since, record.priority)
        return status.Instance(
            name=member.name,
            interface=settings.interface,
            addresses=tuple(status.Address(str(address), str(address.ip) in bound) for address in settings.addresses),
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
            checks=self._checks(member, moment),
            candidates=self._candidates(member, moment),
            notes=self._notes(member),
        )

    @staticmethod
    def _checks(member: Member, moment: float) -> tuple[status.Check, ...]:
        return tuple(status.Check(c.name, c.kind, c.up, max(0.0, moment - c.since), c.detail, c.seconds) for c in member.checks.statuses())

    def _candidates(self, member: Member, moment: float) -> tuple[status.Candidate, ...]:
        own = {member.name: member.instance.machine.candidacy(moment)}
        states = {self.me.name: own[member.name].state}
        states.update({name: said.state for name, said in self.peers.candidates.states(member.name).items()})
        known = self.peers.candidates.of(moment, member.name, own)
        return tuple(status.Candidate(c.name, c.live, c.eligible, c.priority, c.asks, states.get(c.name, "")) for c in known)

    def _notes(self, member: Member) -> tuple[str, ...]:
        notes = [member.link_problem, member.gate_problem, member.verdict.detail, *self.observe.notes(member.name)]
        return tuple(dict.fromkeys(note for note in notes if note))


def _remaining(deadline: float, record: model.Record | None, changed_at: float, moment: float) -> float | None:
    """Return how long the right lasts here, or by this node's observation there; None: nobody holds it."""
    if deadline:
        return max(0.0, deadline - moment)
    if record is None or not record.holder:
        return None
    return max(0.0, changed_at + record.lease_duration / 1000 - moment)
