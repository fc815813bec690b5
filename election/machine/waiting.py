"""For what an eligible node waits that does not take the VIP, where that is not simply a holder that renews. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from election.machine.lease import LARGEST_COUNT
from election.machine.situation import Situation
from election.model import Absent, Record, State, Unreadable


@dataclass(frozen=True, slots=True)
class Wait:
    """Until when (seconds on CLOCK_BOOTTIME; inf: until something changes) and why; `warning`: it should not be so."""

    until: float
    why: str
    warning: bool


def waiting(s: Situation, now: float) -> Wait | None:
    """Return what keeps this node from taking the VIP; None: a holder that is known here, an order, or nothing."""
    if s.state is not State.BACKUP or s.seen.content is None or s.is_mine or s.is_named(now):
        return None
    record = s.seen.record
    if rival := s.probing.rival(record):
        addresses = ", ".join(s.settings.addresses)
        return Wait(math.inf, f"{addresses}: {rival} already answers for it; waiting (on_conflict: wait)", warning=True)
    why, warning = _why(s, record)
    return Wait(s.seen.free_at(), why, warning) if why else None


def _why(s: Situation, record: Record | None) -> tuple[str, bool]:
    content, name = s.seen.content, s.settings.election
    if isinstance(content, Absent):
        return _nobody_held(name), False
    if isinstance(content, Unreadable):
        return f"the record of {name} cannot be read ({content.why}), so its holder may still hold by an earlier one", True
    if record is None or (record.released and not s.seen.older):
        return "", False
    if not record.holder and not record.session:
        return _nobody_held(name), False
    if s.seen.older:
        return f"the record of {name} is older than one already seen, whose holder may still hold by it", True
    if record.epoch >= LARGEST_COUNT:
        return f"the record of {name} leaves no room for another epoch; it is treated like one that is gone", True
    if not record.holder:
        return f"the holder was removed from the record of {name}, but not by itself: it may still hold by it", True
    if record.holder == s.me.name:
        return f"another daemon of the name {record.holder}, not known to have ended, holds {name}", False
    if s.field.is_stranger(record.holder):
        return f"the record of {name} says that {record.holder} holds it, and no node of that name is known here", True
    return "", False


def _nobody_held(name: str) -> str:
    return f"the store has no record of {name} that anybody ever held, so somebody may still hold by one that is gone"
