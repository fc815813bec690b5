"""The frames that say "this address is here" and those that ask "is it anywhere?"; bytes, no
socket.

scapy costs 20 MB and 0.3 s, so it is imported inside the functions, and they are called in a
short-lived process (announce.frames.forge). Every field is given: what scapy has to fill, it looks
up in the host's routes.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

BROADCAST = "ff:ff:ff:ff:ff:ff"
NOBODY = "00:00:00:00:00:00"
ALL_NODES = "ff02::1"
ALL_NODES_MAC = "33:33:00:00:00:01"
MAC_LENGTH = 6
ND_HOP_LIMIT = 255
"""RFC 4861 section 7.1: anything less has passed a router and is dropped."""


@dataclass(frozen=True, slots=True)
class Frames:
    """The Ethernet frames of one address.

    `announce` claims it for this node, `probe` asks whether somebody has it.
    """

    address: str
    announce: tuple[bytes, ...]
    probe: tuple[bytes, ...]


def frames_for(address: str, mac: str) -> Frames:
    """Return the frames of one address on an interface with this MAC.

    Raises ValueError if either is none.
    """
    parsed = ipaddress.ip_address(address)
    if len(bytes.fromhex(mac.replace(":", ""))) != MAC_LENGTH:
        raise ValueError(f"{mac!r} is no Ethernet address")
    ip = str(parsed)
    if parsed.version == 4:  # noqa: PLR2004 -- an IP version
        return Frames(ip, (arp_request(ip, mac), arp_reply(ip, mac)), (arp_probe(ip, mac),))
    return Frames(ip, (unsolicited_na(ip, mac),), (ns_probe(ip, mac),))


def arp_request(ip: str, mac: str) -> bytes:
    """Return an ARP announcement in the request form (RFC 5227 section 3).

    Sender and target address are both ours.
    """
    return _arp(1, ip, mac, NOBODY, ip)


def arp_reply(ip: str, mac: str) -> bytes:
    """Return the reply form, for the switches and hosts that heed replies only.

    The target's MAC is ours (RFC 5944 section 4.6): Linux takes a reply for gratuitous, and skips
    its locktime, only then (arp_is_garp in net/ipv4/arp.c).
    """
    return _arp(2, ip, mac, mac, ip)


def arp_probe(ip: str, mac: str) -> bytes:
    """Return an ARP probe (RFC 5227 section 2.1.1).

    With the sender 0.0.0.0 it changes nobody's cache.
    """
    return _arp(1, "0.0.0.0", mac, NOBODY, ip)  # noqa: S104 -- an ARP field, nothing listens


def _arp(operation: int, sender: str, mac: str, target_mac: str, target: str) -> bytes:
    from scapy.layers.l2 import ARP, Ether  # noqa: PLC0415 -- heavy

    arp = ARP(
        hwtype=1,
        ptype=0x0800,
        hwlen=6,
        plen=4,
        op=operation,
        hwsrc=mac,
        psrc=sender,
        hwdst=target_mac,
        pdst=target,
    )
    return bytes(Ether(dst=BROADCAST, src=mac, type=0x0806) / arp)


def unsolicited_na(ip: str, mac: str) -> bytes:
    """Return an unsolicited neighbour advertisement with the override flag, to all nodes (RFC 4861
    section 7.2.6).
    """
    from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6NDOptDstLLAddr  # noqa: PLC0415 -- heavy

    advertisement = ICMPv6ND_NA(
        type=136, code=0, R=0, S=0, O=1, res=0, tgt=ip
    ) / ICMPv6NDOptDstLLAddr(type=2, len=1, lladdr=mac)
    return _nd(ALL_NODES_MAC, mac, ip, ALL_NODES, advertisement)


def ns_probe(ip: str, mac: str) -> bytes:
    """Return a solicitation as duplicate address detection sends it (RFC 4862 section 5.4.2).

    From ::, without an option.
    """
    from scapy.layers.inet6 import ICMPv6ND_NS  # noqa: PLC0415 -- heavy

    low = ipaddress.IPv6Address(ip).packed[-3:]
    group = str(ipaddress.IPv6Address(ipaddress.IPv6Address("ff02::1:ff00:0").packed[:13] + low))
    group_mac = "33:33:ff:" + low.hex(":")
    return _nd(group_mac, mac, "::", group, ICMPv6ND_NS(type=135, code=0, res=0, tgt=ip))


def _nd(destination_mac: str, mac: str, source: str, destination: str, message: object) -> bytes:
    from scapy.layers.inet6 import IPv6  # noqa: PLC0415 -- heavy
    from scapy.layers.l2 import Ether  # noqa: PLC0415 -- heavy

    ip = IPv6(version=6, tc=0, fl=0, nh=58, hlim=ND_HOP_LIMIT, src=source, dst=destination)
    return bytes(Ether(dst=destination_mac, src=mac, type=0x86DD) / ip / message)


# ---------------------------------------------------------------- another MAC

_SOURCE = slice(6, 12)
_ETHERTYPE = slice(12, 14)
_TYPE_ARP, _TYPE_IPV6 = b"\x08\x06", b"\x86\xdd"
_ARP_OPERATION, _ARP_SENDER, _ARP_TARGET = slice(20, 22), slice(22, 28), slice(32, 38)
_REPLY = b"\0\2"
_IPV6_ADDRESSES = slice(22, 54)
_ICMPV6_AT = 54
_CHECKSUM = slice(56, 58)
_ND_OPTIONS_AT = 78
_LINK_ADDRESSES = frozenset({1, 2})
"""The options that carry the sender's own MAC: source and target link-layer address (RFC 4861
section 4.6.1)."""


def with_mac(frame: bytes, mac: bytes) -> bytes:
    """Return one of the frames of this file as it would be if it had been made with this MAC.

    Anything but six bytes, which an interface that is gone has, changes nothing. About 4 us if the
    MAC is another one.
    """
    old = frame[_SOURCE]
    if old == mac or len(mac) != MAC_LENGTH:
        return frame
    changed = bytearray(frame)
    changed[_SOURCE] = mac
    if frame[_ETHERTYPE] == _TYPE_ARP:
        changed[_ARP_SENDER] = mac
        if frame[_ARP_OPERATION] == _REPLY:
            changed[_ARP_TARGET] = mac
    elif frame[_ETHERTYPE] == _TYPE_IPV6:
        at = _ND_OPTIONS_AT
        while at + 8 <= len(frame) and frame[at + 1]:
            if frame[at] in _LINK_ADDRESSES and frame[at + 2 : at + 8] == old:
                changed[at + 2 : at + 8] = mac
            at += 8 * frame[at + 1]
        changed[_CHECKSUM] = _icmpv6_checksum(changed)
    return bytes(changed)


def _icmpv6_checksum(frame: bytearray) -> bytes:
    """Return the checksum of RFC 4443 section 2.3.

    Over a header of addresses, length and protocol, then the message.
    """
    message = frame[_ICMPV6_AT:]
    message[2:4] = bytes(2)
    data = frame[_IPV6_ADDRESSES] + len(message).to_bytes(4, "big") + b"\0\0\0\x3a" + message
    # The sum of all 16-bit words with the carries added back is the remainder by 0xffff, and never
    # 0 here.
    return (0xFFFF - (int.from_bytes(data, "big") % 0xFFFF or 0xFFFF)).to_bytes(2, "big")
