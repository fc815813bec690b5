"""From notes and frames to the steps of a takeover, and what makes one void."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.bench.takeover_steps import (
    STEPS,
    Note,
    Seen,
    VoidError,
    earliest,
    percentile,
    shown,
    summary,
    table,
    takeover,
)

MS = 1_000_000
ONE, TWO = b"\x0a\x50\x00\x01", b"\x0a\x50\x00\x02"
BOTH = frozenset({ONE, TWO})
FORMER: list[Note] = [
    ("write name>", 1 * MS),
    ("link>", 2 * MS),
    ("link<", 3 * MS),
    ("write name<", 4 * MS),
]
NEW: list[Note] = [
    ("event ElectionChanged>", 3 * MS),
    ("write take>", 5 * MS),
    ("event ElectionChanged>", 7 * MS),
    ("bind>", 8 * MS),
    ("request>", 8 * MS),
    ("request<", 10 * MS),
    ("bind<", 11 * MS),
    ("send>", 11 * MS),
    ("write take<", 12 * MS),
    ("send<", 14 * MS),
]
SEEN = [
    Seen(9 * MS, "b", ONE, "bound"),
    Seen(10 * MS, "b", TWO, "bound"),
    Seen(12 * MS, "b", ONE, "announced"),
    Seen(13 * MS, "b", TWO, "announced"),
    Seen(14 * MS, "b", TWO, "announced"),
]


def test_the_steps_are_the_whole_path() -> None:
    """From the link that changed the record to the first announcement of the last address."""
    found = takeover(FORMER, NEW, SEEN, BOTH, "name")
    assert list(found.steps().values()) == [1, 2, 2, 1, 2, 1, 1, 1]
    assert list(found.steps()) == list(STEPS)
    wholes = found.wholes()
    assert sum(found.steps().values()) == wholes["record -> all announced"] == 11
    assert wholes["record -> all bound"] == 8
    assert wholes["seen -> first frame"] == 9


def test_elsewhere_than_in_a_directory_the_change_is_when_the_first_node_knows() -> None:
    """The holder by the answer to its write, or the successor by its watch."""
    of_etcd = [note for note in FORMER if note[0] not in {"link>", "link<"}]
    assert takeover(of_etcd, NEW, SEEN, BOTH, "name").changed == 3 * MS
    answered_first = [of_etcd[0], ("write name<", 2 * MS)]
    assert takeover(answered_first, NEW, SEEN, BOTH, "name").changed == 2 * MS


def test_an_address_that_was_not_seen_makes_it_void() -> None:
    """Nothing is guessed and nothing dropped in silence."""
    with pytest.raises(VoidError, match="1 of 2 addresses were seen to be announced"):
        takeover(FORMER, NEW, SEEN[:3], BOTH, "name")
    with pytest.raises(VoidError, match="1 of 2 addresses were seen to be bound"):
        takeover(FORMER, NEW, SEEN[1:], BOTH, "name")
    with pytest.raises(VoidError, match="write release>"):
        takeover(FORMER, NEW, SEEN, BOTH, "release")


def test_a_record_that_was_read_and_not_watched_makes_it_void() -> None:
    """Its step begins with the watch's event."""
    with pytest.raises(VoidError, match="watch"):
        takeover(FORMER, [("event ElectionChanged>", MS // 2), *NEW[1:]], SEEN, BOTH, "name")


def test_what_an_earlier_bind_left_does_not_count() -> None:
    """Only what was seen since the bind began."""
    early = replace(SEEN[2], at=MS)
    assert earliest([early, *SEEN], "announced", 2 * MS) == {ONE: 12 * MS, TWO: 13 * MS}


def test_percentiles_are_values_that_were_measured() -> None:
    """Nearest rank: of a hundred values the 99th, of few the largest."""
    values = [float(number) for number in range(100, 0, -1)]
    assert (percentile(values, 0.99), percentile(values[:3], 0.99), percentile([7.0], 0.5)) == (
        99.0,
        100.0,
        7.0,
    )
    assert shown(summary(values)) == "50.50 / 99.00 / 100.00"


def test_a_table_is_markdown() -> None:
    """One line for the head, one for the rule, one a row."""
    assert table(["a", "b"], [["1", "2"]]).splitlines() == [
        "| a | b |",
        "| --- | --- |",
        "| 1 | 2 |",
    ]
