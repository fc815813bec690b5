"""An API server does with objects what the documentation says.

Ours, and a real one where there is one. Each test names the page.
"""

from __future__ import annotations

import pytest

from tests.kube.admin import LEASES, Admin
from tests.kube.status import Json

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON_PATCH = "application/json-patch+json"


def lease(name: str = "a", about: Json | None = None, /, **spec: object) -> Json:
    """Return a Lease as a client sends it."""
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": name, **(about or {})},
        "spec": spec,
    }


def made(admin: Admin, namespace: str, **spec: object) -> Json:
    """Make a Lease and return it as it is stored."""
    code, answer = admin.ask("POST", LEASES.format(namespace), lease(**spec))
    assert code == 201, answer
    return answer


def about(thing: Json) -> Json:
    """Return the metadata of an object."""
    metadata = thing["metadata"]
    assert isinstance(metadata, dict)
    return metadata


def test_the_server_gives_an_object_its_identity(admin: Admin, namespace: str) -> None:
    """https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/object-meta/ ."""
    code, first = admin.ask(
        "POST",
        LEASES.format(namespace),
        lease("a", {"uid": "mine", "creationTimestamp": "2000-01-01T00:00:00Z"}),
    )
    assert code == 201
    assert about(first)["uid"] != "mine"
    assert about(first)["creationTimestamp"] != "2000-01-01T00:00:00Z"
    assert about(first)["namespace"] == namespace
    assert "generation" not in about(first)
    code, second = admin.ask(
        "PUT", f"{LEASES.format(namespace)}/a", {**first, "spec": {"holderIdentity": "x"}}
    )
    assert code == 200
    assert about(second)["uid"] == about(first)["uid"]
    assert int(str(about(second)["resourceVersion"])) > int(str(about(first)["resourceVersion"]))


def test_a_name_is_taken_once(admin: Admin, namespace: str) -> None:
    """…/using-api/api-concepts/ : AlreadyExists is a 409 with a Status."""
    made(admin, namespace)
    code, answer = admin.ask("POST", LEASES.format(namespace), lease())
    assert (code, answer["reason"], answer["kind"]) == (409, "AlreadyExists", "Status")
    assert answer["details"] == {"name": "a", "group": "coordination.k8s.io", "kind": "leases"}


def test_what_is_not_there_is_not_found(admin: Admin, namespace: str) -> None:
    """404, also for a namespace that is not there when something is made in it."""
    code, answer = admin.ask("GET", f"{LEASES.format(namespace)}/none")
    assert (code, answer["reason"], answer["message"]) == (
        404,
        "NotFound",
        'leases.coordination.k8s.io "none" not found',
    )
    code, answer = admin.ask("POST", LEASES.format("none"), lease())
    assert (code, answer["message"]) == (404, 'namespaces "none" not found')
    assert admin.ask("GET", "/apis/example.org/v1/things")[0] == 404


def test_an_update_is_a_compare_and_swap(admin: Admin, namespace: str) -> None:
    """…/using-api/api-concepts/#resource-versions .

    A resourceVersion that is not the current one is a 409 Conflict.
    """
    first = made(admin, namespace, holderIdentity="x")
    path = f"{LEASES.format(namespace)}/a"
    assert admin.ask("PUT", path, {**first, "spec": {"holderIdentity": "y"}})[0] == 200
    code, answer = admin.ask("PUT", path, {**first, "spec": {"holderIdentity": "z"}})
    assert (code, answer["reason"]) == (409, "Conflict")
    assert "the object has been modified" in str(answer["message"])
    assert admin.lease(namespace, "a")["spec"] == {"holderIdentity": "y"}


def test_a_lease_is_not_updated_without_a_version(admin: Admin, namespace: str) -> None:
    """Leases allow no unconditional update (AllowUnconditionalUpdate is false); services, for one,
    do.
    """
    made(admin, namespace)
    code, answer = admin.ask("PUT", f"{LEASES.format(namespace)}/a", lease(holderIdentity="x"))
    assert (code, answer["reason"]) == (422, "Invalid")
    assert "must be specified for an update" in str(answer["message"])
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "s"},
        "spec": {"ports": [{"port": 80}]},
    }
    path = f"/api/v1/namespaces/{namespace}/services"
    assert admin.ask("POST", path, service)[0] == 201
    assert admin.ask("PUT", f"{path}/s", {**service, "spec": {"ports": [{"port": 81}]}})[0] == 200


def test_a_put_makes_a_lease_unless_it_names_a_uid(admin: Admin, namespace: str) -> None:
    """Leases allow creation by PUT (AllowCreateOnUpdate is true).

    A uid in the body is a precondition.
    """
    path = f"{LEASES.format(namespace)}/a"
    first = made(admin, namespace)
    admin.delete(namespace, "a")
    code, answer = admin.ask("PUT", path, first)
    assert (code, answer["reason"]) == (409, "Conflict")
    assert "UID in precondition" in str(answer["message"])
    del about(first)["uid"]
    code, again = admin.ask("PUT", path, first)
    assert code == 201
    assert about(again)["uid"]


def test_a_write_that_changes_nothing_is_no_change(admin: Admin, namespace: str) -> None:
    """The resourceVersion stays, and no watch hears of it."""
    first = made(admin, namespace, holderIdentity="x")
    code, second = admin.ask("PUT", f"{LEASES.format(namespace)}/a", first)
    assert code == 200
    assert about(second)["resourceVersion"] == about(first)["resourceVersion"]


INVALID = {
    "spec.leaseDurationSeconds": lease(leaseDurationSeconds=0),
    "spec.leaseTransitions": lease(leaseTransitions=-1),
    "metadata.name": lease("Upper_Case"),
    "metadata.labels": lease("a", {"labels": {"a": "not a label!"}}),
    "metadata.annotations": lease("a", {"annotations": {"two/slashes/here": "x"}}),
    "metadata.annotations ": lease("a", {"annotations": {"a": "x" * 256 * 1024}}),
    "metadata.ownerReferences.uid": lease(
        "a", {"ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n"}]}
    ),
}


@pytest.mark.parametrize("field", INVALID)
def test_an_invalid_object_is_refused_with_all_reasons(
    admin: Admin, namespace: str, field: str
) -> None:
    """422 Invalid with causes.

    …/kubernetes-api/coordination/lease-v1/ , …/working-with-objects/names/ , labels/ , annotations/
    .
    """
    code, answer = admin.ask("POST", LEASES.format(namespace), INVALID[field])
    assert (code, answer["reason"]) == (422, "Invalid")
    details = answer["details"]
    assert isinstance(details, dict)
    assert [cause["field"] for cause in details["causes"]] == [field.strip()]


@pytest.mark.parametrize(
    "body",
    [
        lease(renewTime="2026-01-01T00:00:00Z"),
        lease(renewTime="now"),
        lease(leaseDurationSeconds="3"),
        lease(leaseDurationSeconds=3.5),
        lease(leaseTransitions=2**31),
        lease("a", {"labels": {"a": 1}}),
        lease("a", {"namespace": "other"}),
        {**lease(), "kind": "Pod"},
        [],
    ],
)
def test_what_cannot_be_decoded_is_a_bad_request(
    admin: Admin, namespace: str, body: object
) -> None:
    """400. A MicroTime has six digits, always: …/kubernetes-api/coordination/lease-v1/ ."""
    code, answer = admin.ask("POST", LEASES.format(namespace), body)
    assert (code, answer["reason"]) == (400, "BadRequest")


def test_unknown_fields_are_dropped(admin: Admin, namespace: str) -> None:
    """…/using-api/api-concepts/#field-validation .

    Without fieldValidation=Strict they fall away.
    """
    code, answer = admin.ask(
        "POST", LEASES.format(namespace), lease(holderIdentity="x", colour="red")
    )
    assert code == 201
    assert answer["spec"] == {"holderIdentity": "x"}


def test_dry_runs_store_nothing(admin: Admin, namespace: str) -> None:
    """…/using-api/api-concepts/#dry-run ."""
    code, _ = admin.ask("POST", LEASES.format(namespace), lease(), {"dryRun": "All"})
    assert code == 201
    assert admin.ask("GET", f"{LEASES.format(namespace)}/a")[0] == 404


@pytest.mark.parametrize(
    ("kind", "patch", "spec"),
    [
        (
            MERGE,
            {"spec": {"holderIdentity": None, "leaseTransitions": 2}},
            {"leaseDurationSeconds": 3, "leaseTransitions": 2},
        ),
        (
            STRATEGIC,
            {"spec": {"leaseDurationSeconds": 4}},
            {"holderIdentity": "x", "leaseDurationSeconds": 4},
        ),
        (
            JSON_PATCH,
            [{"op": "remove", "path": "/spec/holderIdentity"}],
            {"leaseDurationSeconds": 3},
        ),
    ],
)
def test_the_kinds_of_patch(
    admin: Admin, namespace: str, kind: str, patch: object, spec: Json
) -> None:
    """…/using-api/api-concepts/#patch-and-apply .

    Each by its content type; another type is a 415.
    """
    made(admin, namespace, holderIdentity="x", leaseDurationSeconds=3)
    path = f"{LEASES.format(namespace)}/a"
    code, answer = admin.ask("PATCH", path, patch, content=kind)
    assert code == 200
    assert answer["spec"] == spec
    assert admin.ask("PATCH", path, {}, content="application/json")[0] == 415


def test_a_patch_with_a_version_is_a_compare_and_swap(admin: Admin, namespace: str) -> None:
    """And a JSON patch whose test fails is a 422."""
    made(admin, namespace, holderIdentity="x")
    path = f"{LEASES.format(namespace)}/a"
    patch = {"metadata": {"resourceVersion": "1"}, "spec": {"holderIdentity": "y"}}
    assert admin.ask("PATCH", path, patch, content=MERGE)[0] == 409
    test = [{"op": "test", "path": "/spec/holderIdentity", "value": "y"}]
    assert admin.ask("PATCH", path, test, content=JSON_PATCH)[0] == 422


def test_lists_with_a_key_are_merged(admin: Admin, namespace: str) -> None:
    """…/tasks/manage-kubernetes-objects/update-api-object-kubectl-patch/ .

    Conditions of a Node by their type; taints have no key.
    """
    taints = [{"key": "a", "effect": "NoSchedule"}]
    node = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": namespace},
        "spec": {"taints": taints},
    }
    assert admin.ask("POST", "/api/v1/nodes", node)[0] == 201
    path = f"/api/v1/nodes/{namespace}"

    def conditions(*patch: Json) -> set[str]:
        code, answer = admin.ask(
            "PATCH", f"{path}/status", {"status": {"conditions": list(patch)}}, content=STRATEGIC
        )
        assert code == 200
        return {condition["type"] for condition in answer["status"]["conditions"]}  # type: ignore[index]

    assert conditions({"type": "A", "status": "True"}) == {"A"}
    assert conditions({"type": "B", "status": "True"}) == {"A", "B"}
    assert conditions({"type": "A", "$patch": "delete"}) == {"B"}
    patch: Json = {"spec": {"taints": [{"key": "b", "effect": "NoExecute"}]}}
    code, answer = admin.ask("PATCH", path, patch, content=STRATEGIC)
    assert (code, answer["spec"]["taints"]) == (200, [{"key": "b", "effect": "NoExecute"}])  # type: ignore[index]


def test_status_changes_through_its_subresource_only(admin: Admin, namespace: str) -> None:
    """…/using-api/api-concepts/#resource-uris and the API conventions.

    The main resource ignores status, and the other way round.
    """
    path = f"/apis/networking.k8s.io/v1/namespaces/{namespace}/ingresses"
    balancer = {"loadBalancer": {"ingress": [{"ip": "192.0.2.10"}]}}

    def backend(port: int) -> Json:
        return {"defaultBackend": {"service": {"name": "s", "port": {"number": port}}}}

    ingress = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": "i"},
        "spec": backend(1),
        "status": balancer,
    }
    code, first = admin.ask("POST", path, ingress)
    assert code == 201
    assert first.get("status") in (None, {"loadBalancer": {}})
    assert about(first)["generation"] == 1
    code, second = admin.ask(
        "PUT", f"{path}/i/status", {**first, "spec": backend(2), "status": balancer}
    )
    assert (code, second["spec"], second["status"], about(second)["generation"]) == (
        200,
        backend(1),
        balancer,
        1,
    )
    code, third = admin.ask("PUT", f"{path}/i", {**second, "spec": backend(3), "status": {}})
    assert (code, third["spec"], third["status"], about(third)["generation"]) == (
        200,
        backend(3),
        balancer,
        2,
    )


def test_a_delete_can_demand_what_it_deletes(admin: Admin, namespace: str) -> None:
    """…/kubernetes-api/common-definitions/delete-options/ .

    Preconditions on uid and resourceVersion.
    """
    first = made(admin, namespace)
    path = f"{LEASES.format(namespace)}/a"
    for wrong in ({"uid": "x"}, {"resourceVersion": "1"}):
        code, answer = admin.ask("DELETE", path, {"preconditions": wrong})
        assert (code, answer["reason"]) == (409, "Conflict")
    right = {"uid": about(first)["uid"], "resourceVersion": about(first)["resourceVersion"]}
    code, answer = admin.ask("DELETE", path, {"preconditions": right})
    assert (code, answer["kind"], answer["status"]) == (200, "Status", "Success")
    assert admin.ask("DELETE", path)[0] == 404


def test_finalizers_keep_an_object(admin: Admin, namespace: str) -> None:
    """…/working-with-objects/finalizers/ : it is marked, and removed with its last finalizer."""
    code, _ = admin.ask(
        "POST", LEASES.format(namespace), lease("a", {"finalizers": ["example.org/x"]})
    )
    path = f"{LEASES.format(namespace)}/a"
    code, marked = admin.ask("DELETE", path)
    assert code == 200
    assert about(marked)["deletionTimestamp"]
    assert admin.ask("GET", path)[0] == 200
    about(marked)["finalizers"] = []
    assert admin.ask("PUT", path, marked)[0] == 200
    assert admin.ask("GET", path)[0] == 404


def test_a_scheduled_pod_ends_gracefully(admin: Admin, namespace: str) -> None:
    """…/workloads/pods/pod-lifecycle/#pod-termination .

    Marked first, removed by a DELETE with a grace period of 0.
    """
    path = f"/api/v1/namespaces/{namespace}/pods"
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p"},
        "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i"}]},
    }
    assert admin.ask("POST", path, pod)[0] == 201
    code, marked = admin.ask("DELETE", f"{path}/p")
    assert code == 200
    assert about(marked)["deletionGracePeriodSeconds"] == 30
    assert admin.ask("DELETE", f"{path}/p", {"gracePeriodSeconds": 0})[0] == 200
    assert admin.ask("GET", f"{path}/p")[0] == 404
