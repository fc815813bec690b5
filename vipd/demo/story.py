"""What vipd itself said about a scenario, out of the logs of all nodes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from vipd.demo.node import Node

TROUBLE = ("warning", "error", "critical")
MOST_WARNINGS = 2
"""So many of a node's warnings are told where no state changed."""


class Story:
    """Begins where the logs end now."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        self._begin = {node: node.log_position() for node in nodes}

    def told(self) -> str:
        """Return the changes of state since then, each with its reason, in the order in which they were logged."""
        lines = [(node.name, line) for node, begin in self._begin.items() for line in parsed(node.log_since(begin))]
        lines.sort(key=lambda pair: str(pair[1].get("time", "")))
        moves = [f"{name} {line['message']}" for name, line in lines if "reason" in line]
        warnings = [f"{name}: {line['message']}" for name, line in lines if line.get("level") in TROUBLE]
        return "; ".join(moves or warnings[:MOST_WARNINGS])


def parsed(text: str) -> list[Mapping[str, Any]]:
    """Return the lines that are JSON objects with a message; what a library or the guard prints on its own is left out."""
    found: list[Mapping[str, Any]] = []
    for line in text.splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict) and "message" in value:
            found.append(value)
    return found
