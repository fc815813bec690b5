"""The bytes of rtnetlink messages: header, attributes, addresses and routes. Pure.

Layouts are those of linux/netlink.h, linux/rtnetlink.h and linux/if_addr.h; netlink is in host byte
order. The guard imports this file: standard library only.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

RTM_NEWADDR = 20
RTM_DELADDR = 21
RTM_GETADDR = 22
RTM_NEWROUTE = 24
RTM_GETROUTE = 26
NLMSG_ERROR = 2
NLMSG_DONE = 3
NLM_F_REQUEST = 0x001
NLM_F_ACK = 0x004
NLM_F_DUMP_INTR = 0x010
NLM_F_DUMP = 0x300
NLA_TYPE_MASK = 0x3FFF

IFA_ADDRESS = 1
IFA_LOCAL = 2
IFA_LABEL = 3
IFA_CACHEINFO = 6
IFA_FLAGS = 8
IFA_PROTO = 11

RTA_DST = 1
RTA_OIF = 4
RTA_PREFSRC = 7
RTA_TABLE = 15
RTN_LOCAL = 2

FOREVER = 0xFFFFFFFF
"""The kernel's valid lifetime of an address that does not expire."""

MESSAGE = struct.Struct("=IHHII")
"""Header of a netlink message: length, type, flags, sequence number, port."""
ADDRESS = struct.Struct("=BBBBi")
_ATTRIBUTE = struct.Struct("=HH")
ROUTE = struct.Struct("=BBBBBBBBI")
WORD = struct.Struct("=I")
_ERROR = struct.Struct("=i")
BODY_AT = MESSAGE.size
ATTRIBUTES_AT = MESSAGE.size + ADDRESS.size

Key = tuple[int, bytes, int]
"""An address: family (AF_INET, AF_INET6), packed address, prefix length."""


class BoundAddress(NamedTuple):
    """One address as the kernel has it.

    `flags` are the 32-bit ones, `valid_lft` is in seconds (FOREVER: no end).

    `proto` is 0 where nobody set one and on kernels before 5.18; `label` is empty for IPv6. `peer`
    is the other end's address where it has one, else empty; `scope` as in linux/rtnetlink.h.
    """

    ifindex: int
    family: int
    ip: bytes
    prefixlen: int
    flags: int
    proto: int
    valid_lft: int
    label: str
    peer: bytes = b""
    scope: int = 0

    @property
    def key(self) -> Key:
        """The address without what the kernel adds to it."""
        return (self.family, self.ip, self.prefixlen)


class Route(NamedTuple):
    """One route. `dst` and `source` (the address it prefers as source) are packed, and empty where
    it has none.
    """

    dst: bytes
    dst_len: int
    table: int
    proto: int
    kind: int
    source: bytes


def patched(message: bytes, at: int, value: bytes) -> bytes:
    """Return the message with these bytes in the place of those at `at`."""
    return message[:at] + value + message[at + len(value) :]


def numbered(message: bytes, number: int, *, ack: bool) -> bytes:
    """Return the message with this sequence number, and an acknowledgement asked for or not, padded
    for the next one.
    """
    length, kind, flags, _, _ = MESSAGE.unpack_from(message)
    header = MESSAGE.pack(
        length, kind, flags & ~NLM_F_ACK | NLM_F_REQUEST | (NLM_F_ACK if ack else 0), number, 0
    )
    return header + message[BODY_AT:length] + bytes(-length % 4)


def each_message(datagram: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Yield type, flags, sequence number and payload of each message."""
    at = 0
    while at + BODY_AT <= len(datagram):
        length, kind, flags, number, _ = MESSAGE.unpack_from(datagram, at)
        if length < BODY_AT:
            return
        yield kind, flags, number, datagram[at + BODY_AT : at + length]
        at += length + -length % 4


def answer_of(payload: bytes) -> int:
    """Return the errno in an NLMSG_ERROR or NLMSG_DONE.

    Both carry it negated, a bare NLMSG_DONE is success.
    """
    return -_ERROR.unpack_from(payload)[0] if len(payload) >= _ERROR.size else 0


def attributes(data: bytes, at: int) -> Iterator[tuple[int, int, int]]:
    """Yield type, start and end of each attribute's value."""
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size:
            return
        yield kind & NLA_TYPE_MASK, at + _ATTRIBUTE.size, at + length
        at += length + -length % 4


def read_address(payload: bytes) -> BoundAddress:
    """Return the address in an RTM_NEWADDR message's payload.

    There may be thousands: no generator, no keywords.
    """
    family, prefixlen, flags, scope, ifindex = ADDRESS.unpack_from(payload)
    values: dict[int, bytes] = {}
    at, end = ADDRESS.size, len(payload) - _ATTRIBUTE.size
    while at <= end:
        length, kind = _ATTRIBUTE.unpack_from(payload, at)
        if length < _ATTRIBUTE.size:
            break
        values[kind & NLA_TYPE_MASK] = payload[at + _ATTRIBUTE.size : at + length]
        at += length + 3 & ~3
    wide_flags = values.get(IFA_FLAGS)
    lifetimes = values.get(IFA_CACHEINFO)
    # Of an IPv4 address IFA_ADDRESS is the peer's, if there is one; IPv6 has IFA_LOCAL only then.
    other_end = values.get(IFA_ADDRESS, b"")
    ip = values.get(IFA_LOCAL) or other_end
    return BoundAddress(
        ifindex,
        family,
        ip,
        prefixlen,
        WORD.unpack(wide_flags)[0] if wide_flags else flags,
        values.get(IFA_PROTO, b"\0")[0],
        WORD.unpack_from(lifetimes, 4)[0] if lifetimes else FOREVER,
        values.get(IFA_LABEL, b"").rstrip(b"\0").decode(errors="replace"),
        other_end if other_end != ip else b"",
        scope,
    )


def read_route(payload: bytes) -> Route:
    """Return the route in an RTM_NEWROUTE message's payload."""
    _, dst_len, _, _, table, proto, _, kind, _ = ROUTE.unpack_from(payload)
    values = {number: payload[start:end] for number, start, end in attributes(payload, ROUTE.size)}
    wide_table = values.get(RTA_TABLE)
    return Route(
        dst=values.get(RTA_DST, b""),
        dst_len=dst_len,
        table=WORD.unpack(wide_table)[0] if wide_table else table,
        proto=proto,
        kind=kind,
        source=values.get(RTA_PREFSRC, b""),
    )


def removal_message(address: BoundAddress) -> bytes:
    """Return the message that removes this address as it was read.

    Its prefix length and its peer have to match.
    """
    body = ADDRESS.pack(address.family, address.prefixlen, 0, 0, address.ifindex)
    body += attribute(IFA_LOCAL, address.ip)
    if address.family == socket.AF_INET or not address.peer:
        body += attribute(IFA_ADDRESS, address.peer or address.ip)
    return MESSAGE.pack(BODY_AT + len(body), RTM_DELADDR, NLM_F_REQUEST, 0, 0) + body


def attribute(kind: int, value: bytes) -> bytes:
    """Return an attribute, padded for the next one."""
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)
