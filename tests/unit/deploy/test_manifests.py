"""The manifests are valid, agree with each other and with vipd, and ask for no right that it does
not need.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.kube.manifests import FOLDER, NAMESPACE, one, read
from tests.unit.deploy.schema import findings
from vipd.config.defaults import CONFIG_FILE, CONTROL_SOCKET, STATE_DIR
from vipd.config.load import Surroundings, examine
from vipd.config.values import KubernetesBackend
from vipd.version import VERSION

OBJECTS = {
    f"{file}:{thing['kind']}": thing
    for folder in (FOLDER, FOLDER / "optional")
    for file, thing in read(folder)
}
PORT = 9477


def daemon_set() -> Any:  # noqa: ANN401 - a tree of plain values, which the schema test has looked at
    """Return the DaemonSet."""
    return one("DaemonSet")


def pod() -> Any:  # noqa: ANN401 - likewise
    """Return the spec of its pods."""
    return daemon_set()["spec"]["template"]["spec"]


def container() -> Any:  # noqa: ANN401 - likewise
    """Return their only container."""
    [found] = pod()["containers"]
    return found


@pytest.mark.parametrize("name", OBJECTS)
def test_an_object_has_the_shape_that_kubernetes_demands(name: str) -> None:
    """No unknown field, no missing one, no wrong type."""
    assert findings(OBJECTS[name]) == []


SPOILED: dict[str, Callable[[Any], object]] = {
    "DaemonSet.spec.template.spec.hostnetwork: no such field": lambda spec: spec.update(
        hostnetwork=True
    ),
    "readOnlyRootFileSystem: no such field": lambda spec: spec["containers"][0][
        "securityContext"
    ].update(readOnlyRootFileSystem=True),
    "name: Field required": lambda spec: spec["containers"][0].pop("name"),
    "terminationGracePeriodSeconds": lambda spec: spec.update(terminationGracePeriodSeconds="soon"),
}


@pytest.mark.parametrize("why", SPOILED)
def test_a_mistake_in_a_manifest_is_found(why: str) -> None:
    """A word in the wrong case, something left out, a text for a number.

    The test above would see it.
    """
    thing = copy.deepcopy(daemon_set())
    SPOILED[why](thing["spec"]["template"]["spec"])
    assert any(why in finding for finding in findings(thing)), findings(thing)


def test_the_namespace_comes_first_and_all_are_in_it() -> None:
    """`kubectl apply -f` takes the files by name: an object cannot be made before its namespace."""
    kinds = [thing["kind"] for _, thing in read()]
    assert kinds == ["Namespace", "ServiceAccount", "Role", "RoleBinding", "ConfigMap", "DaemonSet"]
    assert one("Namespace")["metadata"]["name"] == NAMESPACE  # type: ignore[index]
    assert {
        thing["metadata"]["namespace"]  # type: ignore[index]
        for _, thing in read()
        if thing["kind"] != "Namespace"
    } == {NAMESPACE}


def test_the_pod_may_not_do_more_than_vipd_needs() -> None:
    """Three capabilities, no way to more, nothing to write to but its state and its socket."""
    assert container()["securityContext"] == {
        "runAsUser": 0,
        "runAsGroup": 0,
        "privileged": False,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN", "NET_RAW", "BPF"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    writable = {
        mount["mountPath"] for mount in container()["volumeMounts"] if not mount.get("readOnly")
    }
    assert writable == {STATE_DIR, str(Path(CONTROL_SOCKET).parent)}
    assert not {"hostPID", "hostIPC", "shareProcessNamespace"} & set(pod())


def test_what_is_mounted_is_where_vipd_looks_and_outlives_the_pod() -> None:
    """The state proves to the next vipd of this boot that the lease is its own."""
    paths = {
        volume["name"]: volume["hostPath"]["path"]
        for volume in pod()["volumes"]
        if "hostPath" in volume
    }
    mounts = {mount["name"]: mount["mountPath"] for mount in container()["volumeMounts"]}
    assert (
        {name: mounts[name] for name in paths}
        == paths
        == {"state": STATE_DIR, "control": str(Path(CONTROL_SOCKET).parent)}
    )
    assert mounts["config"] == str(Path(CONFIG_FILE).parent)
    [volume] = [volume for volume in pod()["volumes"] if volume["name"] == "config"]
    assert volume["configMap"]["name"] == one("ConfigMap")["metadata"]["name"]  # type: ignore[index]


def test_the_configuration_is_a_right_one(tmp_path: Path) -> None:
    """As each pod sees it; the probes ask where it listens."""
    text = one("ConfigMap")["data"]["vipd.yaml"]  # type: ignore[index]
    (tmp_path / "vipd.yaml").write_text(text)
    given = {"NODE_NAME": "edge-1", "POD_NAMESPACE": NAMESPACE}
    assert {variable["name"] for variable in container()["env"]} == set(given)
    examined = examine(
        str(tmp_path / "vipd.yaml"), Surroundings(given, "pod-name", lambda _names, _seconds: {})
    )
    assert [finding for finding in examined.findings if not finding.warning] == []
    assert examined.config is not None
    assert examined.config.node == "edge-1"
    assert examined.config.backend == KubernetesBackend(NAMESPACE, "", "")
    for probe, path in (
        ("startupProbe", "/healthz"),
        ("livenessProbe", "/healthz"),
        ("readinessProbe", "/readyz"),
    ):
        assert container()[probe]["httpGet"] == {"host": "127.0.0.1", "port": PORT, "path": path}
    assert examined.config.metrics_listen == ("127.0.0.1", PORT)


def test_nodes_change_one_by_one_and_are_given_time() -> None:
    """A handover takes its time, and two nodes that restart together would have nobody to hand over
    to.
    """
    spec = daemon_set()["spec"]
    assert spec["updateStrategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxUnavailable": 1},
    }
    assert spec["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()
    assert pod()["terminationGracePeriodSeconds"] >= 10
    assert pod()["priorityClassName"] == "system-node-critical"
    assert pod()["hostNetwork"] is True
    assert "cpu" not in container()["resources"]["limits"]


@pytest.mark.parametrize("folder", [FOLDER, FOLDER / "optional"])
def test_the_binding_joins_the_pods_account_and_the_role(folder: Path) -> None:
    """Every name in it is that of something that is there."""
    start = "" if folder == FOLDER else "Cluster"
    binding, role = one(f"{start}RoleBinding", folder), one(f"{start}Role", folder)
    account: Any = one("ServiceAccount")["metadata"]
    assert binding["subjects"] == [
        {"kind": "ServiceAccount", "name": account["name"], "namespace": account["namespace"]}
    ]
    assert binding["roleRef"] == {
        "apiGroup": "rbac.authorization.k8s.io",
        "kind": role["kind"],
        "name": role["metadata"]["name"],  # type: ignore[index]
    }
    assert pod()["serviceAccountName"] == account["name"]
    assert pod()["automountServiceAccountToken"] is True


def test_the_image_is_that_of_this_version() -> None:
    """The tag in the DaemonSet and in the recipe's comment."""
    recipe = (FOLDER.parent / "Containerfile").read_text()
    assert container()["image"] == f"vipd:{VERSION}"
    assert f"-t vipd:{VERSION} " in recipe


def test_the_image_is_built_of_what_is_there_and_pinned() -> None:
    """Every file that the recipe copies exists.

    Every package comes in the version that was tested.
    """
    recipe = (FOLDER.parent / "Containerfile").read_text()
    copied = [
        name
        for line in re.findall(r"^COPY (?!--from)(.+)$", recipe, re.MULTILINE)
        for name in line.split()[:-1]
    ]
    root = FOLDER.parents[1]
    assert [name for name in copied if not (root / name).exists()] == []
    assert {"vipd", "election", "announce", "health", "constraints.txt"} <= set(copied)
    installs = [line for line in recipe.replace("\\\n", " ").splitlines() if "pip install" in line]
    assert installs
    assert all("-c constraints.txt" in line for line in installs)
    assert set(re.findall(r"^FROM (\S+)", recipe, re.MULTILINE)) == {"python:3.13-slim"}
    assert 'ENTRYPOINT ["vipd"]' in recipe
