"""What a message of the kernel about an interface says, read from its bytes, and how such messages
are asked for.

Layouts and numbers are those of linux/rtnetlink.h, linux/if_link.h and linux/if.h. The guard uses
this file: standard library only.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping
from typing import NamedTuple

from announce.kernel.rtnetlink import attributes

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MASTER, IFLA_OPERSTATE, IFLA_LINKINFO = 1, 3, 10, 16, 18
IFLA_EXT_MASK, IFLA_PROP_LIST, IFLA_ALT_IFNAME = 29, 52, 53
IFLA_INFO_KIND, IFLA_INFO_SLAVE_KIND = 1, 4
IFF_UP, IFF_LOOPBACK, IFF_POINTOPOINT, IFF_RUNNING, IFF_NOARP, IFF_LOWER_UP = (
    0x1,
    0x8,
    0x10,
    0x40,
    0x80,
    0x10000,
)
SKIP_STATISTICS = 8

_LINK = struct.Struct("=BxHiII")
_WITHOUT_STATISTICS = struct.pack("=HHI", 8, IFLA_EXT_MASK, SKIP_STATISTICS)
QUESTION = _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + _WITHOUT_STATISTICS
"""The body of an RTM_GETLINK: as a dump it asks for all links, with a name behind it for one."""


class LinkMessage(NamedTuple):
    """The payload of an RTM_NEWLINK or RTM_DELLINK.

    `kind`: its ARPHRD number; `values`: attributes by number.
    """

    family: int
    kind: int
    ifindex: int
    flags: int
    values: Mapping[int, bytes]

    def text(self, number: int) -> str:
        """Return the text of an attribute; empty if it is not there."""
        return as_text(self.values.get(number, b""))

    def info(self, number: int) -> str:
        """Return a text of its link info (`IFLA_INFO_…`); empty if it is not there."""
        return as_text(nested(self.values.get(IFLA_LINKINFO, b"")).get(number, b""))

    @property
    def altnames(self) -> frozenset[str]:
        """Its alternative names."""
        properties = self.values.get(IFLA_PROP_LIST, b"")
        found = (
            as_text(properties[start:end])
            for number, start, end in attributes(properties, 0)
            if number == IFLA_ALT_IFNAME
        )
        return frozenset(found)


def read_link(payload: bytes) -> LinkMessage | None:
    """Return what the payload of a message about an interface says.

    None if it is too short for one.
    """
    if len(payload) < _LINK.size:
        return None
    family, kind, ifindex, flags, _ = _LINK.unpack_from(payload)
    return LinkMessage(family, kind, ifindex, flags, nested(payload, _LINK.size))


def nested(data: bytes, start: int = 0) -> dict[int, bytes]:
    """Return the attributes from this position on, by number."""
    return {number: data[begin:end] for number, begin, end in attributes(data, start)}


def as_text(value: bytes) -> str:
    """Return a text of the kernel, which may end with a zero byte."""
    return value.rstrip(b"\0").decode(errors="replace")
