"""The form of a golden file.

Comments, and for each command its exact output between `----` and an empty line.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Callable

RULE = "----"


def replay(text: str, perform: Callable[[str], list[str]]) -> str:
    """Return the file with the output that its commands give now.

    Raises ValueError if it is not in form.
    """
    written: list[str] = []
    lines = iter(text.splitlines())
    for line in lines:
        written.append(line)
        if not line or line.startswith("#"):
            continue
        if next(lines, "") != RULE:
            raise ValueError(f"no {RULE} after the command: {line}")
        for old in lines:
            if not old:
                break
        written += [RULE, *(perform(line) or ["ok"]), ""]
    return "\n".join(written).rstrip("\n") + "\n"


def commands(text: str) -> list[str]:
    """Return the names of the commands in a file, in order."""
    lines = text.splitlines()
    return [line.split()[0] for line, after in itertools.pairwise(lines) if after == RULE]


def difference(name: str, written: str, told: str) -> str:
    """Return what differs, with the lines around it; empty: nothing does."""
    return "\n".join(
        difflib.unified_diff(
            written.splitlines(),
            told.splitlines(),
            f"{name}, as written",
            f"{name}, now",
            lineterm="",
        )
    )
