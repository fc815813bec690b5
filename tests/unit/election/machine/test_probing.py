"""Asking on the wire before a record that nobody ever held is taken."""

from __future__ import annotations

import math

import pytest

from election.machine.eligibility import PROBE_AGAIN, PROBE_TIMEOUT, PROBE_VALID, Probing
from election.model import Record, Release

NEVER_HELD = Record("u")


@pytest.mark.parametrize(
    ("record", "needed"),
    [
        (None, True),
        (NEVER_HELD, True),
        (Record("u", holder="a", session="a1"), False),
        (Record("u", session="a1", release=Release("a1", 0)), False),
    ],
    ids=["absent", "made anew", "held", "released"],
)
def test_only_what_nobody_ever_held_is_asked_for(record: Record | None, needed: bool) -> None:
    """A lease that ran out in this store was vipd's.

    Its holder obeys the election, it need not be asked.
    """
    assert Probing(wanted=True).needed(100.0, record) == needed
    assert not Probing(wanted=False).needed(100.0, record)


def test_silence_counts_for_a_while() -> None:
    """Then it has to be proved anew."""
    probing = Probing(wanted=True)
    assert probing.send_probe(100.0).timeout == PROBE_TIMEOUT
    assert probing.ask_at() == math.inf
    probing.note_answer(100.2, "")
    assert not probing.needed(100.2 + PROBE_VALID - 0.01, NEVER_HELD)
    assert probing.needed(100.2 + PROBE_VALID, NEVER_HELD)


def test_an_answer_is_asked_about_again_after_a_pause() -> None:
    """keepalived may be stopped any moment; the link is not flooded meanwhile."""
    probing = Probing(wanted=True)
    probing.send_probe(100.0)
    probing.note_answer(100.001, "02:00:00:00:00:01")
    assert probing.needed(100.001, NEVER_HELD)
    assert probing.ask_at() == 100.0 + PROBE_AGAIN
