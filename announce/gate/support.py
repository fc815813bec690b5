"""Whether the gate can work here, and if not why, in a sentence for people."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import socket
import struct

from announce.gate import bpf
from announce.gate.loaded import Loaded
from announce.gate.maps import Deadlines
from announce.gate.selftest import self_test
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
        return f"this is no Ethernet interface (its type is {kind}), and the gate does not know its frames"
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
        return "bpf(2) is forbidden: RLIMIT_MEMLOCK is too low (LimitMEMLOCK=infinity), or a seccomp profile or security module is in the way"
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
