"""Which request is next, and when: a pure choice that depends on nothing but the situation.

Active: renew on the tick, name a successor, or go without one. In a handover: re-read until it is
taken, strike out who does not take it. Not Active: release what is held, take what is free, and
re-read, for a watch may be silently dead.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

from election.machine.handover import Handover, Phase
from election.machine.lease import LARGEST_COUNT
from election.machine.situation import NEVER, Kernel, Situation
from election.model import Absent, Reason, Record, State, Unreadable
from election.timing import take_delay

BIND_ANSWER = 0.050
"""Seconds for which a renewal waits for the kernel's answer to the bind, so that it can mark the
record bound."""


class Task(enum.Enum):
    """Something that needs the store, or the wire."""

    READ = "read"
    REREAD = "re-read while a successor's answer is awaited"
    PROBE = "ask on the wire"
    CREATE = "create the record without a holder"
    TAKE = "take"
    RENEW = "renew"
    NAME = "name a successor"
    STRIKE = "strike the successor out"
    RETIRE = "leave without a successor"
    RELEASE = "release"


@dataclass(frozen=True, slots=True)
class Due:
    """An errand and when it is to be run (inf: not as things are); `handover` belongs to NAME."""

    at: float
    task: Task
    handover: Handover | None = None


def next_due(s: Situation, now: float, resting: State) -> Due:
    """Return what is to be asked or written next if no request is under way; `resting`.

    The state of this node unless it is Active.
    """
    if s.pending.unread:
        return Due(now, Task.READ)
    if s.state is State.ACTIVE:
        return _while_active(s, now) if s.handover is None else _in_handover(s.handover)
    if s.kernel is Kernel.LEAVING or (s.taking is not None and s.taking.confirmed):
        return Due(NEVER, Task.READ)
    if s.is_mine and s.kernel is Kernel.CLEAR and (s.fitness.stopping or resting is State.FAULT):
        return Due(s.holdoff_until, Task.RELEASE)
    return _earlier(_take(s, now, resting), Due(_reread_at(s), Task.READ))


def _earlier(one: Due, other: Due) -> Due:
    return one if one.at <= other.at else other


# ---------------------------------------------------------------- Active


def _while_active(s: Situation, now: float) -> Due:
    renewal = Due(_renew_at(s), Task.RENEW)
    if s.leaving_for_good and s.field.best(now) is None:
        retirement = Due(
            now if s.field.is_alone else max(now, s.fitness.patient_until), Task.RETIRE
        )
        return retirement if retirement.at <= now else _earlier(retirement, renewal)
    chosen = _choose_successor(s, now)
    if chosen is None or _is_amiss(s):
        return renewal
    naming = Due(max(s.holdoff_until, s.fitness.pauses_until), Task.NAME, chosen)
    # Both due: the naming first, a holder that is to go need not renew.
    return naming if max(now, naming.at) <= max(now, renewal.at) else renewal


def _renew_at(s: Situation) -> float:
    """Return when to renew.

    At once if the record is not as it should be, else on the tick that all which this node holds
    shares.

    Ticks are the multiples of renew_interval on its own clock. The kernel's answer to the bind
    comes first.
    """
    earliest = 0.0 if s.serving else s.since + BIND_ANSWER
    if _is_amiss(s):
        return earliest
    interval = s.settings.timing.renew_interval
    # The small shift keeps a tick that came a rounding error early from being its own successor.
    return max(earliest, (math.floor(s.renewed_at / interval + 1e-6) + 1) * interval)


def _is_amiss(s: Situation) -> bool:
    """Whether the record is not as its holder wants it."""
    record = s.seen.record
    unpinning = s.unpin and s.mine is not None and bool(s.mine.pin)
    as_it_should_be = s.is_intact and not unpinning and not s.right.held_down
    return (
        record is None
        or not as_it_should_be
        or record.bound is not s.serving
        or record.priority != s.fitness.priority
    )


def _choose_successor(s: Situation, now: float) -> Handover | None:
    pin = False
    if s.leaving_for_good:
        reason = Reason.SHUTDOWN if s.fitness.stopping else Reason.DRAINED
        successor = s.field.best(now)
    elif s.wish is not None:
        reason, pin = Reason.HANDED_OVER, s.wish.pin
        successor = s.field.best(now, s.wish.to)
    elif s.mine is not None and s.mine.pin == s.me.name:
        return None
    else:
        reason = Reason.PREEMPTED
        successor = s.field.asker(now, s.fitness.priority)
    return Handover(successor, reason, pin) if successor is not None else None


def _in_handover(handover: Handover) -> Due:
    if handover.phase in {Phase.NAMING, Phase.STRIKING}:
        # The naming was not applied, or not answered: only a confirmed write without a name gives
        # the full deadline back.
        return Due(0.0, Task.STRIKE)
    reread = Due(handover.reread_at(), Task.REREAD)
    return (
        reread
        if handover.phase is Phase.TAKEN
        else _earlier(reread, Due(handover.strike_at(), Task.STRIKE))
    )


# ---------------------------------------------------------------- not Active


def _take(s: Situation, now: float, resting: State) -> Due:
    """Return when this node may take the record, or must do something before it may."""
    seen, record = s.seen, s.seen.record
    if resting is not State.BACKUP or seen.content is None:
        return Due(NEVER, Task.TAKE)
    if s.is_mine:
        return Due(0.0, Task.TAKE)
    if s.kernel is Kernel.INHERITED:
        return Due(0.0 if _may_put_back(s, record) else NEVER, Task.TAKE)
    if isinstance(seen.content, Absent):
        return Due(0.0, Task.CREATE)
    if s.is_named(now):
        return Due(0.0, Task.TAKE)
    priority = s.fitness.priority
    free_at = seen.free_at() + take_delay(
        s.field.rank(record, priority), priority, s.settings.timing
    )
    if free_at <= now and s.probing.needed(now, record):
        return Due(s.probing.ask_at(), Task.PROBE)
    return Due(free_at, Task.TAKE)


def _may_put_back(s: Situation, record: Record | None) -> bool:
    """Whether a holder within the deadline that it inherited may write its record again although it
    is gone or emptied.

    Not a record that is gone if its former self may have named a successor, who may have taken it.
    """
    gone = record is None or (not record.holder and record.session not in s.former)
    emptied = record is not None and not record.holder and not gone
    return emptied or (gone and not s.may_have_named)


def _reread_at(s: Situation) -> float:
    """Return when to read again though no watch says so: a watch may be silently dead."""
    return max(s.pending.read_at, s.seen.news_at) + s.lease / 2


# ---------------------------------------------------------------- what is waited for


@dataclass(frozen=True, slots=True)
class Wait:
    """Until when (seconds on CLOCK_BOOTTIME; inf: until something changes) and why.

    `warning`: it should not be so.
    """

    until: float
    why: str
    warning: bool


def waiting(s: Situation, now: float) -> Wait | None:
    """Return what keeps this node from taking the VIP; None: a holder that is known here, an
    order, or nothing.
    """
    if s.state is not State.BACKUP or s.seen.content is None or s.is_mine or s.is_named(now):
        return None
    record = s.seen.record
    if rival := s.probing.rival(record):
        addresses = ", ".join(s.settings.addresses)
        return Wait(
            math.inf,
            f"{addresses}: {rival} already answers for it; waiting (on_conflict: wait)",
            warning=True,
        )
    why, warning = _why(s, record)
    return Wait(s.seen.free_at(), why, warning) if why else None


def _why(s: Situation, record: Record | None) -> tuple[str, bool]:
    """Return why this node waits, and whether that is a warning."""
    content, name = s.seen.content, s.settings.election
    if isinstance(content, Absent):
        return _nobody_held(name), False
    if isinstance(content, Unreadable):
        unread = f"the record of {name} cannot be read ({content.why})"
        return f"{unread}, so its holder may still hold by an earlier one", True
    if record is None or (record.released and not s.seen.older):
        return "", False
    if not record.holder and not record.session:
        return _nobody_held(name), False
    if s.seen.older:
        older = f"the record of {name} is older than one already seen"
        return f"{older}, whose holder may still hold by it", True
    if record.epoch >= LARGEST_COUNT:
        full = f"the record of {name} leaves no room for another epoch"
        return f"{full}; it is treated like one that is gone", True
    if not record.holder:
        emptied = f"the holder was removed from the record of {name}, but not by itself"
        return f"{emptied}: it may still hold by it", True
    holder = record.holder
    if holder == s.me.name:
        return f"another daemon of the name {holder}, not known to have ended, holds {name}", False
    if s.field.is_unknown_name(holder):
        held = f"the record of {name} says that {holder} holds it"
        return f"{held}, and no node of that name is known here", True
    return "", False


def _nobody_held(name: str) -> str:
    return (
        f"the store has no record of {name} that anybody ever held, so somebody may still hold "
        "by one that is gone"
    )
