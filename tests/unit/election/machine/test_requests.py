"""What each kind of write makes of a record."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from election.machine import requests
from election.model import FORMAT_VERSION, Candidate, Identity, Record, Release

ME = Identity("a", "a1")
OTHER = Candidate("b", "b1", 1, eligible=True, priority=100, asks=False, live=True)
BASES = st.builds(
    Record,
    uid=st.just("u"),
    holder=st.sampled_from(["", "a", "b"]),
    session=st.sampled_from(["a1", "b1"]),
    epoch=st.integers(0, 9),
    counter=st.integers(0, 99),
    successor=st.sampled_from([None, ME, Identity("b", "b1")]),
    bound=st.booleans(),
    pin=st.sampled_from(["", "a", "b"]),
    release=st.sampled_from([None, Release("b1", 3)]),
    acquire_time=st.just("then"),
    version=st.sampled_from([FORMAT_VERSION, FORMAT_VERSION + 1]),
    extra=st.just({"later": 1}),
)


def taken(base: Record) -> Record:
    """Return the record as this node takes it."""
    return requests.taken(base, ME, base.epoch + 1, base.counter + 1, 3000, 150, ("192.0.2.10/32",))


@given(BASES)
def test_whoever_rewrites_a_record_keeps_what_it_does_not_know(base: Record) -> None:
    """An older and a newer version share a group."""
    rewritten = [
        taken(base),
        requests.renewed(base, taken(base), 7, 150, bound=True, pin=""),
        requests.named(base, 7, OTHER, pin=False),
        requests.released(base, 7),
    ]
    assert [(record.extra, record.version, record.uid) for record in rewritten] == [
        (base.extra, base.version, base.uid)
    ] * 4


@given(BASES)
def test_a_new_tenure_inherits_nothing_but_a_pin_on_itself(base: Record) -> None:
    """A bound mark, a naming or a release of the last tenure would be taken for this one's."""
    record = taken(base)
    assert (record.holder, record.session, record.epoch) == ("a", "a1", base.epoch + 1)
    assert (record.successor, record.bound, record.release, record.acquire_time) == (
        None,
        False,
        None,
        "",
    )
    assert record.pin == ("a" if base.pin == "a" else "")


@given(BASES)
def test_a_release_carries_the_proof_of_who_let_go(base: Record) -> None:
    """Its epoch and session stay: the next epoch is above it, and the proof names them."""
    record = requests.released(base, base.counter + 1)
    assert record.released
    assert (record.session, record.epoch, record.counter) == (
        base.session,
        base.epoch,
        base.counter + 1,
    )


@given(BASES)
def test_a_record_made_anew_is_nobodys(base: Record) -> None:
    """It is no release, so whoever may still hold the VIP is waited out on it."""
    record = requests.created("v", base.epoch, 10_000)
    assert (record.holder, record.session, record.released, record.lease_duration) == (
        "",
        "",
        False,
        10_000,
    )


@given(BASES)
def test_a_naming_changes_counter_successor_and_pin_alone(base: Record) -> None:
    """The tenure goes on until the successor takes it."""
    record = requests.named(base, base.counter + 1, OTHER, pin=True)
    assert record == replace(base, counter=base.counter + 1, successor=Identity("b", "b1"), pin="b")
    assert requests.named(base, 1, OTHER, pin=False).pin == ""


@given(BASES)
def test_a_renewal_puts_right_what_was_changed_by_hand(base: Record) -> None:
    """Holder, session and epoch are the holder's own, a successor is struck out."""
    mine = taken(Record("u"))
    record = requests.renewed(base, mine, 50, 150, bound=True, pin="")
    assert (record.holder, record.session, record.epoch, record.successor) == (
        "a",
        "a1",
        mine.epoch,
        None,
    )
    assert (record.counter, record.bound, record.release) == (50, True, None)
