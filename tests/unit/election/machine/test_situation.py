"""One request at a time."""

from __future__ import annotations

import pytest

from election.actions import WriteKind
from election.machine.situation import Desk
from election.model import Record


def test_requests_are_numbered_and_their_answers_matched() -> None:
    """A read and a write carry the same kind of number."""
    desk = Desk()
    assert desk.next_number == 1
    assert desk.read(10.0, 0.8).request == 1
    assert desk.answered(1) is not None
    write = desk.write(11.0, 0.8, WriteKind.RENEW, Record("u"), "r1")
    request = desk.answered(2)
    assert request is not None
    assert request.write == write
    assert request.gives_up_at == pytest.approx(11.8)


def test_an_answer_to_a_request_that_was_given_up_means_nothing() -> None:
    """It was judged unknown, and something else may be under way under another number."""
    desk = Desk()
    desk.read(10.0, 0.8)
    request = desk.request
    assert request is not None
    desk.unknown(10.8, request, pause=0.1)
    desk.read(10.8, 0.8)
    assert desk.answered(1) is None
    assert desk.request is not None
    assert desk.answered(2) is not None


@pytest.mark.parametrize(("failed_at", "next_at"), [(10.001, 10.1), (10.8, 10.8)], ids=["refused at once", "timed out"])
def test_after_an_unknown_outcome_the_record_is_read_but_not_in_a_spin(failed_at: float, next_at: float) -> None:
    """A store that refuses quickly gets one request per pause; one that times out has made us wait already."""
    desk = Desk()
    desk.in_contact()
    desk.unread = False
    desk.read(10.0, 0.8)
    assert desk.request is not None
    desk.unknown(failed_at, desk.request, pause=0.1)
    assert (desk.unread, desk.in_touch) == (True, False)
    assert desk.answered(1) is None
    assert desk.not_before == pytest.approx(next_at)
