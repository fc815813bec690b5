"""The bench's JSON and Markdown."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.bench.measured import Outcome
from tests.bench.results import (
    PeerResult,
    Results,
    from_json,
    merged,
    overlapping,
    overview,
    remarks,
    report,
    spread,
    table,
    to_json,
)
from tests.bench.trials import ROWS, TRIALS, chosen

PLAIN = Outcome(
    outage=12.0,
    lost=11,
    sent=900,
    two=0.0,
    endless=False,
    seen=0.0,
    none=9.0,
    alone=15.0,
    changes=1,
    after="n2",
    command=3.0,
    phase=0.0,
    synced=True,
)
RUN = {
    "date": "2026-01-02T03:04:05+00:00",
    "command": "bench",
    "seed": 1,
    "machine": {"cpus": 2, "kernel": "6.1", "python": "3.11", "load": 0.25},
    "versions": {"vipd": "1"},
}


def result(one: Outcome = PLAIN, peer: str = "vipd-etcd") -> Results:
    """Return a result with one trial."""
    return Results([dict(RUN)], {peer: PeerResult(rows={"stop": [one]})})


def test_json_comes_back_as_it_was() -> None:
    """Nothing is lost on the way."""
    before = result(replace(PLAIN, alone=None))
    before.peer("ucarp").unable["crash"] = "has one process"
    before.peer("ucarp").void.append("1 of 9 probes lost")
    assert from_json(to_json(before)) == before


def test_another_schema_is_refused() -> None:
    """Old figures are not read as new ones."""
    with pytest.raises(ValueError, match="schema"):
        from_json('{"schema": 0}')


def test_runs_add_up() -> None:
    """Rounds played at different times are trials of one row; peers and runs stand side by side."""
    total = merged(
        map(
            to_json,
            [
                result(replace(PLAIN, outage=10.0)),
                result(replace(PLAIN, outage=30.0)),
                result(peer="ucarp"),
            ],
        )
    )
    assert [one.outage for one in total.peers["vipd-etcd"].rows["stop"]] == [10.0, 30.0]
    assert (list(total.peers), len(total.runs)) == (["vipd-etcd", "ucarp"], 3)


def test_merged_daemons_come_in_the_order_asked_for() -> None:
    """In whichever order they were measured; one that the order does not name is last."""
    texts = [to_json(result(peer=key)) for key in ("other", "ucarp", "vipd-etcd")]
    assert list(merged(texts, ("vipd-etcd", "absent", "ucarp")).peers) == [
        "vipd-etcd",
        "ucarp",
        "other",
    ]


@pytest.mark.parametrize(
    ("values", "endless", "text"),
    [
        ([], False, "-"),
        ([3.2], False, "3"),
        ([1.0, 9.0, 4.0], False, "4 (1 to 9)"),
        ([1.0, 3.0], True, "≥ 2 (1 to 3)"),
    ],
)
def test_spread(values: list[float], *, endless: bool, text: str) -> None:
    """Median, minimum and maximum; a lower bound says so."""
    assert spread(values, endless=endless) == text


@pytest.mark.parametrize(
    ("row", "two", "seen", "count"),
    [
        ("stop", 52.0, 0.0, 0),
        ("stop", 54.0, 0.0, 1),
        ("kill", 2.0, 0.0, 0),
        ("kill", 4.0, 0.0, 1),
        ("kill", 0.0, 4.0, 1),
    ],
)
def test_overlaps_are_counted_by_address_and_by_client(
    row: str, two: float, seen: float, count: int
) -> None:
    """A planned move may have one of 50 ms, a fault none."""
    assert overlapping(row, [replace(PLAIN, two=two, seen=seen)]) == count


def test_what_was_asked_over_ipv6_has_columns_of_its_own() -> None:
    """A dash for a daemon that has no such address."""
    total = result(replace(PLAIN, outage6=14.0, lost6=13))
    total.add(result(peer="ucarp"))
    lines = [line for line in table(total).splitlines() if line.startswith("| graceful stop")]
    assert [[cell.strip() for cell in line.split("|")][2:8] for line in lines] == [
        ["vipd-etcd", "1", "12", "11", "14", "13"],
        ["ucarp", "1", "12", "11", "-", "-"],
    ]
    assert from_json(to_json(total)) == total


def test_the_table_says_what_was_not_asked_and_what_is_void() -> None:
    """A dash has its reason in the remarks; a round that stayed void is no figure."""
    total = result()
    total.peer("ucarp").unable["stop"] = "has no stop"
    total.peer("keepalived-1s").missing = 1
    lines = [line for line in table(total).splitlines() if line.startswith("| graceful stop")]
    assert [[cell.strip() for cell in line.split("|")][2:5] for line in lines] == [
        ["vipd-etcd", "1", "12"],
        ["ucarp", "-", "-"],
        ["keepalived-1s", "void", "void"],
    ]
    assert remarks(total) == [
        "ucarp: -: graceful stop: has no stop",
        "keepalived-1s: 1 rounds stayed void and are missing",
    ]


def test_the_overview_names_two_owners_and_open_ends() -> None:
    """The two things that an outage alone hides."""
    assert "| graceful stop | ≥ 12; two owners in 1 of 1 |" in overview(
        result(replace(PLAIN, two=900.0, after=""))
    )


def test_a_report_names_its_machine() -> None:
    """Figures without date, command and machine are worth nothing."""
    assert (
        "2026-01-02T03:04:05+00:00: `bench`; 2 CPUs, Linux 6.1, Python 3.11, load 0.2 at "
        "start; vipd 1" in report(result())
    )


def test_every_row_has_one_step() -> None:
    """Rows are named once, and the trial in which nothing happens is the first."""
    assert len(ROWS) == sum(len(trial.steps) for trial in TRIALS)
    assert TRIALS[0].key == "baseline"


def test_chosen_trials_begin_with_the_baseline() -> None:
    """Without it nobody knows whether the machine was quiet."""
    assert [trial.key for trial in chosen(["kill", "stop"])] == ["baseline", "stop", "kill"]
    assert chosen([]) == list(TRIALS)
    with pytest.raises(ValueError, match="no trial nonsense"):
        chosen(["nonsense"])
