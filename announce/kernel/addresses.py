"""Bind and unbind addresses with ready-made messages; what daemon and guard have in common.

The messages are built once, by announce.kernel.messages, in a process that has pyroute2. From then
on this file and the standard library are enough, so the guard can remove addresses whatever has
become of the daemon.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from announce.kernel.netlink import RouteSocket, allowance
from announce.kernel.ownership import RT_SCOPE_HOST, Foreign, foreign, is_vipds
from announce.kernel.rtnetlink import (
    ATTRIBUTES_AT,
    BODY_AT,
    FOREVER,
    IFA_CACHEINFO,
    MESSAGE,
    NLM_F_REQUEST,
    BoundAddress,
    Key,
    attribute,
    attributes,
    patched,
    removal_message,
)

__all__ = [
    "FOREVER",
    "BoundAddress",
    "Failure",
    "Foreign",
    "Key",
    "ReadyMessages",
    "RouteSocket",
    "Unbound",
    "bind",
    "look",
    "refresh",
    "remove",
    "reshape",
    "unbind",
    "with_lifetime",
]

IFA_F_SECONDARY = 0x01
IFA_F_DADFAILED = 0x08
IFA_F_TENTATIVE = 0x40
IPV4_HOST = 32
RTM_SETLINK = 19
IFLA_AF_SPEC = 26
IFLA_INET_CONF = 1
IPV4_DEVCONF_PROMOTE_SECONDARIES = 20
NLA_F_NESTED = 0x8000
_LINK = struct.Struct("=BxHiII")
_IFINDEX_AT = BODY_AT + 4
_FLAGS_AT = 6
_EXCLUSIVE = struct.pack("=H", NLM_F_REQUEST | 0x200 | 0x400)
"""NLM_F_EXCL and NLM_F_CREATE: refuse what exists."""
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
    """All that is needed to bind and unbind the addresses of one interface.

    Built by announce.kernel.messages.

    `bind` and `unbind` are complete netlink messages, one for each of `keys`, in the same order.
    The lifetime in `bind` is a placeholder that `with_lifetime` fills.
    """

    interface: str
    ifindex: int
    keys: tuple[Key, ...]
    bind: tuple[bytes, ...]
    unbind: tuple[bytes, ...]

    def to_bytes(self) -> bytes:
        """Return this value for another process.

        No pickle, which would let the daemon run code in the guard.
        """
        fields = [_FORMAT, self.interface.encode(), str(self.ifindex).encode()]
        for (family, packed, prefixlen), bind_message, unbind_message in zip(
            self.keys, self.bind, self.unbind, strict=True
        ):
            fields += [_KEY.pack(family, prefixlen) + packed, bind_message, unbind_message]
        return b"".join(_LENGTH.pack(len(field)) + field for field in fields)

    @classmethod
    def from_bytes(cls, data: bytes) -> ReadyMessages:
        """Return what `to_bytes` wrote; raises ValueError if it is anything else."""
        fields = _fields(data)
        if (
            len(fields) % 3
            or fields[:1] != [_FORMAT]
            or any(len(key) <= _KEY.size for key in fields[3::3])
        ):
            raise ValueError("these are no ready messages")
        heads = [_KEY.unpack_from(key) for key in fields[3::3]]
        return cls(
            interface=fields[1].decode(),
            ifindex=int(fields[2]),
            keys=tuple(
                (family, key[_KEY.size :], prefixlen)
                for (family, prefixlen), key in zip(heads, fields[3::3], strict=True)
            ),
            bind=tuple(fields[4::3]),
            unbind=tuple(fields[5::3]),
        )

    def moved(self, ifindex: int) -> ReadyMessages:
        """Return the same addresses for an interface that was deleted and made again under the same
        name.
        """
        index = struct.pack("=i", ifindex)
        bind_messages = tuple(patched(message, _IFINDEX_AT, index) for message in self.bind)
        unbind_messages = tuple(patched(message, _IFINDEX_AT, index) for message in self.unbind)
        return self._replace(ifindex=ifindex, bind=bind_messages, unbind=unbind_messages)


def with_lifetime(message: bytes, seconds: int) -> bytes:
    """Return the RTM_NEWADDR message with this valid lifetime and a preferred lifetime of 0.

    Raises ValueError if `seconds` is not a lifetime (1 to FOREVER) or the message has none to
    patch.
    """
    return with_lifetimes([message], seconds)[0]


def with_lifetimes(messages: Iterable[bytes], seconds: int) -> list[bytes]:
    """Return what `with_lifetime` does for each.

    Messages of one family and length are alike: the place is looked for once.
    """
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


def refresh(
    sock: RouteSocket, ready: ReadyMessages, seconds: int, timeout: float | None = None
) -> list[Failure]:
    """Bind the addresses, or extend them if they are bound, for so many whole seconds.

    Return those that were refused.

    An address that expired meanwhile comes back: compare the deadline right before, and again
    after, and undo what came late. Raises TimeoutError (`timeout` in seconds, by default
    `allowance`), ValueError for a lifetime below 1.
    """
    answers = sock.request(with_lifetimes(ready.bind, seconds), timeout)
    return [(key, answer) for key, answer in zip(ready.keys, answers, strict=True) if answer]


def bind(
    sock: RouteSocket,
    ready: ReadyMessages,
    seconds: int,
    timeout: float | None = None,
    *,
    contested: bool = True,
) -> list[Failure]:
    """Do what `refresh` does, then read back that each address serves.

    Return those that do not. Idempotent.

    One on which this host depends, and which is not vipd's, is left alone (EADDRINUSE).

    An IPv6 address that somebody added by hand may be tentative, or have failed duplicate address
    detection, and a replace leaves it so, as it leaves another prefix length or scope: it is
    removed and added again. So is one that somebody removed meanwhile: a flush of many addresses
    goes on while the first of them are being put back. `timeout` bounds each of the at most fifteen
    kernel calls.

    `contested`: somebody may be removing them right now. Otherwise IPv4 is not read back: what the
    kernel accepts serves, and a hundred instances of one interface would each read the addresses of
    all. The kernel accepts an IPv6 address before it serves: `RouteSocket.is_served` tells.
    """
    failures = _add(sock, ready, seconds, timeout)
    if not contested and all(family == socket.AF_INET for family, _, _ in ready.keys):
        return failures
    refused = {key for key, _ in failures}
    for _ in range(REBINDS):
        amiss, bound = _amiss(sock, ready, refused)
        if not amiss:
            return failures
        in_the_way = [address for found in amiss.values() for address in found]
        needed = {one.address.key[:2] for one in _foreign(sock, in_the_way, bound) if one.needed}
        again = [
            index for index, key in enumerate(ready.keys) if key in amiss and key[:2] not in needed
        ]
        failures += [(key, errno.EADDRINUSE) for key in amiss if key[:2] in needed]
        refused = {key for key, _ in failures}
        remove(
            sock,
            [address for address in in_the_way if address.key[:2] not in needed],
            bound,
            timeout,
        )
        sock.request(with_lifetimes([ready.bind[index] for index in again], seconds), timeout)
    return failures + [(key, errno.EADDRNOTAVAIL) for key in _amiss(sock, ready, refused)[0]]


def _add(
    sock: RouteSocket, ready: ReadyMessages, seconds: int, timeout: float | None
) -> list[Failure]:
    """Add the addresses, and extend those that are bound already.

    A replace takes over whatever has the same IP: the host's own address would get a lifetime of
    seconds.
    """
    messages = with_lifetimes(ready.bind, seconds)
    answers = sock.request(
        [patched(message, _FLAGS_AT, _EXCLUSIVE) for message in messages], timeout
    )
    there = [index for index, answer in enumerate(answers) if answer == errno.EEXIST]
    if there:
        found, bound = _found(sock, ready)
        needed = {one.address.key[:2] for one in _foreign(sock, found, bound) if one.needed}
        ours = [index for index in there if ready.keys[index][:2] not in needed]
        again = sock.request([messages[index] for index in ours], timeout)
        renewed = dict.fromkeys(there, errno.EADDRINUSE) | dict(zip(ours, again, strict=True))
        answers = [renewed.get(index, answer) for index, answer in enumerate(answers)]
    return [(key, answer) for key, answer in zip(ready.keys, answers, strict=True) if answer]


class Unbound(NamedTuple):
    """What an unbind has left.

    `remaining`: could not be removed; nothing means that the addresses are gone.

    `kept` are not vipd's, and this host depends on them: they were not touched. `others` were not
    vipd's, and were removed.
    """

    remaining: tuple[BoundAddress, ...] = ()
    kept: tuple[Foreign, ...] = ()
    others: tuple[BoundAddress, ...] = ()


def unbind(
    sock: RouteSocket, ready: ReadyMessages, timeout: float | None = None, *, own_only: bool = False
) -> Unbound:
    """Remove the addresses and read back what is left of them.

    Idempotent. Raises TimeoutError, OSError.

    An interface that is gone has taken its addresses along. The address counts under any prefix
    length: a VIP that somebody added as a /64 serves as well. What the read-back shows is removed
    as it is shown, unless this host depends on it: nothing here removes an address by which the
    host itself is reached. `own_only` keeps all that vipd did not bind.
    """
    sock.request(_own_removals(sock, ready), timeout)
    found, bound = _found(sock, ready)
    if not found:
        return Unbound()
    kept = tuple(one for one in _foreign(sock, found, bound) if one.needed or own_only)
    stay = {_place(one.address) for one in kept}
    due = [address for address in found if _place(address) not in stay]
    if due:
        remove(sock, due, bound, timeout)
        found, _ = _found(sock, ready)
    left = {_place(address): address for address in found}
    return Unbound(
        remaining=tuple(address for place, address in left.items() if place not in stay),
        kept=kept,
        others=tuple(
            address for address in due if _place(address) not in left and not is_vipds(address)
        ),
    )


def _place(address: BoundAddress) -> tuple[Key, bytes]:
    return address.key, address.peer


def look(sock: RouteSocket, ready: ReadyMessages) -> tuple[list[BoundAddress], list[Foreign]]:
    """Return which of these addresses are bound, under any prefix length.

    vipd's own, and others' with what depends on them.
    """
    found, bound = _found(sock, ready)
    return [address for address in found if is_vipds(address)], _foreign(sock, found, bound)


def reshape(sock: RouteSocket, ready: ReadyMessages) -> list[BoundAddress]:
    """Bind anew what another version of vipd bound under another prefix length or scope; return
    what was changed.

    It keeps what is left of its lifetime, so that no right grows. One without an end is left to
    `unbind`.
    """
    found, bound = _found(sock, ready)
    own = [address for address in found if is_vipds(address)]
    messages = dict(
        zip((key[:2] for key in ready.keys), zip(ready.keys, ready.bind, strict=True), strict=True)
    )
    changed = [
        one for one in own if one.valid_lft < FOREVER and not _fits(messages[one.key[:2]][0], one)
    ]
    for address in changed:
        remove(sock, [address], bound)
        sock.request(with_lifetimes([messages[address.key[:2]][1]], max(1, address.valid_lft - 1)))
    return changed


def _own_removals(sock: RouteSocket, ready: ReadyMessages) -> list[bytes]:
    """Return the messages that remove what is vipd's of these.

    For IPv4 the label in them has to match, IPv6 has none.
    """
    mine = {
        one.key
        for one in sock.ipv6_addresses(
            ready.ifindex, [key[1] for key in ready.keys if key[0] == socket.AF_INET6]
        )
        if is_vipds(one)
    }
    return [
        message
        for key, message in zip(ready.keys, ready.unbind, strict=True)
        if key[0] == socket.AF_INET or key in mine
    ]


def remove(
    sock: RouteSocket,
    due: Sequence[BoundAddress],
    bound: Iterable[BoundAddress],
    timeout: float | None = None,
) -> list[int]:
    """Remove these as they were read and return an errno for each.

    `bound` is all that is on their interfaces.

    1. An older vipd bound 192.0.2.10/24, then the host's own 192.0.2.1/24 came: the kernel calls
    the second one secondary.
    2. The first is removed: without `promote_secondaries` the kernel takes the host's own address
    along.
    """
    secondaries = {
        one.ifindex
        for one in bound
        if one.family == socket.AF_INET and one.flags & IFA_F_SECONDARY and one not in due
    }
    heads = {
        one.ifindex
        for one in due
        if one.family == socket.AF_INET
        and not one.flags & IFA_F_SECONDARY
        and one.prefixlen < IPV4_HOST
    }
    promoting = [ifindex for ifindex in secondaries & heads if not _promotes(ifindex)]
    answers = sock.request(
        [
            *(promote_message(ifindex, on=True) for ifindex in promoting),
            *map(removal_message, due),
            *(promote_message(ifindex, on=False) for ifindex in promoting),
        ],
        timeout,
    )
    return answers[len(promoting) : len(promoting) + len(due)]


def _promotes(ifindex: int) -> bool:
    """Whether the kernel keeps the secondary addresses of this interface when
    the first one goes.
    """
    try:
        name = socket.if_indextoname(ifindex)
        with open(f"/proc/sys/net/ipv4/conf/{name}/promote_secondaries", "rb") as file:  # noqa: PTH123 -- pathlib is not light
            return file.read(1) == b"1"
    except OSError:
        return False


def promote_message(ifindex: int, *, on: bool) -> bytes:
    """Return the message that sets net.ipv4.conf.INTERFACE.promote_secondaries.

    A service may not write below /proc/sys.
    """
    value = _nested(
        IFLA_AF_SPEC,
        _nested(
            socket.AF_INET,
            _nested(IFLA_INET_CONF, attribute(IPV4_DEVCONF_PROMOTE_SECONDARIES, _LENGTH.pack(on))),
        ),
    )
    body = _LINK.pack(socket.AF_UNSPEC, 0, ifindex, 0, 0) + value
    return MESSAGE.pack(BODY_AT + len(body), RTM_SETLINK, NLM_F_REQUEST, 0, 0) + body


def _nested(kind: int, value: bytes) -> bytes:
    return attribute(kind | NLA_F_NESTED, value)


def _foreign(
    sock: RouteSocket, found: Iterable[BoundAddress], bound: Sequence[BoundAddress]
) -> list[Foreign]:
    return [foreign(sock, address, bound) for address in found if not is_vipds(address)]


def _found(
    sock: RouteSocket, ready: ReadyMessages
) -> tuple[list[BoundAddress], list[BoundAddress]]:
    """Return these addresses as they are bound, under whatever prefix length, and all that is on
    their interface.
    """
    wanted = {key[:2] for key in ready.keys}
    bound = sock.addresses(ready.ifindex, allowance(len(wanted)))
    return [address for address in bound if address.key[:2] in wanted], bound


def _fits(key: Key, address: BoundAddress) -> bool:
    """Whether an address is bound as vipd binds it, and serves as far as its flags tell."""
    scope = RT_SCOPE_HOST if key[0] == socket.AF_INET else address.scope
    idle = address.flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED)
    return address.key == key and not address.peer and address.scope == scope and not idle


def _amiss(
    sock: RouteSocket, ready: ReadyMessages, refused: set[Key]
) -> tuple[dict[Key, list[BoundAddress]], list[BoundAddress]]:
    """Return the addresses that were accepted and yet do not serve, with what stands in their
    place; and all that is bound.
    """
    found, bound = _found(sock, ready)
    amiss = dict[Key, list[BoundAddress]]()
    for key in ready.keys:
        here = [address for address in found if address.key[:2] == key[:2]]
        if key not in refused and not any(_fits(key, address) for address in here):
            amiss[key] = here
    return amiss, bound


def _fields(data: bytes) -> list[bytes]:
    """Return the length-prefixed parts of the data.

    Raises ValueError if they do not fill it exactly.
    """
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
