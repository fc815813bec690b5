"""What vipd itself said about a scenario, out of the logs of all nodes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

from vipd.demo.node import Node

TROUBLE = ("warning", "error", "critical")
MOST_WARNINGS = 2
"""So many warnings are told where no state changed."""


@dataclass(frozen=True, slots=True, order=True)
class LogLine:
    """A line of a node's log; ordered by its time. `change`: it tells a transition of the state."""

    time: str
    node: str
    message: str
    level: str
    change: bool

    @classmethod
    def parse(cls, node: str, line: str) -> Self | None:
        """Return the line, or None if it is no JSON object with a message.

        The guard's lines and those of libraries are not.
        """
        try:
            value = json.loads(line)
        except ValueError:
            return None
        if not isinstance(value, dict) or "message" not in value:
            return None
        return cls(
            str(value.get("time", "")),
            node,
            str(value["message"]),
            str(value.get("level", "")),
            "reason" in value,
        )


def told(logs: Mapping[str, str]) -> str:
    """Return the transitions in these logs, by node, in the order of time.

    Where there is none, the first warnings.
    """
    found = (LogLine.parse(node, line) for node, text in logs.items() for line in text.splitlines())
    lines = sorted(line for line in found if line)
    changes = [f"{line.node} {line.message}" for line in lines if line.change]
    warnings = [f"{line.node}: {line.message}" for line in lines if line.level in TROUBLE]
    return "; ".join(changes or warnings[:MOST_WARNINGS])


class Story:
    """Begins where the logs end now."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        self._begin = {node: node.log_position() for node in nodes}

    def told(self) -> str:
        """Return what was logged since then that matters."""
        return told({node.name: node.log_since(begin) for node, begin in self._begin.items()})
