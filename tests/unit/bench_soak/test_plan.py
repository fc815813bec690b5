"""The plan of a soak.

Fixed by its seed, complete, and with nothing in a round that gets in its own way.
"""

from __future__ import annotations

import itertools
from collections import Counter

import pytest

from tests.bench.soak_deeds import Deeds
from tests.bench.soak_plan import CATALOGUE, LATEST_BEGIN, STOPPING, Aim, Round, Scope, rounds


def first(count: int, seed: int = 7) -> list[Round]:
    """Return the first rounds of a plan."""
    return list(itertools.islice(rounds(seed), count))


def test_the_same_seed_gives_the_same_plan() -> None:
    """A soak that failed can be played again."""
    assert first(100) == first(100)


def test_another_seed_gives_another_plan() -> None:
    """Two soaks do not play the same faults."""
    assert first(5, 1) != first(5, 2)


@pytest.mark.parametrize("seed", range(20))
def test_every_kind_is_played_once_before_any_comes_again(seed: int) -> None:
    """No kind of fault is left to chance."""
    played = itertools.chain.from_iterable(plan.strikes for plan in rounds(seed))
    keys = [strike.kind.key for strike in itertools.islice(played, 3 * len(CATALOGUE))]
    for begin in range(0, len(keys), len(CATALOGUE)):
        assert Counter(keys[begin : begin + len(CATALOGUE)]) == Counter(
            kind.key for kind in CATALOGUE
        )


def test_a_round_has_up_to_three_faults_and_only_nodes_may_have_several() -> None:
    """Two faults of one etcd member, or two reloads, would heal each other."""
    sizes = set()
    for plan in first(500):
        sizes.add(len(plan.strikes))
        scopes = Counter(strike.kind.scope for strike in plan.strikes)
        assert all(count == 1 for scope, count in scopes.items() if scope is not Scope.NODE)
    assert sizes == {1, 2, 3}


def test_durations_keep_to_their_kind_and_the_first_fault_begins_at_once() -> None:
    """A plan asks for nothing beyond the limits in the catalogue."""
    for plan in first(500):
        assert plan.strikes[0].at == 0.0
        for strike in plan.strikes:
            assert 0.0 <= strike.at <= LATEST_BEGIN
            assert strike.kind.shortest - 0.001 <= strike.lasts <= strike.kind.longest + 0.001
            assert strike.aim in strike.kind.aims
            assert strike.ends == strike.at + strike.lasts


def test_rounds_are_numbered_and_named_by_their_fault() -> None:
    """A report says what a round was about."""
    plans = first(50)
    assert [plan.number for plan in plans] == list(range(1, 51))
    for plan in plans:
        assert plan.name == (
            plan.strikes[0].kind.key if len(plan.strikes) == 1 else f"{len(plan.strikes)} at once"
        )


def test_every_kind_has_hands_that_do_it() -> None:
    """A kind without a deed would be found in the middle of a run."""
    assert all(hasattr(Deeds, f"_{kind.key}") for kind in CATALOGUE)


def test_the_catalogue_is_consistent() -> None:
    """Keys are unique; what stops both processes is among them.

    An address is added to a Backup only.
    """
    keys = [kind.key for kind in CATALOGUE]
    assert len(set(keys)) == len(keys)
    assert set(keys) >= STOPPING
    assert next(kind for kind in CATALOGUE if kind.key == "vip_added").aims == (Aim.OTHER,)
