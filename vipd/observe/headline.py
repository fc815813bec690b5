"""The one line that `systemctl status` shows: what this node is in each of its elections."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from election.model import Reason, State

FEW = 4
"""Up to so many elections are named; of more they are counted."""


class Election(Protocol):
    """What the line says of an election. `holder` is empty if nobody has the VIP."""

    @property
    def state(self) -> State:
        """Its state here."""

    @property
    def reason(self) -> Reason:
        """Why."""

    @property
    def holder(self) -> str:
        """Who has the VIP."""


class Headline:
    """Sends the line whenever it changes.

    `send` never waits; `elections` are those of this node, by name.
    """

    def __init__(self, elections: Mapping[str, Election], send: Callable[[str], None]) -> None:
        self._elections = elections
        self._send = send
        self._sent = ""

    def update(self) -> None:
        """Send the line if it is new."""
        line = headline(self._elections)
        if line != self._sent:
            self._sent = line
            self._send(line)


def headline(elections: Mapping[str, Election]) -> str:
    """Return `Active: web; Backup: mail (n2 has it)`, the gravest states first, or counts where
    there are many.
    """
    groups: dict[State, list[str]] = {}
    for name, election in elections.items():
        groups.setdefault(election.state, []).append(_words(name, election))
    order = (State.FAULT, State.ACTIVE, State.BACKUP, State.INITIALIZE)
    many = len(elections) > FEW
    parts = [
        f"{state.name.capitalize()}: {len(groups[state]) if many else ', '.join(groups[state])}"
        for state in order
        if state in groups
    ]
    return "; ".join(parts)


def _words(name: str, election: Election) -> str:
    if election.state is State.FAULT:
        return f"{name} ({election.reason})"
    if election.state is State.BACKUP:
        return (
            f"{name} ({election.holder} has it)" if election.holder else f"{name} (nobody has it)"
        )
    return name
