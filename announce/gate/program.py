"""The gate's program: what it lets pass. Pure: text and bytes only.

A VIP has a deadline, 8 bytes in ns of CLOCK_BOOTTIME in the map `deadlines`; the map `addresses`
tells which one. From that moment on (0: always) the program drops, of the frames that pass the
interface it is attached to,

    arriving, what comes for the VIP                    leaving, what goes out in its name IPv4 and
    IPv6 to it                                 IPv4 and IPv6 from it an ARP frame that asks for it
    (target address),     an ARP frame that speaks as it (sender address)
      unless the sender says that he is it
    a neighbour solicitation for it                     a neighbour advertisement of it

and hands all others on to whatever else decides on this interface (TC_ACT_UNSPEC). The other
direction stays open on purpose: a Backup, and the containers on it, are clients of the VIP like
anybody else. They send to it, hear from it, ask for its MAC, and have to hear the new owner's
announcement, or they would go on talking to the old one.

That is for an address of the interface that the program is attached to. Of one that belongs to
another interface of the same network namespace (`elsewhere` in its entry) a frame is dropped only
if this node would take it itself: Linux takes, and answers, what comes for a local address on any
interface. What the node would pass on as a router is none of its own: a Backup that is the way to
the VIP for others stays that. The kernel's routing decides (`bpf_fib_lookup`), which it is asked
only about such frames.

VLAN tags: a frame is judged as the kernel would take it on this interface: without a tag, or with
VLAN 0 (priority tags), in the frame (up to two) and beside it (offloaded). One of another VLAN is
handed on: it is for another interface, and the same address there is somebody else's. A VIP on a
VLAN interface needs the gate on that one.

Handed on as well, each on purpose:
- Neighbour solicitations and advertisements behind IPv6 extension headers (no host sends them so).
  Such a solicitation reaches the node, and its answer, which has none, is dropped. Extension
  headers hide no source or destination address.
- Frames whose addresses are cut off; the kernel drops them.
- A VIP inside a tunnel, in a routing header or source route, in LLC/SNAP, behind three tags: not
  looked for.
"""

from __future__ import annotations

import enum
import re
import socket
import struct
import sys
from collections.abc import Mapping

from announce.gate.assembler import assemble

LICENSE = "Dual MIT/GPL"
"""What the kernel wants to hear for `bpf_fib_lookup`; the licence of vipd, MIT, goes together with
the GPL."""
_ENTRY = struct.Struct("=IIQ")
KEY_SIZE = 20
ENTRY_SIZE = _ENTRY.size

PASS = -1
"""TC_ACT_UNSPEC: the next filter decides, as if this one were not there."""
DROP = 2
"""TC_ACT_SHOT."""

_V4 = 4
_V6 = 6


class Direction(enum.Enum):
    """Which way a program looks."""

    ARRIVING = "arriving"
    LEAVING = "leaving"


_NAMES: Mapping[str, int] = {
    "PASS": PASS,
    "DROP": DROP,
    # struct __sk_buff (linux/bpf.h)
    "len": 0,
    "packet_type": 4,
    "vlan_present": 20,
    "vlan_tci": 24,
    "ifindex": 40,
    "data": 76,
    "data_end": 80,
    # The frame is in network order, and so are these.
    "IPV4": socket.htons(0x0800),
    "ARP": socket.htons(0x0806),
    "IPV6": socket.htons(0x86DD),
    "C_TAG": socket.htons(0x8100),
    "S_TAG": socket.htons(0x88A8),
    "TAG_VLAN": socket.htons(0x0FFF),
    "V4": _V4,
    "V6": _V6,
    "ICMPV6": 58,
    "OTHER_HOST": 3,
    "AF_INET": socket.AF_INET,
    "AF_INET6": socket.AF_INET6,
    # What bpf_fib_lookup says of an address that is the node's own, or of an interface that passes
    # nothing on.
    "NOT_FORWARDED": 4,
    "NO_FORWARDING": 5,
    # Counted from the network header.
    "arp_sender": 14,
    "next_header": 6,
    "icmpv6": 40,
    "IPV4_END": 20,
    "ARP_END": 28,
    "IPV6_END": 40,
    # The stack, downwards from r10. The key of the map of addresses: the address, then the IP
    # version.
    "address": 24,
    "version": 8,
    "slot": 4,
    "deadline": 32,
    "tag": 32,
    "sender": 32,
    # A message of neighbour discovery as far as the end of its target, which thereby is in the key.
    "discovery": 32,
    # struct bpf_fib_lookup, and in it the interface that a packet comes in by, and its destination.
    "route": 96,
    "route_ifindex": 88,
    "route_destination": 64,
}
_OFFSETS: Mapping[Direction, Mapping[str, int]] = {
    # Where the address stands, counted from the network header: destination or source.
    Direction.ARRIVING: {"ipv4_address": 16, "arp_address": 24, "ipv6_address": 24, "ND": 135},
    Direction.LEAVING: {"ipv4_address": 12, "arp_address": 14, "ipv6_address": 8, "ND": 136},
}

_PROGRAM = """
; r6 the frame                r7 where in it the network header begins
; r8 the address's entry     r9 the network header
        r6 = r1
        r1 = u32[r6 + vlan_present]     ; a tag that the card or the kernel took out of the frame
        if r1 == 0 goto untagged
        r1 = u32[r6 + vlan_tci]
        r1 &= 0xfff
        if r1 != 0 goto pass
untagged:
        r7 = 14
        r9 = u32[r6 + data]
        r9 += 14
        r2 = u32[r6 + data_end]
        if r9 > r2 goto pass            ; less than an Ethernet header
        r1 = u16[r9 - 2]
        if r1 == C_TAG goto tagged
        if r1 != S_TAG goto known
tagged:
        $tag()
        if r1 == C_TAG goto tagged_twice
        if r1 != S_TAG goto known
tagged_twice:
        $tag()

known:                                  ; r1 is the Ethernet type of what is in the frame
        u32[r10 - address + 4] = 0      ; an IPv4 address fills one word of the key's four
        u32[r10 - address + 8] = 0
        u32[r10 - address + 12] = 0
        u32[r10 - version] = V4
        if r1 == IPV4 goto ipv4
        if r1 == IPV6 goto ipv6
        if r1 != ARP goto pass

        $far(ARP_END)                   ; arp
        r1 = u16[r9 + arp_address]      ; in halves: ARP does not align addresses to four
        u16[r10 - address] = r1
        r1 = u16[r9 + arp_address + 2]
        u16[r10 - address + 2] = r1
        goto got_arp
far_ARP_END:
        $load(arp_address, address, 4)
got_arp:
        $judge(pass, arp)
        $announcement()
        goto drop

ipv4:
        $far(IPV4_END)
        r1 = u32[r9 + ipv4_address]
        u32[r10 - address] = r1
        goto got_ipv4
far_IPV4_END:
        $load(ipv4_address, address, 4)
got_ipv4:
        $judge(pass, ipv4)
        goto drop

ipv6:
        u32[r10 - version] = V6
        $far(IPV6_END)
        r1 = u32[r9 + ipv6_address]
        u32[r10 - address] = r1
        r1 = u32[r9 + ipv6_address + 4]
        u32[r10 - address + 4] = r1
        r1 = u32[r9 + ipv6_address + 8]
        u32[r10 - address + 8] = r1
        r1 = u32[r9 + ipv6_address + 12]
        u32[r10 - address + 12] = r1
        r9 = u8[r9 + next_header]
        goto got_ipv6
far_IPV6_END:
        $load(next_header, address, 1)
        r9 = u8[r10 - address]
        $load(ipv6_address, address, 16)
got_ipv6:
        $judge(neighbour, ipv6)
        goto drop
neighbour:                              ; goes to groups, and comes from other addresses too
        if r9 != ICMPV6 goto pass
        $load(icmpv6, discovery, 24)
        r1 = u8[r10 - discovery]
        if r1 != ND goto pass
        $judge(pass, nd)

drop:
        r1 = u32[r8 + 4]
        if r1 == 0 goto counted         ; an address of this interface
        r1 = u32[r6 + packet_type]
        if r1 == OTHER_HOST goto pass   ; for another machine, or a macvlan: not local
        $no_route()
        r1 = u32[r6 + ifindex]
        u32[r10 - route_ifindex] = r1
        r1 = u64[r10 - address]
        u64[r10 - route_destination] = r1
        r1 = u64[r10 - address + 8]
        u64[r10 - route_destination + 8] = r1
        u8[r10 - route] = AF_INET
        r1 = u32[r10 - version]
        if r1 == V4 goto asked
        u8[r10 - route] = AF_INET6
asked:
        r1 = r6
        r2 = r10
        r2 += -route
        r3 = 64
        r4 = 0
        call fib_lookup
        if r0 == NOT_FORWARDED goto counted
        if r0 == NO_FORWARDING goto counted
        if r0 s>= 0 goto pass
counted:
        r1 = 1
        lock u64[r8 + 8] += r1          ; how many, for people
        r0 = DROP
        exit
pass:
        r0 = PASS
        exit
"""

_PARTS: Mapping[str, str] = {
    # Some drivers leave the headers in pages beside the frame's head: what is not in the head has
    # to be loaded.
    "far": """
        r1 = r9
        r1 += FIRST
        r2 = u32[r6 + data_end]
        if r1 > r2 goto far_FIRST
""",
    # Copy a part of the frame, counted from the network header, to the stack; what is not in the
    # frame names no VIP.
    "load": """
        r1 = r6
        r2 = r7
        r2 += FIRST
        r3 = r10
        r3 += -SECOND
        r4 = THIRD
        call skb_load_bytes
        if r0 != 0 goto pass
""",
    # Step over a VLAN tag in the frame; r1 is what follows it.
    "tag": """
        $load(0, tag, 4)
        r1 = u16[r10 - tag]
        r1 &= TAG_VLAN
        if r1 != 0 goto pass
        r7 += 4
        r9 += 4
        r1 = u16[r10 - tag + 2]
""",
    # The question to the kernel's routing, still empty.
    "no_route": "".join(f"        u64[r10 - route + {at}] = 0\n" for at in range(0, 64, 8)),
    # Go on behind this if the address in the key is a VIP without a right, r8 being its entry; else
    # to the first argument.
    "judge": """
        r1 = map addresses
        r2 = r10
        r2 += -address
        call map_lookup_elem
        if r0 == 0 goto FIRST           ; no VIP
        r8 = r0
        r1 = u32[r8]
        u32[r10 - slot] = r1
        r1 = map deadlines
        r2 = r10
        r2 += -slot
        call map_lookup_elem
        r1 = 0
        if r0 == 0 goto no_word_SECOND  ; a slot that does not exist gives no right
        r1 = u64[r0]
no_word_SECOND:
        u64[r10 - deadline] = r1
        call ktime_get_boot_ns
        r1 = u64[r10 - deadline]
        if r0 < r1 goto FIRST
""",
}
_ANNOUNCEMENT = """
        $load(arp_sender, sender, 4)    ; a sender that is the VIP announces it: the new owner
        r1 = u32[r10 - sender]
        r2 = u32[r10 - address]
        if r1 == r2 goto pass
"""
_PART = re.compile(r"^ *\$(\w+)\(([^)]*)\)", re.MULTILINE)


def source(direction: Direction) -> str:
    """Return the program's text for one direction."""
    parts = {**_PARTS, "announcement": _ANNOUNCEMENT if direction is Direction.ARRIVING else ""}

    def written_out(text: str) -> str:
        return _PART.sub(part, text)

    def part(found: re.Match[str]) -> str:
        text = parts[found[1]].strip("\n")
        for place, argument in zip(
            ("FIRST", "SECOND", "THIRD"), found[2].split(", "), strict=False
        ):
            text = text.replace(place, argument)
        return written_out(text)

    return written_out(_PROGRAM)


def program(direction: Direction, addresses: int, deadlines: int) -> bytes:
    """Return the program for one direction; the two numbers are the descriptors of its maps."""
    return assemble(
        source(direction),
        {**_NAMES, **_OFFSETS[direction]},
        {"addresses": addresses, "deadlines": deadlines},
    )


def key(ip: bytes) -> bytes:
    """Return the key of a packed address in the map of addresses.

    Raises ValueError for what is none.
    """
    versions = {4: _V4, 16: _V6}
    if len(ip) not in versions:
        raise ValueError(f"{len(ip)} bytes are no packed address")
    return ip.ljust(16, b"\0") + versions[len(ip)].to_bytes(4, sys.byteorder)


def entry(slot: int, *, elsewhere: bool = False) -> bytes:
    """Return a fresh entry of the map of addresses.

    The number of the address's deadline, and nothing dropped yet.

    `elsewhere`: the address belongs to another interface.
    """
    return _ENTRY.pack(slot, elsewhere, 0)


def dropped(found: bytes) -> int:
    """Return how many frames an entry of the map of addresses has counted."""
    return int(_ENTRY.unpack(found)[2])
