"""The manifests of deploy/, applied in both ways that kubectl has.

Neither gets into the other's way.
"""

from __future__ import annotations

import copy
import json

import pytest

from tests.kube.admin import Admin
from tests.kube.fixture import Cluster
from tests.kube.manifests import read
from tests.kube.resources import path_of, resource_of
from tests.kube.status import Json
from tests.kube.test_objects import about

APPLY = "application/apply-patch+yaml"
LAST = "kubectl.kubernetes.io/last-applied-configuration"


def client_side(admin: Admin, path: str, name: str, thing: Json) -> tuple[int, Json]:
    """Apply as `kubectl apply -f` does: what was applied stands in an annotation.

    The object is made, or patched.
    """
    sent = copy.deepcopy(thing)
    about(sent).setdefault("annotations", {})[LAST] = json.dumps(thing)  # type: ignore[index]  # a map
    manager = {"fieldManager": "kubectl-client-side-apply"}
    if admin.ask("GET", f"{path}/{name}")[0] == 404:
        return admin.ask("POST", path, sent, manager)
    return admin.ask("PATCH", f"{path}/{name}", sent, manager, "application/merge-patch+json")


def server_side(admin: Admin, path: str, name: str, thing: Json) -> tuple[int, Json]:
    """Apply as `kubectl apply --server-side` does, without --force-conflicts."""
    return admin.ask("PATCH", f"{path}/{name}", thing, {"fieldManager": "kubectl"}, APPLY)


@pytest.mark.parametrize(
    "order",
    [
        (client_side, server_side),
        (server_side, client_side),
        (client_side, server_side, client_side),
    ],
)
def test_the_two_ways_to_apply_do_not_conflict(
    cluster: Cluster, admin: Admin, namespace: str, order: tuple[object, ...]
) -> None:
    """In each order, again and again.

    What the server fills in is not what another manager has to give up.
    """
    for way in (*order, *order):
        for _, thing in read():
            if thing["kind"] == "Namespace":
                continue
            one = copy.deepcopy(thing)
            about(one)["namespace"] = namespace
            path = path_of(resource_of(str(one["apiVersion"]), str(one["kind"])), namespace)
            code, answer = way(admin, path, str(about(one)["name"]), one)  # type: ignore[operator]  # one of the two above
            assert code in {200, 201}, (thing["kind"], answer.get("message"))
