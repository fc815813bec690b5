"""What others send and serve costs their own check, or a few log lines.

Never the daemon, its memory or other addresses.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.netns.stories.node import VIP, VIP6, VipdNode, instance, wait_for
from tests.netns.stories.world import Build, World

pytestmark = [pytest.mark.root, pytest.mark.netns]

OTHER = "192.0.2.101"
SERVER = """
import http.server, ssl, sys, threading
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header("Content-Length", "50"); self.end_headers(); self.wfile.write(b"a" * 50)
    def log_message(self, *_): pass
plain = http.server.ThreadingHTTPServer(("127.0.0.1", 8450), Page)
tls = http.server.ThreadingHTTPServer(("127.0.0.1", 8443), Page)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); context.load_cert_chain(sys.argv[1])
tls.socket = context.wrap_socket(tls.socket, server_side=True, do_handshake_on_connect=False)
threading.Thread(target=tls.serve_forever, daemon=True).start()
plain.serve_forever()
"""
STORM = """
import socket, struct, sys, time
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind(("eth0", 0)); vip = socket.inet_aton(sys.argv[2]); n = 0
end = time.time() + float(sys.argv[1])
while time.time() < end:
    for _ in range(20):
        m = b"\\x02" + struct.pack("!I", n) + b"\\x07"; n += 1
        s.send(b"\\xff" * 6 + m + b"\\x08\\x06" + struct.pack("!HHBBH", 1, 0x800, 6, 4, 2) + m + vip + bytes(6) + vip)
    time.sleep(0.001)
print(n)
"""


@contextmanager
def servers(net: World, host: str, folder: Path) -> Iterator[None]:
    """Serve a page of 50 times `a` on a host's loopback, with https and a certificate that nobody
    knows, and without.
    """
    make = (
        "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=nobody -keyout both.pem -out cert.pem"
    )
    subprocess.run(["openssl", *make.split()], cwd=folder, check=True, capture_output=True)
    both = folder / "both.pem"
    both.write_text(both.read_text() + (folder / "cert.pem").read_text())
    with (folder / "log").open("wb") as log:
        server = net.lab.spawn(net.hosts[host], [sys.executable, "-c", SERVER, str(both)], log)
        try:
            yield
        finally:
            server.kill()
            server.wait()


def cpu(pid: int) -> float:
    """Return the seconds that a process has computed."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def memory(pid: int) -> int:
    """Return the KiB that a process has."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


def lines(node: VipdNode, text: str) -> list[str]:
    """Return the log lines with this text."""
    return [line for line in node.log.splitlines() if text in line]


def test_bad_certificates_and_endless_patterns_fail_their_checks_and_nothing_else(
    build: Build, tmp_path: Path
) -> None:
    """Eight https checks and a pattern that backtracks for ever.

    Another instance keeps its address, and the daemon its life.
    """
    net = build("a", (VIP, OTHER))
    node = net.node("a", profile="default")
    https = [
        {"name": f"tls{n}", "http": {"url": "https://127.0.0.1:8443/"}, "on_fail": {"weight": -1}}
        for n in range(8)
    ]
    endless = {
        "name": "endless",
        "http": {"url": "http://127.0.0.1:8450/", "body": "(a+)+b"},
        "on_fail": {"weight": -1},
    }
    node.configure(instance("plain", [OTHER]), instance("checked", [VIP], checks=[*https, endless]))
    with servers(net, "a", tmp_path):
        began = time.monotonic()
        node.start()
        node.wait_state("Active", "plain")
        node.wait_state("Active", "checked")
        daemon = node.daemon
        failing = {f"tls{n}" for n in range(8)} | {"endless"}
        wait_for(
            lambda: (
                {c["name"] for c in node.instance("checked")["checks"] if c["ok"] is False}
                == failing
            ),
            "the checks to fail",
        )
        time.sleep(4)
        assert node.daemon == daemon
        assert "gives no sign of life" not in node.log
        assert net.changes(began, OTHER) == [("a", True)]


def test_answers_from_thousands_of_macs_are_a_few_lines_and_announcements(build: Build) -> None:
    """Some ten thousand a second for six seconds.

    No core, no memory, a line in ten seconds and an announcement a second.
    """
    net = build("ac", (VIP, VIP6))
    node = net.node("a", profile="default")
    node.configure(instance())
    node.start()
    node.wait_state("Active")
    time.sleep(7)  # the burst is over
    pid, sent = node.daemon, node.metric("vipd_announcements_sent_total", kind="arp_reply")
    assert sent == 6
    used, held = cpu(pid), memory(pid)
    storm = net.lab.run(net.hosts["c"], sys.executable, "-c", STORM, "6", VIP)
    assert int(storm) > 5000
    assert cpu(pid) - used < 2.0
    assert memory(pid) - held < 4096
    assert 5 <= node.metric("vipd_announcements_sent_total", kind="arp_reply") - sent <= 8
    assert 1 <= len(lines(node, "as well")) <= 2
    assert (node.daemon, node.state()) == (pid, "Active")
