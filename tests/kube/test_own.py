"""What the documentation leaves to a server, or to its controllers.

How ours decides, so that the tests meet the harder case.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from tests.kube.admin import LEASES, Admin
from tests.kube.conftest import numbers
from tests.kube.fixture import ADMIN, KubeServer
from tests.kube.test_collections import names, put, watch
from tests.kube.test_objects import about, lease

WEAK = "weak-token"
PATIENCE = 10.0
"""Seconds after which something that must happen has not happened."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeServer]:
    """Return our API server."""
    with KubeServer(tmp_path_factory.mktemp("own")) as server:
        yield server


@pytest.fixture
def server(running: KubeServer) -> Iterator[KubeServer]:
    """Return our API server; no fault and no other habit is left."""
    yield running
    running.reset()


@pytest.fixture
def admin(server: KubeServer) -> Admin:
    """Return somebody who may do all."""
    return Admin(server, ADMIN)


@pytest.fixture
def namespace(server: KubeServer) -> str:
    """Return an empty namespace."""
    name = f"n{next(numbers)}"
    server.add_namespace(name)
    return name


def test_the_cache_is_always_old(admin: Admin, namespace: str) -> None:
    """…/#resource-versions : resourceVersion=0 means any version.

    A real server's cache may lag, ours does all the time.
    """
    path = LEASES.format(namespace)
    for name in "abcdef":
        put(admin, namespace, name, "x")
    assert names(admin.ask("GET", path, query={"resourceVersion": "0"})[1]) == ["a"]
    assert admin.ask("GET", f"{path}/f", query={"resourceVersion": "0"})[0] == 404


def test_a_watch_may_be_refused_before_it_begins(
    admin: Admin, namespace: str, server: KubeServer
) -> None:
    """…/#410-gone-responses : the answer itself is a 410, and not an event in it."""
    first = put(admin, namespace, "a", "1")
    put(admin, namespace, "a", "2")
    server.compact()
    server.order("habit", refuse_gone=True)
    with watch(server, namespace, resourceVersion=first) as stream:
        assert stream.answer.status == 410


def test_bookmarks_say_how_far_the_watch_is(
    admin: Admin, namespace: str, server: KubeServer
) -> None:
    """…/#watch-bookmarks : an object with nothing but a resourceVersion.

    Only for who asks for them.
    """
    server.order("habit", bookmark_interval=0.05)
    put(admin, namespace, "a", "1")
    version = about(admin.ask("GET", LEASES.format(namespace))[1])["resourceVersion"]
    with watch(
        server, namespace, resourceVersion=str(version), allowWatchBookmarks="true"
    ) as stream:
        kind, thing = stream.next()
    assert (kind, about(thing)) == ("BOOKMARK", {"resourceVersion": version})


def test_a_streaming_list_tells_where_it_ends(
    admin: Admin, namespace: str, server: KubeServer
) -> None:
    """…/#streaming-lists : a bookmark with the annotation k8s.io/initial-events-end."""
    put(admin, namespace, "a", "1")
    query = {
        "sendInitialEvents": "true",
        "resourceVersionMatch": "NotOlderThan",
        "allowWatchBookmarks": "true",
    }
    with watch(server, namespace, **query) as stream:
        assert stream.next()[0] == "ADDED"
        kind, thing = stream.next()
    assert kind == "BOOKMARK"
    assert about(thing)["annotations"] == {"k8s.io/initial-events-end": "true"}


def test_what_is_owned_goes_with_its_owner(
    admin: Admin, namespace: str, server: KubeServer
) -> None:
    """…/architecture/garbage-collection/#owners-dependents ."""
    code, node = admin.ask(
        "POST",
        "/api/v1/nodes",
        {"apiVersion": "v1", "kind": "Node", "metadata": {"name": namespace}},
    )
    assert code == 201
    owner = {"apiVersion": "v1", "kind": "Node", "name": namespace, "uid": about(node)["uid"]}
    assert (
        admin.ask("POST", LEASES.format(namespace), lease("a", {"ownerReferences": [owner]}))[0]
        == 201
    )
    assert admin.ask("DELETE", f"/api/v1/nodes/{namespace}")[0] == 200
    assert admin.ask("GET", f"{LEASES.format(namespace)}/a")[0] == 404


def test_a_write_is_answered_before_or_after_it_is_reported(
    admin: Admin, namespace: str, server: KubeServer
) -> None:
    """A real server does both: of 400 writes 226 were reported first."""
    orders = set()
    server.order("habit", gap=0.02)
    try:
        version = put(admin, namespace, "a", "0")
        with watch(server, namespace, resourceVersion=version) as stream:
            for number in range(1, 40):
                reported: list[float] = []
                reading = threading.Thread(
                    target=lambda told=reported: (stream.next(), told.append(time.monotonic()))
                )
                reading.start()
                put(admin, namespace, "a", str(number))
                answered = time.monotonic()
                reading.join(PATIENCE)
                orders.add(reported[0] < answered)
    finally:
        server.order("habit", gap=0.002)
    assert orders == {True, False}


def test_a_server_that_has_just_come_back_forbids_everything(
    admin: Admin, namespace: str, server: KubeServer
) -> None:
    """It does not know the roles yet; only members of system:masters need none."""
    server.order("token", token=WEAK, user="weak", groups=[])
    admin.grant(
        namespace,
        "weak",
        [{"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["list"]}],
    )
    weak = Admin(server, WEAK)
    assert weak.ask("GET", LEASES.format(namespace))[0] == 200
    server.order("habit", forbidden_for=0.6)
    server.restart()
    begin = time.monotonic()
    code, answer = weak.ask("GET", LEASES.format(namespace))
    assert (code, answer["reason"]) == (403, "Forbidden")
    assert admin.ask("GET", LEASES.format(namespace))[0] == 200
    while weak.ask("GET", LEASES.format(namespace))[0] == 403:
        assert time.monotonic() - begin < PATIENCE


def test_what_a_test_changed_is_not_there_for_the_next_one(
    admin: Admin, namespace: str, server: KubeServer
) -> None:
    """Faults, habits, and that the server forbids everything because it has just come back."""
    server.order("token", token=WEAK, user="weak", groups=[])
    admin.grant(
        namespace,
        "weak",
        [{"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["list"]}],
    )
    weak = Admin(server, WEAK)
    server.order("habit", forbidden_for=600.0)
    server.fault("refused", verb="list")
    server.restart()
    assert weak.ask("GET", LEASES.format(namespace))[0] == 500
    server.reset()
    assert weak.ask("GET", LEASES.format(namespace))[0] == 200


def test_a_server_that_is_told_to_end_waits_for_its_watches(
    namespace: str, server: KubeServer, admin: Admin
) -> None:
    """It refuses connections at once, and ends with the last watch or after its patience."""
    version = put(admin, namespace, "a", "1")
    try:
        for patience, leave in ((60.0, True), (0.3, False)):
            with watch(server, namespace, resourceVersion=version) as stream:
                assert stream.answer.status == 200
                server.terminate(patience)
                with pytest.raises(ConnectionRefusedError):
                    admin.ask("GET", LEASES.format(namespace))
                if leave:
                    time.sleep(0.5)
                    assert not server.ended
                else:
                    wait_until_ended(server)
            wait_until_ended(server)
            server.come_back()
            version = str(about(admin.ask("GET", LEASES.format(namespace))[1])["resourceVersion"])
    finally:
        server.come_back()


def wait_until_ended(server: KubeServer) -> None:
    """Wait until it has ended."""
    end = time.monotonic() + PATIENCE
    while not server.ended:
        assert time.monotonic() < end
        time.sleep(0.01)
