"""The demo's table and JSON."""

from __future__ import annotations

import json

from vipd.demo.report import Figures, Row, as_json, table

MOVED = Row(
    "full_kill",
    "all killed",
    True,
    "n1",
    "n2",
    "n2 Backup -> Active (lease_expired)",
    Figures(5000, 312, 0.3124, 0.3, 0.0, 0.0, 5001, 313, 0.3134),
)
STAYED = Row(
    "baseline",
    "nothing happens",
    True,
    "n1",
    "n1",
    "",
    Figures(2000, 0, 0.0, 0.0, 0.0, 0.0, 2000, 0, 0.0),
)
UNPLAYED = Row("cut_off", "cut off", True, "", "", "cannot happen here", None)
WRONG = Row(
    "freeze",
    "frozen",
    False,
    "n1",
    "n2",
    "two owners",
    Figures(5000, 1, 0.001, 0.0, 0.4, 0.1, 5000, 2, 0.002),
)


def test_the_table_has_a_line_for_each_scenario() -> None:
    """Heading, rule, then what happened.

    A wrong outcome is marked, an unplayed one has no figures.
    """
    assert table([STAYED, MOVED, UNPLAYED, WRONG], width=120).splitlines() == [
        (
            "scenario         outage ms  lost  IPv6 ms  lost  two bound ms  two seen ms  what "
            "happened and why"
        ),
        "-" * 105,
        "nothing happens          0     0        0     0             0            0  stayed on n1",
        (
            "all killed             312   312      313   313             0            0  n1 -> n2: "
            "n2 Backup -> Active"
        ),
        (
            "                                                                            "
            "(lease_expired)"
        ),
        (
            "cut off                  -     -        -     -             -            -  cannot "
            "happen here"
        ),
        (
            "! frozen                 1     1        2     2           400          100  n1 -> n2: "
            "two owners"
        ),
    ]


def test_a_narrow_terminal_wraps_the_reasons() -> None:
    """Figures stay in their columns."""
    lines = table([MOVED], width=80).splitlines()
    assert lines[-1].strip() == "(lease_expired)"
    assert max(len(line) for line in lines) <= 110


def test_the_json_names_its_schema() -> None:
    """Every field of the documented schema is there, figures in ms, null where
    nothing was played.
    """
    result = json.loads(as_json([MOVED, UNPLAYED], "file", 3, 3.0))
    moved, unplayed = result.pop("scenarios")
    assert result.keys() == {"schema", "version", "backend", "nodes", "lease_duration_ms", "ok"}
    assert (result["schema"], result["ok"], result["lease_duration_ms"]) == (
        "vipd.demo/1",
        True,
        3000,
    )
    assert moved == {
        "key": "full_kill",
        "title": "all killed",
        "played": True,
        "ok": True,
        "from": "n1",
        "to": "n2",
        "probes_sent": 5000,
        "probes_lost": 312,
        "outage_ms": 312,
        "probes6_sent": 5001,
        "probes6_lost": 313,
        "outage6_ms": 313,
        "no_owner_ms": 300,
        "two_bound_ms": 0,
        "two_seen_ms": 0,
        "why": "n2 Backup -> Active (lease_expired)",
    }
    assert unplayed["played"] is False
    assert unplayed["outage_ms"] is None


def test_one_wrong_scenario_is_a_wrong_result() -> None:
    """So that a script need not look at every row."""
    assert json.loads(as_json([STAYED, WRONG], "etcd", 3, 3.0))["ok"] is False
