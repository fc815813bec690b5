"""What the kernel's gate costs: throughput and round trips through an open gate and without one, and ns for a frame.

    python -m tests.bench.gate_cost [--rounds 40] [--seconds 0.25]

Needs root. With and without take turns, so that a machine that becomes busier does so for both. A quiet machine gives the
narrowest figures.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

from announce.gate import Deadlines, Gates, TrafficControl
from announce.gate_loaded import Loaded
from announce.gate_program import Direction
from announce.gate_selftest import frames
from tests.netns.stories.node import inside
from vipd.demo.lab import INTERFACE, Host, Lab

VIP = "192.0.2.100"
PORT = 7010
WORDS, SLOT = 8, 1
YEAR = 365 * 86_400 * 1_000_000_000
BLOCK = bytes(1 << 20)
REPEAT = 1_000_000
KINDS = ("blocks", "round trips")


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


def blocks(connection: socket.socket, seconds: float) -> float:
    """Return how many Gbit/s pass."""
    connection.sendall(b"b")
    begin, sent = now(), 0
    while now() < begin + seconds:
        connection.sendall(BLOCK)
        sent += len(BLOCK)
    return sent * 8 / (now() - begin) / 1e9


def round_trips(connection: socket.socket, seconds: float) -> float:
    """Return how many thousand round trips of one byte pass in a second."""
    connection.sendall(b"r")
    begin, done = now(), 0
    while now() < begin + seconds:
        for _ in range(100):
            connection.sendall(b".")
            connection.recv(1)
        done += 100
    return done / (now() - begin) / 1e3


def measured(client: Host, kind: str, seconds: float) -> float:
    """Return one figure, asked from the client's host."""

    def run() -> float:
        with socket.create_connection((VIP, PORT)) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return (blocks if kind == "blocks" else round_trips)(connection, seconds)

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
    """Yield how many ns each program takes for a frame of an open VIP, and for one of somebody else."""
    v4, v6 = socket.inet_aton(VIP), socket.inet_pton(socket.AF_INET6, "2001:db8::100")
    other4, other6 = socket.inet_aton("192.0.2.9"), socket.inet_pton(socket.AF_INET6, "2001:db8::9")
    with contextlib.closing(Deadlines.create(WORDS)) as deadlines, contextlib.closing(Loaded(deadlines, 2)) as loaded:
        loaded.cover({v4: SLOT, v6: SLOT})
        with memoryview(deadlines.memory).cast("Q") as words:
            words[SLOT] = YEAR
        for direction in Direction:
            for whose, pair in (("of the VIP", (v4, v6)), ("of others", (other4, other6))):
                for name, frame in frames(*pair)[direction][:2]:
                    yield f"{direction.value} {name} {whose}", loaded.programs[direction].run(frame, REPEAT).nanoseconds


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


def compare(rounds: int, seconds: float, tell: Callable[[str], None]) -> None:
    """Measure in turns and tell the medians."""
    with Lab(f"vg{os.getpid()}-") as lab:
        owner, client = lab.add("a"), lab.add("b")
        gate = Gate(owner)
        figures: dict[tuple[str, bool], list[float]] = {(kind, gated): [] for kind in KINDS for gated in (False, True)}
        with server(lab, owner):
            for number in range(rounds):
                for kind in KINDS:
                    for gated in (False, True) if number % 2 else (True, False):
                        if gated:
                            gate.put_up()
                        figures[kind, gated].append(measured(client, kind, seconds))
                        gate.take_down()
    for kind, unit in zip(KINDS, ("Gbit/s", "thousand a second"), strict=True):
        without, with_gate = (statistics.median(figures[kind, gated]) for gated in (False, True))
        change = statistics.median(b / a for a, b in zip(figures[kind, False], figures[kind, True], strict=True)) - 1
        tell(f"{kind}: {without:.2f} {unit} without, {with_gate:.2f} with the gate; in pairs {change:+.1%}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=0.25)
    args = parser.parse_args()
    print(f"load {Path('/proc/loadavg').read_text(encoding='ascii').split()[0]}")
    for name, nanoseconds in program_cost():
        print(f"{name}: {nanoseconds} ns")
    compare(args.rounds, args.seconds, print)


if __name__ == "__main__":
    main()
