"""What all commands of one dialogue share.

The stage, the configuration of its nodes, and what a command was given.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from election.events import Event
from election.timing import PROFILES, Settings
from tests.interaction.stage import ELECTION, Stage
from tests.sim.host import Host
from tests.sim.store import Backup


@dataclass(frozen=True, slots=True)
class Words:
    """A command's words and its key=value pairs."""

    words: tuple[str, ...]
    keys: dict[str, str]

    def number(self, key: str) -> float:
        """Return the value of a key as seconds."""
        return float(self.keys[key])


@dataclass(slots=True)
class Play:
    """One dialogue under way."""

    stage: Stage = field(default_factory=Stage)
    settings: Settings = field(
        default_factory=lambda: Settings(ELECTION, ("192.0.2.10/32",), PROFILES["default"])
    )
    backup: Backup | None = None

    def host(self, given: Words) -> Host:
        """Return the node that a command's first word names; raises ValueError."""
        return self.stage.find(given.words[0])

    def tell(self, host: Host, event: Event) -> None:
        """Hand an event to a node's daemon, if there is one."""
        if host.daemon is not None:
            host.daemon.deliver(ELECTION, event)
