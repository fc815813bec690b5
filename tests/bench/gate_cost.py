"""What the kernel's gate costs.

Small packets, round trips and bulk through an open gate and without one, and ns for a frame.

    python -m tests.bench.gate_cost [--rounds 40] [--seconds 0.1] [--json FILE]

Needs root. Without, with and again without take turns, so that a machine that becomes busier does
so for all; each round gives a ratio with/without, and one without/without, which is the noise. A
cost is that of the quickest tenth: interruptions only ever add. The figure is the median ratio,
with the range in which it lies with 95 % certainty. Small packets are the dearest case: UDP of 18
bytes over a veth pair, whose whole way from the sender's call to the receiver's socket runs on one
CPU, with no driver, no wire and no application on it.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import math
import multiprocessing
import os
import socket
import statistics
import struct
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from announce.gate.gates import Deadlines, Gates, TrafficControl
from announce.gate.loaded import Loaded
from announce.gate.program import Direction
from announce.gate.support import frames
from tests.netns.stories.node import inside
from vipd.demo.lab import INTERFACE, Host, Lab

VIP = "192.0.2.100"
PORT = 7010
WORDS, SLOT = 8, 1
YEAR = 365 * 86_400 * 1_000_000_000
BLOCK = bytes(1 << 20)
REPEAT = 1_000_000
BATCH = 256
"""Packets in one system call."""
TRIPS, BLOCKS = 20, 4
"""What is timed at once: about a millisecond."""
PAYLOAD = bytes(18)
"""The smallest Ethernet frame."""
UNREAD_PORT = 7011
MESSAGE = struct.Struct("@QI4xQQQQi4xI4x")
"""struct mmsghdr on a 64-bit machine: name, its length, iov, its length, control, its length,
flags, sent."""
UNITS = {
    "packets to the VIP": "ns a packet",
    "packets from the VIP": "ns a packet",
    "round trips": "us a round trip",
    "blocks": "us a MiB",
}
KINDS = tuple(UNITS)
ENOUGH = 0.05
"""The goal: within 5 % of none."""


def now() -> float:
    """Return CLOCK_BOOTTIME in seconds."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


# ---------------------------------------------------------------- traffic


def serve(ready: Connection) -> None:
    """Serve one connection after the other: swallow blocks, or send each byte back."""
    with socket.create_server((VIP, PORT)) as server:
        ready.send("ready")
        while True:
            connection, _ = server.accept()
            with connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                kind = connection.recv(1)
                while data := connection.recv(len(BLOCK)):
                    if kind == b"r":
                        connection.sendall(data)


def quickest(costs: Sequence[float]) -> float:
    """Return the cost of what went undisturbed, the tenth percentile.

    Whatever else the machine does only ever adds.
    """
    return sorted(costs)[len(costs) // 10]


def timed(step: Callable[[], None], seconds: float) -> float:
    """Return how many seconds a step takes when undisturbed; repeats it for so long."""
    costs: list[float] = []
    begin = before = time.perf_counter()
    while before < begin + seconds:
        step()
        after = time.perf_counter()
        costs.append(after - before)
        before = after
    return quickest(costs)


def blocks(connection: socket.socket, seconds: float) -> float:
    """Return how many us a MiB takes."""

    def step() -> None:
        for _ in range(BLOCKS):
            connection.sendall(BLOCK)

    connection.sendall(b"b")
    return timed(step, seconds) / BLOCKS * 1e6


def round_trips(connection: socket.socket, seconds: float) -> float:
    """Return how many us a round trip of one byte takes."""

    def step() -> None:
        for _ in range(TRIPS):
            connection.sendall(b".")
            connection.recv(1)

    connection.sendall(b"r")
    return timed(step, seconds) / TRIPS * 1e6


class Flood:
    """Sends small packets from one address to another, many in one call, to a socket that nobody
    reads.
    """

    def __init__(self, source: str, target: str) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((source, 0))
        self._socket.connect((target, UNREAD_PORT))
        self._payload = ctypes.create_string_buffer(PAYLOAD, len(PAYLOAD))
        self._part = ctypes.create_string_buffer(
            struct.pack("@QQ", ctypes.addressof(self._payload), len(PAYLOAD)), 16
        )
        one = MESSAGE.pack(0, 0, ctypes.addressof(self._part), 1, 0, 0, 0, 0)
        self._messages = ctypes.create_string_buffer(one * BATCH, len(one) * BATCH)
        self._send = ctypes.CDLL(None, use_errno=True).sendmmsg

    def cost(self, seconds: float) -> float:
        """Return how many ns a packet takes, from the call to the end of its way: this CPU walks
        all of it.
        """
        number = self._socket.fileno()

        def step() -> None:
            if int(self._send(number, self._messages, BATCH, 0)) != BATCH:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

        return timed(step, seconds) / BATCH * 1e9

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def flood(host: Host, source: str, target: str, seconds: float) -> float:
    """Send from a host and return ns a packet."""

    def run() -> float:
        with contextlib.closing(Flood(source, target)) as sender:
            return sender.cost(seconds)

    return inside(host.namespace, run)


def measured(owner: Host, client: Host, kind: str, seconds: float) -> float:
    """Return one figure; the smaller the better."""

    def run() -> float:
        with socket.create_connection((VIP, PORT)) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return (blocks if kind == "blocks" else round_trips)(connection, seconds)

    match kind:
        case "packets to the VIP":
            return flood(client, client.address, VIP, seconds)
        case "packets from the VIP":
            return flood(owner, VIP, client.address, seconds)
        case _:
            return inside(client.namespace, run)


# ---------------------------------------------------------------- the gate


class Gate:
    """An open gate on a host, to be put up and taken down."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._deadlines = Deadlines.create(WORDS)
        with memoryview(self._deadlines.memory).cast("Q") as words:
            words[SLOT] = YEAR
        self._gates: Gates | None = None

    def put_up(self) -> None:
        """Attach it."""

        def work() -> None:
            self._gates = Gates(self._deadlines, TrafficControl())
            places = {socket.if_nametoindex(INTERFACE): [socket.inet_aton(VIP)]}
            trouble = self._gates.cover(SLOT, places, 1.0, now())
            if trouble:
                raise OSError(trouble)

        inside(self._host.namespace, work)

    def take_down(self) -> None:
        """Detach it."""
        if self._gates is not None:
            self._gates.close()
            self._gates = None


def program_cost() -> Iterator[tuple[str, int]]:
    """Yield how many ns each program takes for a frame of an open VIP, and for one of somebody
    else.
    """
    v4, v6 = socket.inet_aton(VIP), socket.inet_pton(socket.AF_INET6, "2001:db8::100")
    other4, other6 = socket.inet_aton("192.0.2.9"), socket.inet_pton(socket.AF_INET6, "2001:db8::9")
    with (
        contextlib.closing(Deadlines.create(WORDS)) as deadlines,
        contextlib.closing(Loaded(deadlines, 2)) as loaded,
    ):
        loaded.cover({v4: SLOT, v6: SLOT})
        with memoryview(deadlines.memory).cast("Q") as words:
            words[SLOT] = YEAR
        for direction in Direction:
            for whose, pair in (("of the VIP", (v4, v6)), ("of others", (other4, other6))):
                for name, frame in frames(*pair)[direction][:2]:
                    yield (
                        f"{direction.value} {name} {whose}",
                        loaded.programs[direction].run(frame, REPEAT).nanoseconds,
                    )


@contextlib.contextmanager
def server(lab: Lab, host: Host) -> Iterator[None]:
    """Serve on the VIP."""
    lab.add_address(host, f"{VIP}/32")
    mine, others = multiprocessing.Pipe()
    process = inside(host.namespace, lambda: started(others))
    mine.recv()
    try:
        yield
    finally:
        process.kill()
        process.join()


def started(ready: Connection) -> multiprocessing.Process:
    """Start the server in the calling thread's namespace."""
    process = multiprocessing.get_context("fork").Process(target=serve, args=(ready,), daemon=True)
    process.start()
    return process  # type: ignore[return-value] # a ForkProcess is a Process in all that is used here


@contextlib.contextmanager
def unread(owner: Host, client: Host) -> Iterator[None]:
    """Give both hosts a socket that takes packets until it is full.

    What comes then is dropped at the end of its way.
    """

    def opened() -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.bind(("", UNREAD_PORT))
        return made

    with inside(owner.namespace, opened), inside(client.namespace, opened):
        yield


@dataclass(frozen=True, slots=True)
class Compared:
    """One kind of traffic.

    Medians without and with the gate, and the ratios less 1 with the range of their median (95 %).
    """

    kind: str
    without: float
    gated: float
    change: float
    low: float
    high: float
    noise: float
    rounds: int

    def __str__(self) -> str:
        """Return a row of the table."""
        shown = (
            "shown" if self.high <= ENOUGH else "refuted" if self.low > ENOUGH else "not decided"
        )
        return (
            f"| {self.kind}, {UNITS[self.kind]} | {self.without:.0f} | {self.gated:.0f} | "
            f"{self.change:+.1%}"
            f" | {self.low:+.1%} to {self.high:+.1%} | {self.noise:+.1%} | {self.rounds} | "
            f"{shown} |"
        )


def median_range(values: Sequence[float]) -> tuple[float, float]:
    """Return between which of the values the true median lies with 95 % certainty.

    The binomial distribution's ranks.
    """
    ordered, half = sorted(values), 0.98 * math.sqrt(len(values))
    return ordered[max(0, int(len(values) / 2 - half))], ordered[
        min(len(values) - 1, math.ceil(len(values) / 2 + half))
    ]


def compare(rounds: int, seconds: float) -> Iterator[Compared]:
    """Measure in turns; yield each kind of traffic when it is done."""
    with Lab(f"vg{os.getpid()}-") as lab:
        owner, client = lab.add("a"), lab.add("b")
        gate = Gate(owner)
        with server(lab, owner), unread(owner, client):
            for kind in KINDS:
                measured(owner, client, kind, seconds)  # neighbours and routes are learnt
                figures = [
                    _round(gate, owner, client, kind, seconds, turned=bool(number % 2))
                    for number in range(rounds)
                ]
                ratios = [with_gate / without - 1 for without, with_gate, _ in figures]
                without, with_gate, _ = (
                    statistics.median(column) for column in zip(*figures, strict=True)
                )
                noise = statistics.median(again / first - 1 for first, _, again in figures)
                yield Compared(
                    kind,
                    without,
                    with_gate,
                    statistics.median(ratios),
                    *median_range(ratios),
                    noise,
                    rounds,
                )


def _round(
    gate: Gate, owner: Host, client: Host, kind: str, seconds: float, *, turned: bool
) -> tuple[float, float, float]:
    """Return a figure without, one with, and another one without; what comes first takes turns."""
    found: dict[str, float] = {}
    for turn in ("with", "without", "again") if turned else ("again", "without", "with"):
        if turn == "with":
            gate.put_up()
        found[turn] = measured(owner, client, kind, seconds)
        gate.take_down()
    return found["without"], found["with"], found["again"]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=0.1)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    print(f"load {Path('/proc/loadavg').read_text(encoding='ascii').split()[0]}", file=sys.stderr)
    programs = dict(program_cost())
    print("| program, frame | ns |\n|---|---|")
    for name, nanoseconds in programs.items():
        print(f"| {name} | {nanoseconds} |")
    print(
        "\n| traffic | without | with the gate | change | its 95 % range | noise | rounds | "
        "within 5 % |\n|---|---|---|---|---|---|---|---|"
    )
    compared = []
    for one in compare(args.rounds, args.seconds):
        compared.append(one)
        print(one, flush=True)
    if args.json:
        args.json.write_text(
            json.dumps(
                {"programs_ns": programs, "traffic": [asdict(one) for one in compared]}, indent=1
            )
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
