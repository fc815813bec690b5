"""Records survive a round trip through a Lease, and a Lease that is no record is refused with a
sentence, whatever it is.
"""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from election.model import Candidacy, CandidateRecord, Identity, Record, Release
from election.stores.errors import BadRecord
from election.stores.kubernetes.lease import (
    Lease,
    candidate_lease,
    decode_candidate_lease,
    decode_lease,
    election_lease,
    election_of,
    encode_candidate_lease,
    encode_lease,
    metadata,
    micro_time,
    node_of,
    notes_of,
    spec,
)

RECORD = Record(
    uid="u1",
    holder="a",
    session="s1",
    epoch=7,
    counter=41,
    lease_duration=2500,
    successor=Identity("b", "s2"),
    bound=True,
    pin="a",
    priority=150,
    addresses=("192.0.2.10/32", "2001:db8::10/128"),
    release=Release("s0", 6),
    acquire_time="2026-01-01T00:00:00Z",
    renew_time="2026-01-01T00:00:01.500000Z",
)

texts = st.text(st.characters(exclude_categories=["C", "Z"]) | st.just(" "), max_size=20)
counts = st.integers(0, 2**63 - 1)
times = st.just("") | st.datetimes().map(
    lambda moment: moment.isoformat(timespec="microseconds").removesuffix(".000000") + "Z"
)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
extras = st.dictionaries(st.sampled_from(["x", "peer", "a.b-c_D", "9"]), json_values, max_size=3)
records = st.builds(
    Record,
    uid=texts,
    holder=texts,
    session=texts,
    epoch=counts,
    counter=counts,
    lease_duration=st.integers(1000, 300_000),
    successor=st.none() | st.builds(Identity, texts, texts),
    bound=st.booleans(),
    pin=texts,
    priority=st.integers(0, 254),
    addresses=st.lists(texts, max_size=3).map(tuple),
    release=st.none() | st.builds(Release, texts, counts),
    acquire_time=times,
    renew_time=times,
    version=st.integers(1, 9),
    extra=extras,
)


def writable(values: object) -> bool:
    """Whether JSON can carry these values."""
    try:
        json.dumps(values, ensure_ascii=False).encode()
    except UnicodeError:
        return False
    return True


@settings(max_examples=40)
@given(records.filter(lambda record: writable(record.extra)), records)
def test_a_record_comes_back_as_it_was(record: Record, before: Record) -> None:
    """Alone, and on top of any other."""
    assert decode_lease(encode_lease(record, "vipd-x")) == record
    base = encode_lease(before, "vipd-x") if writable(before.extra) else None
    assert decode_lease(encode_lease(record, "vipd-x", base)) == record


@settings(max_examples=40)
@given(records)
def test_a_lease_is_valid_for_kubernetes(record: Record) -> None:
    """Numbers in their ranges, texts where texts must be."""
    lease = encode_lease(record, "vipd-x")
    said = spec(lease)
    assert isinstance(said["leaseDurationSeconds"], int)
    assert 0 <= said["leaseDurationSeconds"] * 1000 - record.lease_duration < 1000
    assert said["leaseTransitions"] == 0
    assert all(isinstance(value, str) for value in notes_of(lease).values())


@given(st.text(max_size=60))
def test_a_name_can_be_told_from_its_lease(name: str) -> None:
    """Whatever it is, and no two names share a Lease."""
    assert election_of(election_lease(name)) == name
    assert node_of(candidate_lease(name)) == name
    assert node_of(election_lease(name)) is None
    assert election_of(candidate_lease(name)) is None


@pytest.mark.parametrize("name", ["ingress", "node-1.example.org", "9"])
def test_names_of_hosts_and_instances_stay_readable(name: str) -> None:
    """They are what people look for."""
    assert election_lease(name) == f"vipd-{name}"
    assert candidate_lease(name) == f"vipd.{name}"


@pytest.mark.parametrize(
    "lease", ["other", "vipd", "vipd-x--!", "vipd-x--c4nm", "vipd-x--c4", "vipd-A", "kube-system"]
)
def test_a_foreign_lease_is_of_no_election(lease: str) -> None:
    """Not even one whose name begins like vipd's."""
    assert election_of(lease) is None


BROKEN: dict[str, dict[str, str | None]] = {
    "vipd/uid": {"vipd/uid": None},
    "vipd/epoch": {"vipd/epoch": None},
    "vipd/lease-duration-ms": {"vipd/lease-duration-ms": None},
    "makes no sense": {"vipd/epoch": "seven"},
    "annotation vipd/counter": {"vipd/counter": '1,"x":2'},
    "outside": {"vipd/lease-duration-ms": "0"},
    "whole number": {"vipd/epoch": "7.5"},
    "neither true nor false": {"vipd/bound": "1"},
    "cannot be printed": {"vipd/session": "\x1b[31m"},
    "a list": {"vipd/addresses": '"192.0.2.10/32"'},
    "successor has no session": {"vipd/successor": '{"name":"b"}'},
    "release has unknown keys": {"vipd/release": '{"session":"s","epoch":1,"x":2}'},
}


@pytest.mark.parametrize("why", BROKEN)
def test_a_lease_that_is_no_record_is_refused(why: str) -> None:
    """With a sentence that names what is wrong."""
    lease = encode_lease(RECORD, "vipd-x")
    for key, value in BROKEN[why].items():
        notes_of(lease).pop(key, None)
        if value is not None:
            notes_of(lease)[key] = value
    with pytest.raises(BadRecord, match=why):
        decode_lease(lease)


@settings(max_examples=40)
@given(
    st.recursive(
        json_values,
        lambda inner: st.dictionaries(
            st.sampled_from(["metadata", "spec", "annotations", "name"]), inner
        ),
    )
)
def test_nonsense_never_raises_anything_else(value: object) -> None:
    """An object of any shape is refused as what it is."""
    lease: Lease = value if isinstance(value, dict) else {"metadata": value}
    with pytest.raises(BadRecord):
        decode_lease(lease)
    with pytest.raises(BadRecord):
        decode_candidate_lease(lease)


@given(
    st.dictionaries(
        st.sampled_from(
            [f"vipd/{key}" for key in ("uid", "session", "format", "epoch", "counter", "x")]
        ),
        st.text(max_size=9),
    )
)
def test_edited_annotations_give_a_record_or_a_sentence(notes: dict[str, str]) -> None:
    """And nothing in between."""
    lease = encode_lease(RECORD, "vipd-x")
    notes_of(lease).update(notes)
    try:
        record = decode_lease(lease)
    except BadRecord:
        return
    assert record.holder == "a"


def test_a_write_is_based_on_what_was_there() -> None:
    """Version and uid go back to Kubernetes, which compares both; its own bookkeeping does not."""
    base = encode_lease(RECORD, "vipd-x")
    metadata(base).update(
        uid="k8s", resourceVersion="7", managedFields=[{"manager": "x"}], creationTimestamp="t"
    )
    about = metadata(encode_lease(RECORD, "vipd-x", base))
    assert (about["uid"], about["resourceVersion"], about["creationTimestamp"]) == ("k8s", "7", "t")
    assert "managedFields" not in about


def test_the_same_content_is_never_written_as_the_same_bytes() -> None:
    """Kubernetes gives a write that changes nothing no new version."""
    first = encode_lease(RECORD, "vipd-x")
    second = encode_lease(RECORD, "vipd-x", first)
    third = encode_lease(RECORD, "vipd-x", second)
    assert notes_of(first) != notes_of(second) != notes_of(third)
    assert decode_lease(first) == decode_lease(second) == decode_lease(third)


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00.000000Z"),
        ("2026-01-01T01:00:00.5+01:00", "2026-01-01T00:00:00.500000Z"),
        ("2026-01-01T00:00:00", ""),
        ("yesterday", ""),
        ("", ""),
        ("9999-12-31T23:59:59-12:00", ""),
    ],
)
def test_times_are_micro_times_or_nothing(text: str, time: str) -> None:
    """Kubernetes refuses a Lease with any other form, so a time for people must
    not cost the lease.
    """
    assert micro_time(text) == time


def test_a_candidate_record_comes_back_as_it_was() -> None:
    """With its elections, on top of what others put there."""
    record = CandidateRecord(
        "n/é",
        "s",
        3,
        {"ingress": Candidacy(eligible=True, priority=150)},
        "0.1.0",
        2100,
        extra={"peer": "x"},
    )
    base: Lease = {"metadata": {"annotations": {"a/b": "c"}, "labels": {"d": "e"}}}
    lease = encode_candidate_lease(record, candidate_lease(record.name), "", None, base)
    metadata(lease)["name"] = candidate_lease(record.name)
    assert decode_candidate_lease(lease) == record
    assert notes_of(lease)["a/b"] == "c"


def test_the_record_of_another_node_is_no_candidate() -> None:
    """Somebody copied a Lease under another name."""
    lease = encode_candidate_lease(CandidateRecord("a", "s", 1), candidate_lease("b"), "", None)
    with pytest.raises(BadRecord, match="that of a"):
        decode_candidate_lease(lease)
