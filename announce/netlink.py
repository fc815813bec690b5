"""Bind and unbind addresses with ready-made messages; what daemon and guard have in common.

The messages are built once, by announce.address, in a process that has pyroute2. From then on this file and the
standard library are enough, so the guard can remove addresses whatever has become of the daemon.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterable
from typing import NamedTuple

from announce.route_socket import (
    ATTRIBUTES_AT,
    BODY_AT,
    FOREVER,
    IFA_CACHEINFO,
    BoundAddress,
    Key,
    RouteSocket,
    allowance,
    attributes,
    patched,
)

__all__ = ["FOREVER", "BoundAddress", "Failure", "Key", "ReadyMessages", "RouteSocket", "bind", "refresh", "unbind", "with_lifetime"]

IFA_F_DADFAILED = 0x08
IFA_F_TENTATIVE = 0x40
_PREFIXLEN_AT = BODY_AT + 1
_IFINDEX_AT = BODY_AT + 4
_FORMAT = b"vipd-ready-1"
_LENGTH = struct.Struct("=I")
_KEY = struct.Struct("=BB")
_LIFETIME = struct.pack("=HH", 20, IFA_CACHEINFO)
"""The head of the attribute: its length and kind."""

Failure = tuple[Key, int]
"""An address and the errno that the kernel gave for it."""
REBINDS = 3
"""A flush of two hundred addresses overlaps with their repair once or twice on two busy cores."""


class ReadyMessages(NamedTuple):
    """All that is needed to bind and unbind the addresses of one interface; built by announce.address.

    `bind` and `unbind` are complete netlink messages, one for each of `keys`, in the same order. The lifetime in `bind`
    is a placeholder that `with_lifetime` fills.
    """

    interface: str
    ifindex: int
    keys: tuple[Key, ...]
    bind: tuple[bytes, ...]
    unbind: tuple[bytes, ...]

    def to_bytes(self) -> bytes:
        """Return this value for another process: no pickle, which would let the daemon run code in the guard."""
        fields = [_FORMAT, self.interface.encode(), str(self.ifindex).encode()]
        for (family, packed, prefixlen), bind_message, unbind_message in zip(self.keys, self.bind, self.unbind, strict=True):
            fields += [_KEY.pack(family, prefixlen) + packed, bind_message, unbind_message]
        return b"".join(_LENGTH.pack(len(field)) + field for field in fields)

    @classmethod
    def from_bytes(cls, data: bytes) -> ReadyMessages:
        """Return what `to_bytes` wrote; raises ValueError if it is anything else."""
        fields = _fields(data)
        if len(fields) % 3 or fields[:1] != [_FORMAT] or any(len(key) <= _KEY.size for key in fields[3::3]):
            raise ValueError("these are no ready messages")
        heads = [_KEY.unpack_from(key) for key in fields[3::3]]
        return cls(
            interface=fields[1].decode(),
            ifindex=int(fields[2]),
            keys=tuple((family, key[_KEY.size :], prefixlen) for (family, prefixlen), key in zip(heads, fields[3::3], strict=True)),
            bind=tuple(fields[4::3]),
            unbind=tuple(fields[5::3]),
        )

    def moved(self, ifindex: int) -> ReadyMessages:
        """Return the same addresses for an interface that was deleted and made again under the same name."""
        index = struct.pack("=i", ifindex)
        bind_messages = tuple(patched(message, _IFINDEX_AT, index) for message in self.bind)
        unbind_messages = tuple(patched(message, _IFINDEX_AT, index) for message in self.unbind)
        return self._replace(ifindex=ifindex, bind=bind_messages, unbind=unbind_messages)


def with_lifetime(message: bytes, seconds: int) -> bytes:
    """Return the RTM_NEWADDR message with this valid lifetime and a preferred lifetime of 0.

    Raises ValueError if `seconds` is not a lifetime (1 to FOREVER) or the message has none to patch.
    """
    return with_lifetimes([message], seconds)[0]


def with_lifetimes(messages: Iterable[bytes], seconds: int) -> list[bytes]:
    """Return what `with_lifetime` does for each. Messages of one family and length are alike: the place is looked for once."""
    if not 1 <= seconds <= FOREVER:
        raise ValueError(f"{seconds} is no address lifetime in seconds")
    value = struct.pack("=II", 0, seconds)
    places: dict[tuple[int, int], int] = {}
    patched_ones: list[bytes] = []
    for message in messages:
        kind = (message[BODY_AT], len(message))
        at = places.get(kind, 0)
        if message[at - len(_LIFETIME) : at] != _LIFETIME:
            at = places[kind] = _lifetime_at(message)
        patched_ones.append(patched(message, at, value))
    return patched_ones


def _lifetime_at(message: bytes) -> int:
    for kind, start, _ in attributes(message, ATTRIBUTES_AT):
        if kind == IFA_CACHEINFO:
            return start
    raise ValueError("the message carries no lifetime")


def refresh(sock: RouteSocket, ready: ReadyMessages, seconds: int, timeout: float | None = None) -> list[Failure]:
    """Bind the addresses, or extend them if they are bound, for so many whole seconds; return those that were refused.

    An address that expired meanwhile comes back: compare the deadline right before, and again after, and undo what
    came late. Raises TimeoutError (`timeout` in seconds, by default `allowance`), ValueError for a lifetime below 1.
    """
    answers = sock.request(with_lifetimes(ready.bind, seconds), timeout)
    return [(key, answer) for key, answer in zip(ready.keys, answers, strict=True) if answer]


def bind(sock: RouteSocket, ready: ReadyMessages, seconds: int, timeout: float | None = None, *, contested: bool = True) -> list[Failure]:
    """Do what `refresh` does, then read back that each address serves; return those that do not. Idempotent.

    An IPv6 address that somebody added by hand may be tentative, or have failed duplicate address detection, and a
    replace leaves it so: it is removed and added again. So is one that somebody removed meanwhile: a flush of many addresses
    goes on while the first of them are being put back. `timeout` bounds each of the at most eleven kernel calls.

    `contested`: somebody may be removing them right now. Otherwise IPv4 is not read back: what the kernel accepts serves, and
    a hundred instances of one interface would each read the addresses of all.
    """
    failures = refresh(sock, ready, seconds, timeout)
    if not contested and all(family == socket.AF_INET for family, _, _ in ready.keys):
        return failures
    refused = {key for key, _ in failures}
    for _ in range(REBINDS):
        idle = _idle(sock, ready, refused)
        if not idle:
            return failures
        again = {key: index for index, key in enumerate(ready.keys) if key in idle}
        sock.request([patched(ready.unbind[index], _PREFIXLEN_AT, bytes([idle[key]])) for key, index in again.items()], timeout)
        sock.request(with_lifetimes([ready.bind[index] for index in again.values()], seconds), timeout)
    return failures + [(key, errno.EADDRNOTAVAIL) for key in _idle(sock, ready, refused)]


def unbind(sock: RouteSocket, ready: ReadyMessages, timeout: float | None = None) -> list[Key]:
    """Remove the addresses and return what a read-back still finds of them; nothing means that they are gone. Idempotent.

    An interface that is gone has taken its addresses along. The address counts under any prefix length: a VIP that
    somebody added as a /64 serves as well, and a delete of the /128 does not touch it. Raises TimeoutError.
    """
    sock.request(ready.unbind, timeout)
    found = _found(sock, ready)
    if not found:
        return []
    messages = {key[:2]: message for key, message in zip(ready.keys, ready.unbind, strict=True)}
    sock.request([patched(messages[address.key[:2]], _PREFIXLEN_AT, bytes([address.prefixlen])) for address in found], timeout)
    return [address.key for address in _found(sock, ready)]


def _found(sock: RouteSocket, ready: ReadyMessages) -> list[BoundAddress]:
    wanted = {key[:2] for key in ready.keys}
    return [address for address in sock.addresses(ready.ifindex, allowance(len(wanted))) if address.key[:2] in wanted]


def _idle(sock: RouteSocket, ready: ReadyMessages, refused: set[Key]) -> dict[Key, int]:
    """Return the addresses that were accepted and yet do not serve, each with the prefix length it is bound under."""
    bound = {address.key[:2]: address for address in _found(sock, ready)}
    idle = dict[Key, int]()
    for key in ready.keys:
        address = bound.get(key[:2])
        if key not in refused and (address is None or address.flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED)):
            idle[key] = key[2] if address is None else address.prefixlen
    return idle


def _fields(data: bytes) -> list[bytes]:
    """Return the length-prefixed parts of the data; raises ValueError if they do not fill it exactly."""
    fields: list[bytes] = []
    at = 0
    while at < len(data):
        start = at + _LENGTH.size
        if start > len(data):
            raise ValueError("the last length is cut short")
        at = start + _LENGTH.unpack_from(data, at)[0]
        fields.append(data[start:at])
    if at != len(data):
        raise ValueError("the last part is cut short")
    return fields
