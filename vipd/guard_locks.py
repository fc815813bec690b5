r"""One daemon for one address: a lock for each address that all of a network namespace sees, and no other.

The lock is a bound abstract unix socket `\0vipd/<address>`: abstract names belong to the network namespace, as addresses
do, so a systemd unit and a pod with the host's network meet, and two namespaces of the demo do not. No file stays behind.
Guard and daemon both hold it: it is free only when both are gone.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Sequence

_UCRED = struct.Struct("=iii")
_BACKLOG = 128


class LockedError(Exception):
    """Another process holds an address; the sentence says which one."""


class Locks:
    """The locks of this guard."""

    def __init__(self) -> None:
        self._held: dict[str, socket.socket] = {}
        self._asked: set[str] = set()

    def begin_life(self) -> None:
        """Expect a new daemon to ask for its locks; what was held for the former one stays until `settle`."""
        self._asked = set()

    def lock(self, names: Sequence[str]) -> list[int]:
        """Take the locks that are not held yet and return the descriptors of all; raises LockedError and then takes none."""
        taken: dict[str, socket.socket] = {}
        try:
            for name in names:
                if name not in self._held:
                    taken[name] = _bound(name)
        except LockedError:
            for sock in taken.values():
                sock.close()
            raise
        self._held |= taken
        self._asked |= set(names)
        return [self._held[name].fileno() for name in names]

    def unlock(self, names: Iterable[str]) -> None:
        """Let go of these; the lock is free when the daemon has closed its own descriptor too."""
        for name in names:
            self._asked.discard(name)
            if name in self._held:
                self._held.pop(name).close()

    def settle(self) -> None:
        """Let go of what only a former daemon asked for: its configuration may have had other addresses."""
        self.unlock(self._held.keys() - self._asked)

    def close(self) -> None:
        """Let go of all."""
        self.unlock(list(self._held))


def _address(name: str) -> bytes:
    return b"\0vipd/" + name.encode()


def _bound(name: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(_address(name))
        # Nobody is ever served. Listening is for the one who is refused: a connection shows him our process id.
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        raise LockedError(f"{name} is managed by {_holder(name)} on this host already") from error
    return sock


def _holder(name: str) -> str:
    """Return who listens, as far as that can be seen."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as sock:
        try:
            sock.connect(_address(name))
            pid, _, _ = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
        except OSError:
            return "another vipd"
    # In another process id namespace (a pod) the number is 0.
    return f"another vipd (process {pid})" if pid else "another vipd (in a container)"
