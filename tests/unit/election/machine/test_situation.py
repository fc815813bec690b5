"""One request at a time."""

from __future__ import annotations

import pytest

from election.actions import WriteKind
from election.machine.situation import PendingRequest
from election.model import Record


def test_requests_are_numbered_and_their_answers_matched() -> None:
    """A read and a write carry the same kind of number."""
    pending = PendingRequest()
    assert pending.next_number == 1
    assert pending.send_read(10.0, 0.8).request == 1
    assert pending.match_answer(1) is not None
    write = pending.send_write(11.0, 0.8, WriteKind.RENEW, Record("u"), "r1")
    request = pending.match_answer(2)
    assert request is not None
    assert request.write == write
    assert request.gives_up_at == pytest.approx(11.8)


def test_an_answer_to_a_request_that_was_given_up_means_nothing() -> None:
    """It was judged unknown, and something else may be under way under another number."""
    pending = PendingRequest()
    pending.send_read(10.0, 0.8)
    request = pending.request
    assert request is not None
    pending.note_unknown(10.8, request, pause=0.1)
    pending.send_read(10.8, 0.8)
    assert pending.match_answer(1) is None
    assert pending.request is not None
    assert pending.match_answer(2) is not None


@pytest.mark.parametrize(
    ("failed_at", "next_at"), [(10.001, 10.1), (10.8, 10.8)], ids=["refused at once", "timed out"]
)
def test_after_an_unknown_outcome_the_record_is_read_but_not_in_a_spin(
    failed_at: float, next_at: float
) -> None:
    """A store that refuses quickly gets one request per pause.

    One that times out has made us wait already.
    """
    pending = PendingRequest()
    pending.note_contact()
    pending.unread = False
    pending.send_read(10.0, 0.8)
    assert pending.request is not None
    pending.note_unknown(failed_at, pending.request, pause=0.1)
    assert (pending.unread, pending.in_touch) == (True, False)
    assert pending.match_answer(1) is None
    assert pending.not_before == pytest.approx(next_at)
