"""Traffic control by netlink.

The hook of an interface (its clsact qdisc) and the programs on it (cls_bpf filters).

A filter outlives the process that made it. Filters are asked in the order of their priority, and of
one priority in the order of the kernel's list; the first that decides anything but "unspecified"
ends the matter. Layouts and numbers are those of linux/rtnetlink.h, linux/pkt_sched.h and
linux/pkt_cls.h. The guard uses this file: standard library only.
"""

from __future__ import annotations

import errno
import socket
import struct
from typing import NamedTuple

from announce.gate.program import Direction
from announce.kernel.link_message import as_text, nested
from announce.kernel.netlink import NewsSocket, RouteSocket, raise_refusal
from announce.kernel.rtnetlink import BODY_AT, MESSAGE, NLM_F_REQUEST, attribute

RTM_NEWQDISC, RTM_DELQDISC, RTM_GETQDISC = 36, 37, 38
RTM_NEWTFILTER, RTM_DELTFILTER, RTM_GETTFILTER = 44, 45, 46
RTMGRP_TC = 0x8
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400
CLSACT = "clsact"
INGRESS = "ingress"
BPF = "bpf"
ETH_P_ALL = 0x0003

_CLSACT_HANDLE = 0xFFFF0000
_CLSACT_PARENT = 0xFFFFFFF1
_PARENTS = {Direction.ARRIVING: 0xFFFFFFF2, Direction.LEAVING: 0xFFFFFFF3}
_TCA_KIND = 1
_TCA_OPTIONS = 2
_TCA_CHAIN = 11
_TCA_BPF_FD = 6
_TCA_BPF_NAME = 7
_TCA_BPF_FLAGS = 8
_TCA_BPF_FLAGS_GEN = 9
_TCA_BPF_ID = 11
_DIRECT_ACTION = 1
_SKIP_HARDWARE = 1
_TC = struct.Struct("=BxxxiIII")
_ADDRESS = struct.Struct("=xxxxi")
_WORD = struct.Struct("=I")
_ALL = socket.htons(ETH_P_ALL)


class Place(NamedTuple):
    """Where a filter is.

    Interface, direction, priority (1 is asked first) and its number within the priority.
    """

    ifindex: int
    direction: Direction
    priority: int
    handle: int


class Filter(NamedTuple):
    """A filter as the kernel has it.

    `name` and `program` (the kernel's number) only for one of kind `bpf`.
    """

    priority: int
    handle: int
    kind: str
    protocol: int
    name: str = ""
    program: int = 0


class TrafficControl(RouteSocket):
    """A kept netlink socket for one network namespace.

    Every method raises OSError for what the kernel refuses or does not answer.
    """

    def add_hook(self, ifindex: int) -> bool:
        """Give the interface a clsact qdisc, which by itself changes nothing.

        Return whether it had none (nor an ingress qdisc).
        """
        answer = self._answer(
            _message(
                RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, _hook(ifindex), _text(_TCA_KIND, CLSACT)
            )
        )
        return raise_refusal(answer, ok=errno.EEXIST) == 0

    def remove_hook(self, ifindex: int) -> None:
        """Remove the clsact qdisc and whatever is on it. Idempotent."""
        answer = self._answer(_message(RTM_DELQDISC, 0, _hook(ifindex), _text(_TCA_KIND, CLSACT)))
        if answer != errno.EINVAL:  # the kernel's answer where there is none
            raise_refusal(answer, ok=errno.ENOENT)

    def put(self, place: Place, descriptor: int, name: str) -> None:
        """Put a program there, at once and without a gap in the place of the one that is there."""
        options = (
            attribute(_TCA_BPF_FD, _WORD.pack(descriptor))
            + _text(_TCA_BPF_NAME, name)
            + attribute(_TCA_BPF_FLAGS, _WORD.pack(_DIRECT_ACTION))
            # In a card the program would read a clock that is not CLOCK_BOOTTIME, if it could be
            # there at all.
            + attribute(_TCA_BPF_FLAGS_GEN, _WORD.pack(_SKIP_HARDWARE))
        )
        body = _text(_TCA_KIND, BPF) + attribute(_TCA_OPTIONS, options)
        raise_refusal(self._answer(_message(RTM_NEWTFILTER, NLM_F_CREATE, _filter(place), body)))

    def remove(self, place: Place) -> None:
        """Remove one filter. Idempotent."""
        answer = self._answer(_message(RTM_DELTFILTER, 0, _filter(place), _text(_TCA_KIND, BPF)))
        if answer != errno.EINVAL:  # neither hook nor priority is there
            raise_refusal(answer, ok=errno.ENOENT)

    def hooks(self) -> dict[int, str]:
        """Return the interfaces that have an ingress or clsact qdisc, by
        number, and which of them.
        """
        found = [
            payload
            for kind, payload in self.dump(RTM_GETQDISC, _TC.pack(socket.AF_UNSPEC, 0, 0, 0, 0))
            if kind == RTM_NEWQDISC
        ]
        kinds = {
            int(_TC.unpack_from(payload)[1]): _kind(payload)
            for payload in found
            if _TC.unpack_from(payload)[3] == _CLSACT_PARENT
        }
        return {ifindex: kind for ifindex, kind in kinds.items() if kind in {CLSACT, INGRESS}}

    def filters(self, ifindex: int, direction: Direction) -> list[Filter]:
        """Return the filters in the order in which they are asked.

        None if there is no interface or no hook.
        """
        body = _TC.pack(socket.AF_UNSPEC, ifindex, 0, _PARENTS[direction], 0)
        try:
            dumped = self.dump(RTM_GETTFILTER, body)
        except OSError as error:
            if error.errno in {errno.ENODEV, errno.EINVAL, errno.ENOENT}:
                return []
            raise
        return [
            found
            for kind, payload in dumped
            if kind == RTM_NEWTFILTER and (found := _parsed(payload))
        ]

    def _answer(self, message: bytes) -> int:
        return self.request([message])[0]


def interface_of(payload: bytes) -> int:
    """Return the number of the interface that a message of traffic control is about.

    0 if it is too short to say.
    """
    return int(_TC.unpack_from(payload)[1]) if len(payload) >= _TC.size else 0


def interface_of_address(payload: bytes) -> int:
    """Return the number of the interface that a message about an address is about.

    0 if it is too short to say.
    """
    return int(_ADDRESS.unpack_from(payload)[0]) if len(payload) >= _ADDRESS.size else 0


# ---------------------------------------------------------------- bytes


def _message(kind: int, flags: int, body: bytes, more: bytes) -> bytes:
    """Return a message; the socket gives it its number."""
    return (
        MESSAGE.pack(BODY_AT + len(body) + len(more), kind, NLM_F_REQUEST | flags, 0, 0)
        + body
        + more
    )


def _hook(ifindex: int) -> bytes:
    return _TC.pack(socket.AF_UNSPEC, ifindex, _CLSACT_HANDLE, _CLSACT_PARENT, 0)


def _filter(place: Place) -> bytes:
    return _TC.pack(
        socket.AF_UNSPEC,
        place.ifindex,
        place.handle,
        _PARENTS[place.direction],
        place.priority << 16 | _ALL,
    )


def _text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def _kind(payload: bytes) -> str:
    return as_text(nested(payload, _TC.size).get(_TCA_KIND, b""))


def _parsed(payload: bytes) -> Filter | None:
    """Return the filter in a message.

    None for the head of a priority, and for what is asked only if a filter says so (chains).
    """
    _, _, handle, _, info = _TC.unpack_from(payload)
    values = nested(payload, _TC.size)
    if not handle or any(values.get(_TCA_CHAIN, b"")):
        return None
    own = (
        nested(values.get(_TCA_OPTIONS, b"")) if as_text(values.get(_TCA_KIND, b"")) == BPF else {}
    )
    number = own.get(_TCA_BPF_ID)
    return Filter(
        priority=info >> 16,
        handle=handle,
        kind=as_text(values.get(_TCA_KIND, b"")),
        protocol=socket.ntohs(info & 0xFFFF),
        name=as_text(own.get(_TCA_BPF_NAME, b"")),
        program=_WORD.unpack_from(number)[0] if number else 0,
    )


# ---------------------------------------------------------------- changes by others


EVERYTHING = None
"""Instead of interfaces: the kernel has more news than there was room for."""


class GateWatch:
    """A socket that becomes readable when qdiscs or filters change, in the network namespace in
    which it was opened.

    It speaks of one's own changes too, and of everybody's; whoever reads looks at what is there
    (`Gates.restore`), whatever the message says: the last of several may have been overtaken
    already.
    """

    def __init__(self) -> None:
        self._news = NewsSocket(RTMGRP_TC)

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._news.fileno()

    def changed(self) -> frozenset[int] | None:
        """Return the numbers of the interfaces on which something changed since the last call.

        EVERYTHING if some are missing.
        """
        found, missing = self._news.read()
        return EVERYTHING if missing else frozenset(interface_of(payload) for _, payload in found)

    def close(self) -> None:
        """Close the socket. Idempotent."""
        self._news.close()
