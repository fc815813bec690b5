"""The files: comments, and for each command its exact output between `----` and an empty line."""

from __future__ import annotations

from collections.abc import Callable

RULE = "----"


def replay(text: str, perform: Callable[[str], list[str]]) -> str:
    """Return the file with the output that its commands give now; raises ValueError if it is not in form."""
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
