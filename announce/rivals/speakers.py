"""Who speaks as which address in a frame: pure, from bytes to a claim.

A claim is an ARP packet with the address as its sender, a neighbour advertisement with it as its
target, or a neighbour solicitation sent from it. An ARP probe (sender 0.0.0.0) and duplicate
address detection (a solicitation from ::) only ask, and are no claims. Checksums are left to the
network card and the kernel.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterator
from dataclasses import dataclass

ETHERTYPE_ARP = 0x0806
ETHERTYPE_IPV6 = 0x86DD
_ARP = struct.Struct("!HHBBH6s4s6s4s")
_ETHERNET_IPV4 = (1, 0x0800, 6, 4)
_NS, _NA = 135, 136
_SOURCE_LINK_ADDRESS, _TARGET_LINK_ADDRESS = 1, 2
_ARP_AT = 14
_NEXT_HEADER_AT = 20
_HOP_LIMIT_AT = 21
_SOURCE = slice(22, 38)
_TYPE_AT = 54
_TARGET = slice(62, 78)
_OPTIONS_AT = 78
_MAC = slice(6, 12)
_ICMPV6 = 58
_ND_HOP_LIMIT = 255
_UNSPECIFIED = (bytes(4), bytes(16))


class Kind(enum.StrEnum):
    """How an address was claimed; a label of logs and metrics."""

    ARP = "arp"
    NA = "na"
    NS = "ns"


@dataclass(frozen=True, slots=True)
class Claim:
    """A frame's sender speaks as `ip` (packed) and wants its traffic at `mac`."""

    ip: bytes
    mac: str
    kind: Kind


def claim_of(frame: bytes) -> Claim | None:
    """Return the claim in an Ethernet frame, or None if there is none; never raises."""
    ethertype = int.from_bytes(frame[12:14], "big")
    if ethertype == ETHERTYPE_ARP and len(frame) >= _ARP_AT + _ARP.size:
        return _arp_claim(frame)
    if ethertype == ETHERTYPE_IPV6 and len(frame) >= _OPTIONS_AT:
        return _nd_claim(frame)
    return None


def _arp_claim(frame: bytes) -> Claim | None:
    *kind, _, mac, ip, _, _ = _ARP.unpack_from(frame, _ARP_AT)
    if tuple(kind) != _ETHERNET_IPV4 or ip in _UNSPECIFIED:
        return None
    return Claim(ip, mac.hex(":"), Kind.ARP)


def _nd_claim(frame: bytes) -> Claim | None:
    # RFC 4861 section 7.1: another hop limit means that a router passed it on, so it is not of this
    # link.
    if frame[_NEXT_HEADER_AT] != _ICMPV6 or frame[_HOP_LIMIT_AT] != _ND_HOP_LIMIT:
        return None
    if frame[_TYPE_AT] == _NA:
        return Claim(frame[_TARGET], _link_address(frame, _TARGET_LINK_ADDRESS), Kind.NA)
    if frame[_TYPE_AT] == _NS and frame[_SOURCE] not in _UNSPECIFIED:
        return Claim(frame[_SOURCE], _link_address(frame, _SOURCE_LINK_ADDRESS), Kind.NS)
    return None


def _link_address(frame: bytes, wanted: int) -> str:
    """Return the MAC in an ND option; without one, that of the Ethernet header."""
    for kind, value in _options(frame):
        if kind == wanted:
            return value[:6].hex(":")
    return frame[_MAC].hex(":")


def _options(frame: bytes) -> Iterator[tuple[int, bytes]]:
    at = _OPTIONS_AT
    while at + 8 <= len(frame) and frame[at + 1] > 0:
        size = 8 * frame[at + 1]
        yield frame[at], frame[at + 2 : at + size]
        at += size
