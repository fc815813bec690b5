"""What was refused is asked for again less and less often, in turns, and at once when something has
changed.
"""

from __future__ import annotations

import itertools
from collections import Counter

from election.stores.refusals import EVERYTHING, JITTER, LONGEST_PAUSE, MOST, Refusals

FILES = "as they are"


def play(
    refusals: Refusals, keys: list[str], begin: float, seconds: float, step: float = 0.1
) -> list[tuple[float, str]]:
    """Ask for each key at each step, and be refused whenever that was sent;
    return what was sent.
    """
    sent = []
    for number in range(round(seconds / step)):
        now = begin + number * step
        for key in keys:
            if not refusals.wait(key, now, FILES):
                sent.append((now, key))
                refusals.refused(key, now, FILES, "no")
    return sent


def test_one_request_in_two_seconds_for_all_that_is_refused() -> None:
    """Soon, and in turns: none of them waits for ever behind the others."""
    refusals, keys = Refusals(lambda: 0.0), ["a", "b", "c", "d", "e"]
    first = play(refusals, keys, 100.0, 5.0)
    assert [key for _, key in first[:5]] == keys
    assert len(first) < 25
    later = play(refusals, keys, 105.0, 40.0)
    assert 15 <= len(later) <= 21
    assert all(
        after - before >= LONGEST_PAUSE - 0.01
        for (before, _), (after, _) in itertools.pairwise(later)
    )
    assert (
        max(Counter(key for _, key in later).values())
        - min(Counter(key for _, key in later).values())
        <= 1
    )


def test_a_refusal_of_a_second_costs_less_than_a_second() -> None:
    """An API server that has just started.

    It is asked again after half of the time for which it has refused.
    """
    refusals = Refusals(lambda: 1.0)
    sent = [at for at, _ in play(refusals, ["a"], 100.0, 2.0, 0.01)]
    pauses = [after - before for before, after in itertools.pairwise(sent)]
    assert all(
        pause <= max(0.1, (before - 100.0) / 2) * (1 + JITTER) + 0.011
        for before, pause in zip(sent, pauses, strict=False)
    )


def test_pauses_differ() -> None:
    """Nodes that were refused together do not come back together."""
    waits = set()
    for number in range(5):
        refusals = Refusals(lambda number=number: number / 4)  # type: ignore[misc]
        refusals.refused("a", 100.0, FILES, "no")
        waits.add(round(refusals.wait("a", 100.0, FILES), 3))
    assert len(waits) == 5


def test_when_one_is_granted_all_are_asked_again_once() -> None:
    """Somebody has given the right. What is refused still goes back to its long pause."""
    refusals, keys = Refusals(lambda: 0.0), ["a", "b", "c"]
    play(refusals, keys, 100.0, 20.0)
    refusals.granted("a")
    assert [key for _, key in play(refusals, ["b", "c"], 120.0, 1.0)] == ["b", "c"]
    assert refusals.of("b").since == 100.0
    assert not refusals.expected("a")


def test_what_was_never_refused_is_asked_at_once_and_changes_nothing() -> None:
    """Records go on while lists are forbidden."""
    refusals = Refusals(lambda: 0.0)
    play(refusals, ["list"], 100.0, 20.0)
    refusals.granted("get")
    assert not refusals.wait("get", 120.0, FILES)
    assert refusals.expected("list")


def test_credentials_that_are_refused_are_refused_for_everything() -> None:
    """Until there are others, in files that have changed."""
    refusals = Refusals(lambda: 0.0)
    refusals.refused(EVERYTHING, 100.0, FILES, "who are you?")
    assert refusals.wait("never asked for", 100.0, FILES) > 0
    assert refusals.of("never asked for").everything
    assert not refusals.wait("never asked for", 100.0, "others")
    refusals.refused("x", 100.1, "others", "no")
    assert not refusals.wait("never asked for", 100.1, "others")
    assert refusals.wait("x", 100.1, "others") > 0


def test_no_answer_is_no_reason_to_wait() -> None:
    """The server went away while it was asked: it is asked again as soon as somebody wants to."""
    refusals = Refusals(lambda: 0.0)
    play(refusals, ["a"], 100.0, 20.0)
    now = 130.0
    assert not refusals.wait("a", now, FILES)
    assert refusals.wait("a", now, FILES) > 0
    refusals.unanswered("a", now)
    assert not refusals.wait("a", now, FILES)


def test_names_that_never_come_again_are_forgotten() -> None:
    """Leases of a thousand nodes that may not be removed."""
    refusals = Refusals(lambda: 0.0)
    for number in range(3 * MOST):
        refusals.refused(number, 100.0, FILES, "no")
    assert len(refusals._refused) == MOST
