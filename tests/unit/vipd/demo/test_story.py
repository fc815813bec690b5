"""What the demo makes of vipd's logs."""

from __future__ import annotations

from vipd.demo.story import LogLine, told

CHANGE = (
    '{"state": "Active", "reason": "released", "time": "2026-11-21T11:45:08.075Z", '
    '"level": "info", "message": "B -> A"}'
)
EARLIER = CHANGE.replace("08.075", "07.900").replace("B -> A", "A -> F")
WARNING = '{"time": "2026-11-21T11:45:09.000Z", "level": "warning", "message": "put back"}'
GUARD = "2026-11-21T11:45:47.800489Z guard: daemon 2502 started"


def test_changes_of_all_nodes_are_told_in_their_order() -> None:
    """Each with its node; warnings are left out where the state changed."""
    assert (
        told({"n1": f"{CHANGE}\n{WARNING}", "n2": f"{GUARD}\n{EARLIER}\n"})
        == "n2 A -> F; n1 B -> A"
    )


def test_warnings_are_told_where_nothing_changed() -> None:
    """At most two of them."""
    assert told({"n1": f"{WARNING}\n{WARNING}\n{WARNING}"}) == "n1: put back; n1: put back"


def test_lines_that_are_not_vipds_are_left_out() -> None:
    """What is no JSON object with a message says nothing about states."""
    assert told({"n1": f"{GUARD}\n[1]\n{{}}\nTraceback"}) == ""


def test_a_log_line_knows_whether_it_is_a_change() -> None:
    """Only a transition has a reason."""
    assert LogLine.parse("n1", CHANGE) == LogLine(
        "2026-11-21T11:45:08.075Z", "n1", "B -> A", "info", change=True
    )
    assert LogLine.parse("n1", GUARD) is None
