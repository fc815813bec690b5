"""Traffic control by netlink.

The hook of an interface (its clsact qdisc) and the programs on it (cls_bpf filters).

A filter outlives the process that made it. Filters are asked in the order of their priority, and of
one priority in the order of the kernel's list; the first that decides anything but "unspecified"
ends the matter. Layouts and numbers are those of linux/rtnetlink.h, linux/pkt_sched.h and
linux/pkt_cls.h. The guard uses this file: standard library only.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import time
from collections.abc import Iterator
from typing import NamedTuple

from announce.gate.program import Direction
from announce.kernel.netlink import (
    LARGEST_DATAGRAM,
    NLM_F_DUMP,
    NLM_F_DUMP_INTR,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    REQUEST_TIMEOUT,
    RouteSocket,
    attributes,
)

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
_HEADER = struct.Struct("=IHHII")
_TC = struct.Struct("=BxxxiIII")
_ADDRESS = struct.Struct("=xxxxi")
_ATTRIBUTE = struct.Struct("=HH")
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
        return _checked(answer, ok=errno.EEXIST) == 0

    def remove_hook(self, ifindex: int) -> None:
        """Remove the clsact qdisc and whatever is on it. Idempotent."""
        answer = self._answer(_message(RTM_DELQDISC, 0, _hook(ifindex), _text(_TCA_KIND, CLSACT)))
        if answer != errno.EINVAL:  # the kernel's answer where there is none
            _checked(answer, ok=errno.ENOENT)

    def put(self, place: Place, descriptor: int, name: str) -> None:
        """Put a program there, at once and without a gap in the place of the one that is there."""
        options = (
            _attribute(_TCA_BPF_FD, _WORD.pack(descriptor))
            + _text(_TCA_BPF_NAME, name)
            + _attribute(_TCA_BPF_FLAGS, _WORD.pack(_DIRECT_ACTION))
            # In a card the program would read a clock that is not CLOCK_BOOTTIME, if it could be
            # there at all.
            + _attribute(_TCA_BPF_FLAGS_GEN, _WORD.pack(_SKIP_HARDWARE))
        )
        body = _text(_TCA_KIND, BPF) + _attribute(_TCA_OPTIONS, options)
        _checked(self._answer(_message(RTM_NEWTFILTER, NLM_F_CREATE, _filter(place), body)))

    def remove(self, place: Place) -> None:
        """Remove one filter. Idempotent."""
        answer = self._answer(_message(RTM_DELTFILTER, 0, _filter(place), _text(_TCA_KIND, BPF)))
        if answer != errno.EINVAL:  # neither hook nor priority is there
            _checked(answer, ok=errno.ENOENT)

    def hooks(self) -> dict[int, str]:
        """Return the interfaces that have an ingress or clsact qdisc, by number, and which of them."""
        found = [
            payload
            for kind, payload in self.dumped(RTM_GETQDISC, _TC.pack(socket.AF_UNSPEC, 0, 0, 0, 0))
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
            dumped = self.dumped(RTM_GETTFILTER, body)
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

    def dumped(self, kind: int, body: bytes) -> list[tuple[int, bytes]]:
        """Return type and payload of every message of a dump, made again if the kernel calls it
        inconsistent.
        """
        deadline = time.monotonic() + REQUEST_TIMEOUT
        try:
            while True:
                found = self._dumped_once(kind, body, deadline)
                if found is not None:
                    return found
        except TimeoutError:
            self._socket.close()  # with the rest of the dump that nobody reads to its end
            self._socket = self._opened()
            raise

    def _dumped_once(
        self, kind: int, body: bytes, deadline: float
    ) -> list[tuple[int, bytes]] | None:
        number = self._next_sequence()
        self._send(
            _HEADER.pack(_HEADER.size + len(body), kind, NLM_F_REQUEST | NLM_F_DUMP, number, 0)
            + body,
            deadline,
        )
        found: list[tuple[int, bytes]] = []
        whole = True
        while True:
            datagram = self._receive(deadline - time.monotonic())
            whole = whole and datagram is not None
            for told, flags, answered, payload in messages(datagram or b""):
                if answered != number:
                    continue
                whole = whole and not flags & NLM_F_DUMP_INTR
                if told in {NLMSG_DONE, NLMSG_ERROR}:
                    _checked(
                        -struct.unpack_from("=i", payload)[0] if len(payload) >= _WORD.size else 0
                    )
                    return found if whole else None
                found.append((told, payload))


def messages(datagram: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Yield type, flags, sequence number and payload of each netlink message."""
    at = 0
    while at + _HEADER.size <= len(datagram):
        length, kind, flags, number, _ = _HEADER.unpack_from(datagram, at)
        if length < _HEADER.size:
            return
        yield kind, flags, number, datagram[at + _HEADER.size : at + length]
        at += length + -length % 4


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
        _HEADER.pack(_HEADER.size + len(body) + len(more), kind, NLM_F_REQUEST | flags, 0, 0)
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


def _attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def _text(kind: int, value: str) -> bytes:
    return _attribute(kind, value.encode() + b"\0")


def _values(data: bytes, at: int = 0) -> dict[int, bytes]:
    return {kind: data[start:end] for kind, start, end in attributes(data, at)}


def _string(value: bytes | None) -> str:
    return (value or b"").rstrip(b"\0").decode(errors="replace")


def _kind(payload: bytes) -> str:
    return _string(_values(payload, _TC.size).get(_TCA_KIND))


def _parsed(payload: bytes) -> Filter | None:
    """Return the filter in a message.

    None for the head of a priority, and for what is asked only if a filter says so (chains).
    """
    _, _, handle, _, info = _TC.unpack_from(payload)
    values = _values(payload, _TC.size)
    if not handle or any(values.get(_TCA_CHAIN, b"")):
        return None
    own = _values(values.get(_TCA_OPTIONS, b"")) if _string(values.get(_TCA_KIND)) == BPF else {}
    number = own.get(_TCA_BPF_ID)
    return Filter(
        priority=info >> 16,
        handle=handle,
        kind=_string(values.get(_TCA_KIND)),
        protocol=socket.ntohs(info & 0xFFFF),
        name=_string(own.get(_TCA_BPF_NAME)),
        program=_WORD.unpack_from(number)[0] if number else 0,
    )


def _checked(answer: int, ok: int = 0) -> int:
    """Return the kernel's errno if it is none or the one that is as good; else raise it."""
    if answer not in {0, ok}:
        raise OSError(answer, os.strerror(answer))
    return answer


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
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE
        )
        self._socket.bind((0, RTMGRP_TC))

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._socket.fileno()

    def changed(self) -> frozenset[int] | None:
        """Return the numbers of the interfaces on which something changed since the last call.

        EVERYTHING if some are missing.
        """
        found = set[int]()
        missing = False
        while True:
            try:
                data, sender = self._socket.recvfrom(LARGEST_DATAGRAM)
            except BlockingIOError:
                return EVERYTHING if missing else frozenset(found)
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                missing = True
                continue
            if sender[0] == 0:  # the kernel
                found |= {interface_of(payload) for _, _, _, payload in messages(data)}

    def close(self) -> None:
        """Close the socket. Idempotent."""
        self._socket.close()
