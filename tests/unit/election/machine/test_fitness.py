"""Which state a node rests in, and what makes it leave the address at once."""

from __future__ import annotations

import pytest

from election.machine.eligibility import LONGEST_REFUSAL_PATIENCE, REFUSAL_PATIENCE, Fitness
from election.model import Reason, State

NOW = 100.0


def fitness(*, fit: bool | None = True, **set_to: object) -> Fitness:
    """Return a node's fitness with these attributes."""
    made = Fitness()
    if fit is not None:
        made.set_verdict(fit, 100, Reason.LINK_DOWN)
    for name, value in set_to.items():
        setattr(made, name, value)
    return made


def failed_bind() -> Fitness:
    """Return that of a node whose kernel has just refused an address."""
    made = fitness()
    made.note_refusal(NOW)
    return made


def namesake() -> Fitness:
    """Return that of a node that has just seen a namesake's lease of three seconds."""
    made = fitness()
    made.note_namesake(NOW + 3.0)
    return made


RESTING: dict[str, tuple[Fitness, State, Reason]] = {
    "no verdict yet": (fitness(fit=None), State.INITIALIZE, Reason.STARTUP),
    "healthy": (fitness(), State.BACKUP, Reason.RECOVERED),
    "unfit": (fitness(fit=False), State.FAULT, Reason.LINK_DOWN),
    "drained": (fitness(drained=True), State.FAULT, Reason.DRAINED),
    "drained and unfit": (fitness(fit=False, drained=True), State.FAULT, Reason.DRAINED),
    "stopping, whatever else": (
        fitness(fit=False, drained=True, stopping=True),
        State.INITIALIZE,
        Reason.SHUTDOWN,
    ),
    "a namesake lives": (fitness(foreign_namesake=True), State.FAULT, Reason.NAMESAKE),
    "a namesake writes the record": (namesake(), State.FAULT, Reason.NAMESAKE),
    "an earlier election claims the address": (
        fitness(claimed_by="edge"),
        State.FAULT,
        Reason.ADDRESS_CLAIMED,
    ),
    "an address cannot be removed": (fitness(unbind_fails=3), State.FAULT, Reason.UNBIND_FAILED),
    "an address could not be removed just now": (
        fitness(unbind_fails=2),
        State.BACKUP,
        Reason.RECOVERED,
    ),
    "the kernel refused": (failed_bind(), State.FAULT, Reason.BIND_FAILED),
}


@pytest.mark.parametrize(("given", "state", "reason"), RESTING.values(), ids=list(RESTING))
def test_resting_state(given: Fitness, state: State, reason: Reason) -> None:
    """The state of a node that is not Active, and why."""
    assert given.resting_state(NOW, State.FAULT, seen=True) == (state, reason)


def test_a_node_that_never_saw_the_record_is_no_backup_yet() -> None:
    """It cannot know how long to wait."""
    assert fitness().resting_state(NOW, State.INITIALIZE, seen=False) == (
        State.INITIALIZE,
        Reason.STARTUP,
    )
    assert fitness().resting_state(NOW, State.INITIALIZE, seen=True) == (
        State.BACKUP,
        Reason.STARTUP,
    )


@pytest.mark.parametrize(
    "order",
    [fitness(drained=True), fitness(stopping=True), fitness(fit=None)],
    ids=["drained", "stopping", "no verdict"],
)
def test_an_order_is_no_reason_to_drop_the_address_at_once(order: Fitness) -> None:
    """It is handed over; only what is wrong here makes it go whoever is there to take it."""
    assert order.fault(NOW) is None


def test_what_ends_by_itself_says_when() -> None:
    """So that somebody looks again at that moment."""
    given = namesake()
    assert given.changes_at(NOW) == [NOW + 3.0]
    assert given.fault(NOW + 3.0) is None
    assert given.changes_at(NOW + 3.0) == []


def test_a_refusal_lasts_until_something_changes() -> None:
    """However long that takes: what the kernel refused it would refuse again."""
    given = failed_bind()
    assert given.is_refused(NOW + 1e6)
    assert given.changes_at(NOW) == []
    given.note_interface_change()
    assert given.changes_at(NOW) == [NOW + REFUSAL_PATIENCE]
    assert given.fault(NOW + REFUSAL_PATIENCE - 0.01) is Reason.BIND_FAILED
    assert given.fault(NOW + REFUSAL_PATIENCE) is None


def test_refusals_in_a_row_make_a_node_patient() -> None:
    """Else an interface on which something changes every minute would cost an outage a minute."""
    given, now, waited = fitness(), NOW, []
    for _ in range(8):
        given.note_refusal(now)
        given.note_interface_change()
        [ends] = given.changes_at(now)
        waited.append(ends - now)
        now = ends
    assert waited == [
        5.0,
        10.0,
        20.0,
        40.0,
        80.0,
        160.0,
        LONGEST_REFUSAL_PATIENCE,
        LONGEST_REFUSAL_PATIENCE,
    ]
    given.note_bound()
    assert not given.is_refused(now)
    given.note_refusal(now)
    assert given.may_retry_at(now) == now + REFUSAL_PATIENCE


def test_after_a_sign_of_change_a_vacant_address_is_tried_for_soon() -> None:
    """The doubled patience is for addresses that a healthy node has."""
    given = fitness()
    for _ in range(5):
        given.note_refusal(NOW)
    assert given.may_retry_at(NOW) == NOW + 16 * REFUSAL_PATIENCE
    given.note_interface_change()
    assert given.may_retry_at(NOW) == NOW + REFUSAL_PATIENCE
    assert given.changes_at(NOW) == [NOW + 16 * REFUSAL_PATIENCE]
