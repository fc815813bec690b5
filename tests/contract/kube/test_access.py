"""How the Kubernetes store logs in, and what it says if it is not let in."""

from __future__ import annotations

import asyncio
import json
import sys
from functools import partial
from pathlib import Path

from election.model import Absent, Applied, CandidateRecord, Unknown
from election.stores.contract import Store, WatchLost, WatchStands
from election.stores.kubernetes.kubeconfig import in_cluster
from election.stores.kubernetes.store import KubernetesStore
from tests.contract.kube.common import RECORD
from tests.contract.kube_place import KubePlace
from tests.contract.places import TIMEOUT, closing, revision, watching
from tests.kube.fixture import ADMIN, KubeServer, certificate_user, kubeconfig
from tests.kube.status import Json

OLD, NEW, WEAK = "old-token", "new-token", "weak-token"


def pod(server: KubeServer, folder: Path, token: str) -> dict[str, str]:
    """Make what a pod finds in its container, and return its environment."""
    folder.mkdir()
    (folder / "token").write_text(token)
    (folder / "ca.crt").write_bytes(server.authority.file.read_bytes())
    return {"KUBERNETES_SERVICE_HOST": server.host, "KUBERNETES_SERVICE_PORT": str(server.port)}


def runs(pid: str) -> bool:
    """Whether a process runs; one that nobody has waited for does not."""
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().split()[2] != "Z"


async def use(store: Store) -> None:
    """Read and write a record and a candidate record."""
    assert await store.read("ingress", TIMEOUT) == Absent()
    await revision(store, "ingress", RECORD)
    assert isinstance(await store.write_candidate(CandidateRecord("n", "s", 1), TIMEOUT), Applied)
    assert await store.read_candidates(TIMEOUT) == [CandidateRecord("n", "s", 1)]


def test_a_client_certificate_logs_in(server: KubeServer, place: KubePlace, tmp_path: Path) -> None:
    """Its subject is the user, as RBAC sees it."""
    certificate = server.authority.sign("node", "/O=system:masters/CN=node-a")
    store = KubernetesStore(
        place.namespace, str(kubeconfig(server, tmp_path / "k", certificate_user(certificate)))
    )

    async def scenario() -> None:
        async with closing(store):
            await use(store)

    asyncio.run(scenario())
    assert {request["user"] for request in server.requests()} == {"node-a"}


def test_a_token_that_was_replaced_is_read_again(
    server: KubeServer, place: KubePlace, tmp_path: Path
) -> None:
    """The kubelet wrote a new one and the old one is over.

    No request fails, and the watch goes on.
    """
    server.order("token", token=OLD, user="pod", groups=["system:masters"])
    server.order("token", token=NEW, user="pod", groups=["system:masters"])
    folder = tmp_path / "serviceaccount"
    environ = pod(server, folder, OLD)
    store = KubernetesStore(
        place.namespace, request_timeout=0.5, access=partial(in_cluster, environ, folder)
    )

    async def scenario() -> None:
        async with closing(store), watching(store) as watch:
            assert await watch.next() == WatchStands()
            assert await store.read("ingress", TIMEOUT) == Absent()
            (folder / "token").write_text(NEW)
            server.order("revoke", token=OLD)
            await use(store)
            server.order("end_watches")
            await watch.next()
            assert not [event for event in watch.seen if isinstance(event, WatchLost)]

    asyncio.run(scenario())
    assert {request["user"] for request in server.requests() if request["code"] != 401} == {"pod"}


def test_credentials_that_are_not_accepted_are_named(
    server: KubeServer, place: KubePlace, tmp_path: Path
) -> None:
    """A 401 is not a lost lease, and says what to look at."""
    store = KubernetesStore(
        place.namespace, str(kubeconfig(server, tmp_path / "k", {"token": "nobody's"}))
    )

    async def scenario() -> None:
        async with closing(store):
            answer = await store.read("ingress", TIMEOUT)
            assert isinstance(answer, Unknown)
            assert "does not accept the credentials (401)" in answer.why
            assert "nobody's" not in answer.why

    asyncio.run(scenario())


def test_what_is_forbidden_is_named(server: KubeServer, place: KubePlace, tmp_path: Path) -> None:
    """A 403 says which verb on what is missing; what is allowed goes on."""
    server.order("token", token=WEAK, user="weak", groups=[])
    rules: list[Json] = [
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "create"]}
    ]
    place.admin.grant(place.namespace, "weak", rules)
    store = KubernetesStore(
        place.namespace,
        str(kubeconfig(server, tmp_path / "k", {"token": WEAK})),
        request_timeout=0.5,
    )

    async def scenario() -> None:
        async with closing(store):
            last = await revision(store, "ingress", RECORD)
            answer = await store.write("ingress", RECORD, last, TIMEOUT)
            assert isinstance(answer, Unknown)
            assert 'User "weak" cannot update resource "leases"' in answer.why
            async with watching(store) as watch:
                lost = await watch.next()
                assert isinstance(lost, WatchLost)
                assert "cannot list" in lost.why

    asyncio.run(scenario())


def test_an_exec_plugin_logs_in_and_is_asked_once(
    server: KubeServer, place: KubePlace, tmp_path: Path
) -> None:
    """What it issues is kept until it expires.

    Its arguments are an argv, its environment is what the kubeconfig says.
    """
    plugin = tmp_path / "plugin.py"
    plugin.write_text(
        "import json, os, sys\n"
        "open(sys.argv[1], 'a').write('x')\n"
        "told = json.loads(os.environ['KUBERNETES_EXEC_INFO'])\n"
        "assert told['spec'] == {'interactive': False}, told\n"
        "print(json.dumps({'apiVersion': told['apiVersion'], 'kind': 'ExecCredential',"
        " 'status': {'token': os.environ['TOKEN'], 'expirationTimestamp': "
        "'2099-01-01T00:00:00Z'}}))\n"
    )
    user: dict[str, object] = {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": sys.executable,
            "args": [str(plugin), str(tmp_path / "runs; echo")],
            "env": [{"name": "TOKEN", "value": ADMIN}],
            "interactiveMode": "Never",
        }
    }
    store = KubernetesStore(place.namespace, str(kubeconfig(server, tmp_path / "k", user)))

    async def scenario() -> None:
        async with closing(store):
            await use(store)

    asyncio.run(scenario())
    assert (tmp_path / "runs; echo").read_text() == "x"


def test_a_plugin_that_hangs_bounds_no_request(
    server: KubeServer, place: KubePlace, tmp_path: Path
) -> None:
    """The request comes back in its time; closing the store ends the plugin and its children."""
    pid = tmp_path / "pid"
    user: dict[str, object] = {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": "sh",
            "args": ["-c", f"sleep 60 & echo $! > {pid}; wait"],
        }
    }
    store = KubernetesStore(place.namespace, str(kubeconfig(server, tmp_path / "k", user)))

    async def scenario() -> None:
        async with closing(store):
            async with asyncio.timeout(TIMEOUT):
                while not pid.exists() or not pid.read_text():
                    assert isinstance(await store.read("ingress", 0.2), Unknown)

        async with asyncio.timeout(TIMEOUT):
            while runs(pid.read_text().strip()):  # noqa: ASYNC110 - a killed process ends a little later
                await asyncio.sleep(0.01)

    asyncio.run(scenario())


def test_another_ca_is_not_trusted(server: KubeServer, place: KubePlace, tmp_path: Path) -> None:
    """Somebody else answers at the address of the API: nothing is told to them."""
    config = json.loads(place.kubeconfig.read_text())
    del config["clusters"][0]["cluster"]["certificate-authority-data"]
    (tmp_path / "k").write_text(json.dumps(config))
    store = KubernetesStore(place.namespace, str(tmp_path / "k"))

    async def scenario() -> None:
        async with closing(store):
            answer = await store.read("ingress", TIMEOUT)
            assert isinstance(answer, Unknown)
            assert "certificate that is not trusted" in answer.why

    asyncio.run(scenario())
    assert server.requests() == []


def test_without_a_kubeconfig_the_sentence_says_so(tmp_path: Path) -> None:
    """Nothing is raised: the operator may put the file there later."""
    store = KubernetesStore("vipd-system", str(tmp_path / "none"))

    async def scenario() -> None:
        async with closing(store):
            answer = await store.read("ingress", TIMEOUT)
            assert isinstance(answer, Unknown)
            assert str(tmp_path / "none") in answer.why

    asyncio.run(scenario())
