"""The one line that `systemctl status` shows: what this node is in each of its elections."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from election.machine.machine import Machine
from election.model import State

FEW = 4
"""Up to so many elections are named; of more they are counted."""


class Headline:
    """Sends the line whenever it changes. `send` never waits; `machines` are those of this node, by election."""

    def __init__(self, machines: Mapping[str, Machine], send: Callable[[str], None]) -> None:
        self._machines = machines
        self._send = send
        self._sent = ""

    def update(self) -> None:
        """Send the line if it is new."""
        line = headline(self._machines)
        if line != self._sent:
            self._sent = line
            self._send(line)


def headline(machines: Mapping[str, Machine]) -> str:
    """Return `Active: web; Backup: mail (n2 has it)`, the gravest states first, or counts where there are many."""
    groups: dict[State, list[str]] = {}
    for name, machine in machines.items():
        groups.setdefault(machine.state, []).append(_words(name, machine))
    order = (State.FAULT, State.ACTIVE, State.BACKUP, State.INITIALIZE)
    many = len(machines) > FEW
    parts = [f"{state.name.capitalize()}: {len(groups[state]) if many else ', '.join(groups[state])}" for state in order if state in groups]
    return "; ".join(parts)


def _words(name: str, machine: Machine) -> str:
    situation = machine.situation
    if machine.state is State.FAULT:
        return f"{name} ({situation.reason})"
    record = situation.seen.record
    if machine.state is State.BACKUP:
        return f"{name} ({record.holder} has it)" if record and record.holder else f"{name} (nobody has it)"
    return name
