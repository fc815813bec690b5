"""The times of a planned move, on the holder's own clock."""

from __future__ import annotations

import math

from election.machine.handover import Handover, Phase
from election.model import Candidate, Identity, Reason
from election.timing import HANDOVER_TIMEOUT, STRIKE_AFTER, SUCCESSOR_HOLDOFF, UNBIND_AFTER_TAKEN

SUCCESSOR = Candidate("b", "b1", 1, eligible=True, priority=100, asks=False, live=True)


def under_way(phase: Phase) -> Handover:
    """Return a move that was sent at 10 s and, if taken, seen taken at 10.1 s."""
    return Handover(
        SUCCESSOR,
        Reason.HANDED_OVER,
        pin=True,
        sent_at=10.0,
        phase=phase,
        read_at=10.05,
        taken_at=10.1,
    )


def test_the_holder_leaves_a_moment_after_it_saw_the_lease_taken() -> None:
    """Before that only its lowered deadline makes it go."""
    assert under_way(Phase.TAKEN).unbind_at() == 10.1 + UNBIND_AFTER_TAKEN
    assert [under_way(phase).unbind_at() for phase in Phase if phase is not Phase.TAKEN] == [
        math.inf
    ] * 3


def test_the_successor_is_a_session_and_not_only_a_name() -> None:
    """A daemon that restarted in between did not ask for it."""
    assert under_way(Phase.NAMED).identity == Identity("b", "b1")


def test_a_strike_out_and_its_repetition_fit_before_the_lowered_deadline() -> None:
    """Read back at least every 20 ms, struck out at 200 ms.

    A second try is possible before 500 ms are over.
    """
    move = under_way(Phase.NAMED)
    assert move.reread_at() - move.read_at <= 0.020
    assert move.strike_at() == 10.0 + STRIKE_AFTER
    assert STRIKE_AFTER + 2 * HANDOVER_TIMEOUT / 4 < HANDOVER_TIMEOUT


def test_who_took_as_successor_hands_on_only_when_the_former_holder_is_gone_for_certain() -> None:
    """Its lowered deadline ends within 500 ms of the naming, which came before the take; clocks may
    differ by 1 %.
    """
    assert SUCCESSOR_HOLDOFF >= HANDOVER_TIMEOUT * 1.01
