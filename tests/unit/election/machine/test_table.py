"""The table of states is what the machine does: every transition seen is in it, and each of
its rows is seen.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from election.actions import Transition, Write
from election.events import (
    AddressClaimed,
    BindDone,
    CandidatesSeen,
    DrainChanged,
    Event,
    FitnessChanged,
    NamesakeSeen,
    ReadDone,
    RecordSeen,
    Started,
    StopAsked,
    Tick,
    UnbindDone,
    WriteDone,
)
from election.machine.machine import TRANSITIONS
from election.model import Conflict, Found, Reason, Record, Release, State
from tests.sim.run import run_seed
from tests.unit.election.machine.test_machine import FREE, B, Node, active, refused_node

Seen = tuple[State, Reason, State]
LINE = re.compile(r"\b(Initialize|Backup|Active|Fault) -> (Initialize|Backup|Active|Fault) \((\w+)")
ROOT = Path(__file__).parents[4]
GOLDENS = sorted((ROOT / "tests/interaction").glob("*.txt"))

VERDICTS = (Reason.CHECK_FAILED, Reason.LINK_DOWN, Reason.FENCED, Reason.ADDRESS_IN_USE)
UNFIT = FitnessChanged(fit=False, priority=150)
TAKEN = RecordSeen(Found(Record(uid="u1", holder="b", session="b1", epoch=9, counter=20), "r90"))
NAMESAKE = RecordSeen(Found(Record(uid="u1", holder="a", session="a9", epoch=9, counter=20), "r91"))
EVENTS: tuple[Event, ...] = (
    *(FitnessChanged(fit=False, priority=150, reason=reason) for reason in VERDICTS),
    FitnessChanged(fit=True, priority=150),
    *(
        NamesakeSeen(present=True),
        NamesakeSeen(present=False),
        AddressClaimed("other"),
        AddressClaimed(),
    ),
    *(DrainChanged(drained=True), DrainChanged(drained=False), StopAsked(patience=10.0)),
    *(
        BindDone(5, ok=False, why="EPERM"),
        BindDone(5, ok=False),
        UnbindDone(ok=False),
        UnbindDone(ok=True),
    ),
    *(TAKEN, NAMESAKE, CandidatesSeen((B,)), Tick()),
)


def backup() -> Node:
    """Return a node that knows the record."""
    node = Node()
    node.answer()
    return node


def fault() -> Node:
    """Return a node that knows the record, and whose checks fail."""
    node = backup()
    node.take(UNFIT)
    return node


def refusing() -> Node:
    """Return a node whose kernel has refused twice to remove what was left on the interface."""
    node = Node(started=Started())
    node.take(UnbindDone(ok=False))
    node.take(UnbindDone(ok=False))
    return node


def refusing_backup() -> Node:
    """Return the same, once it knows the record."""
    node = refusing()
    node.answer()
    return node


def trying_again() -> Node:
    """Return a node whose kernel refused the address, that tried again, and reads who was first."""
    node = refused_node()
    record = replace(FREE, epoch=6, counter=20, session="b1", release=Release("b1", 6))
    node.take(RecordSeen(Found(record, "r9")), 120.0)
    while not isinstance(request := node.ask(), Write):
        node.answer()
    node.take(WriteDone(request.request, Conflict()))
    return node


STARTS: tuple[Callable[[], Node], ...] = (Node, backup, active, fault)
REFUSALS: tuple[Callable[[], Node], ...] = (refusing, refusing_backup)


def walked(start: Callable[[], Node], happened: tuple[Event, ...]) -> Iterator[Seen]:
    """Yield the transitions that these events cause, one after the other."""
    node = start()
    for event in happened:
        changes = [action for action in node.take(event) if isinstance(action, Transition)]
        yield from ((change.before, change.reason, change.after) for change in changes)


def told(text: str) -> Iterator[Seen]:
    """Yield the transitions that a dialogue or a trace tells of."""
    for before, after, reason in LINE.findall(text):
        yield State[before.upper()], Reason(reason), State[after.upper()]


@functools.cache
def seen() -> frozenset[Seen]:
    """Return the transitions of all dialogues, and of any three events in each state."""
    ways = [*itertools.product(STARTS, itertools.product(EVENTS, repeat=3))]
    ways += itertools.product(REFUSALS, itertools.product(EVENTS))
    ways.append((trying_again, (ReadDone(trying_again().ask().request, TAKEN.content),)))
    walks = (walked(start, happened) for start, happened in ways)
    stories = (told(story.read_text()) for story in GOLDENS)
    return frozenset(itertools.chain.from_iterable([*walks, *stories]))


def beside_the_table(transitions: Iterable[Seen]) -> set[Seen]:
    """Return those that the table does not know."""
    return {one for one in transitions if one[2] not in TRANSITIONS.get(one[:2], ())}


def test_every_transition_is_in_the_table() -> None:
    """Whatever happens in whichever order."""
    assert beside_the_table(seen()) == set()


def test_every_row_of_the_table_is_seen() -> None:
    """A row that nothing can cause is a wrong picture of the machine."""
    assert set(TRANSITIONS) - {one[:2] for one in seen()} == set()


@pytest.mark.parametrize("first", range(0, 40, 10))
def test_the_simulation_leaves_no_state_in_another_way(first: int) -> None:
    """Crashes, cuts and frozen processes cause the same transitions."""
    trace: list[str] = []
    results = [run_seed(seed, tell=trace.append) for seed in range(first, first + 10)]
    transitions = {one for line in trace for one in told(line)}
    assert not any(result.problem for result in results)
    assert len(transitions) > 10
    assert beside_the_table(transitions) == set()


def picture() -> str:
    """Return the table as a diagram in mermaid's notation, one line for each pair of states."""
    pairs: dict[tuple[State, State], list[str]] = {}
    for (before, reason), after in TRANSITIONS.items():
        for state in sorted(after):
            pairs.setdefault((before, state), []).append(reason)
    name = {state: state.name.capitalize() for state in State}
    arrows = [
        f"    {name[before]} --> {name[after]}: {', '.join(reasons)}"
        for (before, after), reasons in sorted(pairs.items())
    ]
    return "\n".join(["```mermaid", "stateDiagram-v2", "    [*] --> Initialize", *arrows, "```"])


def test_the_picture_in_architecture_md_is_that_of_the_table() -> None:
    """If this fails: put the text that picture() returns into ARCHITECTURE.md."""
    assert picture() in (ROOT / "ARCHITECTURE.md").read_text()
