"""A node's ingress, small.

A health endpoint, and an echo that answers from the VIP with the node's name.

Runs as a process of its own: `python -m vipd.demo.ingress NODE VIP...`, of either family. SIGUSR1
breaks it: the health endpoint says 503 and the echo is silent. SIGUSR2 mends it.
"""

from __future__ import annotations

import http
import http.server
import signal
import socket
import sys
import threading

HEALTH_PORT = 10254
ECHO_PORT = 9000
IP_FREEBIND = 15
IPV6_FREEBIND = 78
"""From linux/in.h and in6.h: bind to an address that is not, or not yet, this host's. Ingress
controllers do it with net.ipv4.ip_nonlocal_bind."""


class _Health(http.server.BaseHTTPRequestHandler):
    status = http.HTTPStatus.OK

    def do_GET(self) -> None:
        """Answer with the status in force."""
        self.send_response(self.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing: five checks a second are no news."""


def _set_status(status: http.HTTPStatus) -> None:
    _Health.status = status


def echo(name: str, vip: str) -> None:
    """Answer each datagram to the VIP with itself and the node's name; never returns."""
    six = ":" in vip
    with socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(
            *((socket.IPPROTO_IPV6, IPV6_FREEBIND) if six else (socket.IPPROTO_IP, IP_FREEBIND)), 1
        )
        sock.bind((vip, ECHO_PORT))
        tail = name.encode()
        while True:
            request, client = sock.recvfrom(64)
            if _Health.status is not http.HTTPStatus.OK:
                continue
            try:
                sock.sendto(request + tail, client)
            # the VIP or the network went away between question and answer: the client sees it as
            # lost
            except OSError:
                continue


def main() -> None:
    """Serve until a signal ends the process."""
    name, vip, *others = sys.argv[1:]
    signal.signal(signal.SIGUSR1, lambda *_: _set_status(http.HTTPStatus.SERVICE_UNAVAILABLE))
    signal.signal(signal.SIGUSR2, lambda *_: _set_status(http.HTTPStatus.OK))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", HEALTH_PORT), _Health)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for other in others:
        threading.Thread(target=echo, args=(name, other), daemon=True).start()
    echo(name, vip)


if __name__ == "__main__":
    main()
