"""The hands of one election: does in the kernel what the machine decided, comparing the deadline before and after.

The deadline is read from the shared word, which guard and gate obey as well. All calls are synchronous and bounded: a
bind of one address takes 0.2 ms, and nothing else of the daemon can come between a lost lease and the unbind.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable
from typing import Protocol

from announce.netlink import Failure, Key, ReadyMessages, RouteSocket, bind, refresh, unbind
from election.actions import Bind, Refresh
from election.events import BindDone, UnbindDone
from election.lateness import came_late, lifetime_to_set
from vipd.clock import now

LATE = ""
"""Why a bind that came late failed: nothing is wrong with the kernel."""


class Word(Protocol):
    """The shared deadline of one election."""

    @property
    def deadline(self) -> float:
        """Seconds on CLOCK_BOOTTIME; 0.0 is closed."""
        ...

    def set(self, deadline: float) -> None:
        """Write it, and wake the guard if it fell."""
        ...


class Executor:
    """Binds and unbinds one election's addresses. `ready` is None while the interface does not exist."""

    def __init__(self, word: Word, kernel: RouteSocket, clock: Callable[[], float] = now) -> None:
        self.word = word
        self.ready: ReadyMessages | None = None
        self._kernel = kernel
        self._clock = clock

    def bind(self, action: Bind) -> BindDone:
        """Bind all addresses in one go and read them back; undo it if the deadline passed meanwhile."""
        seconds = lifetime_to_set(self._clock(), self.word.deadline, action.lease_duration)
        if seconds < 1:
            return BindDone(action.epoch, ok=False, why=LATE)
        if self.ready is None:
            return BindDone(action.epoch, ok=False, why="the interface does not exist")
        try:
            failures = bind(self._kernel, self.ready, seconds)
        except OSError as error:
            failures, why = [], f"netlink: {error}"
        else:
            why = _sentence(failures)
        if came_late(self._clock(), self.word.deadline):
            self._undo()
            return BindDone(action.epoch, ok=False, why=LATE)
        return BindDone(action.epoch, ok=not why, why=why)

    def refresh(self, action: Refresh) -> str:
        """Give the addresses their lifetime again; return what went wrong, if anything. Undone if it came late."""
        seconds = lifetime_to_set(self._clock(), self.word.deadline, action.lease_duration, shrink=action.shrink)
        if seconds < 1 or self.ready is None:
            return ""
        try:
            failures = refresh(self._kernel, self.ready, seconds)
        except OSError as error:
            return f"netlink: {error}"
        finally:
            if came_late(self._clock(), self.word.deadline):
                self._undo()
        return _sentence(failures)

    def unbind(self) -> UnbindDone:
        """Remove all addresses and read back that they are gone."""
        if self.ready is None:
            return UnbindDone(ok=True)
        try:
            remaining = unbind(self._kernel, self.ready)
        except OSError as error:
            return UnbindDone(ok=False, why=f"netlink: {error}")
        return UnbindDone(ok=not remaining, why=f"still bound: {_names(remaining)}" if remaining else "")

    def bound(self) -> dict[str, int]:
        """Return which of the election's addresses the kernel has on the interface, and their valid lifetimes in seconds."""
        if self.ready is None:
            return {}
        wanted = {key[:2] for key in self.ready.keys}
        return {
            socket.inet_ntop(address.family, address.ip): address.valid_lft
            for address in self._kernel.addresses(self.ready.ifindex)
            if address.key[:2] in wanted
        }

    def _undo(self) -> None:
        """Remove what was bound too late. The guard is there for the case that this fails as well."""
        self.unbind()


def _names(keys: Iterable[Key]) -> str:
    return ", ".join(socket.inet_ntop(family, packed) for family, packed, _ in keys)


def _sentence(failures: list[Failure]) -> str:
    if not failures:
        return ""
    key, number = failures[0]
    more = f" and {len(failures) - 1} more" if len(failures) > 1 else ""
    return f"the kernel refused {_names([key])}{more}: {os.strerror(number)}"
