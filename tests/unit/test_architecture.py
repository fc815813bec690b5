"""What may import what, and how long a file or a function may be."""

from __future__ import annotations

import ast
import functools
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("vipd", "election", "announce", "health")
PURE = (
    "election/model.py",
    "election/timing.py",
    "election/machine/machine.py",
    "election/fencing.py",
    "announce/frames/build.py",
    "health/verdict.py",
)
"""Modules whose every decision follows from their arguments; further ones are those that
election/machine/machine.py imports."""
IMPURE_IMPORTS = {
    "time",
    "asyncio",
    "socket",
    "random",
    "os",
    "subprocess",
    "threading",
    "select",
    "secrets",
}
PYROUTE2_HOMES = ("announce/kernel/messages.py", "announce/kernel/watch.py", "vipd/demo/")
LONGEST_FILE = 500
LONGEST_FUNCTION = 45
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
            found |= {
                file
                for file in (base.with_suffix(".py"), base / "__init__.py")
                if parts[0] in PACKAGES and file.is_file()
            }
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


def docstring_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return how many lines the docstring of a function has."""
    first = node.body[0]
    said = ast.get_docstring(node) is not None
    return (first.end_lineno or first.lineno) - first.lineno + 1 if said else 0


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Yield the name and number of lines of every function, its docstring aside."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield (
                f"{relative(path)}:{node.lineno} {node.name}",
                (node.end_lineno or node.lineno) - node.lineno + 1 - docstring_lines(node),
            )


def test_decisions_see_no_clock_no_network_and_no_chance() -> None:
    """The pure modules and all that they import get time and randomness as parameters."""
    files = {file for name in PURE for file in closure(ROOT / name)}
    assert {
        relative(file): sorted(bad) for file in files if (bad := imports(file) & IMPURE_IMPORTS)
    } == {}


ALLOWED: dict[str, tuple[str, ...]] = {
    "election": ("election",),
    "election.claims": ("election", "election.stores.contract"),
    "election.machine": ("election",),
    "election.stores": ("election",),
    "election.stores.file": ("election", "election.stores"),
    "election.stores.etcd": ("election", "election.stores"),
    "election.stores.kubernetes": ("election", "election.stores"),
    "announce": (),
    "announce.kernel": ("announce",),
    "announce.frames": ("announce", "announce.kernel"),
    "announce.rivals": ("announce", "announce.kernel", "announce.frames"),
    "announce.gate": ("announce", "announce.kernel"),
    "health": ("health",),
    "health.kinds": ("health.model", "health.errors", "health.names"),
    "health.runner": ("health", "health.kinds"),
    "vipd": ("vipd",),
    "vipd.__main__": ("vipd.cli",),
    "vipd.state_dir": ("vipd", "election.actions", "election.model", "election.stores.files"),
    "vipd.config": (
        *("vipd", "vipd.observe.log_line", "election.timing", "health.model", "health.problems"),
        *("election.stores.files", "election.stores.errors", "election.stores.etcd.access"),
        *("election.stores.kubernetes.kubeconfig", "announce.kernel"),
    ),
    "vipd.config.prepare": (
        *("vipd", "vipd.config", "announce.gate.support", "vipd.observe.log_line"),
        *("vipd.guard.installed", "vipd.guard.preparation"),
    ),
    "vipd.guard": (
        *("vipd", "announce.kernel", "announce.gate", "announce.errors", "election.fencing"),
        *("election.timing", "election.lateness", "vipd.observe.log_line"),
    ),
    "vipd.observe": ("vipd", "election", "election.machine", "health.model", "vipd.config.values"),
    "vipd.control": ("vipd",),
    "vipd.web": ("vipd", "vipd.observe", "vipd.control.listener"),
    "vipd.daemon": (
        *("vipd", "election", "election.machine", "election.stores", "election.stores.file.store"),
        *("election.stores.etcd.store", "election.stores.etcd.access"),
        *("election.stores.kubernetes.store", "announce.kernel", "announce.frames"),
        *("announce.rivals", "health", "health.kinds", "vipd.config", "vipd.control"),
        *("vipd.observe", "vipd.web", "vipd.guard.link", "vipd.guard.errors"),
    ),
    "vipd.demo": ("vipd", "election.timing", "vipd.control.client", "vipd.control.errors"),
}
"""Who may import what, by folder; a module that may more (or something else) has a line of its own.
What is named is a module, or a folder for the modules directly in it; its own folder, everybody
may. The command line may import all, and does so inside functions."""


def module_name(path: Path) -> str:
    """Return the dotted name of a file; a package's own file ends in `__init__`."""
    return relative(path).removesuffix(".py").replace("/", ".")


def modules_named(path: Path) -> set[str]:
    """Return the dotted names of this project's modules that a file imports itself."""
    found = set()
    for name in names_in(tree(path)):
        parts = name.split(".")
        if parts[0] in PACKAGES and ROOT.joinpath(*parts).with_suffix(".py").is_file():
            found.add(name)
    return found


def folder_of(module: str) -> str:
    """Return the dotted name of the folder in which a module lies."""
    return module.rpartition(".")[0]


def forbidden(path: Path) -> list[str]:
    """Return the modules that a file imports and may not."""
    module = module_name(path)
    folder = folder_of(module)
    allowed = {*ALLOWED.get(module, ALLOWED.get(folder, ())), folder}
    return sorted(found for found in modules_named(path) if not {found, folder_of(found)} & allowed)


def test_imports_go_where_the_rooms_allow_it() -> None:
    """Decisions know no process, the three packages do not know vipd, and no store another one."""
    files = [path for path in sources() if not relative(path).startswith("vipd/cli/")]
    assert {relative(path): bad for path in files if (bad := forbidden(path))} == {}


def test_every_folder_has_its_line() -> None:
    """A new room is let in knowingly, and a rule for a room that is gone is dead."""
    folders = {folder_of(module_name(path)) for path in sources() if path.name != "__init__.py"}
    assert folders - set(ALLOWED) == {"vipd.cli"}
    assert {name for name in ALLOWED if not ROOT.joinpath(*name.split(".")).is_dir()} <= {
        module_name(path) for path in sources()
    }


def test_the_command_line_imports_inside_functions() -> None:
    """`vipd run` must not load what another command needs."""
    body = tree(ROOT / "vipd/cli/main.py").body
    top = ast.Module([node for node in body if isinstance(node, ast.Import | ast.ImportFrom)], [])
    assert {name for name in names_in(top) if name.startswith(PACKAGES)} == {
        *("vipd.cli.exit_codes", "vipd.cli.exit_codes.FAILED"),
        *("vipd.config.defaults", "vipd.config.defaults.CONFIG_FILE"),
    }


def test_a_package_file_only_says_what_is_in_it() -> None:
    """A re-export would pull libraries into processes that live without them."""
    files = [path for path in sources() if path.name == "__init__.py"]
    assert {
        relative(path): len(tree(path).body) for path in files if len(tree(path).body) != 1
    } == {}
    assert [relative(path) for path in files if not ast.get_docstring(tree(path))] == []


def fields_of(made: ast.ClassDef) -> set[str]:
    """Return the attributes that a class declares, or gives its objects when they are made."""
    declared = {
        node.target.id
        for node in made.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    given = [
        target
        for node in made.body
        if isinstance(node, ast.FunctionDef) and node.name == "__init__"
        for target in assigned(node)
    ]
    return declared | {
        target.attr
        for target in given
        if isinstance(target.value, ast.Name) and target.value.id == "self"
    }


def assigned(node: ast.AST) -> Iterator[ast.Attribute]:
    """Yield every attribute that the statements below a node assign to or delete."""
    yield from (
        part
        for part in ast.walk(node)
        if isinstance(part, ast.Attribute) and not isinstance(part.ctx, ast.Load)
    )


def test_each_field_of_the_situation_has_one_writer() -> None:
    """Who reads a field knows which module to look into.

    A part of the situation is changed in its own module only.
    """
    files = sorted((ROOT / "election/machine").glob("*.py"))
    classes = [
        (path, node) for path in files for node in tree(path).body if isinstance(node, ast.ClassDef)
    ]
    fields = {
        path: {field for home, made in classes if home == path for field in fields_of(made)}
        for path in files
    }
    [situation] = [fields_of(made) for _, made in classes if made.name == "Situation"]
    writers: dict[str, set[str]] = {field: set() for field in situation}
    strays = []
    for path, target in [(file, target) for file in files for target in assigned(tree(file))]:
        owner = ast.unparse(target.value)
        if owner in {"s", "self._s", "self.situation"}:
            writers[target.attr].add(path.name)
        elif owner != "self" and target.attr not in fields[path]:
            strays.append(f"{relative(path)}:{target.lineno} {owner}.{target.attr}")
    assert strays == []
    assert {field: sorted(names) for field, names in writers.items() if len(names) > 1} == {}


def test_pyroute2_stays_in_its_adapters() -> None:
    """Strings, errnos and untyped values of the library stop in two files.

    The demo has a network of its own to build.
    """
    users = [relative(path) for path in sources() if "pyroute2" in imports(path)]
    assert [user for user in users if not user.startswith(PYROUTE2_HOMES)] == []


def test_the_guard_needs_the_standard_library_only() -> None:
    """What ends the right to the VIP when all else hangs must not depend on what may hang."""
    allowed = set(sys.stdlib_module_names) | set(PACKAGES)
    offenders = {
        relative(path): sorted(bad)
        for path in closure(ROOT / "vipd/guard/guard.py")
        if (bad := imports(path) - allowed)
    }
    assert offenders == {}


def test_the_demo_is_no_part_of_the_daemon() -> None:
    """Only the command line knows the demo, and it loads it when it is asked for."""
    users = [
        relative(path)
        for path in sources()
        if any(name.startswith("vipd.demo") for name in names_in(tree(path)))
    ]
    assert [user for user in users if not user.startswith(("vipd/demo/", "vipd/cli"))] == []


def test_a_file_fits_into_the_head() -> None:
    """A longer one has two ideas in it."""
    lengths = {relative(path): len(path.read_text().splitlines()) for path in sources()}
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST_FILE} == {}


def test_no_function_is_longer_than_a_screen() -> None:
    """What is longer than that is a list of functions."""
    assert [
        found for path in sources() for found in functions(path) if found[1] > LONGEST_FUNCTION
    ] == []


def test_most_functions_are_short() -> None:
    """The median tells whether the limit is the rule or the exception."""
    assert (
        statistics.median(lines for path in sources() for _, lines in functions(path))
        <= USUAL_FUNCTION
    )
