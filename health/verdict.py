"""From results to a verdict.

One check by rise and fall, all checks of an instance together, and the priority that follows. Pure.

A check that is up goes down after `fall` bad results in a row, one that is down comes up after
`rise` good ones. What starts otherwise:

- *Undecided.* Without a result a check is neither up nor down. One good result is enough to be up,
  as in keepalived and HAProxy (a node that just started must not wait `rise` intervals while nobody
  holds the VIP). `fall` bad ones are needed to be down: the single refused connection of an ingress
  that starts together with vipd must not read as a fault.
- *Remembered.* A daemon that was restarted goes on with the verdict of the previous one until the
  first result. That one, if good, makes it up at once, as after any start; if bad, it is the first
  of `fall`, so that a crash of the daemon does not make it hastier.
- *Unknown.* With `fail` it counts as bad. With `keep` it changes nothing, neither verdict nor
  count; but an undecided check has nothing to keep: there it counts as bad, so that each check is
  decided after `fall` results at the latest and no node waits for ever.

Weights are keepalived's: a negative one is added while its check fails, a positive one while its
check succeeds. The sum is clamped to 1..254: 0 and 255 mean something else in VRRP, and a node that
is merely worse must stay electable (out of the election is what `Fault` is for).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from health.model import Check, Fault, OnUnknown, Verdict, Weight


@dataclass(frozen=True, slots=True)
class RiseFall:
    """A verdict (`up`, None: undecided) and the row of equal results behind it.

    `fresh`: no result of this daemon has counted yet.
    """

    rise: int
    fall: int
    on_unknown: OnUnknown = OnUnknown.KEEP
    up: bool | None = None
    fresh: bool = True
    last: bool | None = None
    consecutive: int = 0

    @property
    def falling(self) -> bool:
        """Whether bad results are coming in that have not made the check down yet."""
        return self.last is False and self.up is not False

    def add_result(self, seen: bool | None) -> RiseFall:
        """Return what is known after one more result (None: unknown)."""
        good = self._counts_as(seen)
        if good is None:
            return self
        consecutive = self.consecutive + 1 if good is self.last else 1
        return replace(
            self,
            up=self._verdict(good=good, consecutive=consecutive),
            fresh=False,
            last=good,
            consecutive=consecutive,
        )

    def remember(self, *, up: bool) -> RiseFall:
        """Return the start of a daemon that goes on with the previous one's verdict."""
        return replace(self, up=up, fresh=True, last=None, consecutive=0)

    def _counts_as(self, seen: bool | None) -> bool | None:
        if seen is not None:
            return seen
        keeps = self.on_unknown is OnUnknown.KEEP and self.up is not None
        return None if keeps else False

    def _verdict(self, *, good: bool, consecutive: int) -> bool | None:
        if good:
            return True if self.up is None or self.fresh or consecutive >= self.rise else self.up
        return False if consecutive >= self.fall else self.up


LOWEST = 1
HIGHEST = 254


@dataclass(frozen=True, slots=True)
class Standing:
    """A check, its verdict (None: undecided) and the detail of its last result."""

    check: Check
    up: bool | None
    detail: str


def verdict_of(standings: Sequence[Standing]) -> Verdict:
    """Return the verdict: a failing Fault check decides it.

    Else one undecided check leaves it undecided; no checks: fit.
    """
    failing = [one for one in standings if one.up is False]
    undecided = [one for one in standings if one.up is None]
    weight = sum(_points(one) for one in standings)
    names = tuple(one.check.name for one in failing)
    detail = "; ".join(f"{one.check.name}: {one.detail}" for one in failing)
    if any(isinstance(one.check.on_fail, Fault) for one in failing):
        return Verdict(fit=False, weight=weight, failing=names, detail=detail)
    if undecided:
        return Verdict(fit=None, weight=weight, failing=names, detail=_waiting(undecided))
    return Verdict(fit=True, weight=weight, failing=names, detail=detail)


def combined(verdicts: Sequence[Verdict]) -> Verdict:
    """Return the verdict on several instances that are elected as one.

    What one of them lacks, they all lack.
    """
    if len(verdicts) == 1:
        return verdicts[0]
    fits = [one.fit for one in verdicts]
    fit = False if False in fits else None if None in fits else True
    failing = tuple(name for one in verdicts for name in one.failing)
    detail = "; ".join(one.detail for one in verdicts if one.detail)
    return Verdict(
        fit=fit, weight=sum(one.weight for one in verdicts), failing=failing, detail=detail
    )


def effective_priority(base: int, verdict: Verdict) -> int:
    """Return the configured priority with the checks' weights in it, 1..254."""
    return min(max(base + verdict.weight, LOWEST), HIGHEST)


def _points(one: Standing) -> int:
    """Return what one check adds now.

    An undecided one counts as failing, since nothing good is known of it.
    """
    match one.check.on_fail:
        case Weight(points) if (points > 0) == (one.up is True):
            return points
        case _:
            return 0


def _waiting(undecided: Iterable[Standing]) -> str:
    return "no verdict yet: " + ", ".join(one.check.name for one in undecided)
