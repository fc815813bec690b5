"""What the import bench reads out of Python's own report, and the range of a median."""

from __future__ import annotations

from tests.bench.gate_cost import median_range
from tests.bench.imports import AFTER, PYTHON_ITSELF, STARTS, costs, modules_of, package, parsed
from vipd.daemon.preload import BACKENDS, COMMON

REPORT = """\
import time: self [us] | cumulative | imported package
import time:        10 |         10 |     json
import time:        20 |         30 |   pyroute2.netlink
import time:        40 |         70 | pyroute2
import time:         5 |          5 | json.decoder
"""


def test_the_report_becomes_a_tree() -> None:
    """A module's line comes after those that it needed."""
    entries = parsed(iter(REPORT.splitlines()))
    assert [entry.name for entry in entries] == ["pyroute2", "json.decoder"]
    assert [entry.name for entry in entries[0].needed] == ["pyroute2.netlink"]
    assert [entry.name for entry in entries[0].needed[0].needed] == ["json"]


def test_a_package_costs_its_own_files_and_what_it_was_first_to_need() -> None:
    """Its parts do not count twice."""
    assert costs(parsed(iter(REPORT.splitlines()))) == {
        "pyroute2": [60, 70],
        PYTHON_ITSELF: [15, 15],
    }


def test_modules_are_listed_in_the_order_in_which_they_were_ready() -> None:
    """So that an import of them in this order is one that works."""
    assert modules_of(parsed(iter(REPORT.splitlines())))["pyroute2"] == [
        "pyroute2.netlink",
        "pyroute2",
    ]


def test_the_standard_library_is_one_package() -> None:
    """Nobody can do without it."""
    assert {package(name) for name in ("json.decoder", "_json", "asyncio")} == {PYTHON_ITSELF}


def test_what_is_measured_is_what_the_daemon_imports() -> None:
    """A bench of yesterday's imports would mislead."""
    assert STARTS["daemon before the store"] == COMMON
    assert {STARTS[name] for name in AFTER} == set(BACKENDS.values())


def test_the_range_of_a_median_leaves_out_the_extremes() -> None:
    """For 40 values the ranks 13 and 27 (binomial, 95 %)."""
    assert median_range([float(value) for value in range(40)]) == (13.0, 27.0)
    assert median_range([1.0, 2.0]) == (1.0, 2.0)
