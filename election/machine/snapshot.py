"""What others are shown of an election: status and metrics here, the candidate record in the store."""

from __future__ import annotations

from dataclasses import dataclass

from election.machine.situation import Kernel, Situation
from election.machine.waiting import Wait, waiting
from election.model import Candidacy, Reason, Record, State


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What status and metrics show. `since`, `deadline` and `changed_at` in seconds on CLOCK_BOOTTIME."""

    state: State
    reason: Reason
    since: float
    detail: str
    deadline: float
    priority: int
    record: Record | None
    changed_at: float
    asks: bool
    stopped: bool
    in_touch: bool
    handing_over_to: str
    wait: Wait | None


def is_stopped(s: Situation) -> bool:
    """Whether a stop that was asked for is complete: nothing bound, nothing held, no request under way."""
    settled = s.kernel is Kernel.CLEAR and s.desk.request is None and not s.desk.unread
    return s.fitness.stopping and settled and not s.is_mine


def snapshot(s: Situation, now: float) -> Snapshot:
    """Return what status and metrics show."""
    return Snapshot(
        state=s.state,
        reason=s.reason,
        since=s.since,
        detail=s.detail,
        deadline=s.right.deadline,
        priority=s.fitness.priority,
        record=s.seen.record,
        changed_at=s.seen.changed_at,
        asks=s.preemption.asks(now),
        stopped=is_stopped(s),
        in_touch=s.desk.in_touch,
        handing_over_to=s.handover.successor.name if s.handover else "",
        wait=waiting(s, now),
    )


def candidacy(s: Situation, now: float) -> Candidacy:
    """Return what this node's candidate record should say of this election."""
    refused = s.fitness.is_refused(now)
    return Candidacy(
        eligible=s.eligible(now) and not refused,
        priority=s.fitness.priority,
        asks=s.preemption.asks(now) and not refused,
        epoch=s.seen.highest[0],
        state=s.state.name.capitalize(),
        reason=str(s.reason),
    )
