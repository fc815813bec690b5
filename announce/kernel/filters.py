"""Classic BPF programs that keep from the daemon what it need not see.

Pure: bytes only, and one call that attaches them.

Instructions and extensions are those of linux/filter.h and Documentation/networking/filter.rst. A
load beyond the packet's end makes the kernel drop the packet.
"""

from __future__ import annotations

import array
import socket
import struct
from collections.abc import Collection, Sequence

SO_ATTACH_FILTER = 26
LONGEST_MATCH = 200
"""Addresses of one family in a filter: jumps reach 255 instructions. With more, all ND or ARP is
let through."""
WHOLE = 0xFFFFFFFF

_INSTRUCTION = struct.Struct("=HBBI")
_FRAME_LENGTH = 256
"""Bytes of a frame that are kept: ND with its options is 86 and more."""
_LD, _LDH, _LDB = 0x20, 0x28, 0x30
_LDB_INDIRECT = 0x50
_LD_IMMEDIATE = 0x00
_LDX_IMMEDIATE = 0x01
_TAX = 0x07
_JEQ = 0x15
_JUMP = 0x05
_RETURN = 0x06
_EXTENSION = 0xFFFFF000
_PACKET_TYPE = _EXTENSION + 4
_IFINDEX = _EXTENSION + 8
_NETLINK_ATTRIBUTE = _EXTENSION + 12
_VLAN_PRESENT = _EXTENSION + 48
_PACKET_OUTGOING = 4

_ETHERTYPE_AT = 12
_ARP_SENDER_AT = 28
_IPV6_NEXT_HEADER_AT = 20
_IPV6_SOURCE_AT = 22
_ICMPV6_TYPE_AT = 54
_ND_TARGET_AT = 62
_LAST_WORD = 12

Instruction = tuple[int, int, int, int]
"""Code, jump if true, jump if false, operand."""


def rival_filter(ifindex: int, ips: Collection[bytes]) -> bytes:
    """Return a program for a tap (ETH_P_ALL) that passes only frames in which somebody speaks as
    one of these packed addresses.

    Those are ARP with the address as sender, NA with it as target, NS with it as source. IPv6 is
    compared by its last four bytes: the reader compares the rest.
    """
    arp = [(_LD, 0, 0, _ARP_SENDER_AT), *_match([ip for ip in ips if len(ip) == 4])]  # noqa: PLR2004 -- the length of an IPv4 address
    nd = [
        (_LDB, 0, 0, _IPV6_NEXT_HEADER_AT),
        (_JEQ, 1, 0, 58),
        (_RETURN, 0, 0, 0),
        (_LDB, 0, 0, _ICMPV6_TYPE_AT),
        (_JEQ, 2, 0, 136),
        (_JEQ, 3, 0, 135),
        (_RETURN, 0, 0, 0),
        (_LD, 0, 0, _ND_TARGET_AT + _LAST_WORD),
        (_JUMP, 0, 0, 1),
        (_LD, 0, 0, _IPV6_SOURCE_AT + _LAST_WORD),
        *_match([ip[-4:] for ip in ips if len(ip) == 16]),  # noqa: PLR2004 -- the length of an IPv6 address
    ]
    head = [
        # A tap on eth0 also gets what belongs to a VLAN or macvlan on top of it; the same address
        # there is no rival.
        (_LD, 0, 0, _IFINDEX),
        (_JEQ, 1, 0, ifindex),
        (_RETURN, 0, 0, 0),
        (_LD, 0, 0, _VLAN_PRESENT),
        (_JEQ, 1, 0, 0),
        (_RETURN, 0, 0, 0),
        (_LD, 0, 0, _PACKET_TYPE),
        (_JEQ, 0, 1, _PACKET_OUTGOING),
        (_RETURN, 0, 0, 0),
        (_LDH, 0, 0, _ETHERTYPE_AT),
        (_JEQ, 2, 0, 0x0806),
        (_JEQ, 1 + len(arp), 0, 0x86DD),
        (_RETURN, 0, 0, 0),
    ]
    return _assembled([*head, *arp, *nd])


def _match(words: Sequence[bytes]) -> list[Instruction]:
    """Return the end of a program: pass if the accumulator is one of these four-byte words."""
    if len(words) > LONGEST_MATCH:
        return [(_RETURN, 0, 0, _FRAME_LENGTH)]
    compare = [
        (_JEQ, len(words) - index, 0, int.from_bytes(word, "big"))
        for index, word in enumerate(words)
    ]
    return [*compare, (_RETURN, 0, 0, 0), (_RETURN, 0, 0, _FRAME_LENGTH)]


def address_filter(message_type: int, attributes_at: int, attribute: int, value: int) -> bytes:
    """Return a program for a netlink socket that drops messages of this type whose one-byte
    attribute has this value.

    A datagram is judged by its first message; the kernel sends each change as a datagram of its
    own.
    """
    return _assembled(
        [
            # Netlink is in host byte order, and a filter loads in network order.
            (_LDH, 0, 0, 4),
            (_JEQ, 1, 0, socket.htons(message_type)),
            (_RETURN, 0, 0, WHOLE),
            (_LDX_IMMEDIATE, 0, 0, attribute),
            (_LD_IMMEDIATE, 0, 0, attributes_at),
            (_LD, 0, 0, _NETLINK_ATTRIBUTE),
            (_JEQ, 0, 1, 0),
            (_RETURN, 0, 0, WHOLE),
            (_TAX, 0, 0, 0),
            (_LDB_INDIRECT, 0, 0, 4),
            (_JEQ, 1, 0, value),
            (_RETURN, 0, 0, WHOLE),
            (_RETURN, 0, 0, 0),
        ]
    )


def _assembled(instructions: Sequence[Instruction]) -> bytes:
    return b"".join(_INSTRUCTION.pack(*instruction) for instruction in instructions)


def attach(sock: socket.socket, program: bytes) -> None:
    """Attach the program to the socket, in the place of an earlier one.

    The kernel swaps them at once. Raises OSError.
    """
    kept = array.array("B", program)  # the kernel copies from its address during the call
    address, length = kept.buffer_info()
    sock.setsockopt(
        socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", length // _INSTRUCTION.size, address)
    )
