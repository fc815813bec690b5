"""Whether loaded programs do on this kernel what they should.

Made frames, open, closed and expired (BPF_PROG_TEST_RUN).
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Mapping

from announce.gate.loaded import Loaded
from announce.gate.maps import Deadlines
from announce.gate.program import DROP, PASS, Direction

_MACS = bytes.fromhex("020000000002 020000000001".replace(" ", ""))
_V4 = socket.inet_pton(socket.AF_INET, "240.0.0.1")
_V6 = socket.inet_pton(socket.AF_INET6, "100::1")
_OTHER_V4 = socket.inet_pton(socket.AF_INET, "240.0.0.2")
_OTHER_V6 = socket.inet_pton(socket.AF_INET6, "100::2")
"""Nobody uses these: reserved (RFC 1112), and for discarding (RFC 6666)."""
_OWN_V4 = socket.inet_pton(socket.AF_INET, "127.0.0.1")
_OWN_V6 = socket.inet_pton(socket.AF_INET6, "::1")
"""No host passes these on."""
_OPEN_FOR = 10_000_000_000
"""ns that the test's deadline lies ahead while it counts as open: longer than the test is ever held
up."""


def self_test(loaded: Loaded, deadlines: Deadlines) -> str:
    """Return what is wrong, in a sentence, or nothing.

    To be called before the programs are attached. Raises BpfError.

    The deadlines that count are those of this process: in a time namespace its CLOCK_BOOTTIME is
    not the kernel's, and the gate would close too late.
    """
    slot = deadlines.test_slot
    with loaded.borrowed({_V4: slot, _V6: slot}):
        try:
            trouble = _trouble(loaded, deadlines)
        finally:
            deadlines.set_test(0)
    return trouble or _trouble_elsewhere(loaded, deadlines, slot)


def _trouble_elsewhere(loaded: Loaded, deadlines: Deadlines, slot: int) -> str:
    """Return what is wrong about an address that belongs to another interface."""
    with loaded.borrowed({}, {_OWN_V4: slot, _OWN_V6: slot}):
        try:
            for deadline, verdict in (
                (0, DROP),
                (time.clock_gettime_ns(time.CLOCK_BOOTTIME) + _OPEN_FOR, PASS),
            ):
                deadlines.set_test(deadline)
                found = _wrong(loaded, (_OWN_V4, _OWN_V6), verdict)
                if found:
                    return f"the gate's program does not work on this kernel: for an address of another interface, {found}"
        finally:
            deadlines.set_test(0)
    return ""


def _trouble(loaded: Loaded, deadlines: Deadlines) -> str:
    deadlines.set_test(0)
    found = _wrong(loaded, (_V4, _V6), DROP)
    if found:
        return f"the gate's program does not work on this kernel: closed, {found}"
    deadlines.set_test(time.clock_gettime_ns(time.CLOCK_BOOTTIME))
    found = _wrong(loaded, (_V4, _V6), DROP)
    if found:
        return f"the kernel's clock is behind that of this process (a time namespace?): after the deadline, {found}"
    deadlines.set_test(time.clock_gettime_ns(time.CLOCK_BOOTTIME) + _OPEN_FOR)
    found = _wrong(loaded, (_V4, _V6), PASS)
    return (
        f"the kernel's clock is ahead of that of this process (a time namespace?): open, {found}"
        if found
        else ""
    )


def _wrong(loaded: Loaded, vips: tuple[bytes, bytes], verdict: int) -> str:
    """Return which frame the programs decide about otherwise.

    To the kernel these come from `lo`, whose MAC is all zeros.
    """
    for direction, program in loaded.programs.items():
        for (name, frame), (_, stranger) in zip(
            frames(*vips)[direction], frames(_OTHER_V4, _OTHER_V6)[direction], strict=True
        ):
            if program.run(bytes(6) + frame[6:]).verdict != verdict:
                return (
                    f"{direction.value} {name} is {'dropped' if verdict == PASS else 'not dropped'}"
                )
            if program.run(stranger).verdict != PASS:
                return f"{direction.value} {name} of another address is dropped"
    return ""


def frames(v4: bytes, v6: bytes) -> Mapping[Direction, tuple[tuple[str, bytes], ...]]:
    """Return one frame of each kind that the gate stops for these addresses."""
    other4, other6 = bytes(4), bytes(16)
    solicitation = _ipv6(other6, other6, 58, b"\x87" + bytes(7) + v6)
    advertisement = _ipv6(other6, other6, 58, b"\x88" + bytes(7) + v6)
    return {
        Direction.ARRIVING: (
            ("IPv4", _ipv4(other4, v4)),
            ("IPv6", _ipv6(other6, v6, 59, b"")),
            ("ARP", _arp(other4, v4)),
            ("neighbour solicitation", solicitation),
        ),
        Direction.LEAVING: (
            ("IPv4", _ipv4(v4, other4)),
            ("IPv6", _ipv6(v6, other6, 59, b"")),
            ("ARP", _arp(v4, other4)),
            ("neighbour advertisement", advertisement),
        ),
    }


def _ipv4(source: bytes, destination: bytes) -> bytes:
    return (
        _MACS
        + b"\x08\x00"
        + struct.pack("!BBHHHBBH", 0x45, 0, 20, 0, 0, 64, 59, 0)
        + source
        + destination
    )


def _ipv6(source: bytes, destination: bytes, next_header: int, payload: bytes) -> bytes:
    return (
        _MACS
        + b"\x86\xdd"
        + struct.pack("!IHBB", 6 << 28, len(payload), next_header, 255)
        + source
        + destination
        + payload
    )


def _arp(sender: bytes, target: bytes) -> bytes:
    return (
        _MACS
        + b"\x08\x06"
        + struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1)
        + bytes(6)
        + sender
        + bytes(6)
        + target
    )
