"""What is made of candidate records.

Who is live, and which of two daemons of one name gives way.
"""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from election.candidates import REFRESHES_UNTIL_DEAD, Candidates
from election.model import Candidacy, CandidateRecord, Identity

ME = Identity("n1", "mmm")
WEB = "web"
REFRESH = 2.0
DEAD_AFTER = REFRESHES_UNTIL_DEAD * REFRESH
SMALLER, LARGER = "aaa", "zzz"


def record(
    name: str = "n2", session: str = "s2", counter: int = 1, *, priority: int = 100, epoch: int = 0
) -> CandidateRecord:
    """Return a node's record that is refreshed every two seconds."""
    said = Candidacy(eligible=True, priority=priority, epoch=epoch, state="Backup")
    return CandidateRecord(
        name, session, counter, {WEB: said}, refresh_interval=round(REFRESH * 1000)
    )


def live(candidates: Candidates, now: float) -> dict[str, bool]:
    """Return who is live."""
    return {candidate.name: candidate.live for candidate in candidates.of(now, WEB, {})}


# ---------------------------------------------------------------- others


def test_a_node_is_live_for_three_refreshes_after_its_last_change() -> None:
    """By one's own clock: what the other's clock says is never asked."""
    candidates = Candidates(ME)
    candidates.observe_record(10.0, "n2", record(counter=1))
    candidates.observe_record(12.0, "n2", record(counter=2))
    assert live(candidates, 12.0 + DEAD_AFTER - 0.001) == {"n2": True}
    assert live(candidates, 12.0 + DEAD_AFTER) == {"n2": False}
    assert candidates.changes_at(12.0) == 12.0 + DEAD_AFTER
    assert candidates.changes_at(12.0 + DEAD_AFTER) == math.inf


def test_a_record_that_is_seen_again_unchanged_makes_nobody_live() -> None:
    """A watch that stands again reports everything anew; a dead node's record is still there."""
    candidates = Candidates(ME)
    candidates.observe_record(10.0, "n2", record())
    candidates.observe_record(15.0, "n2", record())
    assert live(candidates, 10.0 + DEAD_AFTER) == {"n2": False}


def test_only_what_is_new_is_worth_telling() -> None:
    """A live node's refresh is not.

    With thirty nodes that would be ten times a second, to every election.
    """
    candidates = Candidates(ME)
    assert candidates.observe_record(10.0, "n2", record(counter=1))
    assert not candidates.observe_record(12.0, "n2", record(counter=2))
    assert not candidates.observe_record(12.0, "n2", record(counter=2))
    assert [candidate.counter for candidate in candidates.of(12.0, WEB, {})] == [2]
    assert candidates.observe_record(13.0, "n2", record(counter=3, priority=101))
    assert candidates.observe_record(13.0 + DEAD_AFTER, "n2", record(counter=4, priority=101))
    assert candidates.observe_record(20.0, "n2", record(session="s3", counter=5, priority=101))
    assert candidates.observe_record(21.0, "n2", None)
    assert not candidates.observe_record(21.0, "n2", None)


def test_a_restarted_node_is_live_whatever_its_counter_says() -> None:
    """A new session begins to count anew."""
    candidates = Candidates(ME)
    candidates.observe_record(10.0, "n2", record(counter=7))
    candidates.observe_record(20.0, "n2", record(session="s3", counter=1))
    assert live(candidates, 20.0) == {"n2": True}


def test_a_record_that_is_gone_is_a_node_that_is_gone() -> None:
    """At once, and also if a complete list does not have it."""
    candidates = Candidates(ME)
    candidates.observe_record(10.0, "n2", record("n2"))
    candidates.observe_record(10.0, "n2", None)
    assert live(candidates, 10.0) == {}
    candidates.see_all(11.0, [record("n2"), record("n3", "s3")])
    candidates.see_all(12.0, [record("n3", "s3")])
    assert live(candidates, 12.0) == {"n3": True}


def test_all_that_a_node_says_of_an_election_is_passed_on_sorted_by_name() -> None:
    """Its own place is filled by what it says itself, never by what the store has of it."""
    candidates = Candidates(ME)
    candidates.observe_record(10.0, "n3", record("n3", "s3", priority=50, epoch=9))
    candidates.observe_record(10.0, "n0", record("n0", "s0"))
    candidates.observe_record(10.0, ME.name, record(ME.name, ME.session, priority=1))
    mine = Candidacy(eligible=False, priority=200, asks=True, epoch=4)
    found = candidates.of(10.0, WEB, {WEB: mine})
    assert [c.name for c in found] == ["n0", "n1", "n3"]
    assert (
        found[1].session,
        found[1].priority,
        found[1].asks,
        found[1].eligible,
        found[1].live,
    ) == (ME.session, 200, True, False, True)
    assert (found[2].priority, found[2].epoch) == (50, 9)
    assert candidates.of(10.0, "another", {}) == ()
    assert candidates.states(WEB).keys() == {"n0", "n3"}


# ---------------------------------------------------------------- one name


def namesakes(candidates: Candidates, session: str, *moments: float) -> None:
    """Let another daemon of this node's name refresh its record at these moments."""
    for counter, moment in enumerate(moments, start=1):
        candidates.observe_record(moment, ME.name, record(ME.name, session, counter))


@pytest.mark.parametrize("session", [SMALLER, LARGER])
def test_the_later_start_gives_way(session: str) -> None:
    """It found the name taken by one whose record changes while it watches.

    The sessions do not matter then.
    """
    candidates = Candidates(ME)
    namesakes(candidates, session, 10.0)
    assert not candidates.namesake(10.0)
    assert not candidates.may_publish(10.0)
    namesakes(candidates, session, 10.0, 12.0)
    assert candidates.namesake(12.0)
    assert not candidates.may_publish(12.0)


def test_a_record_that_nobody_changes_is_waited_out() -> None:
    """It is that of a former daemon, or of a node that died under this name."""
    candidates = Candidates(ME)
    namesakes(candidates, LARGER, 10.0)
    assert not candidates.may_publish(10.0 + DEAD_AFTER - 0.001)
    assert candidates.may_publish(10.0 + DEAD_AFTER)
    assert not candidates.namesake(10.0 + DEAD_AFTER)


def test_who_was_there_first_stays() -> None:
    """Another daemon that comes later and ignores that the name is taken does not drive this node
    out, if its session is smaller.
    """
    candidates = Candidates(ME)
    candidates.published()
    namesakes(candidates, SMALLER, 10.0, 12.0, 14.0)
    assert not candidates.namesake(14.0)
    assert candidates.may_publish(14.0)


@given(st.text("abc", min_size=1, max_size=3), st.text("abc", min_size=1, max_size=3))
def test_of_two_that_started_in_one_moment_exactly_one_gives_way(one: str, two: str) -> None:
    """Both found the name free and published: the smaller session gives way, on both sides."""
    if one == two:
        return
    judged = []
    for mine, other in ((one, two), (two, one)):
        candidates = Candidates(Identity(ME.name, mine))
        candidates.published()
        namesakes(candidates, other, 10.0, 12.0)
        judged.append(candidates.namesake(12.0))
    assert sorted(judged) == [False, True]
    assert judged.index(True) == (0 if one < two else 1)


def test_a_name_is_free_again_once_the_namesake_is_dead() -> None:
    """The node that gave way comes back by itself."""
    candidates = Candidates(ME)
    namesakes(candidates, LARGER, 10.0, 12.0)
    assert candidates.namesake(12.0 + DEAD_AFTER - 0.001)
    assert candidates.changes_at(12.0) == 12.0 + DEAD_AFTER
    assert not candidates.namesake(12.0 + DEAD_AFTER)
    assert candidates.may_publish(12.0 + DEAD_AFTER)


@pytest.mark.parametrize("session", ["former", ME.session])
def test_ones_own_record_is_nobody_elses(session: str) -> None:
    """Neither this session's nor that of a former daemon that is known to have ended."""
    candidates = Candidates(ME, frozenset({"former"}))
    namesakes(candidates, session, 10.0, 12.0)
    assert not candidates.namesake(12.0)
    assert candidates.may_publish(12.0)
    assert candidates.of(12.0, WEB, {}) == ()
