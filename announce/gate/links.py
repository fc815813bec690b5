"""Which interfaces of this network namespace can answer the LAN for an address, and what the kernel says of them.

Linux takes what comes for a local address on any interface, and answers ARP for it there (the weak host model): an address on
eth0 is answered for on eth1 too. So the gate has to stand on each interface by which the LAN can come in:

    Ethernet, with ARP, neither loopback nor a port of a bridge, bond, team or Open vSwitch (their master is the one that answers);
    and of the kinds that containers and virtual machines hang on,
    - a veth or tap: only if it has an IPv4 address with a network (not /31 or /32), as the interface of a node has;
    - a bridge: if one of its ports is of another kind (a card, a bond, a VLAN), or an address of its own has a virtual
      address in its network, or the network of an interface that carries one.

The host's ends of pods (Calico, Cilium, ptp), docker0, cni0 and virbr0 are thereby left alone, on purpose: they lead to this node's
own containers, which may be clients of an address that kube-proxy has put on each node (kube-ipvs0). Those among them on which the
kernel would answer are named in `vipd status`. An interface counts whether it is up or not: it may be set up at any time. IPv6
neighbour discovery is answered by the kernel only on the interface that has the address.

Layouts are those of linux/rtnetlink.h, linux/if_link.h and linux/if_arp.h. The guard uses this file: standard library only.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Collection, Iterable
from typing import NamedTuple

from announce.kernel.netlink import attributes

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
ETHERNET, INFINIBAND = 1, 32
"""ARPHRD_: the kinds of frames that the kernel speaks ARP in. The gate knows those of Ethernet."""
IFF_LOOPBACK = 0x8
IFF_NOARP = 0x80
CONTAINER_KINDS = frozenset({"veth", "tun", "netkit", "macvtap", "ipvtap"})
"""What containers and virtual machines hang on (a tap is of kind `tun`)."""
BRIDGE = "bridge"
LAYER_3_MASTERS = frozenset({"", "vrf"})
"""An interface under one of these still answers for itself."""
SHORTEST_LINK_NET = 31
"""From this prefix length on an IPv4 network has no room for anybody but the two ends of a line."""

_IFINFO = struct.Struct("=BxHiII")
_IFLA_IFNAME, _IFLA_MASTER, _IFLA_LINKINFO, _IFLA_EXT_MASK = 3, 10, 18, 29
_INFO_KIND, _INFO_SLAVE_KIND = 1, 4
_SKIP_STATISTICS = struct.pack("=HHI", 8, _IFLA_EXT_MASK, 1 << 3)
LINKS_REQUEST = _IFINFO.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + _SKIP_STATISTICS
"""The body of an RTM_GETLINK that asks for all links."""

Network = tuple[bytes, int]
"""An IPv4 address, packed, and a prefix length: the network that it is in."""


class Link(NamedTuple):
    """An interface. `kind` is empty for a card; `master_kind` for one without a master."""

    ifindex: int
    name: str
    type: int
    flags: int
    master: int
    kind: str
    master_kind: str


class Changed(NamedTuple):
    """A message about an interface: how it is now, or None when it is gone."""

    ifindex: int
    link: Link | None


def speaks_arp(link: Link) -> bool:
    """Whether the kernel would answer ARP on this interface for any address of the host, if nothing else prevents it."""
    enslaved = link.master and link.master_kind not in LAYER_3_MASTERS
    return link.type in {ETHERNET, INFINIBAND} and not link.flags & (IFF_LOOPBACK | IFF_NOARP) and not enslaved


def leads_to_lan(link: Link, ports: Iterable[Link], networks: Collection[Network], near: Collection[Network]) -> bool:
    """Whether what speaks ARP there may be the LAN, by the rule above.

    `ports` of a bridge, `networks` of the interface's own addresses, `near`: the virtual addresses, as networks, and the
    networks of the interfaces that carry them.
    """
    if link.kind in CONTAINER_KINDS:
        return any(prefixlen < SHORTEST_LINK_NET for _, prefixlen in networks)
    if link.kind == BRIDGE:
        return any(port.kind not in CONTAINER_KINDS for port in ports) or any(_overlap(*one, *other) for one in networks for other in near)
    return True


def hole(name: str, why: str) -> str:
    """Return what it means that this interface can have no gate, and what helps."""
    cure = f"net.ipv4.conf.{name.replace('.', '/')}.arp_ignore=1 keeps it silent"
    return f"{name}, where Linux answers for the addresses as well: {why} ({cure})"


def parsed(kind: int, payload: bytes) -> Changed | None:
    """Return what a netlink message says of an interface; None if it is about something else.

    A bridge speaks of its ports in messages of its own family: the end of a port is not the end of an interface.
    """
    if kind not in {RTM_NEWLINK, RTM_DELLINK} or len(payload) < _IFINFO.size:
        return None
    family, type_, ifindex, flags, _ = _IFINFO.unpack_from(payload)
    if family != socket.AF_UNSPEC:
        return None
    if kind == RTM_DELLINK:
        return Changed(ifindex, None)
    values = {number: payload[start:end] for number, start, end in attributes(payload, _IFINFO.size)}
    info = values.get(_IFLA_LINKINFO, b"")
    kinds = {number: info[start:end] for number, start, end in attributes(info, 0)}
    master = values.get(_IFLA_MASTER)
    link = Link(
        ifindex,
        _text(values.get(_IFLA_IFNAME)),
        type_,
        flags,
        int.from_bytes(master, sys.byteorder) if master else 0,
        _text(kinds.get(_INFO_KIND)),
        _text(kinds.get(_INFO_SLAVE_KIND)),
    )
    return Changed(ifindex, link)


def _overlap(one: bytes, one_length: int, other: bytes, other_length: int) -> bool:
    """Whether the networks of these packed addresses have an address in common: then the smaller lies in the larger."""
    dropped = 32 - min(one_length, other_length)
    return int.from_bytes(one, "big") >> dropped == int.from_bytes(other, "big") >> dropped


def _text(value: bytes | None) -> str:
    return (value or b"").rstrip(b"\0").decode(errors="replace")
