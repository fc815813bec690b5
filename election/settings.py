"""One election's configuration on one node, as the machine needs it."""

from __future__ import annotations

from dataclasses import dataclass

from election.timing import Timing


@dataclass(frozen=True, slots=True)
class Settings:
    """`preempt_delay` in seconds; `probe`: ask on the wire before a record that was absent is taken (`on_conflict: wait`)."""

    election: str
    addresses: tuple[str, ...]
    timing: Timing
    preempt: bool = True
    preempt_delay: float = 0.0
    probe: bool = True
