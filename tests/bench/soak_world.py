"""The group of a soak.

Three nodes with two instances, three members of etcd, a client, and what looks after them.

A node whose vipd ends without having been told to is started again after 100 ms, as the shipped
unit does.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.bench.soak_judge import Span, Window
from tests.etcd_server import EtcdServer
from tests.netns.stories.node import VIP, VIP6, VipdNode, inside, instance
from vipd.demo.ingress import HEALTH_PORT
from vipd.demo.lab import Lab, LabError
from vipd.demo.monitor import Monitor

NODES = ("a", "b", "c")
WEB, EDGE = "web", "edge"
PRIORITIES = {WEB: {"a": 150, "b": 120, "c": 100}, EDGE: {"a": 100, "b": 150, "c": 120}}
BEST = {WEB: "a", EDGE: "b"}
EDGE_VIP = "192.0.2.90"
WEB_ADDRESSES = [f"{VIP}/32", f"{VIP6}/128"]
WEB_ADDRESSES += [f"192.0.2.{number}/32" for number in range(101, 105)] + [
    f"2001:db8::{number}/128" for number in range(101, 105)
]
ADDRESSES = {WEB: WEB_ADDRESSES, EDGE: [f"{EDGE_VIP}/32"]}
ASKED = {WEB: VIP, EDGE: EDGE_VIP}
"""The address of each instance that the client asks."""
INSTANCE_OF = {
    address.partition("/")[0]: name
    for name, addresses in ADDRESSES.items()
    for address in addresses
}
RESTART = 0.100
"""The unit's RestartSec in seconds."""
LOOK = 0.020
END_PATIENCE = 20.0
USUAL_TIMING: dict[str, object] = {"profile": "default"}
PREFIX = "/vipd/"


class Node:
    """A node of the group: its vipd, its ingress, and whether it is to run at present."""

    def __init__(self, lab: Lab, vipd: VipdNode) -> None:
        self.vipd, self.name, self.host = vipd, vipd.name, vipd.host
        self.wanted = False
        self.lock = threading.RLock()
        self._lab = lab
        self._ingress: subprocess.Popen[bytes] | None = None

    def configure(
        self, addresses: list[str] | None = None, timing: dict[str, object] | None = None
    ) -> None:
        """Write the configuration; web may have other addresses for a while."""
        url = f"http://127.0.0.1:{HEALTH_PORT}/healthz"
        check = {
            "name": "ingress",
            "http": {"url": url, "status": 200},
            "interval": "400ms",
            "timeout": "300ms",
            "rise": 2,
            "fall": 2,
        }
        many = {**ADDRESSES, WEB: addresses or WEB_ADDRESSES}
        self.vipd.configure(
            *(
                instance(
                    name,
                    many[name],
                    priority=PRIORITIES[name][self.name],
                    preempt_delay="1s",
                    checks=[check],
                )
                for name in (WEB, EDGE)
            ),
            timing=timing or USUAL_TIMING,
            log={"format": "json"},
        )

    def start(self) -> None:
        """Start vipd unless it runs, after the end of its last life."""
        with self.lock:
            if self.wanted:
                return
            if self.vipd._process is not None:
                self.vipd.guard.wait(END_PATIENCE)
            self.vipd.start()
            self.wanted = True

    def start_ingress(self) -> None:
        """Start the ingress."""
        argv = [sys.executable, "-m", "tests.bench.soak_ingress", self.name, *ASKED.values()]
        with (self.vipd.folder / "ingress.log").open("ab") as log:
            self._ingress = self._lab.spawn(self.host, argv, log)

    def ingress(self, *, healthy: bool) -> None:
        """Mend or break the ingress: then its health endpoint says 503, and its echo is silent."""
        if self._ingress is not None:
            self._ingress.send_signal(signal.SIGUSR2 if healthy else signal.SIGUSR1)

    def priority(self, name: str) -> int:
        """Return its priority in an instance."""
        return PRIORITIES[name][self.name]


class Client:
    """The handle of the client's process: everything that it has told so far."""

    def __init__(self, lab: Lab, group: Group) -> None:
        macs = ",".join(f"{node.name}={node.vipd.mac}" for node in group.nodes)
        argv = [
            sys.executable,
            "-m",
            "tests.bench.soak_client",
            group.client.address,
            ",".join(ASKED.values()),
            macs,
        ]
        self.spans: list[Span] = []
        self.outages: list[tuple[str, float, float]] = []
        # With an input of its own the lab leaves its complaints out of what it tells.
        self._process = lab.spawn(group.client, argv, subprocess.PIPE, stdin=subprocess.PIPE)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def stop(self) -> None:
        """End it, and take in its last words."""
        self._process.terminate()
        self._process.wait(END_PATIENCE)
        self._reader.join()
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                stream.close()

    def _read(self) -> None:
        for line in self._process.stdout or ():
            match json.loads(line):
                case ["span", vip, node, begin, end]:
                    self.spans.append(Span(vip, node, begin, end))
                case ["outage", vip, begin, end]:
                    self.outages.append((vip, begin, end))


class Group:
    """Everything of a soak that runs.

    `faults` and `stops` are kept by those who do them (see soak_deeds).
    """

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab, self.folder = lab, folder
        self.client = lab.add("client")
        self.members = self._etcd([lab.add(f"s{number}") for number in range(3)])
        endpoints = [member.url for member in self.members]
        hosts = [lab.add(name) for name in NODES]
        backend = {"etcd": {"endpoints": endpoints, "prefix": PREFIX}}
        self.nodes = [Node(lab, VipdNode(lab, host, folder / host.name, backend)) for host in hosts]
        self.monitor = Monitor(hosts, INSTANCE_OF)
        self.exits: list[tuple[float, str, int]] = []
        self.faults: list[Window] = []
        self.excused: list[Window] = []
        self._ended = threading.Event()
        self._keeper = threading.Thread(target=self._keep, daemon=True)

    def _etcd(self, hosts: list[Any]) -> list[EtcdServer]:
        cluster = ",".join(f"{host.name}=http://{host.address}:2380" for host in hosts)
        # Not the short times that other tests have: this machine is busy, and an etcd that elects
        # all the time tests nothing. And without pre-vote every member that comes back would unseat
        # the leader: an outage of the store after the fault's end.
        flags = {"heartbeat-interval": "100", "election-timeout": "1000", "pre-vote": "true"}
        return [
            EtcdServer(
                self.folder / "etcd",
                name=host.name,
                host=host.address,
                netns=host.namespace,
                cluster=cluster,
                flags=flags,
            )
            for host in hosts
        ]

    def start(self) -> None:
        """Start everything."""
        for member in self.members:
            member.launch()
        for member in self.members:
            member.wait_ready()
        for node in self.nodes:
            node.start_ingress()
            node.configure()
            node.start()
        self._keeper.start()

    def close(self) -> None:
        """End what the lab would not end."""
        self._ended.set()
        if self._keeper.is_alive():
            self._keeper.join()
        for member in self.members:
            member.kill()
        self.monitor.__exit__(None, None, None)

    def _keep(self) -> None:
        while not self._ended.wait(LOOK):
            for node in self.nodes:
                with node.lock:
                    if node.wanted and not node.vipd.runs:
                        self.exits.append((time.monotonic(), node.name, node.vipd.guard.returncode))
                        time.sleep(RESTART)
                        node.vipd.start()

    # ------------------------------------------------------------ who has what

    def owner(self, name: str) -> str:
        """Return the node that alone has all addresses of an instance; empty: there is none."""
        owners = {self.monitor.owners(address.partition("/")[0]) for address in ADDRESSES[name]}
        (one,) = owners if len(owners) == 1 else (frozenset(),)
        return next(iter(one)) if len(one) == 1 else ""

    def settled(self) -> bool:
        """Whether the best node has each instance, and every node knows all others as fit and the
        store as reachable.
        """
        return all(self.owner(name) == BEST[name] for name in BEST) and all(
            map(self._content, self.nodes)
        )

    def _content(self, node: Node) -> bool:
        document = node.vipd.status()
        if not document or not document["store"]["reachable"] or document["drained"]:
            return False
        for shown in document["instances"]:
            fit = {one["name"] for one in shown["candidates"] if one["live"] and one["eligible"]}
            if shown["state"] not in {"Active", "Backup"} or not fit >= set(NODES):
                return False
        return True

    # ------------------------------------------------------------ the store

    def ask_etcd(self, path: str, body: dict[str, object]) -> dict[str, Any]:
        """Send a request to etcd's JSON gateway, to the first member that answers. LabError if none
        does.
        """
        for member in self.members:
            with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
                return inside(
                    member.netns,
                    lambda member=member: _posted(  # type: ignore[misc]
                        member.host, member.port, path, body
                    ),
                )
        raise LabError("no member of etcd answers")

    def record(self, name: str) -> tuple[bytes, str]:
        """Return an election's record and its revision; "0" if it is absent."""
        found = self.ask_etcd(
            "/v3/kv/range", {"key": _coded(f"{PREFIX}elections/{name}".encode())}
        ).get("kvs", [])
        return (
            (base64.b64decode(found[0].get("value", "")), found[0]["mod_revision"])
            if found
            else (b"", "0")
        )

    def put_record(self, name: str, value: bytes, revision: str) -> bool:
        """Write a record by hand if it is still of this revision; return whether it was."""
        key = _coded(f"{PREFIX}elections/{name}".encode())
        compare = {"key": key, "target": "MOD", "result": "EQUAL", "mod_revision": revision}
        put = {"request_put": {"key": key, "value": _coded(value)}}
        return bool(
            self.ask_etcd("/v3/kv/txn", {"compare": [compare], "success": [put]}).get("succeeded")
        )

    def delete_record(self, name: str) -> None:
        """Delete a record by hand."""
        self.ask_etcd("/v3/kv/deleterange", {"key": _coded(f"{PREFIX}elections/{name}".encode())})

    def count_keys(self) -> int:
        """Return how many keys vipd has in the store."""
        end = PREFIX[:-1] + chr(ord(PREFIX[-1]) + 1)
        answer = self.ask_etcd(
            "/v3/kv/range",
            {"key": _coded(PREFIX.encode()), "range_end": _coded(end.encode()), "count_only": True},
        )
        return int(answer.get("count", 0))


def _coded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _posted(host: str, port: int, path: str, body: dict[str, object]) -> dict[str, Any]:
    connection = http.client.HTTPConnection(host, port, timeout=1.5)
    with contextlib.closing(connection):
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.request("POST", path, json.dumps(body))
        answer: dict[str, Any] = json.loads(connection.getresponse().read())
        if "error" in answer:
            raise ValueError(answer["error"])
        return answer


@contextlib.contextmanager
def group(prefix: str, folder: Path) -> Iterator[Group]:
    """Build the network and everything on it, and remove it."""
    with Lab(prefix) as lab:
        made = Group(lab, folder)
        try:
            yield made
        finally:
            made.close()
