"""Records survive a round trip, and bytes that are not a record are refused with a sentence,
whatever they are.
"""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from election.model import Candidacy, CandidateRecord, Identity, Record, Release
from election.stores.encoding import (
    DEEPEST,
    LARGEST,
    decode_candidate,
    decode_record,
    encode_candidate,
    encode_record,
    parse,
)
from election.stores.errors import BadRecord

RECORD = Record(
    uid="u1",
    holder="a",
    session="s1",
    epoch=7,
    counter=41,
    lease_duration=3000,
    successor=Identity("b", "s2"),
    bound=True,
    pin="a",
    priority=150,
    addresses=("192.0.2.10/32", "2001:db8::10/128"),
    release=Release("s0", 6),
    acquire_time="2026-01-01T00:00:00Z",
    renew_time="2026-01-01T00:00:01Z",
)
CANDIDATE = CandidateRecord(
    "a",
    "s1",
    3,
    {
        "ingress": Candidacy(
            eligible=True, priority=150, asks=True, epoch=7, state="active", reason="acquired"
        )
    },
    "0.1.0",
)

texts = st.text(st.characters(exclude_categories=["C", "Z"]) | st.just(" "), max_size=20)
counts = st.integers(0, 2**63 - 1)
priorities = st.integers(0, 254)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=3)
    ),
    max_leaves=8,
)
extras = st.dictionaries(st.sampled_from(["x", "peer", "später", "_"]), json_values, max_size=3)
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
    priority=priorities,
    addresses=st.lists(texts, max_size=3).map(tuple),
    release=st.none() | st.builds(Release, texts, counts),
    acquire_time=texts,
    renew_time=texts,
    version=st.integers(1, 5),
    extra=extras,
)
candidacies = st.builds(
    Candidacy,
    st.booleans(),
    priorities,
    asks=st.booleans(),
    epoch=counts,
    state=texts,
    reason=texts,
)
candidates = st.builds(
    CandidateRecord,
    name=texts,
    session=texts,
    counter=counts,
    elections=st.dictionaries(texts, candidacies, max_size=3),
    vipd_version=texts,
    refresh_interval=st.integers(100, 3_600_000),
    version=st.integers(1, 5),
    extra=extras,
)


def changed(**values: object) -> bytes:
    """Return the record's JSON with some keys replaced."""
    return json.dumps(json.loads(encode_record(RECORD)) | values).encode()


@given(records)
def test_a_record_survives_the_round_trip(record: Record) -> None:
    """What was written is read back, unknown keys included."""
    assert decode_record(encode_record(record)) == record


@given(candidates)
def test_a_candidate_record_survives_the_round_trip(record: CandidateRecord) -> None:
    """What was written is read back, unknown keys included."""
    assert decode_candidate(encode_candidate(record)) == record


@given(st.binary())
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    """No bytes raise anything but BadRecord."""
    for decode in (decode_record, decode_candidate):
        with pytest.raises(BadRecord, match=r"^\S.*\S$"):
            decode(data)


@given(st.data())
def test_a_record_with_one_value_replaced_is_read_or_refused(data: st.DataObject) -> None:
    """Whatever stands in the place of a field, the answer is a record that writes itself back, or
    BadRecord.
    """
    fields = json.loads(encode_record(RECORD))
    fields[data.draw(st.sampled_from(sorted(fields)))] = data.draw(json_values)
    try:
        record = decode_record(json.dumps(fields).encode())
    except BadRecord:
        return
    assert decode_record(encode_record(record)) == record


@given(st.data())
def test_a_record_with_bytes_damaged_is_read_or_refused(data: st.DataObject) -> None:
    """A flipped or lost byte gives a record that writes itself back, or BadRecord."""
    damaged = bytearray(encode_record(RECORD))
    damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        record = decode_record(
            bytes(
                damaged[: data.draw(st.integers(0, len(damaged)))]
                if data.draw(st.booleans())
                else damaged
            )
        )
    except BadRecord:
        return
    assert decode_record(encode_record(record)) == record


@pytest.mark.parametrize(
    "values",
    [
        {"lease_duration": 999},
        {"lease_duration": 300_001},
        {"lease_duration": 3000.0},
        {"lease_duration": True},
        {"epoch": -1},
        {"epoch": 2**63},
        {"counter": "41"},
        {"counter": False},
        {"bound": 1},
        {"bound": None},
        {"priority": 255},
        {"version": 0},
        {"version": "1"},
        {"holder": None},
        {"holder": "a\nb"},
        {"holder": "\x1b[2J"},
        {"session": "\ud800"},
        {"addresses": "192.0.2.10/32"},
        {"addresses": [1]},
        {"successor": "b"},
        {"successor": {"name": "b"}},
        {"successor": {"name": "b", "session": "s", "since": 1}},
        {"release": {"session": "s", "epoch": True}},
        {"release": []},
    ],
)
def test_a_wrong_field_is_refused(values: dict[str, object]) -> None:
    """Types are exact and ranges are kept."""
    with pytest.raises(BadRecord):
        decode_record(changed(**values))


@pytest.mark.parametrize("key", sorted(json.loads(encode_record(RECORD))))
def test_a_missing_field_is_refused(key: str) -> None:
    """A record that lacks a key of version 1 says nothing."""
    fields = json.loads(encode_record(RECORD))
    del fields[key]
    with pytest.raises(BadRecord, match=key):
        decode_record(json.dumps(fields).encode())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b'\xef\xbb\xbf{"a": 1}',
        b'{"a": 1, "a": 2}',
        b'{"a": {"b": 1, "b": 1}}',
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": 1e999}',
        b'{"a": "\\ud800"}',
        b'{"a": 1} {}',
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"a": ' + b"[" * (DEEPEST + 1) + b"]" * (DEEPEST + 1) + b"}",
        b'{"a": ' + b"[" * 100_000,
        b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a": "' + b"x" * LARGEST + b'"}',
    ],
    ids=lambda data: repr(data[:24]),
)
def test_what_json_leaves_open_is_refused(data: bytes) -> None:
    """Duplicate keys, numbers that are none, depth, size and broken text do not get past the
    parser.
    """
    with pytest.raises(BadRecord):
        decode_record(data)


def test_depth_is_allowed_up_to_the_limit() -> None:
    """An unknown key may bring a structure."""
    assert parse(b'{"a": ' + b"[" * (DEEPEST - 1) + b"]" * (DEEPEST - 1) + b"}")


def test_a_later_version_is_read_and_keeps_its_keys() -> None:
    """An older node in a group with a newer one writes back what it does not know."""
    record = decode_record(changed(version=2, quorum={"nodes": ["a", 1.5, None]}))
    assert record.version == 2
    assert record.extra == {"quorum": {"nodes": ["a", 1.5, None]}}
    assert json.loads(encode_record(record))["quorum"] == {"nodes": ["a", 1.5, None]}


def test_an_unknown_key_never_hides_a_known_one() -> None:
    """A record whose extra claims a known key is written with the known value."""
    record = Record(uid="u", lease_duration=3000, extra={"holder": "thief"})
    assert decode_record(encode_record(record)).holder == ""


def test_a_record_filled_to_the_limit_stays_readable() -> None:
    """Unknown keys that make a record too long to be read again are given up, the lease is not."""
    full = decode_record(changed(junk="x" * (LARGEST - 700)))
    assert full.extra
    longer = Record(uid="u" * 800, lease_duration=3000, extra=full.extra)
    assert decode_record(encode_record(longer)).extra == {}


def test_unknown_keys_of_a_candidacy_are_passed_over() -> None:
    """Only its own node rewrites a candidate record, so nothing is lost."""
    fields = json.loads(encode_candidate(CANDIDATE))
    fields["elections"]["ingress"]["load"] = 3
    assert decode_candidate(json.dumps(fields).encode()) == CANDIDATE


def test_bytes_are_the_same_for_the_same_record() -> None:
    """Two encodings of one record are equal, so bytes can be compared."""
    assert encode_record(decode_record(encode_record(RECORD))) == encode_record(RECORD)
