"""Whether the gate can work here, and if not why, in a sentence for people."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import socket
import struct
import time
from collections.abc import Mapping

from announce.gate import bpf
from announce.gate.loaded import Loaded
from announce.gate.maps import Deadlines
from announce.gate.program import DROP, PASS, Direction
from announce.gate.traffic_control import INGRESS, TrafficControl

OLDEST = (5, 8)
"""bpf_ktime_get_boot_ns, and CAP_BPF."""
_UNCHARGED = (5, 11)
_CAP_NET_ADMIN = 12
_CAP_SYS_ADMIN = 21
_CAP_BPF = 39
_ETHERNET = 1
_LOOPBACK = 772
_SIOCGIFHWADDR = 0x8927
_EVERYBODY = ["0", "0", "4294967295"]
"""The user ids of the initial user namespace, as /proc shows them."""


def probe_support() -> str:
    """Try the gate out without attaching it.

    Return why it cannot work here, or nothing. About 10 ms.
    """
    try:
        with (
            contextlib.closing(Deadlines.create(2)) as deadlines,
            contextlib.closing(Loaded(deadlines, 1)) as loaded,
        ):
            return self_test(loaded, deadlines)
    except OSError as error:
        return why_not(error)


def probe_interface(control: TrafficControl, ifindex: int) -> str:
    """Return why the gate cannot be on this interface, or nothing.

    Changes nothing; raises OSError (ENODEV).
    """
    kind = _link_type(ifindex)
    if kind == _LOOPBACK:
        return "this is the loopback interface, which the network's frames do not pass"
    if kind != _ETHERNET:
        return (
            f"this is no Ethernet interface (its type is {kind}), and the gate does not know "
            "its frames"
        )
    if control.hooks().get(ifindex) == INGRESS:
        return "an ingress qdisc of somebody else is where clsact should be"
    return ""


def before_traffic_control(ifindex: int) -> tuple[str, ...]:
    """Return what may decide about frames before any filter is asked; raises BpfError."""
    number = bpf.tcx_programs(ifindex)
    return (f"tcx programs ({number}) decide about frames first",) if number else ()


def why_not(error: OSError, release: str = "") -> str:
    """Return what an error of bpf(2) means on this release of the kernel (by default the one that
    runs), as a sentence.
    """
    release = release or os.uname().release
    if error.errno == errno.ENOSYS:
        return f"this kernel has no bpf(2) ({error.strerror})"
    if error.errno == errno.EPERM:
        return _forbidden(_version(release))
    if _version(release) < OLDEST:
        return f"it needs Linux {OLDEST[0]}.{OLDEST[1]} or newer, and this is {release}"
    return f"the kernel refused it: {error.strerror}"


def _forbidden(version: tuple[int, int]) -> str:
    missing = missing_rights(_read("/proc/self/status"))
    if missing:
        return f"this process lacks {' and '.join(missing)}"
    if _read("/proc/self/uid_map").split() != _EVERYBODY:
        return "this process is in a user namespace, where the kernel takes no such programs"
    if version < _UNCHARGED:
        return (
            "bpf(2) is forbidden: RLIMIT_MEMLOCK is too low (LimitMEMLOCK=infinity), or a "
            "seccomp profile or security module is in the way"
        )
    return "bpf(2) is forbidden: a seccomp profile or security module is in the way"


def missing_rights(status: str) -> list[str]:
    """Return the capabilities that a process with this /proc/PID/status lacks."""
    found = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    effective = int(found[1], 16) if found else 0
    if effective >> _CAP_SYS_ADMIN & 1:
        return []  # it includes CAP_BPF
    return [
        name
        for name, number in (("CAP_BPF", _CAP_BPF), ("CAP_NET_ADMIN", _CAP_NET_ADMIN))
        if not effective >> number & 1
    ]


def _read(path: str) -> str:
    with open(path, encoding="utf-8") as file:  # noqa: PTH123 -- pathlib would cost the guard 0.4 MB
        return file.read()


def _version(release: str) -> tuple[int, int]:
    found = re.match(r"(\d+)\.(\d+)", release)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _link_type(ifindex: int) -> int:
    """Return an interface's ARPHRD_ number (linux/if_arp.h): what its frames begin with."""
    name = if_indextoname(ifindex)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        answer = fcntl.ioctl(asked, _SIOCGIFHWADDR, struct.pack("16s24x", name.encode()))
    return int(struct.unpack_from("=H", answer, 16)[0])


def if_indextoname(ifindex: int) -> str:
    """Return the name of an interface; raises OSError (ENODEV) if there is none of this number."""
    try:
        return socket.if_indextoname(ifindex)
    except OSError as error:  # the C library says ENXIO
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV)) from error


# ---------------------------------------------------------------- trying the programs out


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
                    return (
                        "the gate's program does not work on this kernel: for an address of "
                        f"another interface, {found}"
                    )
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
        return (
            "the kernel's clock is behind that of this process (a time namespace?): after the "
            f"deadline, {found}"
        )
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
        for (name, frame), (_, other) in zip(
            frames(*vips)[direction], frames(_OTHER_V4, _OTHER_V6)[direction], strict=True
        ):
            if program.run(bytes(6) + frame[6:]).verdict != verdict:
                return (
                    f"{direction.value} {name} is {'dropped' if verdict == PASS else 'not dropped'}"
                )
            if program.run(other).verdict != PASS:
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
