"""All checks of an instance in one verdict, and the priority that follows. Pure.

Weights are keepalived's: a negative one is added while its check fails, a positive one while its check succeeds. The sum is clamped
to 1..254: 0 and 255 mean something else in VRRP, and a node that is merely worse must stay electable (out of the election is what
`Fault` is for).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from health.model import Check, Fault, Verdict, Weight

LOWEST = 1
HIGHEST = 254


@dataclass(frozen=True, slots=True)
class Standing:
    """A check, its verdict (None: undecided) and the detail of its last result."""

    check: Check
    up: bool | None
    detail: str


def judge(standings: Sequence[Standing]) -> Verdict:
    """Return the verdict: a failing Fault check decides it; else one undecided check leaves it undecided; no checks: fit."""
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


def together(verdicts: Sequence[Verdict]) -> Verdict:
    """Return the verdict on several instances that are elected as one: what one of them lacks, they all lack."""
    if len(verdicts) == 1:
        return verdicts[0]
    fits = [one.fit for one in verdicts]
    fit = False if False in fits else None if None in fits else True
    failing = tuple(name for one in verdicts for name in one.failing)
    detail = "; ".join(one.detail for one in verdicts if one.detail)
    return Verdict(fit=fit, weight=sum(one.weight for one in verdicts), failing=failing, detail=detail)


def effective_priority(base: int, verdict: Verdict) -> int:
    """Return the configured priority with the checks' weights in it, 1..254."""
    return min(max(base + verdict.weight, LOWEST), HIGHEST)


def _points(one: Standing) -> int:
    """Return what one check adds now; an undecided one counts as failing, since nothing good is known of it."""
    match one.check.on_fail:
        case Weight(points) if (points > 0) == (one.up is True):
            return points
        case _:
            return 0


def _waiting(undecided: Iterable[Standing]) -> str:
    return "no verdict yet: " + ", ".join(one.check.name for one in undecided)
