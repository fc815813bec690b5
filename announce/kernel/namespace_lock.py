r"""Locks that all of a network namespace sees, and that only a vipd can use against a vipd.

A lock is a bound abstract unix socket: abstract names belong to the network namespace, as addresses
and interfaces do, so a systemd unit and a pod with the host's network meet. No file stays behind,
and the lock lasts as long as any descriptor of it. But any local user may bind such a name. So the
holder's user is looked at, and a name that is held by somebody who is no vipd is replaced by a
*mark*: a raw IP socket bound to an address that stands for the lock. It needs CAP_NET_RAW in this
namespace, which every vipd has, and everybody can see it in /proc/net/raw.

    by name     bind the name, then look for a mark; there is one: refused by mark     the name's
    holder is no vipd: make the mark, then look for other marks and at the name's holder once more

Each writes first and looks then, so that of two at least one sees the other. Who is a vipd: root,
one's own user, and every user who shows its presence by a mark of its own (a unit runs as `vipd`, a
pod as root, and neither sees the other's processes).
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

from announce.errors import AnnounceError

ADDRESS_PROTOCOL = 255
PRESENCE_PROTOCOL = 254
TC_SLOT_PROTOCOL = 253
"""Numbers that no packet carries: 255 is reserved, the others are for experiments (RFC 3692). Such
a socket receives nothing."""
IPV6_FREEBIND = 78
"""linux/in6.h; Python has no name for it, nor for IP_FREEBIND."""
_FREEBIND = {
    socket.AF_INET: (socket.SOL_IP, 15),
    socket.AF_INET6: (socket.IPPROTO_IPV6, IPV6_FREEBIND),
}
_TABLES = {socket.AF_INET: "/proc/net/raw", socket.AF_INET6: "/proc/net/raw6"}
_UNIX_COLUMNS, _RAW_COLUMNS = 8, 10
_LOOPBACK = 1
_LINK_LOCAL = 0xFE
_BACKLOG = 128
_UCRED = struct.Struct("=iii")
_SOCK_DIAG = 4
_DIAG_BY_FAMILY = 20
_DIAG_REQUEST = struct.Struct("=IHHII BBHIIIII")
_DIAG_UID_SHOWN = 0x40
_DIAG_HEADER = 16 + 16
_DIAG_UID = 7
_SEARCH = 0.050
"""Seconds of its own CPU at most that the search for a process takes: the guard does it beside
everything else."""
_LONGEST_COMMAND = 120
_ATTEMPTS = 5


class Place(NamedTuple):
    """Where the mark of a lock is.

    An IP address, which need not be bound anywhere, and a protocol number.
    """

    address: str
    protocol: int = ADDRESS_PROTOCOL

    @property
    def family(self) -> socket.AddressFamily:
        """AF_INET or AF_INET6."""
        return socket.AF_INET6 if ":" in self.address else socket.AF_INET

    @property
    def packed(self) -> bytes:
        """The address as in a packet; raises OSError if it is none."""
        return socket.inet_pton(self.family, self.address)


PRESENCE = Place("240.0.0.1", PRESENCE_PROTOCOL)


class Holder(NamedTuple):
    """Who has a lock, as far as that can be seen: `pid` 0 and `uid` -1 mean not known."""

    pid: int = 0
    uid: int = -1
    command: str = ""

    def __str__(self) -> str:
        where = (
            f"process {self.pid}"
            if self.pid
            else "a process that cannot be seen from here, perhaps in a container"
        )
        user = f", uid {self.uid}" if self.uid >= 0 else ""
        return where + user + (f": {self.command}" if self.command else "")


class HeldError(AnnounceError):
    """Another vipd has the lock, or somebody else has and there is no way around; `holder` tells
    who.
    """

    def __init__(self, holder: Holder, *, is_vipd: bool) -> None:
        super().__init__(str(holder))
        self.holder = holder
        self.is_vipd = is_vipd


class NamespaceLock:
    """A lock that is held. `squatter`: who has its name without being a vipd; None: nobody."""

    def __init__(self, sock: socket.socket, squatter: Holder | None = None) -> None:
        self._socket = sock
        self.squatter = squatter

    def fileno(self) -> int:
        """Return the descriptor; a copy of it keeps the lock."""
        return self._socket.fileno()

    def close(self) -> None:
        """Let go. Idempotent."""
        self._socket.close()


def take(name: str, place: Place | None) -> NamespaceLock:
    """Take the lock of this name (the socket is `@NAME`), whose mark is at this place.

    None: a lock without a mark.

    Raises HeldError, or OSError for what has nothing to do with other processes (no descriptor
    left).
    """
    for _ in range(_ATTEMPTS):
        lock = _by_name(name, place)
        if lock is None:
            lock = _by_mark(name, place)
        if lock is not None:
            return lock
    # It comes and goes: others are just trying to take it.
    raise HeldError(_holders(name)[0], is_vipd=True)


def presence() -> socket.socket | None:
    """Return a socket that shows this process' user as one who runs a vipd, while it is open.

    None without the right to it.
    """
    try:
        return _mark(PRESENCE)
    except OSError:
        return None


# ---------------------------------------------------------------- by name


def _by_name(name: str, place: Place | None) -> NamespaceLock | None:
    """Return the lock, or None if the name is taken.

    Raises HeldError if another one has the mark.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind("\0" + name)
        # Nobody is ever served. Listening is for the one who is refused: a connection shows it our
        # process id.
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            return None
        raise
    if place is not None and (marked := _marks(place)):
        sock.close()
        raise HeldError(marked[0].holder(), is_vipd=True)
    return NamespaceLock(sock)


def _holders(name: str) -> list[Holder]:
    """Return who has the name.

    At least one entry, and several where a socket file looks like it in /proc/net/unix.
    """
    credentials = _listener(name)
    if credentials is not None:
        pid, uid = credentials
        return [Holder(pid, uid, _command(pid))]
    found = []
    for inode in _inodes(name):
        pid = _process_of(inode)
        found.append(Holder(pid, _uid_of(inode), _command(pid)))
    return found or [Holder()]


def _listener(name: str) -> tuple[int, int] | None:
    """Return process id (0: in another process id namespace) and uid of who listens there; None:
    nobody does.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as sock:
        try:
            sock.connect("\0" + name)
            pid, uid, _ = _UCRED.unpack(
                sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
            )
        except OSError:
            return None
    return pid, uid


def _inodes(name: str) -> list[int]:
    # Connections that nobody has accepted yet have the name too, and no inode.
    return [
        int(words[6])
        for words in _table("/proc/net/unix", _UNIX_COLUMNS)
        if words[7] == f"@{name}" and words[6] != "0"
    ]


# ---------------------------------------------------------------- by mark


class Marked(NamedTuple):
    """A mark in the kernel's table."""

    inode: int
    uid: int

    def holder(self) -> Holder:
        """Return whose it is."""
        pid = _process_of(self.inode)
        return Holder(pid, self.uid, _command(pid))


def _by_mark(name: str, place: Place | None) -> NamespaceLock | None:
    """Return the lock if the name's holder is no vipd.

    None if the name is free by now. Raises HeldError.
    """
    holders = _holders(name)
    if holders == [Holder()] and not _inodes(name):
        return None
    if vipd := next(filter(_is_vipd, holders), None):
        raise HeldError(vipd, is_vipd=True)
    if place is None:
        raise HeldError(holders[0], is_vipd=False)
    try:
        mark = _mark(place)
    except OSError as error:
        if error.errno not in {errno.EPERM, errno.EACCES, errno.EAFNOSUPPORT}:
            raise
        raise HeldError(holders[0], is_vipd=False) from error
    own = os.fstat(mark.fileno()).st_ino
    others = [marked.holder() for marked in _marks(place) if marked.inode != own]
    others += filter(_is_vipd, _holders(name))
    if others:
        mark.close()
        raise HeldError(others[0], is_vipd=True)
    return NamespaceLock(mark, holders[0])


def _is_vipd(holder: Holder) -> bool:
    return holder.uid in {0, os.geteuid(), *(marked.uid for marked in _marks(PRESENCE))}


def _mark(place: Place) -> socket.socket:
    family, scope = place.family, 0
    if family == socket.AF_INET6 and place.packed[0] == _LINK_LOCAL:
        # A link-local address wants an interface: any does.
        scope = _LOOPBACK
    sock = socket.socket(family, socket.SOCK_RAW, place.protocol)
    try:
        # The address need not be bound on this host.
        sock.setsockopt(*_FREEBIND[family], 1)
        sock.bind((place.address, 0) if family == socket.AF_INET else (place.address, 0, 0, scope))
    except OSError:
        sock.close()
        raise
    return sock


def _marks(place: Place) -> list[Marked]:
    """Return the marks at this place in this network namespace, of two looks at a table that may
    change meanwhile.
    """
    wanted = f"{_hexadecimal(place.packed)}:{place.protocol:04X}"
    found = {}
    for _ in range(2):
        for words in _table(_TABLES[place.family], _RAW_COLUMNS):
            if words[1] == wanted:
                found[int(words[9])] = Marked(int(words[9]), int(words[7]))
    return list(found.values())


def _hexadecimal(packed: bytes) -> str:
    """Return an address as /proc/net shows it: words of four bytes in the machine's order."""
    words = (packed[at : at + 4] for at in range(0, len(packed), 4))
    return "".join(f"{int.from_bytes(word, sys.byteorder):08X}" for word in words)


# ---------------------------------------------------------------- whose it is


def _table(path: str, columns: int) -> Iterator[list[str]]:
    """Yield the rows of a table of the kernel that have at least so many words."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123 -- pathlib would cost the guard 0.4 MB
            yield from (words for line in file if len(words := line.split()) >= columns)
    except OSError:
        return


def _uid_of(inode: int) -> int:
    """Return the user of a unix socket (sock_diag(7), Linux 5.3).

    -1 if the kernel does not tell.
    """
    header = _DIAG_REQUEST.size, _DIAG_BY_FAMILY, 1, 0, 0
    any_state = any_cookie = 0xFFFFFFFF
    request = _DIAG_REQUEST.pack(
        *header, socket.AF_UNIX, 0, 0, any_state, inode, _DIAG_UID_SHOWN, any_cookie, any_cookie
    )
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG) as sock:
            sock.settimeout(_SEARCH)
            sock.sendto(request, (0, 0))
            answer = sock.recv(4096)
    except OSError:
        return -1
    length, kind = struct.unpack_from("=IH", answer)
    at = _DIAG_HEADER
    while kind == _DIAG_BY_FAMILY and at + 8 <= length:
        size, attribute = struct.unpack_from("=HH", answer, at)
        if attribute == _DIAG_UID:
            return int.from_bytes(answer[at + 4 : at + 8], sys.byteorder)
        at += max(4, size + 3 & ~3)
    return -1


def _process_of(inode: int) -> int:
    """Return a process that has this socket open; 0 if none can be seen."""
    wanted, until = f"socket:[{inode}]", time.thread_time() + _SEARCH
    for name in ("self", *os.listdir("/proc")):  # noqa: PTH208 -- as above
        if time.thread_time() > until:
            break
        if name != "self" and not name.isdecimal():
            continue
        try:
            for number in os.listdir(f"/proc/{name}/fd"):  # noqa: PTH208 -- as above
                if os.readlink(f"/proc/{name}/fd/{number}") == wanted:  # noqa: PTH115 -- as above
                    return os.getpid() if name == "self" else int(name)
        except OSError:
            continue  # gone, or not ours to look at
    return 0


def _command(pid: int) -> str:
    """Return a process' command line as one line of printable text; empty if it cannot be seen."""
    if not pid:
        return ""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:  # noqa: PTH123 -- as above
            words = (
                file.read(4 * _LONGEST_COMMAND).decode(errors="replace").replace("\0", " ").strip()
            )
    except OSError:
        return ""
    text = "".join(c if c.isprintable() else "?" for c in words)
    return text if len(text) <= _LONGEST_COMMAND else text[:_LONGEST_COMMAND] + "..."
