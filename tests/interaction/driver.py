"""Carries out the commands of a golden dialogue.

Their language: `name word... key=value...`, one function for each name.

Times are seconds of true time, durations seconds. NODE is a node's letter. The functions'
docstrings say how each command is written: those of `nodes` for who is there and what befalls him,
those of `orders` for what people do and for looking.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.interaction import nodes, orders
from tests.interaction.play import Play, Words
from tests.sim.judge import InvariantError

Command = Callable[[Play, Words], list[str] | None]
COMMANDS: dict[str, Command] = {**nodes.COMMANDS, **orders.COMMANDS}


def parse(line: str) -> tuple[str, Words]:
    """Return the command's name and what follows it."""
    name, *rest = line.split()
    pairs = dict(word.split("=", 1) for word in rest if "=" in word)
    return name, Words(tuple(word for word in rest if "=" not in word), pairs)


class Driver:
    """One dialogue."""

    def __init__(self) -> None:
        self._play = Play()

    def perform(self, line: str) -> list[str]:
        """Carry out one command and return its output.

        A broken promise is an output too, and stands out.

        Raises ValueError for what is no command.
        """
        name, given = parse(line)
        if name not in COMMANDS:
            raise ValueError(
                f"there is no command {name!r}; there is {', '.join(sorted(COMMANDS))}"
            )
        try:
            said = COMMANDS[name](self._play, given) or []
        except InvariantError as broken:
            said = [f"VIOLATION {broken}"]
        return self._play.stage.narrator.take() + said
