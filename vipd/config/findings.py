"""What is wrong with a configuration file, and where.

One finding for each fault, all of them at once.
"""

from __future__ import annotations

import difflib
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field

from vipd.observe.log_line import printable

Path = tuple[str | int, ...]
"""Where a value stands: keys of mappings and indexes of lists, from the top of the file."""


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the file; both numbers count from 1."""

    line: int
    column: int


NOWHERE = Position(0, 0)
"""The finding is about the file as a whole."""


class BadValueError(ValueError):
    """A value that cannot be used.

    What is wrong, what is allowed instead, and the nearest valid name.
    """

    def __init__(self, problem: str, allowed: str = "", nearest: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.allowed = allowed
        self.nearest = nearest


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault or one thing worth a warning, as a sentence with its place."""

    file: str
    position: Position
    path: Path
    problem: str
    allowed: str = ""
    nearest: str = ""
    warning: bool = False

    def __str__(self) -> str:
        """Return `file:line:column: error: path: problem; allowed: …; did you
        mean …?` on one line.
        """
        place = (
            self.file
            if self.position == NOWHERE
            else f"{self.file}:{self.position.line}:{self.position.column}"
        )
        where = f"{written(self.path)}: " if self.path else ""
        text = f"{place}: {'warning' if self.warning else 'error'}: {where}{self.problem}"
        if self.allowed:
            text += f"; allowed: {self.allowed}"
        if self.nearest:
            text += f"; did you mean {self.nearest}?"
        return printable(text)


class ConfigErrors(Exception):  # noqa: N818 - it carries all the errors there are, not one
    """The file cannot be used; `findings` says why, warnings included, in the order of the file."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        super().__init__("\n".join(map(str, findings)))
        self.findings = tuple(findings)


def written(path: Path) -> str:
    """Return a path as an operator writes it: `instances[0].checks[1].http.url`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(
        "."
    )


def nearest(word: str, names: Iterable[str]) -> str:
    """Return the name that the word was probably meant to be; empty: none is near."""
    return next(iter(difflib.get_close_matches(word.lower(), list(names), n=1, cutoff=0.6)), "")


@dataclass(slots=True)
class Findings:
    """Collects findings while a file is read.

    Knows the place of every value and key that the file has.
    """

    file: str
    values: dict[Path, Position] = field(default_factory=dict)
    keys: dict[Path, Position] = field(default_factory=dict)
    found: list[Finding] = field(default_factory=list)
    wrong: set[Path] = field(default_factory=set)

    def error(
        self,
        path: Path,
        problem: str,
        allowed: str = "",
        near: str = "",
        *,
        at: Position | None = None,
    ) -> None:
        """Note a fault; without `at` its place is that of the value at the path, or of the nearest
        one around it.
        """
        self.wrong.add(path)
        self.found.append(Finding(self.file, at or self._place(path), path, problem, allowed, near))

    def warn(self, path: Path, problem: str) -> None:
        """Note something that works and may still surprise."""
        self.found.append(Finding(self.file, self._place(path), path, problem, warning=True))

    def need(self, path: Path, value: object, allowed: str) -> None:
        """Note that a value is missing, unless it is there or was refused."""
        if value is None and not self.refused(path):
            self.error(path, "is missing", allowed)

    def unique(self, values: Iterable[tuple[Path, Hashable]], what: str) -> None:
        """Note each value that stands there a second time; None is no value."""
        first: dict[Hashable, Path] = {}
        for path, value in values:
            if value is None:
                continue
            if value in first:
                self.error(
                    path,
                    f"{what} {value} is given twice, first on line "
                    f"{self.values[first[value]].line}",
                )
            else:
                first[value] = path

    def refused(self, path: Path) -> bool:
        """Whether an error stands at this very path.

        What is missing because it was wrong is not reported twice.
        """
        return path in self.wrong

    def in_order(self) -> tuple[Finding, ...]:
        """Return all findings in the order of the file."""
        return tuple(
            sorted(self.found, key=lambda finding: (finding.position.line, finding.position.column))
        )

    def _place(self, path: Path) -> Position:
        for length in range(len(path), -1, -1):
            if place := self.values.get(path[:length]):
                return place
        return NOWHERE
