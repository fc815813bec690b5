"""Which interfaces of this network namespace can answer the LAN for an address, and what the kernel
says of them.

Linux takes what comes for a local address on any interface, and answers ARP for it there (the weak
host model): an address on eth0 is answered for on eth1 too. So the gate has to stand on each
interface by which the LAN can come in:

    Ethernet, with ARP, neither loopback nor a port of a bridge, bond, team or Open vSwitch (their
    master is the one that answers); and of the kinds that containers and virtual machines hang on,
    - a veth or tap: only if it has an IPv4 address with a network (not /31 or /32), as the
      interface of a node has;
    - a bridge: if one of its ports is of another kind (a card, a bond, a VLAN), or an address of
      its own has a virtual address in its network, or the network of an interface that carries one.

The host's ends of pods (Calico, Cilium, ptp), docker0, cni0 and virbr0 are thereby left alone, on
purpose: they lead to this node's own containers, which may be clients of an address that kube-proxy
has put on each node (kube-ipvs0). Those among them on which the kernel would answer are named in
`vipd status`. An interface counts whether it is up or not: it may be set up at any time. IPv6
neighbour discovery is answered by the kernel only on the interface that has the address.

Numbers are those of linux/if_arp.h. The guard uses this file: standard library only.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Collection, Iterable
from typing import NamedTuple

from announce.kernel.link_message import (
    IFF_LOOPBACK,
    IFF_NOARP,
    IFLA_IFNAME,
    IFLA_INFO_KIND,
    IFLA_INFO_SLAVE_KIND,
    IFLA_MASTER,
    RTM_DELLINK,
    RTM_NEWLINK,
    read_link,
)

ETHERNET, INFINIBAND = 1, 32
"""ARPHRD_: the kinds of frames that the kernel speaks ARP in. The gate knows those of Ethernet."""
CONTAINER_KINDS = frozenset({"veth", "tun", "netkit", "macvtap", "ipvtap"})
"""What containers and virtual machines hang on (a tap is of kind `tun`)."""
BRIDGE = "bridge"
LAYER_3_MASTERS = frozenset({"", "vrf"})
"""An interface under one of these still answers for itself."""
SHORTEST_LINK_NET = 31
"""From this prefix length on an IPv4 network has no room for anybody but the two ends of a line."""

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
    """Whether the kernel would answer ARP on this interface for any address of the host, if nothing
    else prevents it.
    """
    enslaved = link.master and link.master_kind not in LAYER_3_MASTERS
    return (
        link.type in {ETHERNET, INFINIBAND}
        and not link.flags & (IFF_LOOPBACK | IFF_NOARP)
        and not enslaved
    )


def leads_to_lan(
    link: Link, ports: Iterable[Link], networks: Collection[Network], near: Collection[Network]
) -> bool:
    """Whether what speaks ARP there may be the LAN, by the rule above.

    `ports` of a bridge, `networks` of the interface's own addresses, `near`: the virtual addresses,
    as networks, and the networks of the interfaces that carry them.
    """
    if link.kind in CONTAINER_KINDS:
        return any(prefixlen < SHORTEST_LINK_NET for _, prefixlen in networks)
    if link.kind == BRIDGE:
        return any(port.kind not in CONTAINER_KINDS for port in ports) or any(
            _overlap(*one, *other) for one in networks for other in near
        )
    return True


def hole(name: str, why: str) -> str:
    """Return what it means that this interface can have no gate, and what helps."""
    cure = f"net.ipv4.conf.{name.replace('.', '/')}.arp_ignore=1 keeps it silent"
    return f"{name}, where Linux answers for the addresses as well: {why} ({cure})"


def parsed(kind: int, payload: bytes) -> Changed | None:
    """Return what a netlink message says of an interface; None if it is about something else.

    A bridge speaks of its ports in messages of its own family: the end of a port is not the end of
    an interface.
    """
    found = read_link(payload) if kind in {RTM_NEWLINK, RTM_DELLINK} else None
    if found is None or found.family != socket.AF_UNSPEC:
        return None
    if kind == RTM_DELLINK:
        return Changed(found.ifindex, None)
    link = Link(
        found.ifindex,
        found.text(IFLA_IFNAME),
        found.kind,
        found.flags,
        int.from_bytes(found.values.get(IFLA_MASTER, b""), sys.byteorder),
        found.info(IFLA_INFO_KIND),
        found.info(IFLA_INFO_SLAVE_KIND),
    )
    return Changed(found.ifindex, link)


def _overlap(one: bytes, one_length: int, other: bytes, other_length: int) -> bool:
    """Whether the networks of these packed addresses have an address in common.

    Then the smaller lies in the larger.
    """
    dropped = 32 - min(one_length, other_length)
    return int.from_bytes(one, "big") >> dropped == int.from_bytes(other, "big") >> dropped
