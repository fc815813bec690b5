"""The stores in the configuration.

Pairs of files, encryption, files that are not there, and what opening each of them imports.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from election.timing import PROFILES
from vipd.config.load import Examined
from vipd.config.promises import promises
from vipd.config.values import Config, EtcdBackend, FileBackend, KubernetesBackend

Read = Callable[..., Examined]
Errors = Callable[..., list[tuple[str, str]]]

ROOT = Path(__file__).parents[4]
INSTANCES = "instances:\n  - {name: ingress, interface: eth0, addresses: [192.0.2.10]}\n"
PASSWORD_FILE = "password_file"  # noqa: S105 - a key
ETCD = "https://10.0.0.1:2379"


def text(**backend: object) -> str:
    """Return a configuration with this backend."""
    return f"backend: {json.dumps(backend)}\n{INSTANCES}"


def etcd(*endpoints: str, **options: object) -> str:
    """Return a configuration with etcd."""
    return text(etcd={"endpoints": endpoints or [ETCD], **options})


def usable(examined: Examined) -> Config:
    """Return the configuration, which must have no errors."""
    assert examined.config is not None, examined.findings
    return examined.config


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """Return a CA, a client's certificate with its key, and a password."""
    make = (
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj "
        "/CN=ca -keyout my.key -out my.crt"
    )
    subprocess.run(["openssl", *make.split()], cwd=tmp_path, check=True, capture_output=True)
    (tmp_path / "password").write_text("s3cret\n")
    names = {
        "ca_file": "my.crt",
        "cert_file": "my.crt",
        "key_file": "my.key",
        "password_file": "password",
    }
    return {key: str(tmp_path / name) for key, name in names.items()}


def test_etcd_with_certificates_and_a_user(read: Read, files: dict[str, str]) -> None:
    """The names of the files arrive, and nothing of what is in them."""
    examined = read(etcd(ETCD, "https://[2001:db8::1]:2379/", username="vipd", **files))
    assert examined.findings == ()
    config = usable(examined)
    backend = EtcdBackend((ETCD, "https://[2001:db8::1]:2379"), username="vipd", **files)
    assert config.backend == backend
    assert b"s3cret" not in pickle.dumps(config)


def test_kubernetes_has_the_profile_that_outlasts_a_restart_of_its_api(read: Read) -> None:
    """Unless the file names another one."""
    config = usable(read(text(kubernetes={})))
    assert (config.backend, config.profile, config.timing) == (
        KubernetesBackend("vipd-system"),
        "relaxed",
        PROFILES["relaxed"],
    )
    assert usable(read(text(kubernetes={}) + "timing: {}\n")).profile == "relaxed"
    assert usable(read(text(kubernetes={}) + "timing: {profile: fast}\n")).profile == "fast"
    assert promises(config)[0].startswith(
        "node node-1, Kubernetes with Leases in namespace vipd-system, profile relaxed: lease 10s"
    )


def kubeconfig(tmp_path: Path, server: str) -> str:
    """Return the name of a kubeconfig for this server."""
    named = {
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {"token": "s3cret"}}],
    }
    path = tmp_path / "kubeconfig"
    path.write_text(
        json.dumps({"apiVersion": "v1", "kind": "Config", "current-context": "here", **named})
    )
    return str(path)


def test_kubernetes_from_outside_of_the_cluster(read: Read, tmp_path: Path) -> None:
    """With a kubeconfig, and a context of it."""
    path = kubeconfig(tmp_path, "https://10.0.0.1:6443")
    examined = read(text(kubernetes={"namespace": "edge", "kubeconfig": path, "context": "here"}))
    assert examined.findings == ()
    assert usable(examined).backend == KubernetesBackend("edge", path, "here")


@pytest.mark.parametrize("server", ["https://192.0.2.10:6443", "https://vip.example"])
def test_an_api_server_behind_the_vip_is_refused(
    errors: Errors, tmp_path: Path, server: str
) -> None:
    """It would be gone just when the VIP has to move."""
    found = errors(text(kubernetes={"kubeconfig": kubeconfig(tmp_path, server)}))
    assert [where.partition(" ")[2] for where, _ in found] == ["backend.kubernetes.kubeconfig"]
    assert "192.0.2.10, which is on another node when it matters" in found[0][1]


@pytest.mark.parametrize(
    ("content", "path", "says"),
    [
        (
            etcd(cert_file="/x"),
            "backend.etcd.key_file",
            "is missing; allowed: it goes together with cert_file",
        ),
        (etcd(key_file="/x"), "backend.etcd.cert_file", "goes together with key_file"),
        (etcd(username="u"), "backend.etcd.password_file", "goes together with username"),
        (
            etcd(**{PASSWORD_FILE: "/x"}),
            "backend.etcd.username",
            "goes together with password_file",
        ),
        (etcd("http://h:1", ca_file="/x"), "backend.etcd.ca_file", "no endpoint begins with https"),
        (
            etcd("http://h:1", cert_file="/x", key_file="/y"),
            "backend.etcd.cert_file",
            "no endpoint begins with https",
        ),
        (etcd(password="s3cret"), "backend.etcd.password", "did you mean password_file?"),  # noqa: S106 - what must be refused
        (
            etcd(username="u", **{PASSWORD_FILE: "s3cret"}),
            "backend.etcd.password_file",
            "not an absolute path",
        ),
        (
            text(kubernetes={"context": "x"}),
            "backend.kubernetes.kubeconfig",
            "a context is chosen in a kubeconfig",
        ),
        (
            text(kubernetes={"namespce": "x"}),
            "backend.kubernetes.namespce",
            "did you mean namespace?",
        ),
        (
            text(kubernetes={}, file={}),
            "backend",
            "two backends are given; allowed: exactly one of kubernetes, etcd, file",
        ),
        (
            text(kubernetes={}, file={}, etcd={"endpoints": [ETCD]}),
            "backend",
            "three backends are given",
        ),
    ],
)
def test_a_contradiction_is_explained(errors: Errors, content: str, path: str, says: str) -> None:
    """And nothing follows from it that is no fault of its own."""
    ((where, what),) = errors(content)
    assert where.partition(" ")[2] == path
    assert says in what


def test_a_password_in_the_place_of_its_file_is_not_repeated(errors: Errors) -> None:
    """Somebody will write it there."""
    ((_, what),) = errors(etcd(username="u", **{PASSWORD_FILE: "s3cret"}))
    assert "s3cret" not in what


def warnings(examined: Examined) -> list[str]:
    """Return the problems of a file that can be used all the same."""
    assert examined.config is not None
    return [finding.problem for finding in examined.findings]


def test_files_that_cannot_be_used_now_are_warnings(
    read: Read, files: dict[str, str], tmp_path: Path
) -> None:
    """They may come later: an error would end a start for good."""
    again = "; vipd reads it again when it has changed"
    missing = str(tmp_path / "missing")
    assert warnings(read(etcd(ca_file=missing))) == [
        f"{missing} cannot be read: No such file or directory{again}"
    ]
    assert warnings(read(etcd(ca_file=files["key_file"]))) == [
        f"ca_file {files['key_file']} holds no certificate in PEM form{again}"
    ]
    Path(files["password_file"]).write_text("")
    assert warnings(read(etcd(username="u", password_file=files["password_file"]))) == [
        f"password_file {files['password_file']} is empty{again}"
    ]
    assert warnings(read(text(kubernetes={"kubeconfig": missing}))) == [
        f"{missing}: No such file or directory{again}"
    ]


def test_what_goes_without_encryption_is_a_warning(read: Read, files: dict[str, str]) -> None:
    """Some of the endpoints, or the password."""
    user = {"username": "u", "password_file": files["password_file"]}
    assert warnings(read(etcd(ETCD, "http://10.0.0.2:1", ca_file=files["ca_file"]))) == [
        "without TLS: http://10.0.0.2:1"
    ]
    assert warnings(read(etcd("http://10.0.0.2:1", **user))) == [
        "the password would be sent without encryption to http://10.0.0.2:1"
    ]


OPENED = {
    "file": (FileBackend("/tmp/none"), "election.stores.file.store"),
    "etcd": (EtcdBackend((ETCD,)), "election.stores.etcd.store"),
    "kubernetes": (KubernetesBackend(), "election.stores.kubernetes.store"),
}
HEAVY = {"grpc", "aetcd", "kubernetes", "aiohttp", "pydantic", "yaml"}


@pytest.mark.parametrize("kind", OPENED)
def test_opening_a_store_imports_that_backend_only(kind: str) -> None:
    """Each node pays for its own; and all of it is there before the daemon is forked."""
    backend, module = OPENED[kind]
    program = """
import pickle, sys
from election.timing import Timing
from vipd.config.values import Config
from vipd.daemon.preload import BACKENDS
from vipd.daemon.stores import kind, open_store
import importlib
backend = pickle.loads(sys.stdin.buffer.read())
for name in BACKENDS[type(backend)]:
    importlib.import_module(name)
before = set(sys.modules)
config = Config("n", backend, Timing(), ())
open_store(config)
print(kind(config), *sorted({name.partition(".")[0] for name in sys.modules}), *sorted(set(sys.modules) - before), *sorted(sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=pickle.dumps(backend),
        cwd=ROOT,
        env={**os.environ},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    name, *modules = done.stdout.decode().split()
    assert name == kind
    assert module in modules
    assert HEAVY & set(modules) == ({"grpc", "aetcd"} if kind == "etcd" else set())
    assert {other for _, other in OPENED.values()} & set(modules) == {module}


@pytest.mark.parametrize(
    "key", ["ca_file", "cert_file", "key_file", "password_file", "kubeconfig", "check"]
)
@pytest.mark.parametrize("kind", ["a named pipe", "a directory"])
def test_what_stands_where_a_file_should_and_is_none_is_an_error(
    errors: Errors, files: dict[str, str], tmp_path: Path, key: str, kind: str
) -> None:
    """It will not become one by itself, and nobody waits for what comes out of it."""
    path = tmp_path / "wrong"
    if kind == "a directory":
        path.mkdir()
    else:
        os.mkfifo(path)
    if key == "check":
        http = {"url": "https://10.0.0.9/", "ca_file": str(path)}
        content = text(file={}).replace(
            "[192.0.2.10]", f"[192.0.2.10], checks: [{{name: web, http: {json.dumps(http)}}}]"
        )
        place = "instances[0].checks[0].http.ca_file"
    elif key == "kubeconfig":
        content, place = text(kubernetes={"kubeconfig": str(path)}), "backend.kubernetes.kubeconfig"
    else:
        content, place = (
            etcd(ETCD, username="vipd", **(files | {key: str(path)})),
            f"backend.etcd.{key}",
        )
    ((where, what),) = errors(content)
    assert where.partition(" ")[2] == place
    assert f"{path} is {kind}, not a file" in what
