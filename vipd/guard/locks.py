"""One daemon for one address.

A lock for each address that all of a network namespace sees (`announce.kernel.namespace_lock`).

Guard and daemon both hold it: it is free only when both are gone.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Sequence

from announce.kernel.namespace_lock import HeldError, Holder, NamespaceLock, Place, presence, take
from vipd.guard.errors import LockedError


class Locks:
    """The locks of this guard.

    `log` gets a sentence about a process that tries to keep vipd from an address.
    """

    def __init__(self, log: Callable[[str], None] = lambda _: None) -> None:
        self._log = log
        self._held: dict[str, NamespaceLock] = {}
        self._asked: set[str] = set()
        # While it is open, other users' vipds know that this one is no squatter.
        self._presence = presence()

    def expect_daemon(self) -> None:
        """Expect a new daemon to ask for its locks.

        What was held for the one before stays until `settle`.
        """
        self._asked = set()

    def lock(self, names: Sequence[str]) -> list[int]:
        """Take the locks that are not held yet and return the descriptors of all.

        Raises LockedError and then takes none.
        """
        taken: dict[str, NamespaceLock] = {}
        try:
            for name in names:
                if name not in self._held and name not in taken:
                    taken[name] = _taken(name)
        except LockedError:
            for lock in taken.values():
                lock.close()
            raise
        for name, lock in taken.items():
            if lock.squatter is not None:
                self._log(_squatted(name, lock.squatter))
        self._held |= taken
        self._asked |= set(names)
        return [self._held[name].fileno() for name in names]

    def shown(self) -> list[int]:
        """Return the descriptor that shows that this is a vipd, for the daemon to keep as long as
        its locks; none without the right.
        """
        return [] if self._presence is None else [self._presence.fileno()]

    def unlock(self, names: Iterable[str]) -> None:
        """Let go of these; the lock is free when the daemon has closed its own descriptor too."""
        for name in names:
            self._asked.discard(name)
            if name in self._held:
                self._held.pop(name).close()

    def settle(self) -> None:
        """Let go of what only the daemon before asked for.

        Its configuration may have had other addresses.
        """
        self.unlock(self._held.keys() - self._asked)

    def close(self) -> None:
        """Let go of all."""
        self.unlock(list(self._held))
        if self._presence is not None:
            self._presence.close()
            self._presence = None


def _taken(name: str) -> NamespaceLock:
    try:
        return take(f"vipd/{name}", _place(name))
    except HeldError as error:
        if error.is_vipd:
            raise LockedError(
                f"{name} is managed by another vipd{_managed(error.holder)}"
            ) from error
        text = (
            f"{name} cannot be locked: {error.holder} has the socket @vipd/{name} and is no "
            "vipd; end that process"
        )
        raise LockedError(text) from error
    except OSError as error:
        raise LockedError(
            f"{name} cannot be locked against other daemons of this host: {error.strerror}"
        ) from error


def _place(name: str) -> Place | None:
    try:
        socket.inet_pton(socket.AF_INET6 if ":" in name else socket.AF_INET, name)
    except OSError:
        return None
    return Place(name)


def _managed(holder: Holder) -> str:
    # In another process id namespace (a pod) there is no number.
    where = f" (process {holder.pid})" if holder.pid else " (in a container, or out of sight)"
    user = f"; uid {holder.uid}" if holder.uid >= 0 else ""
    return f"{where} on this host already{user}" + (f", {holder.command}" if holder.command else "")


def _squatted(name: str, holder: Holder) -> str:
    return (
        f"{holder} has the socket @vipd/{name}, with which vipd locks {name}, and is no vipd: "
        "it is ignored; end that process"
    )
