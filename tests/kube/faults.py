"""What can be made to go wrong on command."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field


class Kind(enum.StrEnum):
    """What happens to a request."""

    SLOW = "slow"
    """It is carried out `seconds` later."""
    HUNG = "hung"
    """It is never carried out and never answered; the connection stays."""
    REFUSED = "refused"
    """It is answered with `code`, `reason`, `message` and `retry_after`, and not carried out."""
    DROPPED = "dropped"
    """The connection is closed before it is carried out."""
    LOST = "lost"
    """It is carried out, then the connection is closed without an answer."""
    MUTE = "mute"
    """It is carried out and never answered; the connection stays."""
    CUT = "cut"
    """It is carried out, and the connection is closed in the middle of the answer's body."""
    GARBLED = "garbled"
    """It is carried out, and the answer's body is no JSON."""


@dataclass(slots=True)
class Fault:
    """What happens to requests with this verb (of RBAC; empty: any), resource and name.

    `times`: how often; 0: until cleared.
    """

    kind: Kind
    verb: str = ""
    resource: str = ""
    name: str = ""
    times: int = 0
    seconds: float = 0.0
    code: int = 500
    reason: str = "InternalError"
    message: str = "Internal error occurred: on command"
    retry_after: int = 0

    def concerns(self, verb: str, resource: str, name: str) -> bool:
        """Whether this fault is meant for such a request."""
        return (
            self.verb in ("", verb) and self.resource in ("", resource) and self.name in ("", name)
        )


@dataclass(slots=True)
class Faults:
    """The faults that are set, in the order in which they were."""

    waiting: list[Fault] = field(default_factory=list)

    def take(self, verb: str, resource: str, name: str) -> Fault | None:
        """Return what happens to a request, counting it."""
        for fault in self.waiting:
            if fault.concerns(verb, resource, name):
                if fault.times == 1:
                    self.waiting.remove(fault)
                fault.times = max(0, fault.times - 1)
                return fault
        return None
