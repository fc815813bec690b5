"""When a record changed by one's own observation, and from when on it may be taken."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from election.machine.lease import LARGEST_COUNT, Observation
from election.model import Absent, Content, Found, Identity, Record, Release, Unreadable

OWN_LEASE = 3.0
HELD = Record(uid="u", holder="a", session="a1", epoch=5, counter=20, lease_duration=2000)
ME = Identity("b", "b1")


def found(record: Record = HELD, revision: str = "r1") -> Found:
    """Return a record as the store has it."""
    return Found(record, revision)


def observation(*seen: tuple[float, Content], longest: float = 0.0) -> Observation:
    """Return what a node knows that saw these contents at these times."""
    view = Observation(OWN_LEASE, 0, longest)
    for at, content in seen:
        view.observe_content(at, content)
    return view


FOREIGN_EDITS: dict[str, dict[str, object]] = {
    "annotation": {"extra": {"note": "x"}},
    "renew time": {"renew_time": "2030-01-01T00:00:00Z"},
    "pin": {"pin": "b"},
    "bound mark": {"bound": True},
    "priority": {"priority": 7},
}


@pytest.mark.parametrize("edit", FOREIGN_EDITS.values(), ids=list(FOREIGN_EDITS))
def test_a_foreign_edit_neither_renews_nor_ages_a_lease(edit: dict[str, object]) -> None:
    """Only holder, session, epoch, counter, successor and the record's identity count."""
    view = observation((10.0, found()))
    assert not view.observe_content(11.0, found(replace(HELD, **edit), "r2"))  # type: ignore[arg-type] # a table of any fields
    assert view.free_at() == 12.0


CHANGES: dict[str, dict[str, object]] = {
    "counter": {"counter": 21},
    "epoch": {"epoch": 6},
    "holder": {"holder": "c"},
    "session": {"session": "a2"},
    "successor": {"successor": ME},
    "uid": {"uid": "other"},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_a_change_begins_the_wait_anew(change: dict[str, object]) -> None:
    """From one's own first sight of it."""
    view = observation((10.0, found()), (11.0, found(replace(HELD, **change), "r2")))  # type: ignore[arg-type] # a table of any fields
    assert view.free_at() == 13.0


FREE_AT: dict[str, tuple[list[tuple[float, Content]], float]] = {
    "the written lease counts, not the own": ([(10.0, found())], 12.0),
    "seen again": ([(10.0, found()), (11.0, found())], 12.0),
    "released: at once": (
        [(10.0, found(replace(HELD, holder="", release=Release("a1", 5))))],
        10.0,
    ),
    "emptied by hand: no release": ([(10.0, found(replace(HELD, holder="")))], 13.0),
    "released by a former session: no release": (
        [(10.0, found(replace(HELD, holder="", release=Release("a0", 5))))],
        13.0,
    ),
    "absent: the longest known": (
        [(5.0, found(replace(HELD, lease_duration=9000))), (10.0, Absent())],
        19.0,
    ),
    "absent for a while: counted once": ([(10.0, Absent()), (12.0, Absent())], 13.0),
    "unreadable": ([(10.0, Unreadable("r1", "not JSON"))], 13.0),
    "unreadable in another way": (
        [(10.0, Unreadable("r1", "x")), (12.0, Unreadable("r2", "x"))],
        15.0,
    ),
    "older by epoch": ([(5.0, found()), (10.0, found(replace(HELD, epoch=4), "r2"))], 13.0),
    "older by counter": ([(5.0, found()), (10.0, found(replace(HELD, counter=19), "r2"))], 13.0),
    "a released one that is older": (
        [
            (5.0, found()),
            (10.0, found(replace(HELD, epoch=4, holder="", release=Release("a1", 4)), "r2")),
        ],
        13.0,
    ),
    "a foreign writer shortens the lease": (
        [(9.5, found()), (10.0, found(replace(HELD, counter=21, lease_duration=1000), "r2"))],
        11.5,
    ),
    "and shortens it again": (
        [
            (9.5, found()),
            (9.6, found(replace(HELD, counter=21, lease_duration=1000), "r2")),
            (9.7, found(replace(HELD, counter=22, lease_duration=1000), "r3")),
        ],
        11.5,
    ),
    "and changes the session with it": (
        [(9.5, found()), (9.6, found(replace(HELD, session="x", lease_duration=1000), "r2"))],
        11.5,
    ),
    "the next holder promises less": (
        [
            (5.0, found()),
            (
                10.0,
                found(
                    replace(
                        HELD, holder="c", session="c1", epoch=6, counter=21, lease_duration=1000
                    ),
                    "r2",
                ),
            ),
        ],
        11.0,
    ),
    "a lease of an hour is no lease": (
        [(10.0, found(replace(HELD, lease_duration=3_600_000)))],
        13.0,
    ),
    "a lease of nothing is none either": ([(10.0, found(replace(HELD, lease_duration=0)))], 13.0),
    "lease_duration alone is edited: no write of vipd's": (
        [(10.0, found()), (11.0, found(replace(HELD, lease_duration=300_000), "r2"))],
        12.0,
    ),
    "and the record goes then": (
        [
            (10.0, found()),
            (11.0, found(replace(HELD, lease_duration=300_000), "r2")),
            (12.0, Absent()),
        ],
        15.0,
    ),
    "an absurd epoch": ([(10.0, found(replace(HELD, epoch=LARGEST_COUNT + 1)))], 13.0),
}


@pytest.mark.parametrize(("seen", "expected"), FREE_AT.values(), ids=list(FREE_AT))
def test_from_when_on_anybody_may_take_it(
    seen: list[tuple[float, Content]], expected: float
) -> None:
    """Apart from ranks."""
    assert observation(*seen).free_at() == expected


def test_what_the_state_directory_remembers_is_waited_out() -> None:
    """After a restart nothing was seen yet, but somebody may still count on the long lease of
    yesterday.
    """
    assert observation((10.0, Absent()), longest=30.0).free_at() == 40.0


def test_a_watch_is_believed_only_if_it_shows_something_newer() -> None:
    """Anything else may be late, or a restored store."""
    view = observation((10.0, found()))
    newer, older = found(replace(HELD, counter=21), "r2"), found(replace(HELD, counter=19), "r0")
    assert [
        view.is_news(content)
        for content in (newer, found(), older, Absent(), Unreadable("r2", "x"))
    ] == [True, *[False] * 4]


def test_an_absurd_record_on_a_watch_is_no_news() -> None:
    """Else one edit by hand would make all later records look old."""
    assert not observation((10.0, found())).is_news(
        found(replace(HELD, epoch=LARGEST_COUNT + 1), "r2")
    )


def test_an_epoch_is_above_every_one_known() -> None:
    """The record's, those seen before it went, and those that the state directory remembers as seen
    or as chosen.
    """
    assert Observation(OWN_LEASE, 8, 0.0).next_epoch == 9
    assert Observation(OWN_LEASE, 8, 0.0, 11).next_epoch == 12
    view = observation((5.0, found()), (6.0, Absent()))
    assert view.next_epoch == 6
    view.choose(6)
    assert view.next_epoch == 7


def test_a_chosen_epoch_makes_no_record_look_older() -> None:
    """The write that it was chosen for may never have reached the store."""
    view = Observation(OWN_LEASE, 5, 0.0, 6)
    view.observe_content(10.0, found())
    assert not view.older


def test_an_older_record_that_goes_on_counts_in_the_end() -> None:
    """Once nobody can hold by what was seen before it.

    Else nobody would ever be named in it, or take it in time, again.
    """
    view = observation((10.0, found(replace(HELD, epoch=LARGEST_COUNT))))
    for number in range(1, 7):
        view.observe_content(
            10.5 + number / 2, found(replace(HELD, counter=20 + number), f"r{number}")
        )
        assert view.older
    view.observe_content(14.0, found(replace(HELD, counter=30), "r7"))
    assert not view.older
    assert view.free_at() == 16.0
    assert view.next_epoch == 6


def test_an_older_record_counts_only_if_nothing_newer_is_seen_between() -> None:
    """A holder that writes again is within its right: the wait begins anew."""
    view = observation(
        (10.0, found()),
        (11.0, found(replace(HELD, epoch=4), "r2")),
        (13.0, found(replace(HELD, counter=21), "r3")),
    )
    view.observe_content(13.5, found(replace(HELD, epoch=4, counter=21), "r4"))
    view.observe_content(14.5, found(replace(HELD, epoch=4, counter=22), "r5"))
    assert view.older


def test_a_record_without_room_for_another_epoch_is_waited_out_like_one_that_is_gone() -> None:
    """What comes after it begins above all that was ever remembered, which that figure never is."""
    view = observation(
        (10.0, found(replace(HELD, lease_duration=9000))),
        (11.0, found(replace(HELD, epoch=LARGEST_COUNT), "r2")),
    )
    assert view.free_at() == 20.0
    assert view.next_epoch == 6
    assert view.remembered == (5, 9.0, 5)


def test_a_naming_counts_only_with_a_write_of_the_holder_s_own() -> None:
    """A foreign writer that puts a successor into the record does not raise the counter."""
    named = replace(HELD, counter=21, successor=ME)
    assert observation((10.0, found()), (11.0, found(named, "r2"))).naming_of(ME)
    assert not observation(
        (10.0, found()), (11.0, found(replace(HELD, successor=ME), "r2"))
    ).naming_of(ME)
    assert not observation((10.0, found(named))).naming_of(Identity("b", "b2"))


RECORDS = st.builds(
    Record,
    uid=st.sampled_from(["u", "v"]),
    holder=st.sampled_from(["", "a", "b"]),
    session=st.sampled_from(["", "a1", "b1"]),
    epoch=st.integers(0, 3),
    counter=st.integers(0, 3),
    lease_duration=st.sampled_from([0, 1000, 3000, 10_000, 10**6]),
    release=st.sampled_from([None, Release("a1", 1)]),
)
CONTENTS = st.one_of(
    st.just(Absent()),
    st.builds(Unreadable, st.sampled_from("xy"), st.just("why")),
    st.builds(Found, RECORDS, st.sampled_from("xyz")),
)


@given(st.lists(CONTENTS, min_size=1, max_size=12))
def test_nobody_waits_less_than_the_lease_that_was_promised(contents: list[Content]) -> None:
    """By the record when it last changed, or before that in the same tenure, unless the holder
    itself let go.
    """
    view = Observation(OWN_LEASE, 0, 0.0)
    promised = 0.0
    for now, content in enumerate(contents):
        floor = view.floor
        before = view.record
        changed, record = view.observe_content(float(now), content), view.record
        assert view.floor >= floor
        assert view.next_epoch > floor
        assert view.longest >= OWN_LEASE
        if changed and record is not None:
            tenure = before is not None and (before.session, before.epoch) == (
                record.session,
                record.epoch,
            )
            promised = max(promised if tenure else 0.0, now + record.lease_duration / 1000)
        if record is None or view.older or not record.holder:
            assert (
                record is not None and record.released and not view.older
            ) or view.free_at() >= view.changed_at + OWN_LEASE
        elif not record.released:
            assert view.free_at() >= promised
