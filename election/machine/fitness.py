"""Whether this node may hold the VIP at all, and which state it rests in while it does not."""

from __future__ import annotations

from election.model import Reason, State

REFUSAL_PATIENCE = 5.0
"""Seconds for which a node stays out at least after the kernel refused an address; each refusal in a row doubles them."""
LONGEST_PATIENCE = 300.0

UNBIND_TRIES = 3
"""So often in a row the kernel has to refuse to remove an address before the node stays out: it could not give up what it takes."""


class Fitness:
    """The checks' verdict, the operator's orders and the reasons to stay out. `fit` is None until a first verdict.

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

    def judge(self, fit: bool, priority: int, why: Reason) -> None:
        """Take the verdict of checks and link."""
        self.fit, self.priority, self._why_unfit = fit, priority, why

    def saw_namesake(self, until: float) -> None:
        """Stay out until then: another daemon of this name holds the record."""
        self._namesake_until = until

    def refused(self, now: float) -> None:
        """Stay out until something changes: the kernel refused an address, and would refuse it again."""
        patience = min(LONGEST_PATIENCE, REFUSAL_PATIENCE * 2.0 ** min(self._refusals, 10))
        self._refusals += 1
        self._refused_at, self._patient_after_refusal_until = now, now + patience
        self._changed_since_refusal = self.retrying = False

    def bound(self) -> None:
        """Note that the kernel has bound all addresses."""
        self._refusals, self.retrying = 0, False

    def interface_changed(self) -> None:
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
        """Return from when on a node that was refused may try again if nobody else takes the VIP (inf: it was not refused).

        A sign of change is worth a try soon: one that fails costs nobody anything.
        """
        if not self.is_refused(now):
            return float("inf")
        patience_ends = self._patient_after_refusal_until
        return self._refused_at + REFUSAL_PATIENCE if self._changed_since_refusal else patience_ends

    def fault(self, now: float) -> Reason | None:
        """Return why the address has to go at once, whoever is there to take it; None: there is no such reason."""
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
        """Return the state of a node that is not Active, and the reason it would be entered for; `seen`: it knows the record."""
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
        """Return when this judgement changes by itself."""
        lapses = self._patient_after_refusal_until if self._changed_since_refusal else 0.0
        return [t for t in (self._namesake_until, lapses) if t > now]
