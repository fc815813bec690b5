"""The simulation over many seeds: no invariant may break in any of them."""

from __future__ import annotations

import os

import pytest

from tests.sim.run import CHUNK, run_seed

SEEDS = int(os.environ.get("VIPD_SIM_SEEDS", "2000"))
START = int(os.environ.get("VIPD_SIM_START", "0"))


@pytest.mark.parametrize("first", range(START, START + SEEDS, CHUNK))
def test_invariants_hold(first: int) -> None:
    """A failing seed is named with what broke.

    `python -m tests.sim.run --seed N --trace` shows how it came.
    """
    results = [run_seed(seed) for seed in range(first, min(first + CHUNK, START + SEEDS))]
    problems = {result.seed: result.problem for result in results if result.problem}
    assert problems == {}


def test_a_seed_is_the_same_every_time() -> None:
    """What fails can be replayed."""
    traces: list[list[str]] = [[], []]
    for trace in traces:
        run_seed(7, tell=trace.append)
    assert traces[0] == traces[1]
    assert len(traces[0]) > 100
