"""Run the simulation.

Python -m tests.sim.run --seeds 2000 [--start N] [--jobs 2] [--theme NAME] [--seed N --trace].
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

from tests.sim.judge import InvariantError
from tests.sim.scenario import DIRECTED, THEMES, build, from_seed
from tests.sim.settle import settle, stop_all
from tests.sim.world import World

CHUNK = 25


@dataclass(frozen=True, slots=True)
class Result:
    """How one seed went; `problem` is empty if nothing was violated."""

    seed: int
    theme: str
    seconds: float
    failovers: int
    handovers: int
    problem: str = ""


def run_seed(seed: int, theme: str = "", tell: Callable[[str], object] | None = None) -> Result:
    """Run one seed to its end or to the first violation."""
    scenario = from_seed(seed, theme)
    world = World(seed, tell=tell)
    problem = ""
    try:
        build(scenario, world)
        world.run_until(scenario.seconds)
        settle(world)
        stop_all(world)
    except InvariantError as violation:
        problem = str(violation)
    except Exception:  # noqa: BLE001 -- whatever is raised in a step is the finding
        problem = f"{world.now:.4f} " + traceback.format_exc()
    return Result(
        seed, scenario.theme, world.now, world.judge.failovers, world.judge.handovers, problem
    )


def run_chunk(seeds: range, theme: str) -> list[Result]:
    """Run several seeds; one unit of work for a process."""
    return [run_seed(seed, theme) for seed in seeds]


def run_seeds(start: int, count: int, jobs: int, theme: str = "") -> list[Result]:
    """Run seeds in parallel processes."""
    chunks = [
        range(first, min(first + CHUNK, start + count))
        for first in range(start, start + count, CHUNK)
    ]
    if jobs <= 1:
        return [result for chunk in chunks for result in run_chunk(chunk, theme)]
    with ProcessPoolExecutor(jobs) as pool:
        return [
            result
            for results in pool.map(run_chunk, chunks, [theme] * len(chunks))
            for result in results
        ]


def until_failure(seeds: range, theme: str) -> Iterator[Result]:
    """Run seeds until one fails, that one included."""
    for seed in seeds:
        result = run_seed(seed, theme)
        yield result
        if result.problem:
            return


def main() -> int:
    """Parse arguments, run, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=2000, help="how many seeds")
    parser.add_argument("--start", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument(
        "--theme", default="", choices=["", *THEMES, *DIRECTED], help="only this kind of trouble"
    )
    parser.add_argument("--seed", type=int, default=None, help="run this seed alone")
    parser.add_argument(
        "--first", action="store_true", help="stop at the first seed that fails, in one process"
    )
    parser.add_argument("--trace", action="store_true", help="print everything that happens")
    arguments = parser.parse_args()
    if arguments.seed is not None:
        result = run_seed(arguments.seed, arguments.theme, print if arguments.trace else None)
        print(from_seed(arguments.seed, arguments.theme))
        print(result.problem or "clean")
        return 1 if result.problem else 0
    begun = time.monotonic()
    if arguments.first:
        results = list(
            until_failure(
                range(arguments.start, arguments.start + arguments.seeds), arguments.theme
            )
        )
    else:
        results = run_seeds(arguments.start, arguments.seeds, arguments.jobs, arguments.theme)
    print(summary(results, time.monotonic() - begun))
    return 1 if any(result.problem for result in results) else 0


def summary(results: list[Result], took: float) -> str:
    """Say how it went, and how to replay what failed."""
    failed = [result for result in results if result.problem]
    lines = [
        (
            f"{len(results)} seeds, {sum(r.seconds for r in results) / 3600:.1f} simulated hours "
            f"in {took:.0f} s"
        ),
        (
            f"{sum(r.failovers for r in results)} failovers, {sum(r.handovers for r in results)} "
            f"handovers, {len(failed)} failed"
        ),
    ]
    for theme, count in Counter(result.theme for result in failed).most_common():
        lines.append(f"  {count} in {theme}")
    for result in failed[:20]:
        lines.append(f"seed {result.seed} ({result.theme}): {result.problem}")
        lines.append(f"  replay: python -m tests.sim.run --seed {result.seed} --trace")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
