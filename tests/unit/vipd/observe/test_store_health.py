"""One outage from the first failed request to calm, under the name that says most."""

from __future__ import annotations

import pytest

from election.outage import Outage
from election.timing import PROFILES
from vipd.observe.store_health import WORDS, StoreHealth, Trouble

DEFAULT = PROFILES["default"]
LEASE = DEFAULT.lease_duration


@pytest.fixture
def health() -> StoreHealth:
    """Return the health of a store that has answered at 100."""
    made = StoreHealth(DEFAULT)
    made.answered(100.0, applied=True)
    return made


def test_an_outage_begins_at_once_and_ends_with_calm(health: StoreHealth) -> None:
    """Answers between failures are no end; a lease_duration without a failure is."""
    assert health.failed(101.0, Outage.SLOW, "a", write=True)
    assert [health.reachable] == [False]
    for moment in (101.5, 102.5, 103.5):
        assert health.answered(moment, applied=True) is None
        assert not health.failed(moment + 0.5, Outage.SLOW, "b", write=True)
    assert health.trouble == Trouble(Outage.SLOW, "b", 101.0, 104.0)
    assert health.answered(104.0 + LEASE - 0.1, applied=True) is None
    assert [health.reachable] == [True]
    assert health.answered(104.0 + LEASE, applied=True) == Trouble(Outage.SLOW, "b", 101.0, 104.0)
    assert health.reaction() == ""


def test_servers_that_fail_in_turn_are_one_outage(health: StoreHealth) -> None:
    """The one that says most is named, once.

    Another name comes only when that one has not been heard for a lease.
    """
    kinds = (Outage.UNREACHABLE, Outage.SLOW, Outage.NO_QUORUM)
    said = [
        health.failed(101 + number / 10, kinds[number % 3], "", write=True) for number in range(30)
    ]
    assert said == [True, True, True] + [False] * 27
    last = 101 + 29 / 10
    assert health.trouble == Trouble(Outage.NO_QUORUM, "", 101.0, last)
    assert not health.failed(last + LEASE - 0.1, Outage.UNREACHABLE, "", write=True)
    assert health.failed(last + LEASE + 0.1, Outage.UNREACHABLE, "gone", write=True)
    assert health.trouble == Trouble(Outage.UNREACHABLE, "gone", 101.0, last + LEASE + 0.1)


def test_reads_that_are_answered_do_not_end_an_outage_of_writes(health: StoreHealth) -> None:
    """A full store: the record is read back after every write that fails."""
    assert health.failed(101.0, Outage.FULL, "full", write=True)
    for number in range(50):
        assert health.answered(101.05 + number, applied=False) is None
        assert not health.failed(101.1 + number, Outage.FULL, "full", write=True)
    assert health.answered(150.1 + LEASE, applied=False) is None
    assert health.answered(150.2 + LEASE, applied=True) is not None


def test_it_serves_when_read_and_write_are_answered(health: StoreHealth) -> None:
    """A store that takes no writes answers reads all the time, and one that is throttled some of
    each.
    """
    told = [health.serves]
    health.failed(101.0, Outage.READ_ONLY, "", write=True)
    health.answered(101.1, applied=False)
    told.append(health.serves)
    health.answered(101.2, applied=True)
    told.append(health.serves)
    health.failed(101.3, Outage.UNREACHABLE, "", write=False)
    told.append(health.serves)
    health.answered(101.4, applied=False)
    assert [*told, health.serves] == [True, False, True, False, True]


def test_a_failed_write_that_nobody_repeats_is_forgotten(health: StoreHealth) -> None:
    """A node that writes nothing any more would otherwise show it for ever."""
    health.failed(101.0, Outage.READ_ONLY, "", write=True)
    assert health.answered(101.0 + 4 * LEASE - 0.1, applied=False) is None
    assert health.answered(101.0 + 4 * LEASE, applied=False) is not None


@pytest.mark.parametrize("kind", Outage)
def test_each_kind_has_words_and_a_reaction(kind: Outage, health: StoreHealth) -> None:
    """The operator reads until when the VIP stays.

    2.7 s after the last renewal with a lease of 3 s.
    """
    health.failed(101.0, kind, "", write=True)
    assert "until 2.7s after its last renewal, and it tries every 0.1s" in health.reaction()
    assert WORDS[kind]


def test_an_outage_is_remembered_by_its_longest_phase(health: StoreHealth) -> None:
    """Away for eight seconds, then back and forbidding everything for two.

    While it did it was shown so.
    """
    for number in range(80):
        health.failed(101.0 + number / 10, Outage.UNREACHABLE, "away", write=True)
    for number in range(20):
        health.failed(109.0 + number / 10, Outage.FAILING, "forbids it (403)", write=True)
    assert health.trouble is not None
    assert (health.trouble.kind, health.trouble.why) == (Outage.FAILING, "forbids it (403)")
    over = health.answered(110.9 + LEASE, applied=True)
    assert over is not None
    assert (over.kind, over.since) == (Outage.UNREACHABLE, 101.0)
    assert over.failed_at == pytest.approx(110.9)


def test_a_short_outage_has_the_name_that_it_had(health: StoreHealth) -> None:
    """One failure, or two at once, have no length."""
    health.failed(101.0, Outage.SLOW, "", write=True)
    over = health.answered(101.0 + LEASE, applied=True)
    assert over is not None
    assert over.kind is Outage.SLOW
