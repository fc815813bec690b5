"""What a holder says of changes that somebody else made to its record."""

from __future__ import annotations

from dataclasses import replace

import pytest

from election.actions import ForeignEdit, Read
from election.events import RecordSeen, WriteDone
from election.model import Absent, Conflict, Content, Found, Identity, State, Unknown, Unreadable
from tests.unit.election.machine.test_machine import Node, active

EDITS: dict[str, tuple[dict[str, object], str]] = {
    "the lease": ({"lease_duration": 300_000}, "lease_duration: 300000"),
    "the pin": ({"pin": "b"}, "pin: b"),
    "the mark": ({"bound": False}, "bound: False"),
    "the holder": ({"holder": ""}, "holder: empty"),
    "the counter": ({"counter": 4}, "counter: 4"),
    "a successor": (
        {"successor": Identity("b", "b1")},
        "successor: Identity(name='b', session='b1')",
    ),
    "much": (
        {"addresses": ("192.0.2.99/32",) * 9},
        "addresses: ('192.0.2.99/32', '192.0.2.99/32', '192....",
    ),
}


def seen(node: Node, content: Content) -> list[ForeignEdit]:
    """Let the node see this by its watch and, since its renewal meets a conflict, by reading.

    Return what it says of it.
    """
    said = node.take(RecordSeen(content))
    node.content = content
    while node.machine.state is State.ACTIVE and not any(
        isinstance(action, ForeignEdit) for action in said
    ):
        request = node.ask()
        if isinstance(request, Read):
            said += node.answer(node.now + 0.001)
            break
        said += node.take(WriteDone(request.request, Conflict()))
    said += node.take(RecordSeen(content))
    return [action for action in said if isinstance(action, ForeignEdit)]


def record_of(node: Node) -> Found:
    """Return the record as the store has it."""
    assert isinstance(node.content, Found)
    return node.content


@pytest.mark.parametrize(("edit", "what"), EDITS.values(), ids=list(EDITS))
def test_each_change_by_somebody_else_is_said_once(edit: dict[str, object], what: str) -> None:
    """With what it says now; by whatever way and how often it is seen."""
    node = active()
    found = Found(replace(record_of(node).record, **edit), "r99")  # type: ignore[arg-type] # a table of any fields
    assert seen(node, found) == [ForeignEdit(what)]
    for _ in range(5):
        node.ask()
        assert not any(isinstance(action, ForeignEdit) for action in node.answer(node.now + 0.01))
    assert node.machine.state is State.ACTIVE
    assert record_of(node).record.lease_duration == 3000


@pytest.mark.parametrize(
    ("content", "what"),
    [(Absent(), "deleted"), (Unreadable("r99", "not JSON"), "made unreadable: not JSON")],
    ids=["absent", "unreadable"],
)
def test_a_record_that_is_gone_or_broken_is_said(content: Content, what: str) -> None:
    """It is written again."""
    node = active()
    assert seen(node, content) == [ForeignEdit(what)]
    node.ask()
    node.answer(node.now + 0.001)
    assert record_of(node).record.holder == "a"


def test_another_holder_under_the_own_session_is_a_foreign_edit_and_a_loss() -> None:
    """No vipd writes that."""
    node = active()
    assert seen(node, Found(replace(record_of(node).record, holder="foo"), "r99")) == [
        ForeignEdit("holder: foo", lost=True)
    ]
    assert node.machine.state is State.BACKUP


def test_what_is_not_vipd_s_and_what_vipd_writes_is_not_said() -> None:
    """An annotation, another node's take, and an own write whose answer was lost."""
    node = active()
    assert (
        seen(
            node,
            Found(replace(record_of(node).record, extra={"note": "x"}, renew_time="now"), "r99"),
        )
        == []
    )
    node = active()
    renewal = node.renew()
    node.take(WriteDone(renewal.request, Unknown("timeout")))
    node.content = Found(renewal.record, "r100")
    node.ask()
    assert not any(isinstance(action, ForeignEdit) for action in node.answer())
    node = active()
    other = replace(record_of(node).record, holder="b", session="b1", epoch=9, counter=50)
    assert seen(node, Found(other, "r101")) == []
