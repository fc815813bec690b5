"""The two questions around every kernel call for the VIP, asked by the executor and by the simulation alike."""

from __future__ import annotations

from election.timing import lifetime_seconds

SHRUNK = 1
"""Whole seconds of lifetime while a handover's lowered deadline stands: the shortest that the kernel knows."""


def lifetime_to_set(now: float, deadline: float, lease_duration: float, *, shrink: bool = False) -> int:
    """Return the lifetime in whole seconds to bind or refresh with, asked right before the call; 0: keep your hands off.

    A replace re-creates an address that has expired: a late refresh would bring the VIP back.
    """
    if shrink:
        return SHRUNK if now < deadline else 0
    return lifetime_seconds(deadline, now, lease_duration)


def wakes_guard(before: float, deadline: float, *, former_gate: bool) -> bool:
    """Whether the guard must be woken when its word changes from `before` to `deadline`: it sleeps until the one that it read.

    A closed word needs no waking: there is nothing to be late for. Nor does one that opens, unless programs of an earlier
    life stand in the gate (`former_gate`), which do not know this word.
    """
    return 0 < deadline < before or (deadline > 0 and before == 0 and former_gate)


def came_late(now: float, deadline: float) -> bool:
    """Whether the call just made has to be undone: the process may have been stopped between the question and the call."""
    return now >= deadline
