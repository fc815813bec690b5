"""Two hosts for tests of the gate.

An owner with VIPs that answers, and a client that asks by ready-made frames.

All frames go to the owner's own MAC, so nothing depends on what the client's kernel believes.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from announce.gate.gates import Deadlines, Gates, GateState, TrafficControl

if TYPE_CHECKING:
    from tests.netns.announce.conftest import Cable, Host

OWNER_V4, CLIENT_V4, VIP_V4 = "192.0.2.1", "192.0.2.2", "192.0.2.100"
OWNER_V6, CLIENT_V6, VIP_V6 = "2001:db8::1", "2001:db8::2", "2001:db8::100"
PORT, CLIENT_PORT = 7007, 40000
WORDS = 8
SLOT = 1
LEASE = 3.0
PATIENCE = 10.0
KINDS = frozenset({"udp4", "udp6", "arp", "nd"})
"""Kinds of questions, and of answers in the VIP's name."""
FENCE = "fence"
"""The answer to a question after the owner's own address: what was asked before it has been seen
to."""
SO_TIMESTAMPNS = 35
PACKET_IGNORE_OUTGOING = 23
SOL_PACKET = 263
_ALL = 3
_IPV4, _ARP, _IPV6 = b"\x08\x00", b"\x08\x06", b"\x86\xdd"
_UDP, _TCP, _ICMPV6 = 17, 6, 58


def packed(ip: str) -> bytes:
    """Return an address as it is in a frame."""
    return socket.inet_pton(socket.AF_INET6 if ":" in ip else socket.AF_INET, ip)


VIPS = (packed(VIP_V4), packed(VIP_V6))


def boottime() -> int:
    """Return CLOCK_BOOTTIME in ns."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def now() -> float:
    """Return CLOCK_BOOTTIME in seconds."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def until(happened: Callable[[], bool]) -> None:
    """Wait until something has happened."""
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.001)


# ---------------------------------------------------------------- hosts


def dress(cable: Cable) -> None:
    """Give both hosts addresses of their own, and tell each the other's MAC."""
    for host, mine, other, others in (
        (cable.a, (OWNER_V4, OWNER_V6), cable.b, (CLIENT_V4, CLIENT_V6)),
        (cable.b, (CLIENT_V4, CLIENT_V6), cable.a, (OWNER_V4, OWNER_V6)),
    ):
        host.run("ip link set lo up")
        host.run(f"ip addr add {mine[0]}/24 dev {host.interface}")
        host.run(f"ip addr add {mine[1]}/64 dev {host.interface} nodad")
        for ip in others:
            host.run(f"ip neigh replace {ip} lladdr {other.mac} dev {host.interface}")


def bind(host: Host) -> None:
    """Bind the VIPs on this host."""
    host.run(f"ip addr add {VIP_V4}/32 dev {host.interface}")
    host.run(f"ip addr add {VIP_V6}/128 dev {host.interface} nodad")
    # The kernel finishes an IPv6 address in a work queue: before that nothing answers for it.
    end = time.monotonic() + PATIENCE
    while VIP_V6 not in host.run("ip -6 route show table local"):
        assert time.monotonic() < end, f"{VIP_V6} does not come into force"


def unbind(host: Host) -> None:
    """Take the VIPs away from this host."""
    host.run(f"ip addr del {VIP_V4}/32 dev {host.interface}")
    host.run(f"ip addr del {VIP_V6}/128 dev {host.interface}")


class Gate:
    """The gates of host a, with the word of one election. To be made on that host."""

    def __init__(self, interface: str = "a0") -> None:
        self.deadlines = Deadlines.create(WORDS)
        self.words = memoryview(self.deadlines.memory).cast("Q")
        self.control = TrafficControl()
        self.gates = Gates(self.deadlines, self.control)
        self.interface = interface

    @property
    def ifindex(self) -> int:
        """The number of the interface as it is now."""
        return socket.if_nametoindex(self.interface)

    def cover(self, slot: int = SLOT, ips: Collection[bytes] = VIPS) -> str:
        """Cover the VIPs; return the trouble, if any."""
        return self.gates.cover(slot, {self.ifindex: ips}, LEASE, now())

    def open(self, slot: int = SLOT, seconds: float = 3600.0) -> int:
        """Open a word for so long, and do what becomes due by it; return the deadline."""
        deadline = self.words[slot] = boottime() + int(seconds * 1e9)
        self.gates.tick(now())
        return deadline

    def close_word(self, slot: int = SLOT) -> None:
        """Close a word."""
        self.words[slot] = 0

    @property
    def state(self) -> GateState:
        """The state of the one gate that there is."""
        (state,) = self.gates.states()
        return state

    @property
    def dropped(self) -> int:
        """How many frames were dropped."""
        return sum(self.state.dropped.values())

    def close(self) -> None:
        """Take the gate away and end."""
        self.gates.close()
        self.die()

    def die(self) -> None:
        """Let go of everything as a killed process does: what is attached stays. Idempotent."""
        for gate in self.gates._gates.values():
            gate.close()
        self.control.close()
        self.words.release()
        self.deadlines.close()


class Echo:
    """What listens on the VIPs: sends every datagram back. `received` keeps the payloads."""

    def __init__(self) -> None:
        self.received: list[tuple[str, bytes]] = []
        self._sockets = {
            "udp4": bound(socket.AF_INET, VIP_V4, PORT),
            "udp6": bound(socket.AF_INET6, VIP_V6, PORT),
        }
        self._stop, self._stopped = socket.socketpair()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            ready, _, _ = select.select([self._stopped, *self._sockets.values()], [], [])
            if self._stopped in ready:
                return
            for kind, sock in self._sockets.items():
                if sock in ready:
                    data, sender = sock.recvfrom(2048)
                    self.received.append((kind, data))
                    with contextlib.suppress(OSError):
                        sock.sendto(data, sender)

    def close(self) -> None:
        """Stop listening."""
        self._stop.close()
        self._thread.join()
        for sock in (self._stopped, *self._sockets.values()):
            sock.close()


def bound(family: int, ip: str, port: int) -> socket.socket:
    """Return a datagram socket bound there."""
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.bind((ip, port))
    return sock


# ---------------------------------------------------------------- the client


@dataclass(frozen=True)
class Heard:
    """A frame of the owner.

    Its kind, and when the client's kernel had it, in ns of CLOCK_BOOTTIME.
    """

    kind: str
    at: int


class Client:
    """Asks from host b by frames, and hears every frame that host a sends."""

    def __init__(self, cable: Cable) -> None:
        self.mac, self.owner = (
            bytes.fromhex(host.mac.replace(":", "")) for host in (cable.b, cable.a)
        )
        with cable.b.inside():
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL))
            self._socket.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
            self._socket.bind((cable.b.interface, _ALL))
            # Without these the client's kernel complains of each answer, and asks for the VIP's MAC
            # in order to do so.
            self._taken = [
                bound(socket.AF_INET, CLIENT_V4, CLIENT_PORT),
                bound(socket.AF_INET6, CLIENT_V6, CLIENT_PORT),
            ]
        self._ahead = 0
        self.synchronize()

    def synchronize(self) -> None:
        """Compare the clocks: the kernel stamps frames with the wall clock."""
        before, wall, after = boottime(), time.clock_gettime_ns(time.CLOCK_REALTIME), boottime()
        self._ahead = wall - (before + after) // 2

    def send(self, frame: bytes) -> None:
        """Send any frame."""
        self._socket.send(frame)

    def question(self, kind: str, payload: bytes = b"") -> bytes:
        """Return a frame that asks the VIP, or for it."""
        match kind:
            case "udp4":
                return self.wrapped(_IPV4, ipv4(CLIENT_V4, VIP_V4, udp(CLIENT_V4, VIP_V4, payload)))
            case "udp6":
                return self.wrapped(
                    _IPV6, ipv6(CLIENT_V6, VIP_V6, _UDP, udp(CLIENT_V6, VIP_V6, payload))
                )
            case "arp":
                return self.wrapped(_ARP, arp(1, self.mac, CLIENT_V4, VIP_V4))
            case "nd":
                return self.wrapped(
                    _IPV6,
                    ipv6(CLIENT_V6, VIP_V6, _ICMPV6, solicitation(CLIENT_V6, VIP_V6, self.mac)),
                )
            case _:
                return self.wrapped(_ARP, arp(1, self.mac, CLIENT_V4, OWNER_V4))

    def wrapped(self, kind: bytes, packet: bytes) -> bytes:
        """Return a frame to the owner's MAC."""
        return self.owner + self.mac + kind + packet

    def ask(self, kinds: Collection[str] = KINDS) -> None:
        """Ask in each of these ways."""
        for kind in sorted(kinds):
            self.send(self.question(kind))

    def answered(self, kinds: Collection[str] = KINDS) -> set[str]:
        """Ask, and wait until all have answered or, if not all do, a moment longer than it takes;
        return who did.
        """
        self.ask(kinds)
        self.send(self.question(FENCE))
        found: set[str] = set()
        deadline = time.monotonic() + PATIENCE
        while not found >= {*kinds, FENCE}:
            heard = self.hear(deadline - time.monotonic())
            assert heard or FENCE in found, "the owner does not answer at all"
            if heard is None:
                break
            found |= {heard.kind} if heard.kind in {*KINDS, FENCE} else set()
            if FENCE in found:
                deadline = min(deadline, time.monotonic() + 0.1)
        return found - {FENCE}

    def hear(self, timeout: float) -> Heard | None:
        """Return the next frame of the owner that speaks as a VIP, or answers the fence.

        None if there is none in time.
        """
        until_then = time.monotonic() + timeout
        while (left := until_then - time.monotonic()) > 0:
            if not select.select([self._socket], [], [], left)[0]:
                return None
            data, ancillary, _, _ = self._socket.recvmsg(2048, 64)
            kind = self._kind(data)
            if kind:
                seconds, nanoseconds = struct.unpack("=qq", ancillary[0][2])
                return Heard(kind, seconds * 1_000_000_000 + nanoseconds - self._ahead)
        return None

    def _kind(self, frame: bytes) -> str:
        kind, packet = frame[12:14], frame[14:]
        if frame[6:12] != self.owner:
            return ""
        if kind == _ARP:
            return {packed(VIP_V4): "arp", packed(OWNER_V4): FENCE}.get(packet[14:18], "")
        if kind == _IPV4 and packet[12:16] == packed(VIP_V4):
            return {_UDP: "udp4", _TCP: "tcp4"}.get(packet[9], "other")
        if (
            kind == _IPV6
            and packet[6] == _ICMPV6
            and packet[40] == 136
            and packet[48:64] == packed(VIP_V6)
        ):
            return "nd"
        if kind == _IPV6 and packet[8:24] == packed(VIP_V6):
            return {_UDP: "udp6", _TCP: "tcp6"}.get(packet[6], "other")
        return ""

    def close(self) -> None:
        """Close the sockets."""
        for sock in (self._socket, *self._taken):
            sock.close()


# ---------------------------------------------------------------- packets


def arp(operation: int, mac: bytes, sender: str, target: str) -> bytes:
    """Return an ARP packet."""
    return (
        struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation)
        + mac
        + packed(sender)
        + bytes(6)
        + packed(target)
    )


def ipv4(source: str, destination: str, payload: bytes, protocol: int = _UDP) -> bytes:
    """Return an IPv4 packet."""
    head = struct.pack("!BBHHHBB", 0x45, 0, 20 + len(payload), 0, 0, 64, protocol)
    rest = packed(source) + packed(destination)
    return head + checksum(head + rest).to_bytes(2, "big") + rest + payload


def ipv6(source: str, destination: str, next_header: int, payload: bytes) -> bytes:
    """Return an IPv6 packet."""
    return (
        struct.pack("!IHBB", 6 << 28, len(payload), next_header, 255)
        + packed(source)
        + packed(destination)
        + payload
    )


def udp(source: str, destination: str, payload: bytes) -> bytes:
    """Return a UDP datagram; the payload's length has to be even."""
    length = 8 + len(payload)
    head = struct.pack("!HHH", CLIENT_PORT, PORT, length)
    total = checksum(pseudo(source, destination, _UDP, length) + head + payload)
    return head + total.to_bytes(2, "big") + payload


def solicitation(source: str, target: str, mac: bytes, destination: str = "") -> bytes:
    """Return a neighbour solicitation, by default to the target itself, with the sender's MAC."""
    body = bytes(4) + packed(target) + b"\x01\x01" + mac
    total = checksum(
        pseudo(source, destination or target, _ICMPV6, 4 + len(body)) + b"\x87\x00" + body
    )
    return b"\x87\x00" + total.to_bytes(2, "big") + body


def pseudo(source: str, destination: str, protocol: int, length: int) -> bytes:
    """Return the header that is part of a checksum but not of a packet."""
    return packed(source) + packed(destination) + struct.pack("!II", length, protocol)


def checksum(data: bytes) -> int:
    """Return the internet checksum (RFC 1071) of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF - total


# ---------------------------------------------------------------- all of it


@dataclass(frozen=True)
class Stage:
    """An owner with VIPs bound and served, a closed gate, and a client."""

    cable: Cable
    gate: Gate
    echo: Echo
    client: Client


@contextlib.contextmanager
def staged(cable: Cable) -> Iterator[Stage]:
    """Set the stage up; this thread is on the owner's host."""
    dress(cable)
    bind(cable.a)
    with contextlib.ExitStack() as stack:
        echo = stack.enter_context(contextlib.closing(Echo()))
        client = stack.enter_context(contextlib.closing(Client(cable)))
        gate = stack.enter_context(contextlib.closing(Gate()))
        assert gate.cover() == ""
        yield Stage(cable, gate, echo, client)
