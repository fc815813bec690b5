"""The only writer of address messages.

Builds them with pyroute2's own message classes, ahead of need.

An address of vipd carries the protocol number VIPD_PROTO (Linux 5.18 and newer) and, in IPv4, a
label that ends in LABEL_SUFFIX, so that an operator and the next daemon can tell it from all
others. It is never chosen as a source address by itself: IPv6 has a preferred lifetime of 0 for
that, IPv4 the scope `host`. It is always bound as a single address, /32 or /128: with the prefix
length of its network an IPv4 address can become the primary one of that network, and takes the
host's own address along when it is removed.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable

from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg

from announce.kernel.addresses import FOREVER, BoundAddress, Key, ReadyMessages
from announce.kernel.netlink import ifindex_of
from announce.kernel.ownership import (
    IFA_F_NODAD,
    IFA_F_NOPREFIXROUTE,
    LABEL_SUFFIX,
    RT_SCOPE_HOST,
    VIPD_PROTO,
    is_vipds,
)
from announce.kernel.rtnetlink import NLM_F_REQUEST, RTM_DELADDR, RTM_NEWADDR

LABEL_NAME_LENGTH = 10
"""A label holds 15 characters (IFNAMSIZ less its end); the suffix takes five of them."""
NLM_F_REPLACE = 0x100
NLM_F_CREATE = 0x400
RT_SCOPE_UNIVERSE = 0

Address = str | ipaddress.IPv4Interface | ipaddress.IPv6Interface
"""`192.0.2.10/32`, `2001:db8::10`, `192.0.2.10/24`; the prefix length is not used."""


def ready_messages(
    interface: str, addresses: Iterable[Address], ifindex: int | None = None
) -> ReadyMessages:
    """Return the messages that bind and unbind these addresses on the interface as it is now, or on
    that of this number.

    Raises OSError (ENODEV) if there is no such interface, ValueError for what is no address. About
    0.3 ms an address.
    """
    ifindex = ifindex_of(interface) if ifindex is None else ifindex
    keys = tuple(key_of(address) for address in addresses)
    return ReadyMessages(
        interface=interface,
        ifindex=ifindex,
        keys=keys,
        bind=tuple(_bind_message(ifindex, key, label_of(interface)) for key in keys),
        unbind=tuple(_unbind_message(ifindex, key, label_of(interface)) for key in keys),
    )


def key_of(address: Address) -> Key:
    """Return the address as vipd binds it, as /32 or /128; raises ValueError."""
    parsed = ipaddress.ip_interface(address)
    family = socket.AF_INET if parsed.version == 4 else socket.AF_INET6  # noqa: PLR2004 -- an IP version
    return (int(family), parsed.ip.packed, parsed.max_prefixlen)


def label_of(interface: str) -> str:
    """Return the label of vipd's IPv4 addresses on this interface."""
    return interface[:LABEL_NAME_LENGTH] + LABEL_SUFFIX


def leftovers(
    bound: Iterable[BoundAddress], configured: Iterable[ReadyMessages]
) -> list[BoundAddress]:
    """Return the addresses of a previous daemon whose interface and IP are not configured together
    (any more).

    Those that are belong to their election, under whatever prefix length. Another daemon of this
    host may own some of the others: its lock on the address is the caller's to try.
    """
    ours = {(ready.ifindex, key[:2]) for ready in configured for key in ready.keys}
    return [
        address
        for address in bound
        if is_vipds(address) and (address.ifindex, address.key[:2]) not in ours
    ]


def elsewhere(bound: Iterable[BoundAddress], ready: ReadyMessages) -> list[ReadyMessages]:
    """Return the messages for each interface on which vipd has bound one of these addresses,
    whatever it is called now.
    """
    wanted = {key[:2] for key in ready.keys}
    found = dict.fromkeys(one.ifindex for one in bound if one.key[:2] in wanted and is_vipds(one))
    return [ready.moved(ifindex) for ifindex in found]


def _bind_message(ifindex: int, key: Key, label: str) -> bytes:
    flags = IFA_F_NOPREFIXROUTE
    extra: list[tuple[str, object]] = []
    if key[0] == socket.AF_INET:
        extra.append(("IFA_LABEL", label))
    else:
        # With DAD the address is tentative for a second or more, and the former holder's last
        # frames would make it fail.
        flags |= IFA_F_NODAD
    extra += [
        ("IFA_FLAGS", flags),
        ("IFA_CACHEINFO", {"ifa_preferred": 0, "ifa_valid": FOREVER, "cstamp": 0, "tstamp": 0}),
        ("IFA_PROTO", VIPD_PROTO),
    ]
    return _message(RTM_NEWADDR, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_REPLACE, ifindex, key, extra)


def _unbind_message(ifindex: int, key: Key, label: str) -> bytes:
    """Return the message that removes one address of vipd's: in IPv4 the label has to match."""
    return _message(
        RTM_DELADDR,
        NLM_F_REQUEST,
        ifindex,
        key,
        [("IFA_LABEL", label)] if key[0] == socket.AF_INET else [],
    )


def _message(
    kind: int, flags: int, ifindex: int, key: Key, extra: list[tuple[str, object]]
) -> bytes:
    family, packed, prefixlen = key
    text = socket.inet_ntop(family, packed)
    message = ifaddrmsg()
    message["header"]["type"] = kind
    message["header"]["flags"] = flags
    message["family"] = family
    message["prefixlen"] = prefixlen
    message["scope"] = RT_SCOPE_HOST if family == socket.AF_INET else RT_SCOPE_UNIVERSE
    message["index"] = ifindex
    message["attrs"] = [("IFA_LOCAL", text), ("IFA_ADDRESS", text), *extra]
    message.encode()
    return bytes(message.data)
