"""Records as Leases of coordination.k8s.io/v1, and back. Pure.

    Lease vipd-<election>   the election's record
    Lease vipd.<node>       the node's candidate record

The fields of `spec` mean what the documentation of Kubernetes says: holderIdentity is the node,
leaseDurationSeconds is rounded up, acquireTime and renewTime are wall-clock times for people,
leaseTransitions counts the changes of holder. Everything else stands in annotations `vipd/…`: texts
as they are, the rest as JSON. vipd/lease-duration-ms decides, not the rounded seconds.

holderIdentity alone says who holds the lease, so `kubectl edit` shows the truth; emptied by hand it
comes without the proof of a release. Annotations that this version does not know are in the
record's `extra` if they are vipd's, and stay as they are otherwise, as do labels, owners and
unknown fields of `spec`.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import json
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import cast

from election.model import CandidateRecord, Record
from election.stores.encoding import (
    decode_candidate,
    encode_candidate,
    parse,
    record_fields,
    record_of,
)
from election.stores.errors import BadRecord

Lease = dict[str, object]
"""A Lease as JSON."""

OURS = "vipd/"
CANDIDATE = f"{OURS}candidate"
TEXTS = {"uid": f"{OURS}uid", "session": f"{OURS}session", "pin": f"{OURS}pin"}
VALUES = {
    "version": f"{OURS}format",
    "epoch": f"{OURS}epoch",
    "counter": f"{OURS}counter",
    "lease_duration": f"{OURS}lease-duration-ms",
    "successor": f"{OURS}successor",
    "bound": f"{OURS}bound",
    "priority": f"{OURS}priority",
    "addresses": f"{OURS}addresses",
    "release": f"{OURS}release",
}
ABSENT: dict[str, object] = {
    "pin": "",
    "successor": None,
    "bound": False,
    "priority": 0,
    "addresses": [],
    "release": None,
}
"""Fields that are left out where they have these values, so that a Lease reads well; all others
must be there."""
AGAIN = f"{OURS}again"
"""Stands in every other one of several writes of the same content: Kubernetes takes a write that
changes nothing for none, gives it no new resourceVersion, and so could let two nodes write on one
and the same."""
KNOWN = {*TEXTS.values(), *VALUES.values(), AGAIN}
SELECTOR = "app.kubernetes.io/name=vipd"
LABEL, LABELLED = SELECTOR.split("=")
LONGEST_NAME = 253
LONGEST_LABEL = 63
LONGEST_ANNOTATIONS = 256 * 1024
"""Bytes that the keys and values of all annotations of an object may have (Kubernetes refuses
more)."""
LARGEST_TRANSITIONS = 2**31 - 1
DEAD_AFTER = 3
"""A candidate record counts as live for so many of its refresh intervals; for people who read the
Lease."""
PLAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
"""Names that Kubernetes gives to Nodes and Leases."""
ANNOTATION_NAME = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9]")
CODED = "x--"
"""Begins what stands in the place of a name that Kubernetes would not take; no name of a host or an
instance begins so."""


# ---------------------------------------------------------------- names


def election_lease(election: str) -> str:
    """Return the name of an election's Lease."""
    return f"vipd-{_coded(election)}"


def candidate_lease(node: str) -> str:
    """Return the name of a node's Lease."""
    return f"vipd.{_coded(node)}"


def election_of(lease: str) -> str | None:
    """Return the election of which a Lease of this name has the record; None: of none."""
    return _decoded(lease.removeprefix("vipd-")) if lease.startswith("vipd-") else None


def node_of(lease: str) -> str | None:
    """Return the node of which a Lease of this name has the candidate record; None: of none."""
    return _decoded(lease.removeprefix("vipd.")) if lease.startswith("vipd.") else None


def _coded(name: str) -> str:
    if PLAIN.fullmatch(name) and not name.startswith(CODED):
        return name
    return CODED + base64.b32hexencode(name.encode()).decode().rstrip("=").lower()


def _decoded(text: str) -> str | None:
    """Return the name of which `_coded` makes this text; None: of none."""
    if not text.startswith(CODED):
        return text if PLAIN.fullmatch(text) else None
    code = text.removeprefix(CODED).upper()
    try:
        name = base64.b32hexdecode(code + "=" * (-len(code) % 8)).decode()
    except (binascii.Error, ValueError):
        return None
    return name if _coded(name) == text else None


def name_problem(lease: str) -> str:
    """Return why Kubernetes would not take this name; empty: it does."""
    return (
        f"the name {lease} has more than {LONGEST_NAME} characters"
        if len(lease) > LONGEST_NAME
        else ""
    )


# ---------------------------------------------------------------- parts of a Lease


def metadata(lease: Mapping[str, object]) -> Lease:
    """Return the metadata; empty if there is none."""
    return _object(lease.get("metadata"))


def is_labelled(lease: Mapping[str, object]) -> bool:
    """Whether a Lease has the label that vipd selects by."""
    return _object(metadata(lease).get("labels")).get(LABEL) == LABELLED


def spec(lease: Mapping[str, object]) -> Lease:
    """Return the spec; empty if there is none."""
    return _object(lease.get("spec"))


def notes_of(lease: Mapping[str, object]) -> dict[str, str]:
    """Return the annotations; empty if there are none."""
    return cast("dict[str, str]", _object(metadata(lease).get("annotations")))


def text_of(values: Mapping[str, object], key: str) -> str:
    """Return a text; empty if it is missing or none."""
    value = values.get(key)
    return value if isinstance(value, str) else ""


def _object(value: object) -> Lease:
    return value if isinstance(value, dict) else {}


# ---------------------------------------------------------------- elections


def encode_lease(record: Record, name: str, base: Lease | None = None) -> Lease:
    """Return the Lease of a record on top of what is there, of which everything foreign is kept.

    With a base it carries its resourceVersion and its uid: Kubernetes compares both. Without the
    uid a PUT would make a Lease again that somebody deleted: Leases may be created by PUT.
    """
    fields = record_fields(record)
    ours = {
        key: str(fields[field])
        for field, key in TEXTS.items()
        if fields[field] != ABSENT.get(field)
    }
    ours |= {
        key: _dump(fields[field])
        for field, key in VALUES.items()
        if field not in ABSENT or fields[field] != ABSENT[field]
    }
    unknown = {
        f"{OURS}{key}": _text(value)
        for key, value in record.extra.items()
        if ANNOTATION_NAME.fullmatch(key)
    }
    old = spec(base or {})
    times = {
        "acquireTime": micro_time(record.acquire_time),
        "renewTime": micro_time(record.renew_time),
    }
    fresh: Lease = {
        "holderIdentity": record.holder,
        "leaseDurationSeconds": math.ceil(record.lease_duration / 1000),
        "leaseTransitions": _transitions(old, record.holder),
    }
    kept = {key: value for key, value in old.items() if key not in times}
    said = {**kept, **fresh, **{key: value for key, value in times.items() if value}}
    lease = _lease(name, base, {**unknown, **ours}, said, "election")
    if base is not None and (notes_of(lease), said) == (notes_of(base), old):
        notes_of(lease)[AGAIN] = "true"
    return lease


def decode_lease(lease: Lease) -> Record:
    """Read an election's record; raises BadRecord."""
    notes = notes_of(lease)
    values: dict[str, object] = dict(ABSENT)
    for field, key in TEXTS.items():
        if key in notes or field not in ABSENT:
            values[field] = _there(notes, key)
    for field, key in VALUES.items():
        if key in notes or field not in ABSENT:
            values[field] = _value(_there(notes, key), key)
    said = spec(lease)
    values["holder"] = text_of(said, "holderIdentity")
    values["acquire_time"] = short_time(text_of(said, "acquireTime"))
    values["renew_time"] = short_time(text_of(said, "renewTime"))
    extra = {
        key.removeprefix(OURS): _guess(text)
        for key, text in notes.items()
        if key.startswith(OURS) and key not in KNOWN
    }
    return replace(record_of(values), extra=extra)


def _there(notes: Mapping[str, str], key: str) -> str:
    if key not in notes:
        raise BadRecord(f"the Lease has no annotation {key}")
    return notes[key]


def _value(text: str, key: str) -> object:
    try:
        fields = parse(f'{{"value":{text}}}'.encode())
    except BadRecord:
        raise BadRecord(f"the annotation {key} makes no sense") from None
    if set(fields) != {"value"}:
        raise BadRecord(f"the annotation {key} makes no sense")
    return fields["value"]


def _guess(text: str) -> object:
    """Return what an annotation that nobody here knows says: JSON, or else a text."""
    try:
        return _value(text, "")
    except BadRecord:
        return text


def _text(value: object) -> str:
    """Return the annotation of which `_guess` makes this value again."""
    return value if isinstance(value, str) and _guess(value) == value else _dump(value)


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _transitions(old: Lease, holder: str) -> int:
    """Return leaseTransitions.

    A node that takes a lease of which another one, or none any more, was the holder adds one.
    """
    count = old.get("leaseTransitions")
    known = count if isinstance(count, int) and count >= 0 else 0
    changed = bool(holder) and holder != text_of(old, "holderIdentity") and "acquireTime" in old
    return min(known + changed, LARGEST_TRANSITIONS)


# ---------------------------------------------------------------- candidates


def encode_candidate_lease(
    record: CandidateRecord, name: str, renewed: str, owner: Lease | None, base: Lease | None = None
) -> Lease:
    """Return the Lease of a candidate record.

    `renewed` is a wall-clock time or empty, `owner` an ownerReference.
    """
    said: Lease = {
        "holderIdentity": record.name,
        "leaseDurationSeconds": math.ceil(DEAD_AFTER * record.refresh_interval / 1000),
    }
    if time := micro_time(renewed):
        said["renewTime"] = time
    lease = _lease(
        name,
        base,
        {CANDIDATE: encode_candidate(record).decode()},
        {**spec(base or {}), **said},
        "candidate",
    )
    owners = metadata(lease).get("ownerReferences")
    there = owners if isinstance(owners, list) else []
    if owner is not None and not any(
        isinstance(one, dict) and one.get("uid") == owner["uid"] for one in there
    ):
        metadata(lease)["ownerReferences"] = [*there, owner]
    return lease


def owner_of(node: Mapping[str, object]) -> Lease | None:
    """Return the ownerReference to a Node; None: it has no uid.

    Not `blockOwnerDeletion`, which needs rights on finalizers of nodes.
    """
    about = metadata(node)
    name, uid = text_of(about, "name"), text_of(about, "uid")
    return {"apiVersion": "v1", "kind": "Node", "name": name, "uid": uid} if name and uid else None


def decode_candidate_lease(lease: Lease) -> CandidateRecord:
    """Read a candidate record; raises BadRecord."""
    record = decode_candidate(_there(notes_of(lease), CANDIDATE).encode())
    if candidate_lease(record.name) != text_of(metadata(lease), "name"):
        raise BadRecord(f"the candidate record is that of {record.name}")
    return record


def _lease(
    name: str, base: Lease | None, ours: dict[str, str], said: Lease, component: str
) -> Lease:
    before = metadata(base or {})
    foreign = {
        key: value for key, value in notes_of(base or {}).items() if not key.startswith(OURS)
    }
    notes = {**foreign, **ours}
    # Somebody else filled the annotations to the limit and a write makes them one byte longer:
    # Kubernetes would refuse every renewal. The lease weighs more than what nobody here knows.
    if (
        sum(len(key.encode()) + len(value.encode()) for key, value in notes.items())
        > LONGEST_ANNOTATIONS
    ):
        notes = {key: value for key, value in ours.items() if key in KNOWN or key == CANDIDATE}
    labels = {
        "app.kubernetes.io/name": "vipd",
        "app.kubernetes.io/instance": name.removeprefix("vipd-")
        .removeprefix("vipd.")[:LONGEST_LABEL]
        .rstrip("-."),
        "app.kubernetes.io/component": component,
    }
    kept = {key: value for key, value in before.items() if key != "managedFields"}
    fresh = {
        **kept,
        "name": name,
        "labels": {**_object(before.get("labels")), **labels},
        "annotations": notes,
    }
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": fresh,
        "spec": said,
    }


# ---------------------------------------------------------------- times


def micro_time(text: str) -> str:
    """Return an RFC 3339 time as a MicroTime of Kubernetes, which has six digits, always; empty for
    anything else.
    """
    try:
        moment = dt.datetime.fromisoformat(text)
        if moment.tzinfo is None:
            return ""
        return moment.astimezone(dt.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    except (ValueError, OverflowError):
        return ""


def short_time(text: str) -> str:
    """Return a MicroTime without a fraction of zero."""
    return text.removesuffix(".000000Z") + "Z" if text.endswith(".000000Z") else text
