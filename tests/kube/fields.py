"""Who manages which field: metadata.managedFields and Server-Side Apply.

https://kubernetes.io/docs/reference/using-api/server-side-apply/ . A field is the path to a value;
items of a list are told apart by the resource's merge key, other lists are one value.
"""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tests.kube.resources import OWNERS, Resource
from tests.kube.status import ApiError, Cause, Json, details_of

Path = tuple[str, ...]
NOT_MANAGED = {
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "generation",
    "managedFields",
    "generateName",
    "selfLink",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
}
"""Fields of metadata that the server itself manages."""


ATOMIC = {
    "fieldRef",
    "resourceFieldRef",
    "secretKeyRef",
    "configMapKeyRef",
    "nodeSelector",
    "selector",
    "roleRef",
}
"""Maps that are one value each, and have one manager: x-kubernetes-map-type in the published
OpenAPI."""


@dataclass(frozen=True, slots=True)
class Manager:
    """One entry: who, how (Update or Apply) and through which subresource."""

    name: str
    operation: str
    subresource: str = ""


Managers = dict[Manager, set[Path]]


def fields(resource: Resource, thing: Json) -> dict[Path, object]:
    """Return all fields of an object with their values."""
    metadata = thing.get("metadata") or {}
    assert isinstance(metadata, dict)
    shown = {key: value for key, value in metadata.items() if key not in NOT_MANAGED}
    rest = {
        key: value for key, value in thing.items() if key not in {"apiVersion", "kind", "metadata"}
    }
    return dict(_walk({**rest, "metadata": shown}, (), {**resource.merge_keys, **OWNERS}, ""))


def _walk(
    value: object, path: Path, keys: Mapping[str, str], name: str
) -> Iterator[tuple[Path, object]]:
    if name in ATOMIC:
        yield path, value
        return
    # An empty map is a value (`emptyDir: {}`), but not where every object has a map: `spec: {}`
    # says nothing of any field.
    if isinstance(value, dict) and (value or len(path) <= 1):
        for key, item in value.items():
            yield from _walk(item, (*path, f"f:{key}"), keys, key)
    elif (
        isinstance(value, list)
        and name in keys
        and all(isinstance(item, dict) and keys[name] in item for item in value)
    ):
        for item in value:
            yield from _walk(item, (*path, _item_key(keys[name], item)), keys, "")
    else:
        yield path, value


def _item_key(key: str, item: Json) -> str:
    return "k:" + json.dumps({key: item[key]}, separators=(",", ":"))


def managers_of(thing: Json | None) -> Managers:
    """Return the entries of an object."""
    metadata = (thing or {}).get("metadata") or {}
    assert isinstance(metadata, dict)
    found: Managers = {}
    for entry in metadata.get("managedFields") or []:
        who = Manager(entry["manager"], entry["operation"], entry.get("subresource", ""))
        found[who] = set(_leaves(entry["fieldsV1"], ()))
    return found


def _leaves(tree: Json, path: Path) -> Iterator[Path]:
    for key, inner in tree.items():
        assert isinstance(inner, dict)
        if inner:
            yield from _leaves(inner, (*path, key))
        else:
            yield (*path, key)


def entries(resource: Resource, managers: Managers, now: str) -> list[Json]:
    """Return managers as metadata.managedFields has them; `now` is an RFC 3339 time."""
    return [
        {
            "manager": who.name,
            "operation": who.operation,
            "apiVersion": resource.api_version,
            "time": now,
            "fieldsType": "FieldsV1",
            "fieldsV1": _tree(paths),
            **({"subresource": who.subresource} if who.subresource else {}),
        }
        for who, paths in managers.items()
        if paths
    ]


def _tree(paths: set[Path]) -> Json:
    root: Json = {}
    for path in sorted(paths):
        at = root
        for key in path:
            inner = at.setdefault(key, {})
            assert isinstance(inner, dict)
            at = inner
    return root


def updated(resource: Resource, before: Json | None, after: Json, who: Manager) -> Managers:
    """Return the managers after an Update: who changes a field takes it from all others."""
    old, new = fields(resource, before or {}), fields(resource, after)
    mine = {path for path, value in new.items() if path not in old or old[path] != value}
    managers = {
        other: {path for path in paths if path in new and path not in mine}
        for other, paths in managers_of(before).items()
    }
    managers[who] = managers.get(who, set()) | mine
    return managers


def applied(
    resource: Resource, live: Json | None, config: Json, who: Manager, *, force: bool
) -> tuple[Json, Managers]:
    """Return the object with a configuration applied, and its managers.

    Raises a 409 for fields that others manage.
    """
    managers = managers_of(live)
    wanted = fields(resource, config)
    current = fields(resource, live or {})
    others = {other: paths for other, paths in managers.items() if other != who}
    taken = [
        (other, path)
        for other, paths in others.items()
        for path in sorted(paths & set(wanted))
        if current.get(path) != wanted[path]
    ]
    if taken and not force:
        raise _conflicts(resource, config, taken)
    for other, path in taken:
        others[other].discard(path)
    owned = {path for paths in others.values() for path in paths}
    result = (
        copy.deepcopy(live)
        if live
        else {"apiVersion": config["apiVersion"], "kind": config["kind"], "metadata": {}}
    )
    for path in managers.get(who, set()) - set(wanted) - owned:
        _drop(result, path)
    for path, value in wanted.items():
        _set(result, path, value)
    return result, {**others, who: set(wanted)}


def _conflicts(resource: Resource, config: Json, taken: list[tuple[Manager, Path]]) -> ApiError:
    metadata = config["metadata"]
    assert isinstance(metadata, dict)
    causes = [
        Cause("FieldManagerConflict", f'conflict with "{who.name}"', _dotted(path))
        for who, path in taken
    ]
    told = ", ".join(f'conflict with "{who.name}": {_dotted(path)}' for who, path in taken)
    text = f"Apply failed with {len(taken)} conflict{'s' if len(taken) > 1 else ''}: {told}"
    return ApiError(409, "Conflict", text, details_of(resource, str(metadata["name"]), causes))


def _dotted(path: Path) -> str:
    return "".join(f".{part[2:]}" if part.startswith("f:") else f"[{part[3:-1]}]" for part in path)


def _step(at: object, part: str, *, make: bool) -> object:
    """Return what a part of a path leads to; with `make` it is made if it is not there."""
    if part.startswith("f:"):
        assert isinstance(at, dict)
        return at.get(part[2:])
    assert isinstance(at, list)
    wanted = json.loads(part[2:])
    found = next(
        (item for item in at if all(item.get(key) == value for key, value in wanted.items())), None
    )
    if found is None and make:
        found = dict(wanted)
        at.append(found)
    return found


def _set(thing: Json, path: Path, value: object) -> None:
    at: object = thing
    for part, following in itertools.pairwise(path):
        inner = _step(at, part, make=True)
        if inner is None:
            assert isinstance(at, dict)
            inner = at[part[2:]] = [] if following.startswith("k:") else {}
        at = inner
    assert isinstance(at, dict)
    at[path[-1][2:]] = value


def _drop(thing: Json, path: Path) -> None:
    at: object = thing
    for part in path[:-1]:
        at = _step(at, part, make=False)
        if at is None:
            return
    if isinstance(at, dict):
        at.pop(path[-1][2:], None)
