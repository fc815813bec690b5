"""The client of a soak, a process of its own that runs for hours.

Who serves each VIP, and when nobody does.

    python -m tests.bench.soak_client OWN_ADDRESS VIP,VIP NODE=MAC,NODE=MAC

It asks each VIP in the ordinary way, by its kernel's neighbour table, and each node for each VIP by
the node's own MAC. Lines of JSON come out as soon as they are known, all of them at SIGTERM:
`["span", vip, node, begin, end]`, a node answered by its MAC without a pause; `["outage", vip,
begin, end]`, no ordinary question in between was answered. Seconds on CLOCK_MONOTONIC.
"""

from __future__ import annotations

import itertools
import json
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from vipd.demo.ingress import ECHO_PORT
from vipd.demo.lab import INTERFACE
from vipd.demo.measure import ANSWER_LIMIT

ORDINARY = 0.005
"""Seconds between two ordinary questions to a VIP."""
DIRECT = 0.010
"""Seconds between two questions to a node by its MAC."""
PAUSE = 0.060
"""A node that does not answer for so long has ended to serve: six questions, and what a busy
machine needs."""
SOURCE_PORT = 40000
SO_TIMESTAMPNS = 35
SEQUENCE = struct.Struct("!Q")
STAMP = struct.Struct("=qq")
RECEIVE_BUFFER = 4 << 20
LARGEST = 256


@dataclass
class Spans:
    """Joins answers into spans.

    Those of one node for one VIP that follow one another within `pause` seconds.
    """

    pause: float = PAUSE
    _open: dict[tuple[str, str], list[float]] = field(default_factory=dict)

    def answered(self, vip: str, node: str, at: float) -> Iterator[list[object]]:
        """Take an answer in; yield the span that had ended before it."""
        known = self._open.get((vip, node))
        if known and at - known[1] <= self.pause:
            known[1] = max(known[1], at)
            return
        if known:
            yield ["span", vip, node, *known]
        self._open[vip, node] = [at, at]

    def rest(self) -> Iterator[list[object]]:
        """Yield what has not ended."""
        for key, known in self._open.items():
            yield ["span", *key, *known]
        self._open.clear()


@dataclass
class Gaps:
    """Finds the outages of one VIP.

    Numbers of questions that were not answered between two that were.

    An answer that was overtaken by a later question's counts as lost.
    """

    vip: str
    _last: tuple[int, float] | None = None

    def answered(self, number: int, sent: float) -> Iterator[list[object]]:
        """Take an answer to a question in; yield the outage that it ended."""
        if self._last is not None and number <= self._last[0]:
            return
        if self._last is not None and number > self._last[0] + 1:
            yield ["outage", self.vip, self._last[1], sent]
        self._last = (number, sent)

    def rest(self, number: int, now: float) -> Iterator[list[object]]:
        """Yield the outage that lasts, if more than the last few questions before that number are
        open.
        """
        if self._last is None:
            yield ["outage", self.vip, 0.0, now]
        elif now - self._last[1] > ANSWER_LIMIT and number > self._last[0] + 1:
            yield ["outage", self.vip, self._last[1], now]


class Ordinary:
    """Asks one VIP as any client does."""

    def __init__(self, vip: str) -> None:
        self.gaps = Gaps(vip)
        self._target = (vip, ECHO_PORT)
        self.socket = datagrams()
        self._sent: dict[int, float] = {}
        self.number = 0

    def ask(self) -> None:
        """Send the next question."""
        self.number += 1
        self._sent[self.number] = time.monotonic()
        self._sent.pop(self.number - round(2 / ORDINARY), None)
        try:
            self.socket.sendto(SEQUENCE.pack(self.number), self._target)
        except OSError:  # nobody answers for the VIP: lost like any other
            return

    def listen(self) -> Iterator[list[object]]:
        """Take in what has come."""
        for answer, _, _ in received(self.socket):
            number = SEQUENCE.unpack_from(answer)[0]
            sent = self._sent.pop(number, None)
            if sent is not None and time.monotonic() - sent <= ANSWER_LIMIT:
                yield from self.gaps.answered(number, sent)


class Direct:
    """Asks every node for every VIP by the node's own MAC.

    What the client's kernel believes does not matter.
    """

    def __init__(self, mine: str, vips: list[str], macs: dict[str, str]) -> None:
        self.spans = Spans()
        self.socket = datagrams()
        self.socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.socket.bind((mine, SOURCE_PORT))
        self._wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._wire.bind((INTERFACE, 0))
        own = self._wire.getsockname()[4]
        heads = [bytes.fromhex(mac.replace(":", "")) + own + b"\x08\x00" for mac in macs.values()]
        self._frames = [head + datagram(mine, vip) for head in heads for vip in vips]

    def ask(self) -> None:
        """Send a question to each."""
        for frame in self._frames:
            try:
                self._wire.send(frame)
            except OSError:  # the queue is full
                continue

    def listen(self) -> Iterator[list[object]]:
        """Take in what has come, stamped by the kernel when it came."""
        ahead = time.clock_gettime(time.CLOCK_REALTIME) - time.monotonic()
        for answer, (vip, _), stamp in received(self.socket):
            yield from self.spans.answered(vip, answer[SEQUENCE.size :].decode(), stamp - ahead)


def datagrams() -> socket.socket:
    """Return a socket that never waits."""
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    return made


def received(sock: socket.socket) -> Iterator[tuple[bytes, tuple[str, int], float]]:
    """Yield what waits in a socket.

    Datagram, sender, and the kernel's stamp (wall clock) if it gives one.
    """
    while True:
        try:
            data, ancillary, _, sender = sock.recvmsg(LARGEST, LARGEST)
        except BlockingIOError:
            return
        except OSError:  # an ICMP error of an earlier question
            continue
        seconds, nanoseconds = STAMP.unpack(ancillary[0][2]) if ancillary else (0, 0)
        yield data, sender, seconds + nanoseconds / 1e9


def datagram(source: str, target: str) -> bytes:
    """Return an IPv4 packet with a question in it; UDP needs no checksum over IPv4."""
    payload = SEQUENCE.pack(0)
    udp = struct.pack("!HHHH", SOURCE_PORT, ECHO_PORT, 8 + len(payload), 0) + payload
    addresses = socket.inet_aton(source) + socket.inet_aton(target)
    head = struct.pack("!BBHHHBB", 0x45, 0, 20 + len(udp), 0, 0, 64, socket.IPPROTO_UDP)
    total = sum(struct.unpack("!9H", head + addresses))
    total = (total & 0xFFFF) + (total >> 16)
    return (
        head + int(0xFFFF - (total & 0xFFFF) - (total >> 16)).to_bytes(2, "big") + addresses + udp
    )


def run(mine: str, vips: list[str], macs: dict[str, str]) -> None:
    """Ask until SIGTERM."""
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(1))
    direct, ordinary = Direct(mine, vips, macs), [Ordinary(vip) for vip in vips]
    sockets = [direct.socket, *(one.socket for one in ordinary)]
    print(json.dumps(["ready"]), flush=True)
    tick, start = 0, time.monotonic()
    while not stopping:
        if time.monotonic() >= start + tick * ORDINARY:
            for one in ordinary:
                one.ask()
            if tick % round(DIRECT / ORDINARY) == 0:
                direct.ask()
            # After a pause of its own it does not make up for what it missed: a burst would say
            # nothing of that time.
            tick = max(tick + 1, int((time.monotonic() - start) / ORDINARY) - 10)
        select.select(sockets, [], [], max(0.0, start + tick * ORDINARY - time.monotonic()))
        tell(itertools.chain(direct.listen(), *(one.listen() for one in ordinary)))
    tell(direct.spans.rest())
    tell(line for one in ordinary for line in one.gaps.rest(one.number, time.monotonic()))


def tell(lines: Iterator[list[object]]) -> None:
    """Print them."""
    for line in lines:
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    run(
        sys.argv[1],
        sys.argv[2].split(","),
        dict(pair.split("=", 1) for pair in sys.argv[3].split(",")),
    )
