"""The hands of one election: does in the kernel what the machine decided, comparing the deadline before and after.

The deadline is read from the shared word, which guard and gate obey as well. All calls are synchronous and bounded: a
bind of one address takes 0.2 ms, and nothing else of the daemon can come between a lost lease and the unbind.

The addresses of a group may lie on several interfaces, each of which has its own messages. They have one deadline, which is
compared around each of the kernel calls.
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
    """Binds and unbinds one election's addresses. `ready` has messages for each of its `parts` whose interface has been seen."""

    def __init__(self, word: Word, kernel: RouteSocket, clock: Callable[[], float] = now, *, parts: int = 1) -> None:
        self.word = word
        self.ready: tuple[ReadyMessages, ...] = ()
        self._kernel = kernel
        self._clock = clock
        self._parts = parts

    def bind(self, action: Bind) -> BindDone:
        """Bind all addresses in one go, so that each serves; all are removed again if the deadline passed meanwhile.

        The first interface that refuses one ends it: what the others have got is removed by the Unbind that follows.
        """
        if len(self.ready) < self._parts:
            late = self._lifetime(action) < 1
            return BindDone(action.epoch, ok=False, why=LATE if late else "the interface does not exist")
        done = BindDone(action.epoch, ok=True)
        for ready in self.ready:
            done = self._bind(ready, action)
            if not done.ok:
                break
        return done

    def _bind(self, ready: ReadyMessages, action: Bind) -> BindDone:
        seconds = self._lifetime(action)
        if seconds < 1:
            return BindDone(action.epoch, ok=False, why=LATE)
        try:
            failures = bind(self._kernel, ready, seconds, contested=action.repair)
        except OSError as error:
            failures, why = [], f"netlink: {error}"
        else:
            why = _sentence(failures)
        if came_late(self._clock(), self.word.deadline):
            self._undo()
            return BindDone(action.epoch, ok=False, why=LATE)
        return BindDone(action.epoch, ok=not why, why=why)

    def refresh(self, action: Refresh) -> str:
        """Give the addresses their lifetime again; return what went wrong, if anything. All are removed if it came late."""
        # An interface that refuses must not cost the others their addresses.
        troubles = [self._refresh(ready, action) for ready in self.ready]
        return "; ".join(dict.fromkeys(filter(None, troubles)))

    def _refresh(self, ready: ReadyMessages, action: Refresh) -> str:
        seconds = self._lifetime(action, shrink=action.shrink)
        if seconds < 1:
            return ""
        try:
            failures = refresh(self._kernel, ready, seconds)
        except OSError as error:
            return f"netlink: {error}"
        finally:
            if came_late(self._clock(), self.word.deadline):
                self._undo()
        return _sentence(failures)

    def unbind(self) -> UnbindDone:
        """Remove all addresses and read back that they are gone."""
        # One after the other, whatever befalls: what can go has to go.
        troubles = list(dict.fromkeys(filter(None, map(self._unbind, self.ready))))
        return UnbindDone(ok=not troubles, why="; ".join(troubles))

    def _unbind(self, ready: ReadyMessages) -> str:
        try:
            remaining = unbind(self._kernel, ready)
        except OSError as error:
            return f"netlink: {error}"
        return f"still bound: {_names(remaining)}" if remaining else ""

    def bound(self) -> dict[str, int]:
        """Return which of the election's addresses the kernel has, each on its interface, and their valid lifetimes in seconds."""
        found = dict[str, int]()
        for ready in self.ready:
            wanted = {key[:2] for key in ready.keys}
            for address in self._kernel.addresses(ready.ifindex):
                if address.key[:2] in wanted:
                    found[socket.inet_ntop(address.family, address.ip)] = address.valid_lft
        return found

    def _lifetime(self, action: Bind | Refresh, *, shrink: bool = False) -> int:
        return lifetime_to_set(self._clock(), self.word.deadline, action.lease_duration, shrink=shrink)

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
