"""What a defect planted on purpose is.

A patch to the election or to the gate, and the kind of trouble in which it must be caught.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Patch:
    """Replace `old`, which must occur exactly once in the module, by `new`.

    Both begin with the indentation of a first line.

    `module`: its path in `package`, without `.py`. The simulation runs `election`, and the handover
    of the gate's programs in `announce`.
    """

    module: str
    old: str
    new: str
    package: str = "election"


@dataclass(frozen=True, slots=True)
class Defect:
    """One mistake that somebody could make.

    `theme` is where it shows, `seeds` how many seeds that takes at most.
    """

    name: str
    theme: str
    patches: tuple[Patch, ...]
    seeds: int = 60


def joined(*lines: str) -> str:
    """Return the pieces as one."""
    return "\n" + "".join(line.removeprefix("\n") for line in lines)
