"""What each import of the running configuration costs at start-up, in ms and MiB, for each process
and store.

    python -m tests.bench.imports [--repeat 7] [--json FILE]

Every figure is of a fresh interpreter with its bytecode at hand, as an installed package has it.
CPU time, not wall time, so that a busy machine spoils less; the median. The breakdown is Python's
own (`-X importtime`, which slows everything down by a third), scaled to the total: `own` is a
package's own files, `with all` includes whatever was first needed by it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

STARTS = {
    "guard": ("vipd.cli.main", "vipd.guard.guard"),
    "prepare (file to configuration)": ("vipd.config.prepare",),
    "daemon before the store": ("asyncio", "logging", "prometheus_client", "vipd.daemon.daemon"),
    "store file": ("election.stores.file.store",),
    "store etcd": ("election.stores.etcd.store",),
    "store kubernetes": ("election.stores.kubernetes.store",),
    "forge (frames)": ("announce.frames.forge", "scapy.layers.inet6"),
}
"""Modules of each start in their order; a store comes on top of the daemon. vipd.daemon.preload and
vipd.guard.entries say the same."""
AFTER = {name: STARTS["daemon before the store"] for name in STARTS if name.startswith("store")}
LINE = re.compile(r"^import time:\s+(\d+) \|\s+(\d+) \| (\s*)(\S+)$")
STEP = 2
"""Blanks by which Python indents what an import needed."""
SMALLEST = 1.0
"""Packages of fewer ms are summed up."""
REST = "all others"
OWN = frozenset({"vipd", "election", "announce", "health"})
"""What they take is little beside what they need."""
PYTHON_ITSELF = "Python's standard library"
MEASURE = """
import sys, time
for name in {before!r}: __import__(name)
def pss():
    with open("/proc/self/smaps_rollup") as file:
        lines = dict(line.split(":") for line in file if line.count(":") == 1)
    return [int(lines[key].split()[0]) / 1024 for key in ("Pss", "Rss")]
memory, begin = pss(), time.process_time()
for name in {modules!r}:
    try: __import__(name)
    except ImportError:
        if {strict!r}: raise
took = time.process_time() - begin
after = pss()
print(took * 1000, after[0] - memory[0], after[1] - memory[1])
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of `-X importtime`, and what it needed; microseconds."""

    name: str
    own: int
    total: int
    needed: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Cost:
    """What a start, or a package in it, costs: ms of CPU, MiB (0: not measured).

    `pulled`: ms with all that it was first to need.
    """

    name: str
    own: float
    pulled: float
    pss: float = 0.0
    rss: float = 0.0


def parsed(lines: Iterator[str]) -> list[Entry]:
    """Return the imports of the main program, each with what it needed.

    A module's line comes after those that it needed.
    """
    waiting: dict[int, list[Entry]] = {}
    for line in lines:
        found = LINE.match(line)
        if found:
            own, total, blanks, name = found.groups()
            depth = len(blanks) // STEP
            needed = tuple(waiting.pop(depth + 1, ()))
            waiting.setdefault(depth, []).append(Entry(name, int(own), int(total), needed))
    return waiting.get(0, [])


def package(name: str) -> str:
    """Return the package that a module belongs to; those of the standard library are one."""
    first = name.partition(".")[0]
    return PYTHON_ITSELF if first in sys.stdlib_module_names or first.startswith("_") else first


def costs(entries: Sequence[Entry]) -> dict[str, list[int]]:
    """Return for each package the us of its own files, and of all that was first needed by it."""
    found: dict[str, list[int]] = {}

    def walk(entry: Entry, above: frozenset[str]) -> None:
        mine = package(entry.name)
        figures = found.setdefault(mine, [0, 0])
        figures[0] += entry.own
        # One that is needed again below itself must not count twice.
        figures[1] += 0 if mine in above else entry.total
        for one in entry.needed:
            walk(one, above | {mine})

    for entry in entries:
        walk(entry, frozenset())
    return found


def modules_of(entries: Sequence[Entry]) -> dict[str, list[str]]:
    """Return the modules of each package, in the order in which they were ready."""
    found: dict[str, list[str]] = {}
    for entry in entries:
        for name, modules in modules_of(entry.needed).items():
            found.setdefault(name, []).extend(modules)
        found.setdefault(package(entry.name), []).append(entry.name)
    return found


def run(argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run Python in this tree."""
    return subprocess.run(
        [sys.executable, *argv],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )


def whole(name: str, repeat: int) -> Cost:
    """Measure a start as a whole."""
    code = MEASURE.format(before=AFTER.get(name, ()), modules=STARTS[name], strict=True)
    run(["-c", code])  # makes the bytecode
    figures = [tuple(map(float, run(["-c", code]).stdout.split())) for _ in range(repeat)]
    took, pss, rss = (statistics.median(column) for column in zip(*figures, strict=True))
    return Cost(name, took, took, pss, rss)


def alone(modules: Sequence[str], repeat: int) -> tuple[float, float]:
    """Return the MiB (PSS, RSS) that the modules of a package take in an interpreter that has
    nothing else.
    """
    # Some can only be imported after others of theirs that come later in the list: those are there
    # already by then.
    code = MEASURE.format(before=(), modules=(package(modules[0]), *modules), strict=False)
    figures = [tuple(map(float, run(["-c", code]).stdout.split())) for _ in range(repeat)]
    return statistics.median(row[1] for row in figures), statistics.median(
        row[2] for row in figures
    )


def breakdown(total: Cost) -> Iterator[Cost]:
    """Yield the costs of the packages in a start, the dearest first."""
    before, modules = AFTER.get(total.name, ()), STARTS[total.name]
    # Python lists in the order of what ended: what was imported before stands first, and is cut off
    # by the marker.
    code = (
        f"for name in {before!r}: __import__(name)\nimport this\nfor name in {modules!r}: "
        "__import__(name)"
    )
    lines = run(["-X", "importtime", "-c", code]).stderr.splitlines()
    mark = next(number for number, line in enumerate(lines) if line.endswith("| this"))
    entries = parsed(iter(lines[mark + 1 :]))
    found, names = costs(entries), modules_of(entries)
    scale = total.own / sum(own for own, _ in found.values()) if found else 0.0
    small = 0.0
    for name, (own, pulled) in sorted(found.items(), key=lambda item: -item[1][1]):
        if pulled * scale < SMALLEST:
            small += own * scale
            continue
        pss, rss = (0.0, 0.0) if name in {PYTHON_ITSELF, *OWN} else alone(names[name], 3)
        yield Cost(name, own * scale, pulled * scale, pss, rss)
    yield Cost(REST, small, small)


def table(found: dict[str, list[Cost]]) -> str:
    """Return all figures."""
    lines = [
        "| import | own, ms | with all that it needs first, ms | MiB PSS | MiB RSS |",
        "|---|---|---|---|---|",
    ]
    for rows in found.values():
        for number, cost in enumerate(rows):
            name = f"**{cost.name}**" if number == 0 else f"&nbsp;&nbsp;{cost.name}"
            memory = f"{cost.pss:.1f} | {cost.rss:.1f}" if cost.pss else "- | -"
            lines.append(f"| {name} | {cost.own:.1f} | {cost.pulled:.1f} | {memory} |")
    lines.append("")
    lines.append(
        "A package's memory is that of an interpreter that has nothing else: shared parts "
        "count in each."
    )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--only", default=",".join(STARTS))
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    found: dict[str, list[Cost]] = {}
    with tempfile.TemporaryDirectory(prefix="vipd-bench-") as compiled:
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = compiled
        for name in args.only.split(","):
            total = whole(name, args.repeat)
            print(
                f"    {name}: {total.own:.0f} ms, {total.pss:.1f} MiB", file=sys.stderr, flush=True
            )
            found[name] = [total, *breakdown(total)]
    print(table(found))
    if args.json:
        args.json.write_text(
            json.dumps(
                {name: [asdict(cost) for cost in rows] for name, rows in found.items()}, indent=1
            )
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
