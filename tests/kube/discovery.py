"""What kubectl asks first: versions, groups, resources.

Https://kubernetes.io/docs/concepts/overview/kubernetes-api/#discovery-api .
"""

from __future__ import annotations

from tests.kube.resources import RESOURCES, Resource
from tests.kube.status import ApiError, Json

VERSION: Json = {
    "major": "1",
    "minor": "34",
    "gitVersion": "v1.34.0-tests",
    "platform": "linux/amd64",
}
VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]


def discovered(path: str) -> Json:
    """Return what a path that is no resource answers; raises a 404."""
    match path.strip("/").split("/"):
        case ["version"]:
            return VERSION
        case ["healthz" | "livez" | "readyz"]:
            return {"status": "ok"}
        case ["api"]:
            return {"kind": "APIVersions", "versions": ["v1"]}
        case ["apis"]:
            groups = sorted({row.group for row in RESOURCES if row.group})
            return {
                "kind": "APIGroupList",
                "apiVersion": "v1",
                "groups": [_group(name) for name in groups],
            }
        case ["api", "v1"]:
            return _resources("v1")
        case ["apis", group, version] if any(
            (row.group, row.version) == (group, version) for row in RESOURCES
        ):
            return _resources(f"{group}/{version}")
    raise ApiError(404, "NotFound", "the server could not find the requested resource")


def _group(name: str) -> Json:
    version = {"groupVersion": f"{name}/v1", "version": "v1"}
    return {"name": name, "versions": [version], "preferredVersion": version}


def _resources(api_version: str) -> Json:
    rows = [row for row in RESOURCES if row.api_version == api_version]
    entries = [_entry(row, row.plural, VERBS) for row in rows]
    entries += [
        _entry(row, f"{row.plural}/status", ["get", "patch", "update"])
        for row in rows
        if row.status
    ]
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": api_version,
        "resources": entries,
    }


def _entry(row: Resource, name: str, verbs: list[str]) -> Json:
    return {
        "name": name,
        "singularName": "",
        "namespaced": row.namespaced,
        "kind": row.kind,
        "verbs": verbs,
    }
