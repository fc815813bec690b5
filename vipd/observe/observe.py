"""Everything that happens on this node, said once.

One line in the log, the metrics, and the notes of `vipd status`.
"""

from __future__ import annotations

import logging
import math
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from election import actions, model
from election.machine.machine import Snapshot
from election.timing import Timing
from health.model import Check, Result, Verdict
from vipd.clock import now, wall_at
from vipd.config import values as config
from vipd.observe.log import fields
from vipd.observe.metrics import Metrics
from vipd.observe.store_health import WORDS, StoreHealth

NOTES_KEPT = 5
NOTE_AGE = 300.0
"""Seconds for which a notice stands in `vipd status`, and for which it is not logged again."""
WAIT_QUIET = 60.0
"""Seconds between two log lines about the same wait."""
FOREIGN_QUIET = 10.0
"""Seconds between two log lines about foreign changes of one record."""
UNWELCOME = {
    model.Reason.LEASE_EXPIRED,
    model.Reason.LOST,
    model.Reason.NAMESAKE,
    model.Reason.BIND_FAILED,
}
READS = {"read"}
"""Requests that a store can answer which cannot be written."""
ETHERTYPE_ARP = b"\x08\x06"

log = logging.getLogger("vipd")


@dataclass(slots=True)
class Note:
    """A sentence that was logged, and when something last gave cause for it."""

    text: str
    logged_at: float
    caused_at: float


@dataclass(slots=True)
class Shown:
    """What was last said of an election or an instance."""

    holder: str = ""
    epoch: int = -1
    lease_ends: float = -1.0
    priority: int = -1
    bound: bool | None = None
    notes: deque[Note] = field(default_factory=lambda: deque(maxlen=NOTES_KEPT))
    checks: dict[str, bool | None] = field(default_factory=dict)
    waits: str = ""
    waits_quiet_until: float = 0.0
    foreign_edits: int = 0
    foreign_quiet_until: float = 0.0


class Observe:
    """One for the daemon; every election and every instance reports to it, each under its name.

    Metrics are those of instances: what happens to an election happens to each instance of it.
    """

    def __init__(
        self, metrics: Metrics, elections: Mapping[str, Sequence[config.Instance]], timing: Timing
    ) -> None:
        self.store = StoreHealth(timing)
        self.metrics = metrics
        self._shown: dict[str, Shown] = {}
        self._elections = elections
        for instances in elections.values():
            for instance in instances:
                metrics.instance(instance.name, instance.priority)

    def _of(self, name: str) -> Shown:
        return self._shown.setdefault(name, Shown())

    def _instances(self, election: str) -> list[str]:
        return [instance.name for instance in self._elections.get(election, ())]

    def _where(self, name: str) -> dict[str, str]:
        """Return how a log line says what it is about: an instance, or a group of them."""
        of_one = all(instance.name == name for instance in self._elections.get(name, ()))
        return {"instance" if of_one else "group": name}

    def notes(self, name: str) -> list[tuple[str, float]]:
        """Return the latest notices of an election or an instance, oldest first, each with its age
        in seconds.

        They say what happened: whether it is still so nobody can tell.
        """
        ages = [(note.text, now() - note.caused_at) for note in self._of(name).notes]
        return [(text, age) for text, age in ages if age < NOTE_AGE]

    # ------------------------------------------------------------------ of a machine

    def transition(self, election: str, change: actions.Transition) -> None:
        """Log and count a change of state."""
        for instance in self._instances(election):
            self.metrics.transition(instance, change.after, change.reason)
        words = (
            f"{change.before.name.capitalize()} -> {change.after.name.capitalize()} "
            f"({change.reason})"
        )
        level = logging.WARNING if _is_unwelcome(change) else logging.INFO
        values = {
            "state": change.after.name.capitalize(),
            "reason": str(change.reason),
            "epoch": change.epoch,
        }
        log.log(
            level,
            f"{words} {change.detail}".rstrip(),
            extra=fields(**self._where(election), **values),
        )

    def notice(self, name: str, text: str, *, warning: bool) -> None:
        """Log a sentence and keep it for `vipd status`, once in a while."""
        moment, notes = now(), self._of(name).notes
        for note in notes:
            if note.text == text and moment - note.logged_at < NOTE_AGE:
                note.caused_at = moment
                return
        notes.append(Note(text, moment, moment))
        log.log(
            logging.WARNING if warning else logging.INFO,
            "%s",
            text,
            extra=fields(**self._where(name)),
        )

    def waits(self, election: str, wait: actions.Waits) -> None:
        """Say for what this node waits before it takes the VIP.

        `vipd status` shows it for as long as it is true.
        """
        shown = self._of(election)
        if shown.waits != wait.why or now() >= shown.waits_quiet_until:
            shown.waits, shown.waits_quiet_until = wait.why, now() + WAIT_QUIET
            level = logging.WARNING if wait.warning else logging.INFO
            log.log(
                level,
                "%s",
                waits_until(wait.until, wait.why),
                extra=fields(**self._where(election)),
            )

    def foreign_edit(self, election: str, edit: actions.ForeignEdit) -> None:
        """Count a change of the record by somebody else, and say so.

        Not each of those that come one after the other.
        """
        for instance in self._instances(election):
            self.metrics.foreign_edit(instance)
        shown = self._of(election)
        shown.foreign_edits += 1
        if now() < shown.foreign_quiet_until:
            return
        then = "it is lost" if edit.lost else "written again"
        more = (
            f" ({shown.foreign_edits} changes since this was last said)"
            if shown.foreign_edits > 1
            else ""
        )
        shown.foreign_edits, shown.foreign_quiet_until = 0, now() + FOREIGN_QUIET
        text = f"somebody else changed the record of {election} ({edit.what}); {then}{more}"
        log.warning("%s", text, extra=fields(**self._where(election)))

    def store_request(self, op: str, answer: object, seconds: float) -> None:
        """Count a request, and say when the store stops or starts answering."""
        self.metrics.store_request(op, type(answer).__name__.lower(), seconds)
        moment = now()
        if isinstance(answer, model.Unknown):
            if self.store.failed(moment, answer.outage, answer.why, write=op not in READS):
                self.metrics.store_outage(answer.outage)
                text = f"the store is {WORDS[answer.outage]}: {answer.why}; {self.store.reaction()}"
                log.warning("%s", text, extra=fields(op=op, outage=str(answer.outage)))
            return
        self.metrics.store_answered(time.time())  # noqa: TID251 -- a metric for people
        over = self.store.answered(moment, applied=isinstance(answer, model.Applied))
        if over is not None:
            self.metrics.store_outage(None)
            log.info(
                "the store serves again; it was %s for %.1fs",
                WORDS[over.kind],
                over.failed_at - over.since,
            )

    def took_over(self, election: str, seconds: float) -> None:
        """Measure the takeover path."""
        for instance in self._instances(election):
            self.metrics.took_over(instance, seconds)

    def repaired(self, election: str) -> None:
        """Count and log an address that was put back: all of the election were bound again."""
        for instance in self._instances(election):
            self.metrics.repaired(instance)
        log.warning(
            "an address was removed by somebody else and put back",
            extra=fields(**self._where(election)),
        )

    def fenced(self, election: str) -> None:
        """Count a right that ended before it was renewed."""
        for instance in self._instances(election):
            self.metrics.fenced(instance, "daemon")

    def show(self, election: str, seen: Snapshot) -> None:
        """Bring the gauges of an election up to date."""
        shown, metrics = self._of(election), self.metrics
        record = seen.record
        holder = record.holder if record else ""
        epoch = record.epoch if record else 0
        ends = seen.deadline or (
            seen.changed_at + record.lease_duration / 1000 if record and record.holder else 0.0
        )
        bound = seen.state is model.State.ACTIVE
        for instance in self._elections[election]:
            if holder != shown.holder:
                metrics.holder(instance.name, holder)
            if epoch != shown.epoch:
                metrics.epoch(instance.name, epoch)
            if ends != shown.lease_ends:
                metrics.lease_ends(instance.name, ends)
            if seen.priority != shown.priority and seen.priority:
                metrics.effective_priority(instance.name, seen.priority)
            if bound is not shown.bound:
                for address in instance.addresses:
                    metrics.address_bound(instance.name, str(address), bound=bound)
        shown.holder, shown.epoch, shown.lease_ends, shown.priority, shown.bound = (
            holder,
            epoch,
            ends,
            seen.priority,
            bound,
        )

    # ------------------------------------------------------------------ of an instance

    def conflict(self, instance: str) -> None:
        """Count somebody else's frame for the VIP."""
        self.metrics.conflict(instance)

    def announced(self, instance: str, frames: Sequence[bytes], sent: int) -> None:
        """Count the frames that left, by kind."""
        for kind, count in Counter(map(kind_of, frames[:sent])).items():
            self.metrics.announced(instance, kind, count)

    def check_result(self, instance: str, check: Check, result: Result, seconds: float) -> None:
        """Measure a check."""
        known = self._of(instance).checks.get(check.name)
        self.metrics.check(
            instance, check.name, up=known if known is not None else result.up, seconds=seconds
        )

    def verdict(
        self, instance: str, verdict: Verdict, checks: Mapping[str, bool], *, changed: bool
    ) -> None:
        """Log what the checks say, if that has `changed`."""
        self._of(instance).checks.update(checks)
        if changed:
            text = (
                f"checks failing: {', '.join(verdict.failing)}: {verdict.detail}"
                if verdict.failing
                else "all checks are good"
            )
            log.log(
                logging.WARNING if verdict.failing else logging.INFO,
                "%s",
                text,
                extra=fields(instance=instance),
            )


def waits_until(until: float, why: str) -> str:
    """Return what a node waits for as a sentence with a time of day, if there is one."""
    return why if until == math.inf else f"waits until {wall_at(until)}: {why}"


def _is_unwelcome(change: actions.Transition) -> bool:
    """Whether a change of state is a warning.

    Taking over from a holder that failed is what vipd is for, losing the VIP is not.
    """
    left = change.before is model.State.ACTIVE and change.reason in UNWELCOME
    return left or change.after is model.State.FAULT or change.reason is model.Reason.LEASE_EXPIRED


def kind_of(frame: bytes) -> str:
    """Return what sort of announcement a frame is, as the metric names it."""
    if frame[12:14] != ETHERTYPE_ARP:
        return "na"
    return "arp_request" if frame[21] == 1 else "arp_reply"
