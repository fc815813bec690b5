"""A network that swallows all packets between a node and etcd, and then does not: in network
namespaces.
"""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.places import PATIENCE
from tests.etcd_server import EtcdServer

READER = Path(__file__).with_name("etcd_reader.py")
NODE, SERVER = f"ct{os.getpid()}n", f"ct{os.getpid()}s"
IP, NFT = shutil.which("ip") or "ip", shutil.which("nft") or "nft"
SWALLOW = """
table inet cut {
    chain in { type filter hook input priority 0; policy drop; }
    chain out { type filter hook output priority 0; policy drop; }
}
"""


def ip(command: str) -> None:
    """Run this command of iproute2."""
    subprocess.run([IP, *command.split()], check=True)


def nft(rules: str) -> None:
    """Give the server's packet filter these rules."""
    subprocess.run(
        [IP, "netns", "exec", SERVER, NFT, "-f", "-"], input=rules, text=True, check=True
    )


@pytest.fixture
def network() -> Iterator[None]:
    """Make two namespaces with a cable between them."""
    with contextlib.ExitStack() as cleanup:
        for name in (NODE, SERVER):
            ip(f"netns add {name}")
            cleanup.callback(ip, f"netns del {name}")
        ip(f"link add node netns {NODE} type veth peer name server netns {SERVER}")
        for name, device, address in (
            (NODE, "node", "10.77.0.1/24"),
            (SERVER, "server", "10.77.0.2/24"),
        ):
            ip(f"-n {name} addr add {address} dev {device}")
            for link in ("lo", device):
                ip(f"-n {name} link set {link} up")
        yield


@contextlib.contextmanager
def reader(url: str) -> Iterator[queue.Queue[str]]:
    """Return the lines of a reader at the node."""
    lines: queue.Queue[str] = queue.Queue()
    argv = [IP, "netns", "exec", NODE, sys.executable, str(READER), url]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        stream = process.stdout

        def copy() -> None:
            for line in stream:
                lines.put(line.strip())

        pump = threading.Thread(target=copy)
        pump.start()
        try:
            yield lines
        finally:
            process.kill()
            pump.join(PATIENCE)


def wait_for(lines: queue.Queue[str], *wanted: str) -> None:
    """Read lines until each of these was among them."""
    left = set(wanted)
    while left:
        left.discard(lines.get(timeout=PATIENCE))


@pytest.mark.root
@pytest.mark.netns
def test_a_healed_partition_is_over_at_once(network: None, tmp_path: Path) -> None:
    """All packets are lost for eight seconds.

    TCP alone would send again only after another four or five (measured).
    """
    with (
        EtcdServer(tmp_path, host="10.77.0.2", netns=SERVER) as server,
        reader(server.url) as lines,
    ):
        wait_for(lines, "WatchStands", "ok")
        nft(SWALLOW)
        wait_for(lines, "unknown", "WatchLost")
        time.sleep(8.0)
        meanwhile = {lines.get() for _ in range(lines.qsize())}
        assert "unknown" in meanwhile <= {"ok", "unknown", "WatchLost"}
        nft("delete table inet cut")
        healed = time.monotonic()
        wait_for(lines, "ok", "WatchStands")
        assert time.monotonic() - healed < 2.0
