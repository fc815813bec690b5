"""The keys of the configuration file, and which value each of them takes.

A draft has every key optional, also those that must be given: so what is right in a file with
faults can still be looked at, and a missing name does not hide an address that stands there twice.
What must be given, what contradicts something else and what is out of range for a check is found in
`rules`; the defaults stand in `values` and `health.model`.
"""

from __future__ import annotations

from types import UnionType
from typing import Annotated, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, PlainValidator, ValidationError

from election.timing import LONGEST_LEASE, PROFILES
from health.model import Fault, OnFail, OnUnknown, Weight
from vipd.config import scalars
from vipd.config.findings import BadValueError, Findings, Path, nearest
from vipd.config.values import Gate, LogFormat, LogLevel, OnConflict
from vipd.config.yaml import Tree

HOUR = 3600.0
MOST_COUNTED = 1_000_000


def failure(value: object) -> OnFail:
    """Return what a failing check does: `fault`, or `{weight: n}`."""
    allowed = "fault, or {weight: -60}"
    if value == "fault":
        return Fault()
    if isinstance(value, dict) and set(value) == {"weight"}:
        return Weight(scalars.whole(-MOST_COUNTED, MOST_COUNTED)(value["weight"]))
    raise BadValueError("neither fault nor a weight", allowed)


Label = Annotated[str, PlainValidator(scalars.label)]
Node = Annotated[str, PlainValidator(scalars.node)]
Interface = Annotated[str, PlainValidator(scalars.interface)]
Address = Annotated[scalars.Address, PlainValidator(scalars.address)]
Priority = Annotated[int, PlainValidator(scalars.priority)]
Flag = Annotated[bool, PlainValidator(scalars.flag)]
Duration = Annotated[float, PlainValidator(scalars.seconds(0.0, HOUR))]
Count = Annotated[int, PlainValidator(scalars.whole(0, MOST_COUNTED))]
Plain = Annotated[str, PlainValidator(scalars.plain_text)]
Text = Annotated[str, PlainValidator(scalars.text)]
AbsolutePath = Annotated[str, PlainValidator(scalars.absolute_path)]
SecretPath = Annotated[str, PlainValidator(scalars.secret_path)]
SocketPath = Annotated[str, PlainValidator(scalars.socket_path)]


class Draft(BaseModel):
    """A mapping of the file with known keys only."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class FileDraft(Draft):
    """`backend.file`."""

    path: AbsolutePath | None = None


class EtcdDraft(Draft):
    """`backend.etcd`."""

    endpoints: tuple[Annotated[str, PlainValidator(scalars.endpoint)] | None, ...] | None = None
    prefix: Annotated[str, PlainValidator(scalars.prefix)] | None = None
    ca_file: AbsolutePath | None = None
    cert_file: AbsolutePath | None = None
    key_file: AbsolutePath | None = None
    username: Text | None = None
    password_file: SecretPath | None = None


class KubernetesDraft(Draft):
    """`backend.kubernetes`."""

    namespace: Label | None = None
    kubeconfig: AbsolutePath | None = None
    context: Text | None = None


class BackendDraft(Draft):
    """`backend`: exactly one of them."""

    kubernetes: KubernetesDraft | None = None
    etcd: EtcdDraft | None = None
    file: FileDraft | None = None


class TimingDraft(Draft):
    """`timing`: a profile, or the durations."""

    profile: Annotated[str, PlainValidator(scalars.choice(tuple(PROFILES)))] | None = None
    lease_duration: Annotated[float, PlainValidator(scalars.seconds(1.0, LONGEST_LEASE))] | None = (
        None
    )
    renew_interval: Duration | None = None
    request_timeout: Duration | None = None


class AnnounceDraft(Draft):
    """`instances[].announce`."""

    burst: Annotated[int, PlainValidator(scalars.whole(0, 100))] | None = None
    interval: Annotated[float, PlainValidator(scalars.seconds(0.1, 60.0))] | None = None
    refresh: Annotated[float, PlainValidator(scalars.seconds(1.0, HOUR))] | None = None
    pace: Annotated[int, PlainValidator(scalars.whole(1, 10_000))] | None = None


class HttpDraft(Draft):
    """`instances[].checks[].http`."""

    url: Annotated[str, PlainValidator(scalars.url)] | None = None
    method: Plain | None = None
    status: Annotated[tuple[tuple[int, int], ...], PlainValidator(scalars.status_ranges)] | None = (
        None
    )
    body: Text | None = None
    headers: Annotated[tuple[tuple[str, str], ...], PlainValidator(scalars.header_map)] | None = (
        None
    )
    host: Plain | None = None
    unix_socket: SocketPath | None = None
    ca_file: AbsolutePath | None = None
    verify: Flag | None = None


class TcpDraft(Draft):
    """`instances[].checks[].tcp`."""

    host: Annotated[str, PlainValidator(scalars.host)] | None = None
    port: Count | None = None


class InterfaceDraft(Draft):
    """`instances[].checks[].interface`."""

    interface: Interface | None = None


class CheckDraft(Draft):
    """`instances[].checks[]`: exactly one of the kinds, and how it is judged."""

    name: Label | None = None
    http: HttpDraft | None = None
    tcp: TcpDraft | None = None
    interface: InterfaceDraft | None = None
    interval: Duration | None = None
    timeout: Duration | None = None
    rise: Count | None = None
    fall: Count | None = None
    on_fail: Annotated[OnFail, PlainValidator(failure)] | None = None
    on_unknown: Annotated[str, PlainValidator(scalars.choice(tuple(OnUnknown)))] | None = None


class InstanceDraft(Draft):
    """`instances[]`."""

    name: Label | None = None
    interface: Interface | None = None
    addresses: tuple[Address | None, ...] | None = None
    priority: Priority | None = None
    preempt: Flag | None = None
    preempt_delay: Duration | None = None
    group: Label | None = None
    announce: AnnounceDraft | None = None
    on_conflict: Annotated[str, PlainValidator(scalars.choice(tuple(OnConflict)))] | None = None
    checks: tuple[CheckDraft | None, ...] | None = None


class MetricsDraft(Draft):
    """`metrics`."""

    listen: Annotated[tuple[str, int] | str, PlainValidator(scalars.listen)] | None = None


class ControlDraft(Draft):
    """`control`."""

    socket: SocketPath | None = None


class LogDraft(Draft):
    """`log`."""

    format: Annotated[str, PlainValidator(scalars.choice(tuple(LogFormat)))] | None = None
    level: Annotated[str, PlainValidator(scalars.choice(tuple(LogLevel)))] | None = None


class FenceDraft(Draft):
    """`fence`."""

    gate: Annotated[str, PlainValidator(scalars.choice(tuple(Gate)))] | None = None


class ConfigDraft(Draft):
    """The whole file."""

    node: Node | None = None
    backend: BackendDraft | None = None
    timing: TimingDraft | None = None
    instances: tuple[InstanceDraft | None, ...] | None = None
    metrics: MetricsDraft | None = None
    control: ControlDraft | None = None
    state_dir: AbsolutePath | None = None
    fence: FenceDraft | None = None
    log: LogDraft | None = None


NOT_YET = "not in this release yet"
LATER = {
    "": ("kubernetes",),
    "instances": ("hooks", "webhooks", "publish"),
    "instances.checks": ("exec", "file", "process", "gateway", "pod", "service", "node"),
}
"""Keys that are described but whose feature this release does not have."""


def later(path: Path) -> tuple[str, ...]:
    """Return the keys of the mapping at this path that wait for a later release."""
    return LATER.get(".".join(part for part in path if isinstance(part, str)), ())


def draft(tree: dict[str, Tree], findings: Findings) -> ConfigDraft:
    """Return what is right in the tree.

    Each wrong value is noted in `findings` and left out of the draft (None in a list).
    """
    try:
        return ConfigDraft.model_validate(tree)
    except ValidationError as error:
        for fault in error.errors(include_url=False, include_input=False):
            path = fault["loc"]
            raised = fault.get("ctx", {}).get("error")
            _note(findings, path, fault["type"], fault["msg"], raised)
            _leave_out(tree, path)
    return ConfigDraft.model_validate(tree)


def _note(findings: Findings, path: Path, kind: str, message: str, raised: object) -> None:
    if isinstance(raised, BadValueError):
        findings.error(path, raised.problem, raised.allowed, raised.nearest)
    elif kind == "extra_forbidden":
        _unknown_key(findings, path)
    elif kind == "model_type":
        findings.error(path, "a mapping of keys is wanted here", ", ".join(keys_at(path)))
    elif kind == "tuple_type":
        findings.error(path, "a list is wanted here", "- item, or [item, item]")
    else:
        findings.error(path, message)


def _unknown_key(findings: Findings, path: Path) -> None:
    place = findings.keys.get(path)
    if str(path[-1]) in later(path[:-1]):
        findings.error(path, NOT_YET, at=place)
        return
    names = keys_at(path[:-1])
    near = nearest(str(path[-1]), (*names, *later(path[:-1])))
    findings.error(
        path,
        "there is no such key",
        ", ".join(names),
        near if near in names or not near else f"{near} ({NOT_YET})",
        at=place,
    )


def _leave_out(tree: Tree, path: Path) -> None:
    """Remove the value at the path, or put None in its place in a list.

    A value around it may be gone already.
    """
    container: object = tree
    for part in path[:-1]:
        if isinstance(container, dict) and isinstance(part, str):
            container = container.get(part)
        elif isinstance(container, list) and isinstance(part, int):
            container = container[part]
    last = path[-1]
    if isinstance(container, dict) and isinstance(last, str):
        container.pop(last, None)
    elif isinstance(container, list) and isinstance(last, int):
        container[last] = None


def keys_at(path: Path) -> tuple[str, ...]:
    """Return the keys that the mapping at this path may have; none if there is no mapping."""
    model: type[Draft] | None = ConfigDraft
    for part in path:
        if isinstance(part, str) and model is not None and part in model.model_fields:
            model = _draft_in(model.model_fields[part].annotation)
    return tuple(model.model_fields) if model is not None else ()


def _draft_in(annotation: object) -> type[Draft] | None:
    """Return the draft inside `X | None` and `tuple[X | None, ...] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, Draft):
        return annotation
    if get_origin(annotation) in {UnionType, Union, tuple}:
        return next((found for part in get_args(annotation) if (found := _draft_in(part))), None)
    return None
