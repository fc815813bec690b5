"""Whose an address is.

vipd's by its mark, or not, and whether this host depends on one that is not vipd's.

The guard imports this file: standard library only.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from typing import NamedTuple

from announce.kernel.netlink import RouteSocket
from announce.kernel.rtnetlink import FOREVER, BoundAddress, Route

VIPD_PROTO = 118
"""IFA_PROTO of vipd's addresses ('v'); the kernel itself uses 1 to 3 (linux/if_addr.h)."""
LABEL_SUFFIX = ":vipd"
IFA_F_NODAD = 0x002
IFA_F_NOPREFIXROUTE = 0x200
RT_SCOPE_HOST = 254
"""Scope of vipd's IPv4 addresses. The kernel never chooses an address of this scope as a source:
the preferred lifetime of 0, which does that for IPv6, means nothing to it in IPv4. ARP, sockets and
NAT do not ask for the scope."""
RT_TABLE_LOCAL = 255
RTPROT_KERNEL = 2
_LINK_LOCAL = ipaddress.IPv6Network("fe80::/10")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Foreign(NamedTuple):
    """An address that is not vipd's.

    `needed` says why this host depends on it; empty: nothing is known to.
    """

    address: BoundAddress
    needed: str


def is_vipds(address: BoundAddress) -> bool:
    """Whether vipd bound this address.

    By its protocol number, or where there is none by label or shape.

    Before Linux 5.18 there are no protocol numbers, and IPv6 has no labels: there a lifetime that
    ends, together with no prefix route and no duplicate address detection, tells. No program but
    vipd sets all three.
    """
    if address.proto:
        return address.proto == VIPD_PROTO
    if address.family == socket.AF_INET:
        return address.label.endswith(LABEL_SUFFIX)
    shape = IFA_F_NODAD | IFA_F_NOPREFIXROUTE
    return address.valid_lft < FOREVER and address.flags & shape == shape


def written(address: BoundAddress) -> str:
    """Return the address as an operator writes it.

    `192.0.2.10/24`, `192.0.2.10 peer 192.0.2.9/32`.
    """
    ip = socket.inet_ntop(address.family, address.ip)
    peer = f" peer {socket.inet_ntop(address.family, address.peer)}" if address.peer else ""
    return f"{ip}{peer}/{address.prefixlen}"


def foreign(sock: RouteSocket, address: BoundAddress, bound: Iterable[BoundAddress]) -> Foreign:
    """Return what is to be known of an address that is not vipd's.

    `bound` is all that is on its interface.

    Where the routes cannot be read it counts as needed.
    """
    others = [one for one in bound if _stands_in(one, address)]
    try:
        routes = sock.routes(address.family, address.ifindex)
    except OSError as error:
        return Foreign(address, f"its routes cannot be read ({error})")
    needed = _route_by(address, others, [route for route in routes if _counts(route, address)])
    if not needed and not others:
        family = "IPv4" if address.family == socket.AF_INET else "IPv6"
        needed = f"its interface has no other {family} address"
    return Foreign(address, needed)


def _stands_in(one: BoundAddress, address: BoundAddress) -> bool:
    """Whether this is another address of the host by which it can be reached without `address`."""
    if one.family != address.family or one.ip == address.ip or is_vipds(one):
        return False
    return one.family == socket.AF_INET or ipaddress.IPv6Address(one.ip) not in _LINK_LOCAL


def _counts(route: Route, address: BoundAddress) -> bool:
    """Leave out the kernel's own routes for local addresses, and the one to the peer, which comes
    and goes with the address.
    """
    own_peer = (
        route.proto == RTPROT_KERNEL
        and route.dst == address.peer
        and route.dst_len == address.prefixlen
    )
    return route.table != RT_TABLE_LOCAL and not own_peer


def _route_by(address: BoundAddress, others: list[BoundAddress], routes: list[Route]) -> str:
    network = _network(address.peer or address.ip, address.prefixlen)
    alone = network.prefixlen < network.max_prefixlen and network not in {
        _network(one.ip, one.prefixlen) for one in others
    }
    for route in routes:
        to = _network(route.dst or bytes(len(address.ip)), route.dst_len)
        if route.source == address.ip:
            return f"it is the source address of the route to {to if to.prefixlen else 'default'}"
        if alone and to == network:
            return f"the route to {to} comes with it"
    return ""


def _network(packed: bytes, prefixlen: int) -> Network:
    return ipaddress.ip_network((packed, prefixlen), strict=False)
