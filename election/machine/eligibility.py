"""May this node hold the VIP at all, who comes next, who asks for it, and is the wire silent.

Candidates are ordered by higher priority first, ties by node name (RFC 9568 uses the address).

A Backup asks for the VIP if it is better than the holder, fit and in touch with the store for its
preempt_delay. Flapping is damped: an election that moved too often within a minute makes every
asker wait longer before a preemption, never before a failover.

Before a record that was absent is taken, this node asks on the wire: keepalived, or another
backend's group, may still be there.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from election.actions import Probe
from election.model import Candidate, Reason, Record, State

# ---------------------------------------------------------------- may this node hold the VIP

REFUSAL_PATIENCE = 5.0
"""Seconds for which a node stays out at least after the kernel refused an address; each refusal in
a row doubles them."""
LONGEST_REFUSAL_PATIENCE = 300.0

UNBIND_TRIES = 3
"""So often in a row the kernel has to refuse to remove an address before the node stays out: it
could not give up what it takes."""


class Fitness:
    """The checks' verdict, the operator's orders and the reasons to stay out.

    `fit` is None until a first verdict.

    `unbind_fails` is how often in a row an address could not be removed.
    """

    def __init__(self) -> None:
        self.fit: bool | None = None
        self.priority = 0
        self.drained = False
        self.stopping = False
        self.patient_until = self.pauses_until = 0.0
        self.foreign_namesake = False
        self.claimed_by = ""
        self.unbind_fails = 0
        self._why_unfit = Reason.CHECK_FAILED
        self._namesake_until = 0.0
        self._refusals = 0
        self._refused_at = self._patient_after_refusal_until = 0.0
        self._changed_since_refusal = False
        self.retrying = False

    def set_verdict(self, fit: bool, priority: int, why: Reason) -> None:
        """Take the verdict of checks and link."""
        self.fit, self.priority, self._why_unfit = fit, priority, why

    def set_namesake(self, present: bool) -> None:
        """Set whether another live daemon uses this node's name."""
        self.foreign_namesake = present

    def set_claim(self, by: str) -> None:
        """Set which earlier election claims one of the addresses; empty: none."""
        self.claimed_by = by

    def set_drained(self, drained: bool) -> None:
        """Set whether an operator has taken this node out."""
        self.drained = drained

    def stop(self, patient_until: float, pauses_until: float) -> None:
        """Note that the daemon is to end.

        When it leaves without a successor at the latest, and from when on it names one.
        """
        self.stopping, self.patient_until, self.pauses_until = True, patient_until, pauses_until

    def set_retrying(self, retrying: bool) -> None:
        """Set whether this node tries again though the kernel refused an address."""
        self.retrying = retrying

    def note_unbound(self) -> None:
        """Note that the kernel has removed all addresses."""
        self.unbind_fails = 0

    def note_unbind_failure(self) -> None:
        """Note that the kernel refused to remove an address."""
        self.unbind_fails += 1

    def note_namesake(self, until: float) -> None:
        """Stay out until then: another daemon of this name holds the record."""
        self._namesake_until = until

    def note_refusal(self, now: float) -> None:
        """Stay out until something changes.

        The kernel refused an address, and would refuse it again.
        """
        patience = min(LONGEST_REFUSAL_PATIENCE, REFUSAL_PATIENCE * 2.0 ** min(self._refusals, 10))
        self._refusals += 1
        self._refused_at, self._patient_after_refusal_until = now, now + patience
        self._changed_since_refusal = self.retrying = False

    def note_bound(self) -> None:
        """Note that the kernel has bound all addresses."""
        self._refusals, self.retrying = 0, False

    def note_interface_change(self) -> None:
        """Note that what made the kernel refuse an address may be over."""
        self._changed_since_refusal = True

    @property
    def was_refused(self) -> bool:
        """Whether the last bind failed."""
        return self._refusals > 0

    def is_refused(self, now: float) -> bool:
        """Whether the last bind failed and nothing has changed since, or not long enough ago."""
        if not self._refusals:
            return False
        return not self._changed_since_refusal or now < self._patient_after_refusal_until

    def may_retry_at(self, now: float) -> float:
        """Return from when on a node that was refused may try again if nobody else takes the VIP
        (inf: it was not refused).

        A sign of change is worth a try soon: one that fails costs nobody anything.
        """
        if not self.is_refused(now):
            return float("inf")
        patience_ends = self._patient_after_refusal_until
        return self._refused_at + REFUSAL_PATIENCE if self._changed_since_refusal else patience_ends

    def fault(self, now: float) -> Reason | None:
        """Return why the address has to go at once, whoever is there to take it.

        None: there is no such reason.
        """
        if self.foreign_namesake or now < self._namesake_until:
            return Reason.NAMESAKE
        if self.claimed_by:
            return Reason.ADDRESS_CLAIMED
        if self.unbind_fails >= UNBIND_TRIES:
            return Reason.UNBIND_FAILED
        if self.fit is False:
            return self._why_unfit
        return Reason.BIND_FAILED if self.is_refused(now) and not self.retrying else None

    def resting_state(self, now: float, state: State, seen: bool) -> tuple[State, Reason]:
        """Return the state of a node that is not Active, and the reason it would be entered for.

        `seen`: it knows the record.
        """
        fault = self.fault(now)
        if self.stopping:
            return State.INITIALIZE, Reason.SHUTDOWN
        if self.drained:
            return State.FAULT, Reason.DRAINED
        if fault is not None:
            return State.FAULT, fault
        if self.fit is None or not seen:
            return State.INITIALIZE, Reason.STARTUP
        return State.BACKUP, Reason.STARTUP if state is State.INITIALIZE else Reason.RECOVERED

    def changes_at(self, now: float) -> list[float]:
        """Return when the fault ends by itself."""
        lapses = self._patient_after_refusal_until if self._changed_since_refusal else 0.0
        return [t for t in (self._namesake_until, lapses) if t > now]


# ---------------------------------------------------------------- who comes first

STRIKE_PATIENCE = 5.0
"""Seconds for which a successor that did not take the lease is not named again; each time in a row
doubles them."""
LONGEST_STRIKE_PATIENCE = 60.0

Said = tuple[str, bool, int, bool, bool]


def order(candidate: Candidate) -> tuple[int, str]:
    """Sort key: the best candidate comes first."""
    return (-candidate.priority, candidate.name)


@dataclass(frozen=True, slots=True)
class Struck:
    """A successor that did not take the lease.

    What it said of itself then, until when that holds against it, and how often.
    """

    said: Said
    until: float
    times: int


def _said(candidate: Candidate) -> Said:
    """Return what a node says of itself, without its counter: that changes with every refresh."""
    return (
        candidate.session,
        candidate.eligible,
        candidate.priority,
        candidate.asks,
        candidate.live,
    )


class Field:
    """The candidates of one election as last reported.

    None until a first report. `me` is this node's name.
    """

    def __init__(self, me: str) -> None:
        self._me = me
        self._known: tuple[Candidate, ...] | None = None
        self._fit: list[Candidate] = []
        self._struck: dict[str, Struck] = {}

    def set_candidates(self, candidates: tuple[Candidate, ...]) -> None:
        """Take in a new report of all candidates."""
        self._known = candidates
        self._fit = sorted(
            (c for c in candidates if c.live and c.eligible and c.name != self._me), key=order
        )

    def rank(self, record: Record | None, priority: int) -> int | None:
        """Return how many live, eligible nodes come before this one, the expired or releasing
        holder left out.

        None: nothing is known of the candidates.
        """
        if self._known is None:
            return None
        holder = record.holder if record else ""
        releaser = record.session if record and record.released else ""
        mine = (-priority, self._me)
        return sum(
            order(c) < mine and c.name != holder and c.session != (releaser or None)
            for c in self._fit
        )

    def is_unknown_name(self, name: str) -> bool:
        """Whether the candidates are known, and none of them, live or not, has this name."""
        return (
            self._known is not None
            and name != self._me
            and all(candidate.name != name for candidate in self._known)
        )

    @property
    def is_alone(self) -> bool:
        """Whether no other node lives, fit or not, as far as is known."""
        return self._known is not None and not any(
            c.live and c.name != self._me for c in self._known
        )

    def best(self, now: float, name: str = "") -> Candidate | None:
        """Return the best node to hand over to, or the named one if it is fit;
        None: there is none.
        """
        return next(
            (c for c in self._fit if name in {"", c.name} and not self._is_struck(now, c)), None
        )

    def asker(self, now: float, priority: int) -> Candidate | None:
        """Return the best node that asks for the VIP and has a higher priority than this."""
        return next(
            (
                c
                for c in self._fit
                if c.asks and c.priority > priority and not self._is_struck(now, c)
            ),
            None,
        )

    def strike_out(self, now: float, candidate: Candidate) -> None:
        """Don't name this node again until it says something else of itself, or for a while that
        doubles each time.
        """
        before = self._struck.get(candidate.name)
        times = before.times + 1 if before is not None and before.said == _said(candidate) else 1
        patience = min(LONGEST_STRIKE_PATIENCE, STRIKE_PATIENCE * 2.0 ** min(times - 1, 10))
        self._struck[candidate.name] = Struck(_said(candidate), now + patience, times)

    def clear_strikes(self) -> None:
        """Forget who was struck out: a new tenure begins."""
        self._struck.clear()

    def _is_struck(self, now: float, candidate: Candidate) -> bool:
        struck = self._struck.get(candidate.name)
        return struck is not None and now < struck.until and struck.said == _said(candidate)


# ---------------------------------------------------------------- who asks

DAMPING_WINDOW = 60.0
"""Seconds over which moves are counted."""
CALM_MOVES = 3
"""So many moves a minute are normal: a return, a drain and its end."""
LONGEST_DAMPING = 60.0


class Preemption:
    """Counts how long this node has been better, and how often the VIP has moved.

    `asked`: it asks at present.
    """

    def __init__(self, preempt: bool, preempt_delay: float) -> None:
        self._preempt = preempt
        self._delay = preempt_delay
        self._better_since: float | None = None
        self._moves: deque[float] = deque(maxlen=32)
        self._epoch = 0
        self.asked = False

    def note_epoch(self, now: float, epoch: int) -> None:
        """Count an acquisition, by whomever; the first one seen is not a move."""
        if self._epoch and epoch > self._epoch:
            self._moves.append(now)
        self._epoch = max(self._epoch, epoch)

    def delay(self, now: float) -> float:
        """Return the preempt_delay in force, longer while the election flaps."""
        excess = sum(now - moved < DAMPING_WINDOW for moved in self._moves) - CALM_MOVES
        if excess <= 0:
            return self._delay
        return max(self._delay, min(LONGEST_DAMPING, max(self._delay, 1.0) * 2.0**excess))

    def update(
        self, now: float, record: Record | None, eligible: bool, priority: int, in_touch: bool
    ) -> None:
        """Look again whether this node is better than the record's holder."""
        better = (
            self._preempt
            and eligible
            and in_touch
            and record is not None
            and bool(record.holder)
            and record.pin != record.holder
            and priority > record.priority
            # A naming under way moves the pin before the address: no reason to begin to ask.
            and (record.successor is None or self._better_since is not None)
        )
        if not better:
            self._better_since = None
        elif self._better_since is None:
            self._better_since = now
        self.asked = self.asks(now)

    def asks_at(self, now: float) -> float:
        """Return when this node asks (inf: not as things are)."""
        return float("inf") if self._better_since is None else self._better_since + self.delay(now)

    def asks(self, now: float) -> bool:
        """Whether this node asks for the VIP now."""
        return now >= self.asks_at(now)


# ---------------------------------------------------------------- is the wire silent

PROBE_TIMEOUT = 0.2
"""Seconds to wait for an answer; a host on the same link answers within a few milliseconds."""
PROBE_AGAIN = 1.0
"""Seconds between two questions."""
PROBE_VALID = 2.0
"""Seconds for which silence counts."""


class Probing:
    """What was asked and answered. `wanted`: the configuration says `on_conflict: wait`.

    1. Three nodes start from an empty store. 2. One of them takes and binds. 3. Another one's
    question is answered by it before
    the record that says so arrives. So an answer counts only if the record, read after it, still
    was never held.
    """

    def __init__(self, wanted: bool) -> None:
        self._wanted = wanted
        self._asked_at = 0.0
        self._asking = False
        self._free_until = 0.0
        self._rival = ""
        self._suspect: tuple[str, float] | None = None

    def needed(self, now: float, record: Record | None) -> bool:
        """Whether silence on the wire has to be proved before this record is taken: nobody ever
        held it.
        """
        return self._wanted and _never_held(record) and now >= self._free_until

    def ask_at(self) -> float:
        """When the next question may be put (inf: one is under way)."""
        return float("inf") if self._asking else self._asked_at + PROBE_AGAIN

    def send_probe(self, now: float) -> Probe:
        """Put the question."""
        self._asking, self._asked_at = True, now
        return Probe(PROBE_TIMEOUT)

    def note_answer(self, now: float, mac: str) -> bool:
        """Take the answer: somebody's MAC address, or silence.

        Return whether the record has to be read to judge it.
        """
        self._asking = False
        self._free_until = 0.0 if mac else now + PROBE_VALID
        if not mac:
            self._rival, self._suspect = "", None
        elif mac != self._rival:
            self._suspect = (mac, now)
        return self._suspect is not None

    def compare_with_record(self, sent_at: float, record: Record | None) -> None:
        """Look at a record that was read, by a request sent at `sent_at`."""
        if not _never_held(record):
            self._rival, self._suspect = "", None
        elif self._suspect is not None and sent_at >= self._suspect[1]:
            self._rival, self._suspect = self._suspect[0], None

    def rival(self, record: Record | None) -> str:
        """Return who answers for the VIP although nobody ever held this record; empty: nobody,
        as far as is known.
        """
        return self._rival if _never_held(record) else ""


def _never_held(record: Record | None) -> bool:
    return record is None or (not record.holder and not record.session)
