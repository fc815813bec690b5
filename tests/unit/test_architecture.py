"""What may import what, and how long a file or a function may be."""

from __future__ import annotations

import ast
import functools
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("vipd", "election", "announce", "health")
PURE = (
    "election/model.py",
    "election/timing.py",
    "election/machine/machine.py",
    "election/fencing.py",
    "announce/frames/build.py",
    "announce/frames/burst.py",
    "health/rise_fall.py",
)
"""Modules whose every decision follows from their arguments; further ones are those that election/machine/machine.py imports."""
IMPURE_IMPORTS = {"time", "asyncio", "socket", "random", "os", "subprocess", "threading", "select", "secrets"}
PYROUTE2_HOMES = ("announce/kernel/messages.py", "announce/kernel/watch.py", "vipd/demo/")
LONGEST_FILE = 500
LONGEST_FUNCTION = 60
USUAL_FUNCTION = 12
"""Most lines that the median function may have, signature and docstring included."""


def sources() -> list[Path]:
    """Return every file that ships."""
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def relative(path: Path) -> str:
    """Return the path as this file writes it."""
    return path.relative_to(ROOT).as_posix()


@functools.cache
def tree(path: Path) -> ast.Module:
    """Return the file parsed."""
    return ast.parse(path.read_text(), str(path))


def names_in(node: ast.AST) -> Iterator[str]:
    """Yield the dotted name of every module that the import statements below a node name."""
    for part in ast.walk(node):
        if isinstance(part, ast.Import):
            yield from (alias.name for alias in part.names)
        elif isinstance(part, ast.ImportFrom) and part.module:
            yield part.module
            yield from (f"{part.module}.{alias.name}" for alias in part.names)


def imports(path: Path) -> set[str]:
    """Return the top-level names that a file imports anywhere, inside functions as well."""
    return {name.partition(".")[0] for name in names_in(tree(path))}


def own_modules(path: Path) -> set[Path]:
    """Return this project's files that a file imports, with the packages on the way to them."""
    found: set[Path] = set()
    for name in names_in(tree(path)):
        parts = name.split(".")
        for size in range(1, len(parts) + 1):
            base = ROOT.joinpath(*parts[:size])
            found |= {file for file in (base.with_suffix(".py"), base / "__init__.py") if parts[0] in PACKAGES and file.is_file()}
    return found


def closure(start: Path) -> set[Path]:
    """Return a file and all of this project's files that are imported with it."""
    seen: set[Path] = set()
    todo = {start}
    while todo:
        path = todo.pop()
        seen.add(path)
        todo |= own_modules(path) - seen
    return seen


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Yield the name and number of lines of every function."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{relative(path)}:{node.lineno} {node.name}", (node.end_lineno or node.lineno) - node.lineno + 1


def test_decisions_see_no_clock_no_network_and_no_chance() -> None:
    """The pure modules and all that they import get time and randomness as parameters."""
    files = {file for name in PURE for file in closure(ROOT / name)}
    assert {relative(file): sorted(bad) for file in files if (bad := imports(file) & IMPURE_IMPORTS)} == {}


@pytest.mark.parametrize("package", ["election", "announce", "health"])
def test_the_three_packages_stand_alone(package: str) -> None:
    """None of them imports vipd or one of the others."""
    others = set(PACKAGES) - {package}
    offenders = {relative(path): sorted(bad) for path in (ROOT / package).rglob("*.py") if (bad := imports(path) & others)}
    assert offenders == {}


def test_pyroute2_stays_in_its_adapters() -> None:
    """Strings, errnos and untyped values of the library stop in two files; the demo has a network of its own to build."""
    users = [relative(path) for path in sources() if "pyroute2" in imports(path)]
    assert [user for user in users if not user.startswith(PYROUTE2_HOMES)] == []


def test_the_guard_needs_the_standard_library_only() -> None:
    """What ends the right to the VIP when all else hangs must not depend on what may hang."""
    allowed = set(sys.stdlib_module_names) | set(PACKAGES)
    offenders = {relative(path): sorted(bad) for path in closure(ROOT / "vipd/guard/guard.py") if (bad := imports(path) - allowed)}
    assert offenders == {}


def test_the_demo_is_no_part_of_the_daemon() -> None:
    """Only the command line knows the demo, and it loads it when it is asked for."""
    users = [relative(path) for path in sources() if any(name.startswith("vipd.demo") for name in names_in(tree(path)))]
    assert [user for user in users if not user.startswith(("vipd/demo/", "vipd/cli"))] == []


def test_a_file_fits_into_the_head() -> None:
    """A longer one has two ideas in it."""
    lengths = {relative(path): len(path.read_text().splitlines()) for path in sources()}
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST_FILE} == {}


def test_no_function_is_longer_than_a_screen() -> None:
    """What is longer than that is a list of functions."""
    assert [found for path in sources() for found in functions(path) if found[1] > LONGEST_FUNCTION] == []


def test_most_functions_are_short() -> None:
    """The median tells whether the limit is the rule or the exception."""
    assert statistics.median(lines for path in sources() for _, lines in functions(path)) <= USUAL_FUNCTION
