"""The kinds of PATCH but apply.

https://kubernetes.io/docs/reference/using-api/api-concepts/#patch-and-apply and
https://kubernetes.io/docs/tasks/manage-kubernetes-objects/update-api-object-kubectl-patch/ . The
merge patch is RFC 7386, the JSON patch RFC 6902.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

from tests.kube.resources import OWNERS, Resource
from tests.kube.status import ApiError, Json, bad_request

MERGE = "application/merge-patch+json"
JSON = "application/json-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"


def patched(resource: Resource, kind: str, live: Json, patch: object) -> Json:
    """Return an object with a patch; raises ApiError. `live` stays as it is."""
    if kind == JSON:
        if not isinstance(patch, list):
            raise bad_request("a JSON patch is a list of operations")
        return _json_patch(copy.deepcopy(live), patch)
    if not isinstance(patch, dict):
        raise bad_request("the patch is not an object")
    if kind == MERGE:
        result = merge(live, patch)
    elif kind == STRATEGIC:
        result = _strategic(live, patch, {**resource.merge_keys, **OWNERS})
    else:
        raise ApiError(
            415,
            "UnsupportedMediaType",
            f"the body of the request was in an unknown format - {kind}",
        )
    assert isinstance(result, dict)
    return result


def merge(base: object, patch: object) -> object:
    """Return the merge patch of RFC 7386."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(base) if isinstance(base, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result


def _strategic(base: object, patch: Json, keys: Mapping[str, str]) -> Json:
    """Merge lists of which the key is known, item by item.

    `$patch: delete` removes one, `$patch: replace` replaces a map.
    """
    result = dict(base) if isinstance(base, dict) else {}
    if patch.get("$patch") == "replace":
        return {key: value for key, value in patch.items() if key != "$patch"}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            result[key] = _strategic(result.get(key), value, keys)
        elif isinstance(value, list) and key in keys:
            result[key] = _merged_list(result.get(key) or [], value, keys[key], keys)
        else:
            result[key] = copy.deepcopy(value)
    return result


def _merged_list(base: object, patch: list[Json], key: str, keys: Mapping[str, str]) -> list[Json]:
    assert isinstance(base, list)
    result = {item[key]: item for item in base}
    for item in patch:
        if key not in item:
            raise bad_request(f"map: {item} does not contain declared merge key: {key}")
        if item.get("$patch") == "delete":
            result.pop(item[key], None)
        else:
            result[item[key]] = _strategic(result.get(item[key]), item, keys)
    return list(result.values())


def _json_patch(thing: object, operations: list[Json]) -> Json:
    for operation in operations:
        try:
            thing = _operate(thing, operation)
        except (KeyError, IndexError, ValueError, TypeError):
            # A test that fails is no different from a path that is not there.
            raise ApiError(
                422, "Invalid", "the server rejected our request due to an error in our request"
            ) from None
    assert isinstance(thing, dict)
    return thing


def _operate(root: object, operation: Json) -> object:
    parts = [
        part.replace("~1", "/").replace("~0", "~") for part in str(operation["path"]).split("/")[1:]
    ]
    at = _follow(root, parts[:-1])
    last = parts[-1]
    match operation["op"]:
        case "add" if isinstance(at, list):
            at.insert(len(at) if last == "-" else int(last), operation["value"])
        case "add" if isinstance(at, dict):
            at[last] = operation["value"]
        case "replace":
            _follow(at, [last])
            _put(at, last, operation["value"])
        case "remove":
            _follow(at, [last])
            del at[int(last) if isinstance(at, list) else last]  # type: ignore[attr-defined]  # checked by _follow
        case "test":
            if _follow(at, [last]) != operation["value"]:
                raise ValueError("test failed")
        case other:
            raise ValueError(f"unexpected kind: {other}")
    return root


def _follow(at: object, parts: list[str]) -> object:
    for part in parts:
        at = at[int(part)] if isinstance(at, list) else at[part]  # type: ignore[index]  # a TypeError is an answer
    return at


def _put(at: object, last: str, value: object) -> None:
    if isinstance(at, list):
        at[int(last)] = value
    elif isinstance(at, dict):
        at[last] = value
