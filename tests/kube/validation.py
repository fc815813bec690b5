"""What an object must look like before it is stored. Each function returns all that is wrong.

Names, labels, annotations:
https://kubernetes.io/docs/concepts/overview/working-with-objects/names/, …/labels/ and
…/annotations/. Leases: https://kubernetes.io/docs/reference/kubernetes-api/coordination/lease-v1/
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator

from tests.kube.resources import LEASES, Resource
from tests.kube.status import Cause, Json, bad_request

LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
SUBDOMAIN = re.compile(rf"{LABEL}(\.{LABEL})*")
NAME_PART = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
LONGEST_SUBDOMAIN = 253
LONGEST_NAME_PART = 63
ALL_ANNOTATIONS = 256 * 1024
"""Bytes that the keys and values of all annotations may have together."""
MICRO_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6})(Z|[+-]\d\d:\d\d)")
"""Exactly six digits: the decoder takes the layout 2006-01-02T15:04:05.000000Z07:00 and no
other."""
INT32 = 2**31
LEASE_SPEC = {
    "holderIdentity": str,
    "leaseDurationSeconds": int,
    "acquireTime": "time",
    "renewTime": "time",
    "leaseTransitions": int,
}
"""The fields of the stable API. `strategy` and `preferredHolder` fall away unless the feature gate
CoordinatedLeaderElection is on, which it is not by default:
https://kubernetes.io/docs/concepts/cluster-administration/coordinated-leader-election/ ."""


def is_subdomain(text: str) -> bool:
    """Whether this is an RFC 1123 subdomain."""
    return len(text) <= LONGEST_SUBDOMAIN and SUBDOMAIN.fullmatch(text) is not None


def is_qualified_name(text: str) -> bool:
    """Whether this may be the key of a label or an annotation.

    An optional prefix, a slash, a name.
    """
    prefix, slash, name = text.rpartition("/")
    good = len(name) <= LONGEST_NAME_PART and NAME_PART.fullmatch(name) is not None
    return good and (not slash or is_subdomain(prefix))


def decoded(resource: Resource, body: object) -> Json:
    """Return a body as the resource's type has it: unknown fields fall away.

    Raises a 400 for wrong types.

    https://kubernetes.io/docs/reference/using-api/api-concepts/#field-validation (level Warn:
    dropped)
    """
    if not isinstance(body, dict):
        raise bad_request(
            "the object provided is unrecognized (must be of type Object): couldn't get "
            "version/kind"
        )
    if (body.get("kind"), body.get("apiVersion")) != (resource.kind, resource.api_version):
        raise bad_request(
            f"the object provided is {body.get('kind')}.{body.get('apiVersion')}, not "
            f"{resource.kind}"
        )
    metadata = body.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise bad_request("metadata is not an object")
    for key in ("labels", "annotations"):
        _texts_only(key, metadata.get(key) or {})
    if resource is LEASES:
        return {**body, "metadata": metadata, "spec": _lease_spec(body.get("spec") or {})}
    return {**body, "metadata": metadata}


def _texts_only(key: str, values: object) -> None:
    if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
        raise bad_request(
            f"json: cannot unmarshal into Go struct field ObjectMeta.metadata.{key} of type string"
        )


def _lease_spec(spec: object) -> Json:
    if not isinstance(spec, dict):
        raise bad_request(
            "json: cannot unmarshal into Go struct field Lease.spec of type v1.LeaseSpec"
        )
    found: Json = {}
    for key, kind in LEASE_SPEC.items():
        value = spec.get(key)
        if value is None:
            continue
        found[key] = _time(value) if kind == "time" else value
        whole = isinstance(value, int) and not isinstance(value, bool) and -INT32 <= value < INT32
        if (kind is int and not whole) or (kind is str and not isinstance(value, str)):
            raise bad_request(f"json: cannot unmarshal into Go struct field LeaseSpec.spec.{key}")
    return found


def _time(value: object) -> str:
    match = MICRO_TIME.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise bad_request(
            f'parsing time "{value}" as "2006-01-02T15:04:05.000000Z07:00": cannot parse'
        )
    moment = dt.datetime.fromisoformat(match[0])
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def problems(resource: Resource, thing: Json) -> list[Cause]:
    """Return what is wrong with the values of an object whose types are right."""
    metadata = thing["metadata"]
    assert isinstance(metadata, dict)
    found = list(_metadata_problems(metadata))
    return found + (list(_lease_problems(thing["spec"])) if resource is LEASES else [])


def _metadata_problems(metadata: Json) -> Iterator[Cause]:
    name = str(metadata.get("name"))
    if not is_subdomain(name):
        yield _cause(
            "metadata.name",
            name,
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, "
            "'-' or '.'",
        )
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    assert isinstance(labels, dict)
    assert isinstance(annotations, dict)
    for key, value in labels.items():
        if not is_qualified_name(key):
            yield _cause(
                "metadata.labels",
                key,
                "name part must consist of alphanumeric characters, '-', '_' or '.'",
            )
        if value and not (len(value) <= LONGEST_NAME_PART and NAME_PART.fullmatch(value)):
            yield _cause(
                "metadata.labels",
                value,
                "a valid label must be an empty string or consist of alphanumeric characters",
            )
    # Keys of annotations are compared without regard to case: the prefix of one may be written in
    # capitals.
    for key in annotations:
        if not is_qualified_name(key.lower()):
            yield _cause(
                "metadata.annotations",
                key,
                "name part must consist of alphanumeric characters, '-', '_' or '.'",
            )
    if (
        sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items())
        > ALL_ANNOTATIONS
    ):
        yield Cause(
            "FieldValueTooLong",
            f"Too long: may not be more than {ALL_ANNOTATIONS} bytes",
            "metadata.annotations",
        )
    yield from _owner_problems(metadata.get("ownerReferences") or [])


def _owner_problems(owners: object) -> Iterator[Cause]:
    for owner in owners if isinstance(owners, list) else []:
        for key in ("apiVersion", "kind", "name", "uid"):
            if not owner.get(key):
                yield _cause(f"metadata.ownerReferences.{key}", "", f"{key} must not be empty")


def _lease_problems(spec: object) -> Iterator[Cause]:
    assert isinstance(spec, dict)
    if spec.get("leaseDurationSeconds", 1) <= 0:
        yield _cause(
            "spec.leaseDurationSeconds", spec["leaseDurationSeconds"], "must be greater than 0"
        )
    if spec.get("leaseTransitions", 0) < 0:
        yield _cause(
            "spec.leaseTransitions", spec["leaseTransitions"], "must be greater than or equal to 0"
        )


def _cause(path: str, value: object, text: str) -> Cause:
    shown = f'"{value}"' if isinstance(value, str) else value
    return Cause("FieldValueInvalid", f"Invalid value: {shown}: {text}", path)
