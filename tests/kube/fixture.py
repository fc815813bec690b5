"""The API server for tests.

A process that can be stopped, frozen, restarted, put into a namespace and made to fail.

Where the environment variable KUBEBUILDER_ASSETS names a folder with kube-apiserver and etcd,
cluster.start_cluster starts those in its place.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from tests.kube.certificates import Authority, Certificate

ROOT = Path(__file__).parents[2]
START_TIMEOUT = 20.0
STOP_TIMEOUT = 5.0
ADMIN = "admin-token"
SEED = int(os.environ.get("VIPD_KUBE_SEED", "0"))
"""What our API server leaves to chance can be had again, or otherwise."""


class Cluster(Protocol):
    """What the tests need of an API server, be it ours or a real one."""

    authority: Authority
    host: str
    port: int

    @property
    def url(self) -> str:
        """Where clients find it."""
        ...

    def add_namespace(self, name: str) -> None:
        """Make a namespace."""
        ...

    def backup(self, name: str) -> None:
        """Keep a copy of everything."""
        ...

    def restore(self, name: str) -> None:
        """Put a copy in the place of everything."""
        ...

    def compact(self) -> None:
        """Forget what was: earlier versions can neither be listed nor watched from now on."""
        ...

    def stop(self) -> None:
        """End it."""
        ...

    def leave(self) -> None:
        """Be away: refuse connections; nothing is forgotten."""
        ...

    def terminate(self) -> None:
        """Begin to end in good order, as for a planned restart.

        `come_back` follows once it has `ended`.
        """
        ...

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        ...

    def come_back(self) -> None:
        """Serve again, on the same port."""
        ...

    def freeze(self) -> None:
        """Take requests and answer none."""
        ...

    def thaw(self) -> None:
        """Go on."""
        ...


class KubeServer:
    """Our API server with its files below `directory`, on `host`.

    It ends with the process that started it.

    `netns`: the name of a network namespace that exists and whose addresses include `host`; the
    port is 6443 there.
    """

    def __init__(self, directory: Path, *, host: str = "127.0.0.1", netns: str = "") -> None:
        self.directory = directory
        self.host = host
        self.netns = netns
        self.port = 6443 if netns else 0
        self.authority = Authority(directory / "certs")
        self.authority.sign("server", "/CN=kube-apiserver", f"IP:{host},DNS:kubernetes.default.svc")
        # A path of a Unix socket has at most 107 bytes, and those of pytest are long.
        self._control_path = directory / "control"
        self._process: subprocess.Popen[bytes] | None = None
        self._control: io.BufferedRWPair | None = None

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"https://{self.host}:{self.port}"

    @property
    def pid(self) -> int:
        """The process while it runs."""
        if self._process is None:
            raise RuntimeError("the API server does not run")
        return self._process.pid

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    # ------------------------------------------------------------------ life

    def start(self) -> None:
        """Start it and wait until it serves."""
        inside = ["ip", "netns", "exec", self.netns] if self.netns else []
        argv = [sys.executable, "-m", "tests.kube.server", "--listen", f"{self.host}:{self.port}"]
        argv += [
            "--certs",
            str(self.authority.folder),
            "--control",
            str(self._control_path),
            "--seed",
            str(SEED),
        ]
        self._process = subprocess.Popen(
            [*inside, *argv], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the API server did not start")
        self.port = int(line)
        self._connect()
        self.order("token", token=ADMIN, user="admin", groups=["system:masters"])

    def _connect(self) -> None:
        # /proc/self/fd: a path of a Unix socket has at most 107 bytes, and those of pytest may be
        # longer.
        folder = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(START_TIMEOUT)
                connection.connect(f"/proc/self/fd/{folder}/control")
                self._control = connection.makefile("rwb")
        finally:
            os.close(folder)

    def stop(self) -> None:
        """End it, frozen or not; what it knew is gone."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGCONT)
        if self._control is not None:
            self._control.close()
        with contextlib.suppress(BrokenPipeError):
            process.communicate(timeout=STOP_TIMEOUT)
        self._control_path.unlink(missing_ok=True)

    def freeze(self) -> None:
        """Stop it in its tracks: connections stay open and nobody answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)

    def leave(self) -> None:
        """Refuse connections and close those that there are."""
        self.order("stop_listening")

    def terminate(self, patience: float = 60.0) -> None:
        """Begin to end as on SIGTERM.

        Refuse connections, and wait so many seconds for watches to end.
        """
        self.order("terminate", patience=patience)

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return bool(self.order("ended"))

    def come_back(self) -> None:
        """Serve again, on the same port; earlier versions cannot be watched any more."""
        self.order("listen")

    def restart(self) -> None:
        """Be away for a moment."""
        self.leave()
        self.come_back()

    # ------------------------------------------------------------------ orders

    def order(self, what: str, **values: object) -> object:
        """Give an order (see server.Control) and return its answer."""
        if self._control is None:
            raise RuntimeError("the API server does not run")
        self._control.write(json.dumps({"do": what, **values}).encode() + b"\n")
        self._control.flush()
        answer = json.loads(self._control.readline())
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["ok"]

    def fault(self, kind: str, **values: object) -> None:
        """Let requests fail: see faults.Fault."""
        self.order("fault", kind=kind, **values)

    def clear(self) -> None:
        """Let no request fail any more."""
        self.order("clear")

    def reset(self) -> None:
        """Be as at the start for the next test.

        No faults, no other habits, no time in which all is forbidden.
        """
        self.order("reset")

    def requests(self) -> list[dict[str, object]]:
        """Return the requests since the last call: see service.Logged."""
        found = self.order("requests")
        assert isinstance(found, list)
        return found

    def compact(self) -> None:
        """Forget what was."""
        self.order("compact")

    def add_namespace(self, name: str) -> None:
        """Make a namespace."""
        self.order("namespace", name=name)

    def backup(self, name: str) -> None:
        """Keep a copy of everything."""
        self.order("backup", name=name)

    def restore(self, name: str) -> None:
        """Put a copy in the place of everything.

        Versions given out since then are given out again.
        """
        self.order("restore", name=name)


def kubeconfig(
    cluster: Cluster, path: Path, user: dict[str, object], namespace: str = "default"
) -> Path:
    """Write a kubeconfig for a user entry, as JSON, which is YAML.

    Https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/ .
    """
    ca = base64.b64encode(cluster.authority.file.read_bytes()).decode()
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "c", "cluster": {"server": cluster.url, "certificate-authority-data": ca}}
        ],
        "users": [{"name": "u", "user": user}],
        "contexts": [
            {"name": "x", "context": {"cluster": "c", "user": "u", "namespace": namespace}}
        ],
        "current-context": "x",
    }
    path.write_text(json.dumps(content))
    return path


def certificate_user(certificate: Certificate) -> dict[str, object]:
    """Return the user entry for a client certificate."""
    return {"client-certificate": str(certificate.cert), "client-key": str(certificate.key)}
