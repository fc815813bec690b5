"""A real kube-apiserver with its etcd, both from one folder.

The convention of envtest (https://book.kubebuilder.io/reference/envtest).

The flags are those of
https://kubernetes.io/docs/reference/command-line-tools-reference/kube-apiserver/ that its releases
1.30 to 1.36 have in common. There is no controller manager: nothing is garbage-collected, and pods
never run.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import ssl
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.request import Request, urlopen

from tests.etcd_server import EtcdServer, free_port
from tests.kube.certificates import Authority
from tests.kube.fixture import ADMIN

START_TIMEOUT = 90.0
STOP_TIMEOUT = 10.0
POLL = 0.1
ADMIN_LINE = f'{ADMIN},admin,admin,"system:masters"\n'
"""https://kubernetes.io/docs/reference/access-authn-authz/authentication/#static-token-file ."""


class AssetsEtcd(EtcdServer):
    """The etcd that lies beside the API server and fits its version."""

    def __init__(self, program: Path, directory: Path) -> None:
        super().__init__(directory)
        self._program = program

    def _argv(self) -> list[str]:
        return [str(self._program), *super()._argv()[1:]]


class Signer:
    """The key for tokens of service accounts, in the only forms in which kube-apiserver takes an EC
    key for both purposes.

    Of PKCS#8, which `openssl req` writes, it reads no EC key where it expects a public one. So: SEC
    1 ("EC PRIVATE KEY") and the public key by itself.
    https://pkg.go.dev/k8s.io/client-go/util/keyutil
    """

    def __init__(self, directory: Path) -> None:
        self.private, self.public = directory / "signer.key", directory / "signer.pub"
        made = "openssl ecparam -name prime256v1 -genkey -noout -out"
        subprocess.run([*made.split(), str(self.private)], check=True, capture_output=True)
        shown = ["openssl", "ec", "-in", str(self.private), "-pubout", "-out", str(self.public)]
        subprocess.run(shown, check=True, capture_output=True)


class RealServer:
    """kube-apiserver with its files below `directory`, on the loopback interface.

    It dies with the process that started it.
    """

    def __init__(self, assets: Path, directory: Path) -> None:
        self.host = "127.0.0.1"
        self.port = free_port()
        self.authority = Authority(directory / "certs")
        self._certificate = self.authority.sign(
            "server", "/CN=kube-apiserver", f"IP:{self.host},DNS:kubernetes.default.svc"
        )
        self._signer = Signer(directory)
        self._program = assets / "kube-apiserver"
        self._directory = directory
        self._etcd = AssetsEtcd(assets / "etcd", directory / "etcd")
        self._copies: dict[str, Path] = {}
        self._process: subprocess.Popen[bytes] | None = None
        (directory / "tokens.csv").write_text(ADMIN_LINE)

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"https://{self.host}:{self.port}"

    def __enter__(self) -> Self:
        self._etcd.start()
        self.come_back()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    # ------------------------------------------------------------------ life

    def stop(self) -> None:
        """End it."""
        self.leave()
        self._etcd.stop()

    def leave(self) -> None:
        """End the API server at once, frozen or not; etcd stays."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(STOP_TIMEOUT)

    def terminate(self) -> None:
        """Begin to end in good order."""
        assert self._process is not None
        self._process.terminate()

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self._process is None or self._process.poll() is not None

    def come_back(self) -> None:
        """Start the API server and wait until it is ready."""
        log = self._directory / "kube-apiserver.log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *self._argv()], stdout=output, stderr=output
            )
        deadline = time.monotonic() + START_TIMEOUT
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(
                    f"kube-apiserver did not start: {log.read_text(errors='replace')[-2000:]}"
                )
            time.sleep(POLL)

    def freeze(self) -> None:
        """Stop the API server in its tracks. Returns when its last thread stands still."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        os.waitpid(self._process.pid, os.WUNTRACED)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    # ------------------------------------------------------------------ contents

    def add_namespace(self, name: str) -> None:
        """Make a namespace."""
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        code, answer = self._ask("POST", "/api/v1/namespaces", json.dumps(body))
        assert code == 201, answer

    def backup(self, name: str) -> None:
        """Copy the data of etcd while it stands still for a moment.

        What a power failure would leave, and nobody is cut off.
        """
        self._copies[name] = self._directory / f"copy-{name}"
        self._etcd.freeze()
        try:
            self._etcd.copy_data(self._copies[name])
        finally:
            self._etcd.thaw()

    def restore(self, name: str) -> None:
        """Put a copy of the data of etcd in their place.

        https://kubernetes.io/docs/tasks/administer-cluster/configure-upgrade-etcd/#restoring-an-etcd-cluster
        """
        self.stop()
        self._etcd.restore_data(self._copies[name])
        self._etcd.start()
        self.come_back()

    def compact(self) -> None:
        """Let etcd forget what was.

        So does the API server, which keeps the last changes in a cache of its own, by a restart.
        """
        self.leave()
        try:
            header = self._etcd_call("maintenance/status", {})["header"]
            assert isinstance(header, dict)
            self._etcd_call("kv/compaction", {"revision": header["revision"], "physical": True})
        finally:
            self.come_back()

    # ------------------------------------------------------------------ the means

    def _argv(self) -> list[str]:
        flags = {
            "advertise-address": self.host,
            "bind-address": self.host,
            "secure-port": str(self.port),
            "cert-dir": str(self._directory),
            "tls-cert-file": str(self._certificate.cert),
            "tls-private-key-file": str(self._certificate.key),
            "client-ca-file": str(self.authority.file),
            "token-auth-file": str(self._directory / "tokens.csv"),
            "authorization-mode": "RBAC",
            "etcd-servers": self._etcd.url,
            "service-cluster-ip-range": "10.0.0.0/24",
            "service-account-issuer": "https://kubernetes.default.svc",
            "service-account-key-file": str(self._signer.public),
            "service-account-signing-key-file": str(self._signer.private),
            # Without a controller manager no namespace has a service account, and this plugin would
            # refuse every pod.
            "disable-admission-plugins": "ServiceAccount",
        }
        return [str(self._program), *(f"--{key}={value}" for key, value in flags.items())]

    def _ready(self) -> bool:
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self._ask("GET", "/readyz")[0] == 200
        return False

    def _ask(self, method: str, path: str, body: str | None = None) -> tuple[int, bytes]:
        tls = ssl.create_default_context(cafile=self.authority.file)
        connection = http.client.HTTPSConnection(
            self.host, self.port, context=tls, timeout=STOP_TIMEOUT
        )
        with contextlib.closing(connection):
            connection.request(
                method,
                path,
                body,
                {"Authorization": f"Bearer {ADMIN}", "Content-Type": "application/json"},
            )
            answer = connection.getresponse()
            return answer.status, answer.read()

    def _etcd_call(self, path: str, body: dict[str, object]) -> dict[str, object]:
        request = Request(  # noqa: S310 - our own
            f"{self._etcd.url}/v3/{path}",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urlopen(request, timeout=STOP_TIMEOUT) as answer:  # noqa: S310 - http on the loopback interface
            found: dict[str, object] = json.load(answer)
        return found


def has_programs(assets: Path) -> bool:
    """Whether both programs are in the folder."""
    return all(shutil.which(name, path=assets) for name in ("kube-apiserver", "etcd"))
