"""For what a node says that it waits, and until when."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from election.actions import Waits
from election.events import CandidatesSeen, ProbeDone, RecordSeen, Tick
from election.machine.lease import LARGEST_COUNT
from election.model import Absent, Candidate, Content, Found, Record, Release, Unreadable
from tests.unit.election.machine.test_machine import FREE, HELD_BY_B, SETTINGS, B, Node

NEW = Record("u", epoch=3)
MAC = "02:00:00:00:00:99"
WAITS: dict[str, tuple[Content | Record, str, bool]] = {
    "absent": (Absent(), "no record of web that anybody ever held", False),
    "new": (NEW, "no record of web that anybody ever held", False),
    "unreadable": (Unreadable("r1", "not JSON"), "cannot be read (not JSON)", True),
    "emptied": (replace(HELD_BY_B, holder=""), "but not by itself", True),
    "no room": (replace(HELD_BY_B, epoch=LARGEST_COUNT), "no room for another epoch", True),
    "a daemon of this name": (
        replace(HELD_BY_B, holder="a"),
        "another daemon of the name a",
        False,
    ),
    "a holder that nobody knows": (
        replace(HELD_BY_B, holder="foo"),
        "says that foo holds it, and no node of that name",
        True,
    ),
}


@pytest.mark.parametrize(("content", "why", "warning"), WAITS.values(), ids=list(WAITS))
def test_what_is_waited_for_is_said_once_and_shown_for_as_long_as_it_is_true(
    content: Content | Record, why: str, warning: bool
) -> None:
    """With the moment from which on the record is free."""
    node = Node(content)
    node.take(CandidatesSeen((B,)))
    [said] = [action for action in node.answer() if isinstance(action, Waits)]
    assert why in said.why
    assert (said.until, said.warning) == (103.0, warning)
    shown = node.machine.snapshot(node.now).wait
    assert shown is not None
    assert (shown.why, shown.until) == (said.why, 103.0)
    assert not any(isinstance(action, Waits) for action in node.take(Tick(), 100.5))


def test_what_is_no_longer_true_is_no_longer_shown() -> None:
    """And said again if it becomes true again."""
    node = Node(Unreadable("r1", "not JSON"))
    node.take(CandidatesSeen((B,)))
    node.answer()
    node.take(RecordSeen(Found(HELD_BY_B, "r2")), 101.0)
    assert node.machine.snapshot(101.0).wait is None
    node.content = Unreadable("r3", "not JSON")
    node.take(RecordSeen(node.content), 101.5)
    [said] = [action for action in node.answer() if isinstance(action, Waits)]
    assert said.until == 104.5


def test_an_older_record_is_said_to_be_one() -> None:
    """Restored from a backup, for example."""
    node = Node(HELD_BY_B)
    node.answer()
    node.take(RecordSeen(Found(replace(HELD_BY_B, epoch=3), "r1")), 101.0)
    node.content = Found(replace(HELD_BY_B, epoch=3), "r1")
    [said] = [action for action in node.answer() if isinstance(action, Waits)]
    assert "older than one already seen" in said.why
    assert said.until == 104.0


@pytest.mark.parametrize(
    "content",
    [HELD_BY_B, FREE, replace(FREE, release=Release("z1", 4))],
    ids=["held", "released", "released too"],
)
def test_nothing_is_said_of_a_holder_that_is_known_or_of_a_lease_that_is_free(
    content: Record,
) -> None:
    """Steady state is silent."""
    node = Node(content)
    node.take(CandidatesSeen((B,)))
    assert not any(isinstance(action, Waits) for action in node.answer())


def probing_node() -> Node:
    """Return a node that has just asked on the wire before it takes a record
    that nobody ever held.
    """
    node = Node(NEW, replace(SETTINGS, probe=True))
    node.take(
        CandidatesSeen(
            (Candidate("a", "a1", 0, eligible=True, priority=150, asks=False, live=True), B)
        )
    )
    node.answer()
    node.take(Tick(), 103.0)
    return node


def test_a_member_that_took_first_is_no_rival() -> None:
    """It binds and answers before its record is seen here.

    The record, read after its answer, tells.
    """
    node = probing_node()
    actions = node.take(ProbeDone(MAC), 103.01)
    assert not any(isinstance(action, Waits) for action in actions)
    node.content = Found(replace(HELD_BY_B, counter=1), "r9")
    node.answer(103.02)
    assert node.machine.snapshot(103.02).wait is None


def test_somebody_else_who_answers_is_said_once_and_forgotten_when_it_is_silent() -> None:
    """However often it is asked."""
    node = probing_node()
    node.take(ProbeDone(MAC), 103.01)
    [said] = [action for action in node.answer(103.02) if isinstance(action, Waits)]
    assert f"{MAC} already answers for it" in said.why
    assert (said.until, said.warning) == (math.inf, True)
    for second in range(104, 108):
        node.take(Tick(), float(second))
        assert not any(
            isinstance(action, Waits) for action in node.take(ProbeDone(MAC), second + 0.01)
        )
        shown = node.machine.snapshot(node.now).wait
        assert shown is not None
        assert MAC in shown.why
    node.take(ProbeDone(""), 108.5)
    shown = node.machine.snapshot(node.now).wait
    assert shown is None or MAC not in shown.why


def test_somebody_who_answered_is_forgotten_when_the_record_has_a_holder() -> None:
    """Then the election knows who it is."""
    node = probing_node()
    node.take(ProbeDone(MAC), 103.01)
    node.answer(103.02)
    node.take(RecordSeen(Found(HELD_BY_B, "r9")), 103.5)
    assert node.machine.snapshot(103.5).wait is None
