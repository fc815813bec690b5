"""Where the Kubernetes API is and how to log in: from a kubeconfig, or as a pod inside the cluster.

    kubeconfig   https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/
    in-cluster   https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/

The loader of the kubernetes package is not used: it brings 400 modules (20 MB, 0.3 to 0.5 s) into a
daemon whose restart has to fit into a short lease, and it runs exec plugins without a bound,
without a cache and without their certificates.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

from election.stores.errors import BadAccess
from election.stores.files import read_file

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
LARGEST_FILE = 1024 * 1024
EXEC_API = "client.authentication.k8s.io/"
EXEC_VERSIONS = {f"{EXEC_API}v1", f"{EXEC_API}v1beta1"}
EXEC_EXTENSION = f"{EXEC_API}exec"

Entries = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class ExecPlugin:
    """A program that issues credentials; without a slash it is looked up in the path.

    `cluster` is told to it if it asks for that.
    """

    argv: tuple[str, ...]
    api_version: str
    env: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    cluster: Entries | None = field(default=None, hash=False, repr=False)
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Access:
    """One API server and who asks it.

    Certificates and keys are PEM. `files`: what it was read from, to notice changes.
    """

    server: str
    ca: bytes = field(default=b"", repr=False)
    cert: bytes = field(default=b"", repr=False)
    key: bytes = field(default=b"", repr=False)
    token: str = field(default="", repr=False)
    plugin: ExecPlugin | None = None
    verify: bool = True
    server_name: str = ""
    files: tuple[Path, ...] = ()


def load(kubeconfig: str, context: str) -> Access:
    """Read a kubeconfig, or without one what a pod finds in its container; raises BadAccess."""
    try:
        return (
            from_kubeconfig(Path(kubeconfig), context)
            if kubeconfig
            else in_cluster(os.environ, SERVICE_ACCOUNT)
        )
    except OSError as error:
        raise BadAccess(f"{error.filename}: {error.strerror}") from None


def in_cluster(environ: Mapping[str, str], folder: Path) -> Access:
    """Return the access of a pod's service account; raises BadAccess and OSError."""
    host, port = (
        environ.get("KUBERNETES_SERVICE_HOST", ""),
        environ.get("KUBERNETES_SERVICE_PORT", ""),
    )
    if not host or not port:
        raise BadAccess(
            "this is no pod of a cluster (KUBERNETES_SERVICE_HOST and _PORT are not set), and no "
            "kubeconfig is given"
        )
    token, ca = folder / "token", folder / "ca.crt"
    server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    return Access(server, ca=_content(ca), token=_token(token), files=(token, ca))


def from_kubeconfig(path: Path, context: str) -> Access:
    """Return the access of a context, by default the current one; raises BadAccess and OSError."""
    reader = _Reader(path)
    name = context or reader.text(reader.root, "current-context")
    if not name:
        raise BadAccess(f"{path} has no current-context, and the configuration names no context")
    chosen = reader.named("contexts", name, "context")
    cluster = reader.named("clusters", reader.text(chosen, "cluster"), "cluster")
    user = reader.named("users", reader.text(chosen, "user"), "user")
    server = reader.text(cluster, "server").rstrip("/")
    if urlsplit(server).scheme not in {"https", "http"} or not urlsplit(server).hostname:
        raise BadAccess(f"{path}: server {server!r} is not an address like https://192.0.2.1:6443")
    ca = reader.data(cluster, "certificate-authority")
    _refuse(path, user, "auth-provider", "username", "as", "as-uid", "as-groups", "as-user-extra")
    _refuse(path, cluster, "proxy-url")
    access = Access(
        server,
        ca=ca,
        cert=reader.data(user, "client-certificate"),
        key=reader.data(user, "client-key"),
        token=reader.token(user),
        plugin=reader.plugin(user, cluster, ca),
        verify=cluster.get("insecure-skip-tls-verify") is not True,
        server_name=reader.text(cluster, "tls-server-name"),
        files=tuple(reader.files),
    )
    if bool(access.cert) != bool(access.key):
        raise BadAccess(f"{path}: a client certificate and a client key go together")
    return access


def signature(files: tuple[Path, ...]) -> tuple[object, ...]:
    """Return what changes when one of these files is replaced or written; a
    missing one counts too.
    """
    return tuple(_stat(path) for path in files)


def _stat(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _refuse(path: Path, entries: Entries, *keys: str) -> None:
    """Refuse what is left out.

    It would log in as somebody else, or nowhere, and a 401 would be the only word about it.
    """
    for key in keys:
        if entries.get(key):
            raise BadAccess(f"{path}: {key} is not supported by vipd")


class _Reader:
    """A kubeconfig with types checked, and the files that it names."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files = [path]
        self.root = self._parsed()

    def _parsed(self) -> Entries:
        import yaml  # noqa: PLC0415 - inside a cluster nobody needs it

        try:
            root = yaml.safe_load(_content(self.path))
        except (yaml.YAMLError, UnicodeError) as error:
            raise BadAccess(f"{self.path} is not YAML: {error}") from None
        return self._object(root, "the file")

    def _object(self, value: object, what: str) -> Entries:
        if not isinstance(value, dict):
            raise BadAccess(f"{self.path}: {what} is not a mapping")
        return cast("Entries", value)

    def text(self, entries: Entries, key: str) -> str:
        """Return a text; empty if it is not there."""
        value = entries.get(key)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise BadAccess(f"{self.path}: {key} is not a text")
        return value

    def named(self, section: str, name: str, key: str) -> Entries:
        """Return the entry of a list that has this name."""
        entries = self.root.get(section)
        for entry in entries if isinstance(entries, list) else []:
            if isinstance(entry, dict) and entry.get("name") == name:
                return self._object(entry.get(key) or {}, f"{key} {name!r}")
        raise BadAccess(f"{self.path} has no {key} named {name!r}")

    def data(self, entries: Entries, key: str) -> bytes:
        """Return what stands under `key`-data, or in the file that `key` names.

        Data go first, as with kubectl.
        """
        if encoded := self.text(entries, f"{key}-data"):
            try:
                return base64.b64decode(encoded, validate=True)
            except (binascii.Error, ValueError):
                raise BadAccess(f"{self.path}: {key}-data is not base64") from None
        name = self.text(entries, key)
        return _content(self._file(name)) if name else b""

    def token(self, user: Entries) -> str:
        """Return the token, from its file if there is one: that one is renewed."""
        name = self.text(user, "tokenFile")
        return _token(self._file(name)) if name else self.text(user, "token")

    def plugin(self, user: Entries, cluster: Entries, ca: bytes) -> ExecPlugin | None:
        """Return the exec plugin, if there is one."""
        if not user.get("exec"):
            return None
        said = self._object(user["exec"], "exec")
        command, version = self.text(said, "command"), self.text(said, "apiVersion")
        arguments, env = said.get("args") or [], said.get("env") or []
        if not command or version not in EXEC_VERSIONS:
            raise BadAccess(
                f"{self.path}: exec needs a command, and as apiVersion one of "
                f"{', '.join(sorted(EXEC_VERSIONS))}"
            )
        if self.text(said, "interactiveMode") == "Always":
            raise BadAccess(
                f"{self.path}: the exec plugin {command} wants to talk to somebody "
                "(interactiveMode: Always)"
            )
        if not isinstance(arguments, list) or not isinstance(env, list):
            raise BadAccess(f"{self.path}: args and env of exec are lists")
        # A command with a slash is relative to the kubeconfig; one without is looked up in the
        # path.
        program = str(self.path.parent / command) if "/" in command else command
        pairs = [self._object(pair, "env of exec") for pair in env]
        return ExecPlugin(
            (program, *(str(argument) for argument in arguments)),
            version,
            tuple((self.text(pair, "name"), self.text(pair, "value")) for pair in pairs),
            self._cluster_info(cluster, ca) if said.get("provideClusterInfo") is True else None,
            self.text(said, "installHint"),
        )

    def _cluster_info(self, cluster: Entries, ca: bytes) -> Entries:
        """Return spec.cluster of an ExecCredential.

        The CA as data even where the kubeconfig names a file, the extension as `config`.
        """
        info: dict[str, object] = {
            key: cluster[key]
            for key in ("server", "tls-server-name", "insecure-skip-tls-verify")
            if key in cluster
        }
        if ca:
            info["certificate-authority-data"] = base64.b64encode(ca).decode()
        extensions = cluster.get("extensions")
        for entry in extensions if isinstance(extensions, list) else []:
            if isinstance(entry, dict) and entry.get("name") == EXEC_EXTENSION:
                info["config"] = entry.get("extension")
        return info

    def _file(self, name: str) -> Path:
        path = self.path.parent / name
        self.files.append(path)
        return path


def _content(path: Path) -> bytes:
    data = read_file(path, LARGEST_FILE)
    if len(data) > LARGEST_FILE:
        raise BadAccess(f"{path} has more than {LARGEST_FILE} bytes")
    return data


def _token(path: Path) -> str:
    token = _content(path).decode("ascii", "replace").strip()
    if not token or not token.isprintable():
        raise BadAccess(f"{path} holds no token")
    return token
