"""All that one election's machine knows and has under way, and the questions that several of its
rules ask.

The rules stand elsewhere: what the store's answers prove and a record means (evidence), what
happens to the addresses (ownership), which request is next (schedule) and what it says (requests).
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

from election.actions import Action, Notice, Read, Remember, Write, WriteKind
from election.machine.eligibility import Field, Fitness, Preemption, Probing
from election.machine.handover import Handover, PlannedMoves, Wish
from election.machine.lease import Observation, Right
from election.model import Absent, Identity, Reason, Record, Revision, State
from election.timing import HANDOVER_TIMEOUT, Settings, unbind_lead

# ---------------------------------------------------------------- the pending request


@dataclass(frozen=True, slots=True)
class Request:
    """A request under way; `write` is None for a read.

    Answers with another number are of a request given up.
    """

    number: int
    sent_at: float
    timeout: float
    write: Write | None

    @property
    def gives_up_at(self) -> float:
        """When its outcome counts as unknown, whatever comes later."""
        return self.sent_at + self.timeout


class PendingRequest:
    """Lets one request out at a time.

    `unread`: something happened that only a read can clear up.
    """

    def __init__(self) -> None:
        self.request: Request | None = None
        self.unread = True
        self.in_touch = False
        self.read_at = 0.0
        self.not_before = 0.0
        self._count = 0

    @property
    def next_number(self) -> int:
        """The number that the next request will have."""
        return self._count + 1

    def send_read(self, now: float, timeout: float) -> Read:
        """Send a read."""
        self._count += 1
        self.request = Request(self._count, now, timeout, None)
        return Read(self._count, timeout)

    def send_write(
        self, now: float, timeout: float, kind: WriteKind, record: Record, expected: Revision | None
    ) -> Write:
        """Send a write."""
        self._count += 1
        write = Write(self._count, kind, record, expected, timeout)
        self.request = Request(self._count, now, timeout, write)
        return write

    def match_answer(self, number: int) -> Request | None:
        """Return the request with this number, no longer under way; None: it was given up, its
        answer means nothing any more.
        """
        request = self.request
        if request is None or request.number != number:
            return None
        self.request = None
        return request

    def forget_read(self) -> None:
        """Drop a read under way, whose answer means nothing any more; a write stays."""
        if self.request is not None and self.request.write is None:
            self.request = None

    def note_unknown(self, now: float, request: Request, pause: float) -> None:
        """Note that nobody can tell the outcome.

        Read before going on, and not at once again if the store refuses quickly.
        """
        self.request = None
        self.in_touch, self.unread = False, True
        self.not_before = max(now, request.sent_at + pause)

    def need_read(self) -> None:
        """Note that something happened that only a read can clear up."""
        self.unread = True

    def note_read(self, now: float) -> None:
        """Note that the record was read."""
        self.unread, self.read_at = False, now

    def note_contact(self) -> None:
        """Note that the store answered."""
        self.in_touch = True


# ---------------------------------------------------------------- the whole

NEVER = math.inf
VACANT = 0.5
"""Seconds for which nobody took the VIP though it was free: ten ranks have passed."""


class Kernel(enum.Enum):
    """Where this node's addresses stand, as far as the machine knows."""

    CLEAR = "clear"
    # an earlier daemon's, of unknown deadline: only their kernel lifetime ends them
    LEFTOVER = "leftover"
    INHERITED = "inherited"  # a former daemon's of the same guard, under the deadline it left
    BOUND = "bound"
    LEAVING = "leaving"


UNDER_DEADLINE = (Kernel.BOUND, Kernel.INHERITED)
FORMER = (Kernel.INHERITED, Kernel.LEFTOVER)


@dataclass(frozen=True, slots=True)
class Taking:
    """An acquisition that was sent.

    `confirmed`: it was applied, and waits until its epoch is remembered, or `remember_by`.
    """

    epoch: int
    reason: Reason
    remember_by: float = 0.0
    confirmed: bool = False


class Situation:
    """One election on one node.

    Times are seconds on its CLOCK_BOOTTIME; `out` is what the present step wants done, in order.
    """

    def __init__(
        self, settings: Settings, me: Identity, epoch: int, longest: float, chosen: int
    ) -> None:
        self.settings = settings
        self.me = me
        self.lease = settings.timing.lease_duration
        self.lead = unbind_lead(len(settings.addresses))
        self.out: list[Action] = []
        self._warned: set[str] = set()

        # This node's place in the election, and how it came there.
        self.state = State.INITIALIZE
        self.reason, self.since, self.detail = Reason.STARTUP, 0.0, ""

        # What is known, each with the rules about it.
        self.right = Right()
        self.seen = Observation(self.lease, epoch, longest, chosen)
        self.fitness = Fitness()
        self.field = Field(me.name)
        self.preemption = Preemption(settings.preempt, settings.preempt_delay)
        self.probing = Probing(settings.probe)
        self.pending = PendingRequest()

        # What previous daemons left: their sessions, and whether one may have named a successor.
        self.former: frozenset[str] = frozenset()
        self.may_have_named = False

        # Its own writing: the record as last confirmed, and as last sent; epochs that it chose.
        self.mine: Record | None = None
        self.written: Record | None = None
        self.own_epochs: set[int] = set()
        self.taking: Taking | None = None
        self.remembered = self.seen.floor
        self.sent_at = self.renewed_at = self.holdoff_until = 0.0
        self._last_remembered = self.seen.remembered

        # The addresses. `serving`: the kernel has confirmed the bind of this tenure.
        self.kernel = Kernel.CLEAR
        self.serving = False
        self.refreshed_at, self.unbind_again_at = 0.0, NEVER

        self.moves = PlannedMoves()

    def warn(self, text: str) -> None:
        """Warn the operator."""
        self.out.append(Notice(text, warning=True))

    def warn_once(self, text: str) -> None:
        """Warn the operator of something that stays as it is."""
        if text not in self._warned:
            self._warned.add(text)
            self.warn(text)

    def remember(self) -> None:
        """Have the state directory keep what a later daemon of this node must know, if that has
        changed.
        """
        known = self.seen.remembered
        if known != self._last_remembered:
            self._last_remembered = known
            epoch, longest, chosen = known
            self.out.append(Remember(epoch, round(longest * 1000), chosen))

    # ------------------------------------------------------------------ questions

    @property
    def handover(self) -> Handover | None:
        """The planned move under way."""
        return self.moves.handover

    @property
    def wish(self) -> Wish | None:
        """The planned move that an operator wants."""
        return self.moves.wish

    @property
    def unpin(self) -> bool:
        """Whether the record's pin is to go."""
        return self.moves.unpin

    def resting_state(self, now: float) -> tuple[State, Reason]:
        """Return the state of this node while it is not Active, and the reason it would be entered
        for.
        """
        return self.fitness.resting_state(now, self.state, self.seen.content is not None)

    def eligible(self, now: float) -> bool:
        """Whether this node may take the VIP if it is its turn."""
        return self.resting_state(now)[0] is State.BACKUP

    def retries_at(self, now: float) -> float:
        """Return when a node whose kernel refused an address begins to try again (inf: it does not,
        or has begun).
        """
        return NEVER if self.fitness.retrying or self._is_attempting else self._may_retry_from(now)

    def update_retrying(self, now: float) -> None:
        """Begin to try again, or end it since somebody else has the VIP."""
        if not self._is_attempting and self.state is not State.ACTIVE and not self.is_mine:
            self.fitness.set_retrying(self._may_retry_from(now) <= now)

    @property
    def _is_attempting(self) -> bool:
        """Whether a take of this node's is not decided yet: what comes of it is an event."""
        undecided = self.pending.request is not None or self.pending.unread
        return self.taking is not None and (self.taking.confirmed or undecided)

    def _may_retry_from(self, now: float) -> float:
        """Return from when on nobody else takes the VIP.

        All nodes may be refused, and the cause may end without a sign of it.
        """
        seen = self.seen
        if seen.content is None or self.is_mine or self.state is State.ACTIVE:
            return NEVER
        free_at = seen.changed_at if isinstance(seen.content, Absent) else seen.free_at()
        return max(self.fitness.may_retry_at(now), free_at + VACANT)

    @property
    def leaving_for_good(self) -> bool:
        """Whether an operator wants this node out: stopped or drained."""
        return self.fitness.stopping or self.fitness.drained

    @property
    def is_mine(self) -> bool:
        """Whether the record is held by this session, or by a former one of this node that is known
        to have ended.
        """
        record = self.seen.record
        if record is None or record.holder != self.me.name:
            return False
        if record.session == self.me.session:
            return (
                record.epoch in self.own_epochs
                and self.right.used(record.counter)
                and not self.seen.older
            )
        return record.session in self.former and not self.seen.older

    @property
    def is_intact(self) -> bool:
        """Whether the record is as this session last wrote it."""
        record = self.seen.record
        if record is None or self.mine is None or not record.held_by(self.me):
            return False
        return record.counter == self.right.confirmed and record.epoch == self.mine.epoch

    def is_named(self, now: float) -> bool:
        """Whether this session was named as successor, and the naming still counts."""
        return self.seen.naming_of(self.me) and now <= self.seen.changed_at + HANDOVER_TIMEOUT
