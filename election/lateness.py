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


def came_late(now: float, deadline: float) -> bool:
    """Whether the call just made has to be undone: the process may have been stopped between the question and the call."""
    return now >= deadline
