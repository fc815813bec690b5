"""The hands of one election.

Does in the kernel what the machine decided, comparing the deadline before and after.

The deadline is read from the shared word, which guard and gate obey as well. All calls are
synchronous and bounded: a bind of one address takes 0.2 ms, and nothing else of the daemon can come
between a lost lease and the unbind.

The addresses of a group may lie on several interfaces, each of which has its own messages. They
have one deadline, which is compared around each of the kernel calls.

An interface's name may come to mean another interface while addresses are bound. So each place
where something may be bound, an interface's number, is noted before the kernel is called, and only
a read-back there makes it forgotten:
    1. bound on eth0, which is number 2; somebody renames it eth1 and makes a new eth0, number 5
    2. an unbind by name would look at number 5, find nothing and report that the address is gone
    3. the lease would be released, and number 2 would go on answering beside the next owner
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

from announce.kernel.addresses import (
    BoundAddress,
    Failure,
    Foreign,
    Key,
    ReadyMessages,
    RouteSocket,
    bind,
    look,
    refresh,
    reshape,
    unbind,
)
from announce.kernel.messages import elsewhere
from announce.kernel.netlink import interface_name
from announce.kernel.ownership import written
from election.actions import Bind, Refresh
from election.events import BindDone, UnbindDone
from election.timing import came_late, lifetime_to_set
from vipd.clock import now

LOOKS_AT_ONCE = 100
LATE = ""
"""Why a bind that came late failed: nothing is wrong with the kernel."""

Place = tuple[int, tuple[Key, ...]]
"""The number of an interface, and addresses that may be bound there."""


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
    """Binds and unbinds one election's addresses.

    `ready` has messages for each of its `parts` whose interface has been seen.

    `on_removed` is called with a sentence for each address removed that the present daemon had not
    bound.
    """

    def __init__(
        self,
        word: Word,
        kernel: RouteSocket,
        clock: Callable[[], float] = now,
        *,
        parts: int = 1,
        on_removed: Callable[[str], None] = lambda _sentence: None,
    ) -> None:
        self.word = word
        self.ready: tuple[ReadyMessages, ...] = ()
        self._on_removed = on_removed
        self._unserved = deque[tuple[int, bytes]]()
        self._kernel = kernel
        self._clock = clock
        self._parts = parts
        self._places: dict[Place, ReadyMessages] = {}

    def adopt(self, templates: Iterable[ReadyMessages]) -> None:
        """Note where the kernel has these addresses from a previous daemon, on whatever interface:
        they are unbound there.
        """
        bound = self._kernel.addresses()
        for template in templates:
            self._note(elsewhere(bound, template))

    def _note(self, places: Iterable[ReadyMessages]) -> None:
        self._places |= {_place(ready): ready for ready in places}

    def bind(self, action: Bind) -> BindDone:
        """Bind all addresses in one go, so that each serves.

        All are removed again if the deadline passed meanwhile.

        The first interface that refuses one ends it: what the others have got is removed by the
        Unbind that follows.
        """
        if len(self.ready) < self._parts:
            late = self._lifetime(action) < 1
            return BindDone(
                action.epoch, ok=False, why=LATE if late else "the interface does not exist"
            )
        if left := self._remove(self._strays()):
            return BindDone(action.epoch, ok=False, why=left)
        done = BindDone(action.epoch, ok=True)
        for ready in self.ready:
            done = self._bind(ready, action)
            if not done.ok:
                break
        six = [
            (ready.ifindex, key[1])
            for ready in self.ready
            for key in ready.keys
            if key[0] == socket.AF_INET6
        ]
        self._unserved = deque(six if done.ok else ())
        return done

    def serves(self) -> bool:
        """Whether all addresses that were bound last are in force.

        Looks at a hundred at once, which takes 2 ms.

        The kernel accepts an IPv6 address and finishes it in a work queue: as a rule within 0.3 ms,
        under load 5 ms and more later. A client that was told of the new MAC before that gets no
        answer.
        """
        for _ in range(LOOKS_AT_ONCE):
            if not self._unserved:
                return True
            try:
                if not self._kernel.is_served(*self._unserved[0]):
                    return False
            except OSError:
                return False
            self._unserved.popleft()
        return not self._unserved

    @property
    def awaited(self) -> str:
        """The address that the kernel has accepted and does not serve yet."""
        return socket.inet_ntop(socket.AF_INET6, self._unserved[0][1]) if self._unserved else ""

    def _bind(self, ready: ReadyMessages, action: Bind) -> BindDone:
        seconds = self._lifetime(action)
        if seconds < 1:
            return BindDone(action.epoch, ok=False, why=LATE)
        self._note([ready])
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
        """Give the addresses their lifetime again; return what went wrong, if anything.

        All are removed if it came late.
        """
        # An interface that refuses must not cost the others their addresses.
        troubles = [self._refresh(ready, action) for ready in self.ready]
        return "; ".join(dict.fromkeys(filter(None, troubles)))

    def _refresh(self, ready: ReadyMessages, action: Refresh) -> str:
        seconds = self._lifetime(action, shrink=action.shrink)
        if seconds < 1:
            return ""
        self._note([ready])
        try:
            failures = refresh(self._kernel, ready, seconds)
        except OSError as error:
            return f"netlink: {error}"
        finally:
            if came_late(self._clock(), self.word.deadline):
                self._undo()
        return _sentence(failures)

    def unbind(self) -> UnbindDone:
        """Remove all addresses wherever they may be bound, and read back there
        that they are gone.
        """
        self._note(self.ready)
        left = self._remove(list(self._places.values()))
        return UnbindDone(ok=not left, why=left)

    def _remove(self, places: Iterable[ReadyMessages]) -> str:
        """Remove the addresses in these places, and forget those where they are gone; return what
        went wrong.
        """
        # Try every interface, even if one fails.
        troubles = list(dict.fromkeys(filter(None, map(self._unbind, places))))
        return "; ".join(troubles)

    def _unbind(self, ready: ReadyMessages) -> str:
        try:
            done = unbind(self._kernel, ready)
        except OSError as error:
            return f"netlink: {error}"
        for address in done.others:
            self._on_removed(
                f"removed {written(address)} from {ready.interface}: this node does not own it, "
                "and vipd had not bound it"
            )
        if done.remaining:
            return f"still bound: {', '.join(map(written, done.remaining))}"
        self._places.pop(_place(ready), None)
        return ""

    @property
    def has_strays(self) -> bool:
        """Whether something may be bound where the addresses do not belong any more; the next bind
        removes it.
        """
        return bool(self._strays())

    def _strays(self) -> list[ReadyMessages]:
        current = set(map(_place, self.ready))
        return [ready for place, ready in self._places.items() if place not in current]

    def bound(self) -> dict[str, int]:
        """Return which of the election's addresses vipd has bound, each on its interface, and their
        valid lifetimes in seconds.
        """
        own = (address for ready in self.ready for address in look(self._kernel, ready)[0])
        return {socket.inet_ntop(address.family, address.ip): address.valid_lft for address in own}

    def foreign(self) -> list[tuple[str, Foreign]]:
        """Return the addresses of the election that somebody else has bound, each with its
        interface, and what depends on it.
        """
        found = list[tuple[str, Foreign]]()
        for ready in self.ready:
            with contextlib.suppress(OSError):
                found += [(ready.interface, one) for one in look(self._kernel, ready)[1]]
        return found

    def take_stock(self) -> None:
        """Look at what the previous daemon left, at start.

        Name it, and bind anew what it bound under another prefix length.
        """
        for ready in self.ready:
            with contextlib.suppress(OSError):
                for address in reshape(self._kernel, ready):
                    where = f"{written(address)} from {ready.interface}"
                    self._on_removed(
                        f"removed {where}, which another version of vipd left, and bound it anew "
                        "as a single address"
                    )

    def unbind_leftovers(self) -> UnbindDone:
        """Do what `unbind` does, and name each address of the previous daemon that is removed."""
        self._note(self.ready)
        before = list[tuple[str, BoundAddress]]()
        for ready in self._places.values():
            with contextlib.suppress(OSError):
                before += [
                    (interface_name(ready.ifindex), address)
                    for address in look(self._kernel, ready)[0]
                ]
        done = self.unbind()
        if done.ok:
            for interface, address in before:
                self._on_removed(
                    f"removed {written(address)} from {interface}: the previous vipd left it, and "
                    "no lease covers it"
                )
        return done

    def _lifetime(self, action: Bind | Refresh, *, shrink: bool = False) -> int:
        return lifetime_to_set(
            self._clock(), self.word.deadline, action.lease_duration, shrink=shrink
        )

    def _undo(self) -> None:
        """Remove what was bound too late.

        The guard is there for the case that this fails as well.
        """
        self.unbind()


def _place(ready: ReadyMessages) -> Place:
    return (ready.ifindex, ready.keys)


def _names(keys: Iterable[Key]) -> str:
    return ", ".join(socket.inet_ntop(family, packed) for family, packed, _ in keys)


def _sentence(failures: list[Failure]) -> str:
    if not failures:
        return ""
    key, number = failures[0]
    more = f" and {len(failures) - 1} more" if len(failures) > 1 else ""
    return f"the kernel refused {_names([key])}{more}: {os.strerror(number)}"
