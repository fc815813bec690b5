"""The records as JSON.

What the stores that keep bytes (file, etcd) write, and how strictly it is read. Pure.

How versions share a group
    `version` says which format wrote a record last. A later version only ever adds keys at the top
    level; what a key of an earlier version means never changes. So a record of a later version is
    read as long as the keys known here are right, and keys that are not known are kept in `extra`
    and written back. All keys of version 1 are always there.

Everything else is refused as a whole with BadRecord: a record that is half understood is more
dangerous than none, and for a record that says nothing the election waits out the longest lease it
knows of.

Numbers: lease_duration and refresh_interval are whole milliseconds; epoch and counter are whole
numbers below 2**63.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Never, TypeVar

from election.model import Candidacy, CandidateRecord, Identity, Record, Release
from election.stores.errors import BadRecord

LARGEST = 256 * 1024
"""Bytes of a record that are read at most; one of vipd's own has about 600."""
DEEPEST = 32
"""Nesting of a record that is read at most: an unknown key may bring a structure, but nobody's
stack may end on it."""
LARGEST_COUNT = 2**63 - 1
LEASE_DURATION = range(1_000, 300_001)
"""Milliseconds; the bounds of election.timing."""
REFRESH_INTERVAL = range(100, 3_600_001)
PRIORITY = range(255)
"""0: none. 255 is VRRP's address owner, which vipd does not have."""


T = TypeVar("T")


def encode_record(record: Record) -> bytes:
    """Return an election's record as JSON."""
    return _encode(record_fields(record), record.extra)


def decode_record(data: bytes) -> Record:
    """Read an election's record; raises BadRecord."""
    return record_of(parse(data))


def encode_candidate(record: CandidateRecord) -> bytes:
    """Return a node's candidate record as JSON."""
    fields: dict[str, object] = {
        "version": record.version,
        "name": record.name,
        "session": record.session,
        "counter": record.counter,
        "refresh_interval": record.refresh_interval,
        "vipd_version": record.vipd_version,
        "elections": {
            name: _candidacy_fields(candidacy) for name, candidacy in record.elections.items()
        },
    }
    return _encode(fields, record.extra)


def decode_candidate(data: bytes) -> CandidateRecord:
    """Read a node's candidate record; raises BadRecord.

    Unknown keys inside an election are passed over: only the node itself ever rewrites its
    candidate record.
    """
    fields = _Fields(parse(data), "the record")
    return CandidateRecord(
        version=fields.number("version", 1, LARGEST_COUNT),
        name=fields.text("name"),
        session=fields.text("session"),
        counter=fields.number("counter", 0, LARGEST_COUNT),
        refresh_interval=fields.number(
            "refresh_interval", REFRESH_INTERVAL.start, REFRESH_INTERVAL.stop - 1
        ),
        vipd_version=fields.text("vipd_version"),
        elections={
            name: _candidacy_of(name, value) for name, value in fields.mapping("elections").items()
        },
        extra=fields.rest(),
    )


def record_fields(record: Record) -> dict[str, object]:
    """Return the known fields of a record as JSON values, `extra` left out."""
    return {
        "version": record.version,
        "uid": record.uid,
        "holder": record.holder,
        "session": record.session,
        "epoch": record.epoch,
        "counter": record.counter,
        "lease_duration": record.lease_duration,
        "successor": record.successor
        and {"name": record.successor.name, "session": record.successor.session},
        "bound": record.bound,
        "pin": record.pin,
        "priority": record.priority,
        "addresses": list(record.addresses),
        "release": record.release
        and {"session": record.release.session, "epoch": record.release.epoch},
        "acquire_time": record.acquire_time,
        "renew_time": record.renew_time,
    }


def record_of(values: Mapping[str, object]) -> Record:
    """Return the record that these JSON values describe; raises BadRecord."""
    fields = _Fields(values, "the record")
    return Record(
        version=fields.number("version", 1, LARGEST_COUNT),
        uid=fields.text("uid"),
        holder=fields.text("holder"),
        session=fields.text("session"),
        epoch=fields.number("epoch", 0, LARGEST_COUNT),
        counter=fields.number("counter", 0, LARGEST_COUNT),
        lease_duration=fields.number(
            "lease_duration", LEASE_DURATION.start, LEASE_DURATION.stop - 1
        ),
        successor=fields.optional("successor", _identity_of),
        bound=fields.flag("bound"),
        pin=fields.text("pin"),
        priority=fields.number("priority", PRIORITY.start, PRIORITY.stop - 1),
        addresses=fields.texts("addresses"),
        release=fields.optional("release", _release_of),
        acquire_time=fields.text("acquire_time"),
        renew_time=fields.text("renew_time"),
        extra=fields.rest(),
    )


def parse(data: bytes, largest: int = LARGEST) -> dict[str, object]:
    """Read one JSON object of at most `largest` bytes, strictly; raises BadRecord.

    Refused: more bytes, nesting beyond DEEPEST, anything but UTF-8, a key twice, NaN, infinities (a
    number like 1e999 becomes one), half a surrogate pair. All of these would come back when the
    record is written again.
    """
    if len(data) > largest:
        raise BadRecord(f"the record has more than {largest} bytes")
    try:
        value = json.loads(
            data.decode(), object_pairs_hook=_once, parse_constant=_no_number, parse_float=_finite
        )
        if b"\\u" in data:
            json.dumps(value, ensure_ascii=False).encode()
    except BadRecord:
        raise
    except UnicodeError:
        raise BadRecord("the record is not UTF-8 text") from None
    except RecursionError:
        raise BadRecord(f"the record is nested more than {DEEPEST} levels deep") from None
    except ValueError as error:
        raise BadRecord(f"the record is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise BadRecord("the record is not a JSON object")
    _limit_depth(value, DEEPEST)
    return value


class _Fields:
    """The keys of one JSON object, each taken once and with its type.

    What is left in the end is unknown.
    """

    def __init__(self, value: object, what: str) -> None:
        if not isinstance(value, Mapping):
            raise BadRecord(f"{what} is not an object")
        self._values = dict(value)
        self._what = what

    def _take(self, key: str) -> object:
        if key not in self._values:
            raise BadRecord(f"{self._what} has no {key}")
        return self._values.pop(key)

    def text(self, key: str) -> str:
        return _text(self._take(key), key)

    def texts(self, key: str) -> tuple[str, ...]:
        value = self._take(key)
        if not isinstance(value, list):
            raise BadRecord(f"{key} is not a list")
        return tuple(_text(item, key) for item in value)

    def flag(self, key: str) -> bool:
        value = self._take(key)
        if not isinstance(value, bool):
            raise BadRecord(f"{key} is neither true nor false")
        return value

    def number(self, key: str, lowest: int, highest: int) -> int:
        value = self._take(key)
        # `true` is an int to Python.
        if not isinstance(value, int) or isinstance(value, bool):
            raise BadRecord(f"{key} is not a whole number")
        if not lowest <= value <= highest:
            raise BadRecord(f"{key} is outside {lowest}..{highest}")
        return value

    def mapping(self, key: str) -> Mapping[str, object]:
        value = self._take(key)
        if not isinstance(value, dict):
            raise BadRecord(f"{key} is not an object")
        return value

    def optional(self, key: str, read: Callable[[_Fields], T]) -> T | None:
        value = self._take(key)
        if value is None:
            return None
        fields = _Fields(value, key)
        result = read(fields)
        if fields.rest():
            raise BadRecord(f"{key} has unknown keys")
        return result

    def rest(self) -> dict[str, object]:
        return self._values


def _identity_of(fields: _Fields) -> Identity:
    return Identity(fields.text("name"), fields.text("session"))


def _release_of(fields: _Fields) -> Release:
    return Release(fields.text("session"), fields.number("epoch", 0, LARGEST_COUNT))


def _candidacy_fields(candidacy: Candidacy) -> dict[str, object]:
    return {
        "eligible": candidacy.eligible,
        "priority": candidacy.priority,
        "asks": candidacy.asks,
        "epoch": candidacy.epoch,
        "state": candidacy.state,
        "reason": candidacy.reason,
    }


def _candidacy_of(name: str, value: object) -> Candidacy:
    fields = _Fields(value, _text(name, "the name of an election"))
    return Candidacy(
        eligible=fields.flag("eligible"),
        priority=fields.number("priority", PRIORITY.start, PRIORITY.stop - 1),
        asks=fields.flag("asks"),
        epoch=fields.number("epoch", 0, LARGEST_COUNT),
        state=fields.text("state"),
        reason=fields.text("reason"),
    )


def _text(value: object, key: str) -> str:
    if not isinstance(value, str):
        raise BadRecord(f"{key} is not a text")
    # Names reach logs and terminals: an escape sequence in a record must not.
    if not value.isprintable():
        raise BadRecord(f"{key} holds characters that cannot be printed")
    return value


def _encode(fields: dict[str, object], extra: Mapping[str, object]) -> bytes:
    data = _dump({**fields, **{key: value for key, value in extra.items() if key not in fields}})
    # Somebody else filled the record with unknown keys almost to the limit and a write makes it one
    # byte longer: nobody could read it again. The lease weighs more than keys that nobody here
    # knows.
    return data if len(data) <= LARGEST else _dump(fields)


def _dump(fields: dict[str, object]) -> bytes:
    return json.dumps(fields, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise BadRecord("a key stands there twice")
    return found


def _no_number(text: str) -> Never:
    raise BadRecord(f"{text} is not a number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise BadRecord("a number is too large")
    return value


def _limit_depth(value: object, left: int) -> None:
    if left < 0:
        raise BadRecord(f"the record is nested more than {DEEPEST} levels deep")
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for item in inner:
        _limit_depth(item, left - 1)
