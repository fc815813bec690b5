"""What ends the right to the VIP when daemon and guard are dead or frozen at once, and which leases that is enough for."""

from __future__ import annotations

from election.timing import SHORT_LEASE

STRICT_LEASE = 8.0
"""Seconds: from here on the kernel's lifetimes alone, in whole seconds and up to 1.2 s late, end before the next owner starts."""


def with_gate() -> str:
    """Return what the gate covers."""
    return "the kernel's gate stands behind the guard: any lease is covered strictly, to the millisecond"


def without_gate(lease_duration: float, why: str) -> str:
    """Return what is left without the gate, and whether that is enough for this lease; `why` there is none."""
    return f"only address lifetimes stand behind the guard, no kernel gate ({why}): {lifetimes(lease_duration)}"


def lifetimes(lease_duration: float) -> str:
    """Return how far address lifetimes cover a lease if daemon and guard die at once."""
    strictly, rule = f"{STRICT_LEASE:g}s", f"{SHORT_LEASE:g}s"
    if lease_duration >= STRICT_LEASE:
        return f"a lease of {lease_duration:g}s is covered strictly, as is every one from {strictly} on"
    if lease_duration >= SHORT_LEASE:
        return f"a lease of {lease_duration:g}s is covered as a rule, one of {strictly} and longer strictly"
    return f"a lease of {lease_duration:g}s is not covered, one of {rule} and longer is as a rule, one of {strictly} strictly"
