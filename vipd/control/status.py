"""The status document.

What `vipd status --json` prints and the control command `status` returns. Schema version 1.

Within one schema version fields are only added; readers ignore what they do not know. Ages and
times left are seconds (float) at the moment of the answer, times of day RFC 3339 texts of the wall
clock that wrote them: for people. null: not known.

Status             `schema` (int) 1 · `node` its configured name · `session` fresh at each start of
the daemon · `version` of vipd ·
                   `uptime` seconds since the daemon started · `drained` out of all elections by the
                   operator · `store`, `fence`, `instances` · `code` stands for the code that runs ·
                   `config`
Config             `loaded` time of day at which the file was last read and found good · `refused`
why the file that is there now
                   is not used, a sentence; empty: it is · `refused_at` time of day · `file` its
                   path, symbolic links followed
Store              `kind` file, etcd or kubernetes · `reachable` the last request was answered ·
`last_success_age` seconds since the last answer ·
                   `outage` what is wrong, a sentence; empty: nothing · `outage_kind`
                   election.outage.Outage · `outage_since` seconds · `reaction` what vipd does about
                   it, a sentence · `watch` what keeps the store's watch from standing, a sentence;
                   empty: nothing · `watch_kind`, `watch_since` of that
Fence              `guard` the guard stands behind the daemon · `gate` the kernel's gate is in force
for all instances ·
                   `covers` what stands behind the guard and which leases that covers, a sentence ·
                   `put_back` how often somebody took the gate away · `before` what decides about
                   frames before it, sentences · `on` the interfaces on which the gate is in force ·
                   `left_alone` interfaces without it, taken for those of containers, on which Linux
                   answers ARP for the addresses too; empty: none
Instance           `name`, also of its election unless it has a `group`: the instances of one are
elected as one, under its name ·
                   `interface` · `addresses` · `state` Initialize, Backup, Active or Fault · `since`
                   seconds in this state · `reason` of the last transition (election.model.Reason) ·
                   `detail` a sentence on it · `epoch` of the record · `priority` configured ·
                   `effective_priority` after checks · `preempt` · `pin` the node that `vipd
                   handover` has pinned; empty: none · `holder` null: nobody · `lease_remaining`
                   seconds until the holder's lease ends, by this node's own observation · `checks`,
                   `candidates` · `notes` sentences that an operator should read: what is so, then
                   what happened, with its age
Address            `address` with prefix length · `bound` to the interface of this node, as the
kernel says Holder             `name`, `session` · `since` time of day of its acquisition ·
`priority` its effective one Check              `name` · `kind` · `ok` null: undecided · `since`
seconds since the verdict changed · `detail` of the last try ·
                   `seconds` that it took
Candidate          `name` of the node · `live` its record changes · `eligible` may hold the VIP ·
`priority` effective ·
                   `asks` wants the VIP from the holder · `state` that it says it is in
"""

from __future__ import annotations

import dataclasses
import types
import typing
from dataclasses import dataclass
from typing import Any, TypeVar

from vipd.control.errors import SchemaError

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Address:
    """One virtual address here."""

    address: str
    bound: bool


@dataclass(frozen=True, slots=True)
class Holder:
    """Who has the lease, as the record says."""

    name: str
    session: str
    since: str
    priority: int


@dataclass(frozen=True, slots=True)
class Check:
    """One health check of this node."""

    name: str
    kind: str
    ok: bool | None
    since: float
    detail: str
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """One node in this election."""

    name: str
    live: bool
    eligible: bool
    priority: int
    asks: bool
    state: str


@dataclass(frozen=True, slots=True)
class Instance:
    """One instance as this node sees it.

    Those of one group have one election, and so all that is known of it in common.
    """

    name: str
    interface: str
    addresses: tuple[Address, ...]
    state: str
    since: float
    reason: str
    detail: str
    epoch: int
    priority: int
    effective_priority: int
    preempt: bool
    pin: str = ""
    holder: Holder | None = None
    lease_remaining: float | None = None
    checks: tuple[Check, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    notes: tuple[str, ...] = ()
    group: str = ""


@dataclass(frozen=True, slots=True)
class Store:
    """The store as this node reaches it."""

    kind: str
    reachable: bool
    last_success_age: float | None
    outage: str = ""
    outage_kind: str = ""
    outage_since: float | None = None
    reaction: str = ""
    watch: str = ""
    watch_kind: str = ""
    watch_since: float | None = None


@dataclass(frozen=True, slots=True)
class Fence:
    """What ends the right to the VIP if the daemon does not."""

    guard: bool
    gate: bool
    covers: str
    put_back: int = 0
    before: tuple[str, ...] = ()
    on: tuple[str, ...] = ()
    left_alone: str = ""


@dataclass(frozen=True, slots=True)
class Config:
    """What became of the configuration file."""

    loaded: str = ""
    refused: str = ""
    refused_at: str = ""
    file: str = ""


@dataclass(frozen=True, slots=True)
class Status:
    """The whole document."""

    node: str
    session: str
    version: str
    drained: bool
    store: Store
    fence: Fence
    instances: tuple[Instance, ...] = ()
    uptime: float = 0.0
    code: str = ""
    config: Config = Config()
    schema: int = SCHEMA


T = TypeVar("T")


def to_json(document: Status) -> dict[str, object]:
    """Return the document as json.dumps takes it; times are rounded to milliseconds."""
    plain = _plain(document)
    return {"schema": plain.pop("schema"), **plain}


def _plain(value: Any) -> Any:  # noqa: ANN401 - any field of a document
    if dataclasses.is_dataclass(value):
        return {
            field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return round(value, 3) if isinstance(value, float) else value


def from_json(document: object) -> Status:
    """Return the document that another process wrote.

    Raises SchemaError if it is of another schema or incomplete.
    """
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema != SCHEMA:
        raise SchemaError(
            f"the daemon speaks schema {schema} of the status document, this command {SCHEMA}: is "
            "vipd of two versions here?"
        )
    return _read(Status, document, "status")


def _read(kind: type[T], value: object, where: str) -> T:
    if not isinstance(value, dict):
        raise SchemaError(f"{where} is not an object")
    hints = typing.get_type_hints(kind)
    arguments = {}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type] # T is one of the classes above
        if field.name in value:
            arguments[field.name] = _typed(
                hints[field.name], value[field.name], f"{where}.{field.name}"
            )
        elif field.default is dataclasses.MISSING:
            raise SchemaError(f"{where}.{field.name} is missing")
    return kind(**arguments)


def _typed(hint: Any, value: object, where: str) -> object:  # noqa: ANN401 - a type is what it is
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple and isinstance(value, list):
        return tuple(_typed(arguments[0], item, where) for item in value)
    if origin is types.UnionType:
        return None if value is None else _typed(arguments[0], value, where)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _read(hint, value, where)
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        raise SchemaError(f"{where} has an unknown form")
    return value
