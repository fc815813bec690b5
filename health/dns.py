"""DNS questions and answers as bytes (RFC 1035 section 4), as far as finding addresses needs them. Pure."""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass

TYPE_A = 1
TYPE_AAAA = 28
CLASS_IN = 1
NOERROR = 0
NXDOMAIN = 3
LONGEST_LABEL = 63
LONGEST_NAME = 253
HEADER = struct.Struct("!HHHHHH")
RECORD = struct.Struct("!HHIH")
RESPONSE_BIT = 0x8000
TRUNCATED_BIT = 0x0200
RECURSION_DESIRED = 0x0100
CODE_MASK = 0x000F
POINTER = 0xC0
"""A length byte of 192 and more is one half of a compression pointer, which ends a name (section 4.1.4)."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a name server says: its code, the addresses of the type asked for, and how long they are good, in seconds."""

    code: int
    addresses: tuple[str, ...] = ()
    ttl: int = 0

    @property
    def decides(self) -> bool:
        """Whether the server knows: addresses, none of this type, or no such name; anything else is the server's own trouble."""
        return self.code in {NOERROR, NXDOMAIN}


def query(ident: int, name: str, rtype: int) -> bytes:
    """Return the packet that asks a recursive server for the addresses of a name. Raises ValueError for what cannot be a host name."""
    labels = name.removesuffix(".").split(".")
    if not name.isascii() or len(name) > LONGEST_NAME or not all(0 < len(label) <= LONGEST_LABEL for label in labels):
        raise ValueError(f"{name!r} is not a host name")
    encoded = b"".join(bytes([len(label)]) + label.encode("ascii") for label in labels)
    return HEADER.pack(ident, RECURSION_DESIRED, 1, 0, 0, 0) + encoded + struct.pack("!xHH", rtype, CLASS_IN)


def answer_to(asked: bytes, data: bytes) -> Answer | None:
    """Return what a packet says to a question; None: it answers another one, or nothing that can be understood.

    Id and question must be the ones that were sent: a late answer to an earlier question, or one that somebody made up, is not for us.
    """
    try:
        return _read(asked, data)
    except (struct.error, IndexError, ValueError):
        return None


def _read(asked: bytes, data: bytes) -> Answer | None:
    ident, flags, _, count, _, _ = HEADER.unpack_from(data)
    question = asked[HEADER.size :]
    end = HEADER.size + len(question)
    if ident != HEADER.unpack_from(asked)[0] or not flags & RESPONSE_BIT or data[HEADER.size : end].lower() != question.lower():
        return None
    wanted = struct.unpack("!H", question[-4:-2])[0]
    found = [] if flags & CODE_MASK else _addresses(data, end, count, wanted)
    if not found and flags & TRUNCATED_BIT:
        return None
    return Answer(flags & CODE_MASK, tuple(address for address, _ in found), min((ttl for _, ttl in found), default=0))


def _addresses(data: bytes, offset: int, count: int, wanted: int) -> list[tuple[str, int]]:
    """Return (address, ttl) of each record of the type. Owners are not compared: behind a CNAME they bear another name."""
    found = []
    for _ in range(count):
        offset = _after_name(data, offset)
        rtype, rclass, ttl, length = RECORD.unpack_from(data, offset)
        content = data[offset + RECORD.size : offset + RECORD.size + length]
        offset += RECORD.size + length
        if rtype == wanted and rclass == CLASS_IN:
            size = 4 if wanted == TYPE_A else 16
            if len(content) != size:
                raise ValueError("an address of a wrong size")
            found.append((str(ipaddress.ip_address(content)), ttl))
    return found


def _after_name(data: bytes, offset: int) -> int:
    """Return the offset behind a name. It always moves forward, so that no packet can make it turn in a circle."""
    while True:
        length = data[offset]
        if length == 0:
            return offset + 1
        if length >= POINTER:
            return offset + 2
        offset += length + 1
