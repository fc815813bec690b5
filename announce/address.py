"""The only writer of address messages: builds them with pyroute2's own message classes, ahead of need.

An address of vipd carries the protocol number VIPD_PROTO (Linux 5.18 and newer) and, in IPv4, a label that ends in
LABEL_SUFFIX, so that an operator and a later life of vipd can tell it from all others. Its preferred lifetime is 0:
it is never chosen as a source address by itself.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable

from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg

from announce.netlink import FOREVER, BoundAddress, Key, ReadyMessages
from announce.route_socket import RTM_DELADDR, RTM_NEWADDR, ifindex_of

VIPD_PROTO = 118
"""IFA_PROTO of vipd's addresses ('v'); the kernel itself uses 1 to 3 (linux/if_addr.h)."""
LABEL_SUFFIX = ":vipd"
LABEL_NAME_LENGTH = 10
"""A label holds 15 characters (IFNAMSIZ less its end); the suffix takes five of them."""
NLM_F_REQUEST = 0x001
NLM_F_REPLACE = 0x100
NLM_F_CREATE = 0x400
IFA_F_NODAD = 0x002
IFA_F_NOPREFIXROUTE = 0x200
RT_SCOPE_UNIVERSE = 0

Address = str | ipaddress.IPv4Interface | ipaddress.IPv6Interface
"""`192.0.2.10/32`, `2001:db8::10`; without a prefix length /32 and /128."""


def ready_messages(interface: str, addresses: Iterable[Address], ifindex: int | None = None) -> ReadyMessages:
    """Return the messages that bind and unbind these addresses on the interface as it is now, or on that of this number.

    Raises OSError (ENODEV) if there is no such interface, ValueError for what is no address. About 0.3 ms an address.
    """
    ifindex = ifindex_of(interface) if ifindex is None else ifindex
    keys = tuple(key_of(address) for address in addresses)
    return ReadyMessages(
        interface=interface,
        ifindex=ifindex,
        keys=keys,
        bind=tuple(_bind_message(ifindex, key, label_of(interface)) for key in keys),
        unbind=tuple(unbind_message(ifindex, key) for key in keys),
    )


def key_of(address: Address) -> Key:
    """Return the address as netlink has it; raises ValueError."""
    parsed = ipaddress.ip_interface(address)
    family = socket.AF_INET if parsed.version == 4 else socket.AF_INET6  # noqa: PLR2004 -- an IP version
    return (int(family), parsed.ip.packed, parsed.network.prefixlen)


def label_of(interface: str) -> str:
    """Return the label of vipd's IPv4 addresses on this interface."""
    return interface[:LABEL_NAME_LENGTH] + LABEL_SUFFIX


def leftovers(bound: Iterable[BoundAddress], configured: Iterable[ReadyMessages]) -> list[BoundAddress]:
    """Return the addresses that an earlier life of vipd left and that are not configured (any more) where they are.

    Where there is no protocol number (kernels before 5.18), the label tells for IPv4 and nothing tells for IPv6: the state
    directory has to. Another daemon of this host may own some of them: its lock on the address is the caller's to try.
    """
    ours = {(ready.ifindex, key) for ready in configured for key in ready.keys}
    return [address for address in bound if _is_vipds(address) and (address.ifindex, address.key) not in ours]


def elsewhere(bound: Iterable[BoundAddress], ready: ReadyMessages) -> list[ReadyMessages]:
    """Return the messages for each interface on which vipd has bound one of these addresses, whatever it is called now."""
    wanted = {key[:2] for key in ready.keys}
    found = dict.fromkeys(one.ifindex for one in bound if one.key[:2] in wanted and _is_vipds(one))
    return [ready.moved(ifindex) for ifindex in found]


def _is_vipds(address: BoundAddress) -> bool:
    return address.proto == VIPD_PROTO or (address.proto == 0 and address.label.endswith(LABEL_SUFFIX))


def removal(bound: Iterable[BoundAddress]) -> list[bytes]:
    """Return the messages that remove these addresses."""
    return [unbind_message(address.ifindex, address.key) for address in bound]


def _bind_message(ifindex: int, key: Key, label: str) -> bytes:
    flags = IFA_F_NOPREFIXROUTE
    extra: list[tuple[str, object]] = []
    if key[0] == socket.AF_INET:
        extra.append(("IFA_LABEL", label))
    else:
        # With DAD the address is tentative for a second or more, and the former holder's last frames would make it fail.
        flags |= IFA_F_NODAD
    extra += [
        ("IFA_FLAGS", flags),
        ("IFA_CACHEINFO", {"ifa_preferred": 0, "ifa_valid": FOREVER, "cstamp": 0, "tstamp": 0}),
        ("IFA_PROTO", VIPD_PROTO),
    ]
    return _message(RTM_NEWADDR, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_REPLACE, ifindex, key, extra)


def unbind_message(ifindex: int, key: Key) -> bytes:
    """Return the message that removes one address, whoever added it: without a label, which would have to match."""
    return _message(RTM_DELADDR, NLM_F_REQUEST, ifindex, key, [])


def _message(kind: int, flags: int, ifindex: int, key: Key, extra: list[tuple[str, object]]) -> bytes:
    family, packed, prefixlen = key
    text = socket.inet_ntop(family, packed)
    message = ifaddrmsg()
    message["header"]["type"] = kind
    message["header"]["flags"] = flags
    message["family"] = family
    message["prefixlen"] = prefixlen
    message["scope"] = RT_SCOPE_UNIVERSE
    message["index"] = ifindex
    message["attrs"] = [("IFA_LOCAL", text), ("IFA_ADDRESS", text), *extra]
    message.encode()
    return bytes(message.data)
