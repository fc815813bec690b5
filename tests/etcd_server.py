"""A real etcd for tests and benchmarks.

One process that can be stopped, frozen, restarted and put into a namespace.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

READY = b"serving client traffic"
"""What 3.4 and 3.5 log then; the socket listens already."""
START_TIMEOUT = 20.0
STOP_TIMEOUT = 5.0
POLL = 0.02


def free_port() -> int:
    """Return a TCP port of the loopback interface that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True, slots=True)
class ServerTls:
    """The files of a server that speaks TLS, with clients and other members.

    `client_certificates`: clients need one of the CA.
    """

    authority: Path
    certificate: Path
    key: Path
    client_certificates: bool = True

    def flags(self) -> dict[str, str]:
        """Return the command line. etcd reads certificate and key anew for each connection."""
        own = {
            "cert-file": self.certificate,
            "key-file": self.key,
            "trusted-ca-file": self.authority,
        }
        wanted = {
            "client-cert-auth": str(self.client_certificates).lower(),
            "peer-client-cert-auth": "true",
        }
        return {
            key: str(path) for name, path in own.items() for key in (name, f"peer-{name}")
        } | wanted


class EtcdServer:
    """One etcd with its data below `directory`, on `host`.

    It dies with the process that started it.

    `port` and `peer_port`: 0 for any free one, which inside a network namespace is 2379 and 2380.
    `netns`: the name of a network namespace that exists and whose addresses include `host`.
    `cluster`: etcd's --initial-cluster, if this is not the only member. `flags`: further ones,
    without the dashes.
    """

    def __init__(  # noqa: PLR0913 - the command line of a server
        self,
        directory: Path,
        *,
        name: str = "n0",
        host: str = "127.0.0.1",
        port: int = 0,
        peer_port: int = 0,
        netns: str = "",
        cluster: str = "",
        tls: ServerTls | None = None,
        flags: Mapping[str, str] | None = None,
    ) -> None:
        self.tls = tls
        self.flags = dict(flags or {})
        self.directory = directory
        self.data = directory / f"{name}.etcd"
        self.log = directory / f"{name}.log"
        self.name = name
        self.host = host
        self.port = port or (2379 if netns else free_port())
        self.peer_port = peer_port or (2380 if netns else free_port())
        self.netns = netns
        self.cluster = cluster or f"{name}={self.peer_url}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def _scheme(self) -> str:
        return "https" if self.tls else "http"

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"{self._scheme}://{self.host}:{self.port}"

    @property
    def peer_url(self) -> str:
        """Where other members find it."""
        return f"{self._scheme}://{self.host}:{self.peer_port}"

    @property
    def pid(self) -> int:
        """The process while it runs."""
        if self._process is None:
            raise RuntimeError("etcd does not run")
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

    def start(self) -> None:
        """Start it and wait until it serves.

        A member of a larger cluster serves once there is a quorum.
        """
        self.launch()
        self.wait_ready()

    def launch(self) -> None:
        """Start it without waiting."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.log.unlink(missing_ok=True)
        inside = ["ip", "netns", "exec", self.netns] if self.netns else []
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [*inside, "setpriv", "--pdeathsig", "KILL", *self._argv()], stdout=log, stderr=log
            )

    def wait_ready(self) -> None:
        """Wait until it serves clients."""
        deadline = time.monotonic() + START_TIMEOUT
        while READY not in self.log.read_bytes():
            if self._process is None or self._process.poll() is not None:
                raise RuntimeError(f"etcd ended: {self.log.read_text()[-2000:]}")
            if time.monotonic() > deadline:
                self.kill()
                raise TimeoutError(
                    f"etcd is not ready after {START_TIMEOUT:g} s: {self.log.read_text()[-2000:]}"
                )
            time.sleep(POLL)

    def stop(self) -> None:
        """End it in good order, frozen or not; the data stay."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGCONT)
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def kill(self) -> None:
        """End it at once, as a power failure would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(STOP_TIMEOUT)
            self._process = None

    def restart(self) -> None:
        """Stop and start it on the same port and data."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Stop it in its tracks: connections stay open and nobody answers.

        Returns when the last thread stands still.
        """
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)
            os.waitpid(self._process.pid, os.WUNTRACED)

    def thaw(self) -> None:
        """Let it go on."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def handled(self, method: str) -> int:
        """Return how many requests of this kind (Txn, Range, Put …) a server without TLS has
        answered, whoever sent them.
        """
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=STOP_TIMEOUT) as answer:  # noqa: S310 - our own server
            lines = re.findall(
                rf'grpc_server_handled_total\{{.*grpc_method="{method}".*\}} (\d+)',
                answer.read().decode(),
            )
        return sum(map(int, lines))

    def copy_data(self, to: Path) -> None:
        """Copy the data, which must not be in use, as a backup would."""
        shutil.copytree(self.data, to)

    def restore_data(self, of: Path) -> None:
        """Put a copy in the place of the data, which must not be in use."""
        shutil.rmtree(self.data)
        shutil.copytree(of, self.data)

    def _argv(self) -> list[str]:
        flags = {
            "name": self.name,
            "data-dir": str(self.data),
            "listen-client-urls": self.url,
            "advertise-client-urls": self.url,
            "listen-peer-urls": self.peer_url,
            "initial-advertise-peer-urls": self.peer_url,
            "initial-cluster": self.cluster,
            "logger": "zap",
            # A tenth of the usual times: leases of one second are then possible, and a restart
            # takes less long.
            "heartbeat-interval": "20",
            "election-timeout": "200",
            **(self.tls.flags() if self.tls else {}),
            **self.flags,
        }
        return ["etcd", *(f"--{key}={value}" for key, value in flags.items())]


def cluster(directory: Path, size: int = 3, tls: ServerTls | None = None) -> list[EtcdServer]:
    """Return the members of a cluster on the loopback interface, not started."""
    ports = [free_port() for _ in range(size)]
    scheme = "https" if tls else "http"
    members = ",".join(f"n{i}={scheme}://127.0.0.1:{port}" for i, port in enumerate(ports))
    return [
        EtcdServer(directory, name=f"n{i}", peer_port=port, cluster=members, tls=tls)
        for i, port in enumerate(ports)
    ]


def start_all(members: list[EtcdServer]) -> None:
    """Start the members of a cluster together: none of them serves alone."""
    for member in members:
        member.launch()
    for member in members:
        member.wait_ready()
