"""Which interfaces can answer the LAN for an address, by what the kernel says of them."""

from __future__ import annotations

import socket
import struct

import pytest

from announce.gate.links import (
    ETHERNET,
    INFINIBAND,
    Changed,
    Link,
    leads_to_lan,
    parsed,
    speaks_arp,
)
from announce.kernel.link_message import IFF_LOOPBACK, IFF_NOARP, RTM_DELLINK, RTM_NEWLINK

CARD = Link(2, "eth0", ETHERNET, 0x1003, 0, "", "")
VETH = CARD._replace(kind="veth")
AF_BRIDGE = 7
TUNNEL, POINT_TO_POINT = 768, 512
HERE = (bytes([192, 0, 2, 5]), 24)
VIP = (bytes([192, 0, 2, 100]), 32)
PODS = (bytes([10, 244, 1, 1]), 24)


@pytest.mark.parametrize(
    ("link", "speaks"),
    [
        (CARD, True),
        (CARD._replace(flags=0x1002), True),  # down: it may be set up at any time
        (CARD._replace(kind="vlan"), True),
        (CARD._replace(type=INFINIBAND), True),
        (CARD._replace(type=TUNNEL), False),
        (CARD._replace(type=POINT_TO_POINT), False),
        (CARD._replace(flags=IFF_LOOPBACK), False),
        (CARD._replace(kind="dummy", flags=IFF_NOARP), False),
        (CARD._replace(master=7, master_kind="bridge"), False),
        (CARD._replace(master=7, master_kind="bond"), False),
        (CARD._replace(master=7, master_kind="openvswitch"), False),
        (CARD._replace(master=7, master_kind="vrf"), True),
    ],
)
def test_who_speaks_arp(link: Link, speaks: bool) -> None:
    """A port leaves that to its master; what has no ARP cannot be asked."""
    assert speaks_arp(link) is speaks


@pytest.mark.parametrize("kind", ["", "vlan", "bond", "team", "macvlan", "vxlan", "openvswitch"])
def test_a_card_and_what_is_built_on_one_lead_to_the_lan(kind: str) -> None:
    """Also without an address: Linux answers all the same."""
    assert leads_to_lan(CARD._replace(kind=kind), [], [], [VIP])


@pytest.mark.parametrize("kind", ["veth", "tun", "netkit"])
def test_the_end_of_a_container_does_not(kind: str) -> None:
    """A node's own veth has an address in a network; a pod's has none, or one of a line."""
    link = CARD._replace(kind=kind)
    assert not leads_to_lan(link, [], [], [VIP])
    assert not leads_to_lan(link, [], [(bytes([10, 244, 1, 1]), 32)], [VIP])
    assert leads_to_lan(link, [], [(bytes([198, 51, 100, 1]), 24)], [VIP])


def test_a_bridge_leads_to_the_lan_by_a_port_or_by_its_network() -> None:
    """And cni0, docker0 and virbr0 do not."""
    bridge = CARD._replace(kind="bridge")
    assert leads_to_lan(bridge, [VETH, CARD._replace(kind="bond")], [], [VIP])
    assert leads_to_lan(bridge, [VETH], [HERE], [VIP])
    assert leads_to_lan(bridge, [VETH], [(bytes([192, 0, 2, 129]), 25)], [HERE])
    assert not leads_to_lan(bridge, [VETH], [(bytes([192, 0, 2, 129]), 25)], [VIP])
    assert not leads_to_lan(bridge, [VETH, CARD._replace(kind="tun")], [PODS], [VIP, HERE])
    assert not leads_to_lan(bridge, [], [], [VIP])


# ---------------------------------------------------------------- bytes


def attribute(kind: int, value: bytes) -> bytes:
    """Return a netlink attribute."""
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def message(*attributes: bytes, family: int = socket.AF_UNSPEC) -> bytes:
    """Return the payload of a message about interface 2."""
    return struct.pack("=BxHiII", family, ETHERNET, 2, 0x1003, 0) + b"".join(attributes)


def test_a_message_is_read() -> None:
    """Name, master and kinds."""
    info = attribute(1, b"veth\0") + attribute(4, b"bridge\0")
    seen = parsed(
        RTM_NEWLINK,
        message(attribute(3, b"eth0\0"), attribute(10, struct.pack("=I", 9)), attribute(18, info)),
    )
    assert seen == Changed(2, Link(2, "eth0", ETHERNET, 0x1003, 9, "veth", "bridge"))
    assert parsed(RTM_NEWLINK, message(attribute(3, b"eth0\0"))) == Changed(2, CARD)


def test_an_end_and_other_messages() -> None:
    """A bridge's news of a port, and what is cut off, say nothing of an interface."""
    assert parsed(RTM_DELLINK, message()) == Changed(2, None)
    assert parsed(RTM_DELLINK, message(family=AF_BRIDGE)) is None
    assert parsed(20, message()) is None
    assert parsed(RTM_NEWLINK, bytes(4)) is None
