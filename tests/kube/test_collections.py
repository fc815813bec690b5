"""An API server lists, watches and allows what the documentation says.

Ours, and a real one where there is one. Pages are named.
"""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlencode

import pytest

from tests.kube.admin import LEASES, Admin
from tests.kube.fixture import ADMIN, Cluster
from tests.kube.status import Json
from tests.kube.test_objects import about, lease, made

PATIENCE = 5.0
LOOK_AGAIN = 0.02


def wait_for(look: Callable[[], bool]) -> None:
    """Return once `look` is true.

    A real server hears of a new Role a moment later than it stores it.
    """
    end = time.monotonic() + PATIENCE
    while not look():
        assert time.monotonic() < end
        time.sleep(LOOK_AGAIN)


def put(admin: Admin, namespace: str, name: str, holder: str, **labels: str) -> str:
    """Make or change a Lease and return its version."""
    path = f"{LEASES.format(namespace)}/{name}"
    code, there = admin.ask("GET", path)
    about_it = about(there) if code == 200 else {"name": name}
    code, answer = admin.ask(
        "PUT",
        path,
        {
            **lease(name),
            "metadata": {**about_it, "labels": labels},
            "spec": {"holderIdentity": holder},
        },
    )
    assert code in (200, 201), answer
    return str(about(answer)["resourceVersion"])


def names(answer: Json) -> list[str]:
    """Return the names in a list."""
    items = answer["items"]
    assert isinstance(items, list)
    return [item["metadata"]["name"] for item in items]


class Stream:
    """A watch over a connection of its own."""

    def __init__(self, cluster: Cluster, namespace: str, query: dict[str, str]) -> None:
        tls = ssl.create_default_context(cafile=cluster.authority.file)
        self._connection = http.client.HTTPSConnection(
            cluster.host, cluster.port, context=tls, timeout=5
        )
        target = f"{LEASES.format(namespace)}?{urlencode({'watch': 'true', **query})}"
        self._connection.request("GET", target, headers={"Authorization": f"Bearer {ADMIN}"})
        self.answer = self._connection.getresponse()

    def next(self) -> tuple[str, Json]:
        """Return the type and object of the next event."""
        event = json.loads(self.answer.readline())
        return event["type"], event["object"]

    def close(self) -> None:
        """End it."""
        self.answer.close()
        self._connection.close()


@contextmanager
def watch(cluster: Cluster, namespace: str, **query: str) -> Iterator[Stream]:
    """Return a watch for the block."""
    stream = Stream(cluster, namespace, query)
    try:
        yield stream
    finally:
        stream.close()


def test_a_list_comes_in_portions_of_one_moment(admin: Admin, namespace: str) -> None:
    """…/using-api/api-concepts/#retrieving-large-results-sets-in-chunks .

    What is made meanwhile is not in later portions.
    """
    for number in range(5):
        put(admin, namespace, f"l{number}", "x")
    path = LEASES.format(namespace)
    _, first = admin.ask("GET", path, query={"limit": "2"})
    assert names(first) == ["l0", "l1"]
    assert about(first)["remainingItemCount"] == 3
    put(admin, namespace, "l11", "x")
    put(admin, namespace, "l3", "changed")
    _, second = admin.ask(
        "GET", path, query={"limit": "2", "continue": str(about(first)["continue"])}
    )
    _, third = admin.ask(
        "GET", path, query={"limit": "2", "continue": str(about(second)["continue"])}
    )
    assert names(second) + names(third) == ["l2", "l3", "l4"]
    assert about(first)["resourceVersion"] == about(third)["resourceVersion"]
    assert "continue" not in about(third)


def test_a_portion_that_is_asked_for_too_late_is_gone(
    admin: Admin, namespace: str, cluster: Cluster
) -> None:
    """…/#retrieving-large-results-sets-in-chunks : 410 once its version is not kept any more."""
    for number in range(3):
        put(admin, namespace, f"l{number}", "x")
    _, first = admin.ask("GET", LEASES.format(namespace), query={"limit": "1"})
    put(admin, namespace, "l9", "x")
    cluster.compact()
    code, answer = admin.ask(
        "GET",
        LEASES.format(namespace),
        query={"limit": "1", "continue": str(about(first)["continue"])},
    )
    assert (code, answer["reason"]) == (410, "Expired")


def test_a_list_without_a_version_is_the_most_recent(admin: Admin, namespace: str) -> None:
    """…/#resource-versions : unset is most recent, Exact is that very one."""
    path = LEASES.format(namespace)
    first = put(admin, namespace, "a", "x")
    for number in range(5):
        put(admin, namespace, f"b{number}", "x")
    assert len(names(admin.ask("GET", path)[1])) == 6
    _, exact = admin.ask(
        "GET", path, query={"resourceVersion": first, "resourceVersionMatch": "Exact"}
    )
    assert (names(exact), about(exact)["resourceVersion"]) == (["a"], first)


def test_a_version_from_the_future_is_a_timeout(admin: Admin, namespace: str) -> None:
    """…/#unavailable-resource-versions .

    504 with the cause ResourceVersionTooLarge and an advice when to come back.
    """
    code, headers, answer = admin.full(
        "GET", LEASES.format(namespace), query={"resourceVersion": "999999999"}
    )
    assert (code, answer["reason"], headers["Retry-After"]) == (504, "Timeout", "1")


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"resourceVersionMatch": "Exact"}, 422),
        ({"resourceVersion": "0", "resourceVersionMatch": "Exact"}, 422),
        ({"resourceVersion": "1", "resourceVersionMatch": "Other"}, 422),
        ({"resourceVersion": "x"}, 400),
        ({"continue": "x"}, 400),
        ({"labelSelector": "a in"}, 400),
    ],
)
def test_queries_that_make_no_sense_are_refused(
    admin: Admin, namespace: str, query: dict[str, str], code: int
) -> None:
    """…/#resource-versions .

    Combinations that are forbidden are Invalid, parameters that cannot be read are a BadRequest.
    """
    assert admin.ask("GET", LEASES.format(namespace), query=query)[0] == code


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"labelSelector": "app=vipd"}, ["a", "b"]),
        ({"labelSelector": "app=vipd,tier!=x"}, ["b"]),
        ({"labelSelector": "tier in (x,y),app"}, ["a"]),
        ({"labelSelector": "!app"}, ["c"]),
        ({"labelSelector": "tier notin (x)"}, ["b", "c"]),
        ({"fieldSelector": "metadata.name=b"}, ["b"]),
        ({"fieldSelector": "metadata.name!=b"}, ["a", "c"]),
    ],
)
def test_selectors(admin: Admin, namespace: str, query: dict[str, str], found: list[str]) -> None:
    """…/working-with-objects/labels/#api and …/field-selectors/ ."""
    put(admin, namespace, "a", "x", app="vipd", tier="x")
    put(admin, namespace, "b", "x", app="vipd")
    put(admin, namespace, "c", "x")
    assert names(admin.ask("GET", LEASES.format(namespace), query=query)[1]) == found


def test_a_watch_reports_all_changes_after_a_version(
    admin: Admin, namespace: str, cluster: Cluster
) -> None:
    """…/#efficient-detection-of-changes : those before the request too.

    Selected by label, one that loses it is DELETED.
    """
    first = put(admin, namespace, "a", "1", app="x")
    put(admin, namespace, "a", "2", app="x")
    put(admin, namespace, "b", "1")
    with watch(cluster, namespace, resourceVersion=first, labelSelector="app=x") as stream:
        last = put(admin, namespace, "a", "3")
        put(admin, namespace, "b", "2", app="x")
        admin.delete(namespace, "b")
        events = [stream.next() for _ in range(4)]
    assert [
        (kind, about(thing)["name"], thing["spec"]["holderIdentity"])  # type: ignore[index]
        for kind, thing in events
    ] == [
        ("MODIFIED", "a", "2"),
        ("DELETED", "a", "2"),
        ("ADDED", "b", "2"),
        ("DELETED", "b", "2"),
    ]
    assert about(events[1][1])["resourceVersion"] == last


def test_a_watch_without_a_version_begins_with_what_there_is(
    admin: Admin, namespace: str, cluster: Cluster
) -> None:
    """…/#semantics-for-watch : synthetic ADDED events, then changes."""
    put(admin, namespace, "a", "1")
    with watch(cluster, namespace) as stream:
        assert stream.next()[0] == "ADDED"
        put(admin, namespace, "a", "2")
        assert stream.next()[0] == "MODIFIED"


def test_a_watch_of_a_version_that_is_gone_is_told_so(
    admin: Admin, namespace: str, cluster: Cluster
) -> None:
    """…/#410-gone-responses : in the stream."""
    first = put(admin, namespace, "a", "1")
    put(admin, namespace, "a", "2")
    cluster.compact()
    with watch(cluster, namespace, resourceVersion=first) as stream:
        kind, thing = stream.next()
        assert (kind, thing["code"], thing["reason"]) == ("ERROR", 410, "Expired")
        assert stream.answer.readline() == b""


def test_a_watch_ends_at_its_time(admin: Admin, namespace: str, cluster: Cluster) -> None:
    """…/kubernetes-api/common-parameters/ , timeoutSeconds: in good order."""
    with watch(cluster, namespace, timeoutSeconds="1") as stream:
        assert stream.answer.readline() == b""


def test_who_is_not_known_is_unauthorized(cluster: Cluster, namespace: str) -> None:
    """…/access-authn-authz/authentication/ : a token that nobody has is a 401.

    Without any it is system:anonymous, who may nothing.
    """
    assert Admin(cluster, "unknown").ask("GET", LEASES.format(namespace))[0] == 401
    code, answer = Admin(cluster, "").ask("GET", LEASES.format(namespace))
    assert code == 403
    assert 'User "system:anonymous" cannot list resource "leases"' in str(answer["message"])


def test_a_role_allows_what_it_names(cluster: Cluster, admin: Admin, namespace: str) -> None:
    """…/access-authn-authz/rbac/ : verbs on resources in a namespace.

    ResourceNames fit no create.
    """
    made(admin, namespace)
    weak = Admin(cluster, "", cluster.authority.sign(namespace, f"/CN={namespace}"))
    rule: Json = {
        "apiGroups": ["coordination.k8s.io"],
        "resources": ["leases"],
        "verbs": ["get", "create"],
        "resourceNames": ["a"],
    }
    admin.grant(namespace, namespace, [rule])
    wait_for(lambda: weak.ask("GET", f"{LEASES.format(namespace)}/a")[0] == 200)
    assert weak.ask("GET", f"{LEASES.format(namespace)}/b")[0] == 403
    assert weak.ask("GET", f"{LEASES.format('default')}/a")[0] == 403
    code, answer = weak.ask("POST", LEASES.format(namespace), lease("c"))
    assert (code, answer["reason"]) == (403, "Forbidden")
    assert weak.ask("DELETE", f"{LEASES.format(namespace)}/a")[0] == 403


@pytest.mark.parametrize("subject", ["Group", "ServiceAccount"])
def test_a_cluster_role_can_be_bound_to_many_and_in_one_namespace(
    cluster: Cluster, admin: Admin, namespace: str, subject: str
) -> None:
    """…/access-authn-authz/rbac/#rolebinding-example .

    A RoleBinding to a ClusterRole holds in its namespace only.
    """
    group = "rbac.authorization.k8s.io"
    rule = {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["list"]}
    admin.apply(
        {
            "apiVersion": f"{group}/v1",
            "kind": "ClusterRole",
            "metadata": {"name": namespace},
            "rules": [rule],
        }
    )
    subjects = {
        "Group": (
            {"kind": "Group", "name": namespace, "apiGroup": group},
            f"/O={namespace}/CN=somebody",
        ),
        "ServiceAccount": (
            {"kind": "ServiceAccount", "name": "sa", "namespace": namespace},
            f"/CN=system:serviceaccount:{namespace}:sa",
        ),
    }
    meant, distinguished = subjects[subject]
    role = {"kind": "ClusterRole", "name": namespace, "apiGroup": group}
    about_it = {"name": "b", "namespace": namespace}
    admin.apply(
        {
            "apiVersion": f"{group}/v1",
            "kind": "RoleBinding",
            "metadata": about_it,
            "subjects": [meant],
            "roleRef": role,
        }
    )
    user = Admin(cluster, "", cluster.authority.sign(namespace, distinguished))
    wait_for(lambda: user.ask("GET", LEASES.format(namespace))[0] == 200)
    assert user.ask("GET", LEASES.format("default"))[0] == 403


def test_an_applied_field_is_managed(admin: Admin, namespace: str) -> None:
    """…/using-api/server-side-apply/#conflicts .

    A field that another manager has is a 409, unless forced.
    """
    path = f"{LEASES.format(namespace)}/a"
    apply = "application/apply-patch+yaml"

    def applied(manager: str, force: str = "false", **spec: object) -> tuple[int, Json]:
        return admin.ask(
            "PATCH", path, lease(**spec), {"fieldManager": manager, "force": force}, apply
        )

    assert applied("one", holderIdentity="x", leaseTransitions=1)[0] == 201
    code, answer = applied("two", holderIdentity="y")
    assert (code, answer["reason"]) == (409, "Conflict")
    assert (
        answer["message"]
        == 'Apply failed with 1 conflict: conflict with "one": .spec.holderIdentity'
    )
    assert applied("two", holderIdentity="x")[0] == 200
    assert applied("two", "true", holderIdentity="y")[1]["spec"] == {
        "holderIdentity": "y",
        "leaseTransitions": 1,
    }
    # What its only manager does not apply any more goes away.
    code, answer = applied("one")
    assert (code, answer["spec"]) == (200, {"holderIdentity": "y"})
    code, answer = admin.ask("PATCH", path, lease(), {}, apply)
    assert (code, answer["reason"]) == (422, "Invalid")


def test_an_update_takes_fields_from_their_manager(admin: Admin, namespace: str) -> None:
    """…/using-api/server-side-apply/#managers .

    Whoever changes a field by other means than apply has it then.
    """
    apply = "application/apply-patch+yaml"
    path = f"{LEASES.format(namespace)}/a"
    _, there = admin.ask(
        "PATCH", path, lease(holderIdentity="x", leaseTransitions=1), {"fieldManager": "one"}, apply
    )
    _, there = admin.ask(
        "PUT",
        path,
        {**there, "spec": {"holderIdentity": "y", "leaseTransitions": 1}},
        {"fieldManager": "two"},
    )
    entries = about(there)["managedFields"]
    assert isinstance(entries, list)
    assert {entry["manager"]: entry["fieldsV1"] for entry in entries} == {
        "one": {"f:spec": {"f:leaseTransitions": {}}},
        "two": {"f:spec": {"f:holderIdentity": {}}},
    }
