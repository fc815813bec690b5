"""A gate's place in an interface's traffic control (a TC slot).

One filter for each direction, before all others, of one vipd.

Filters outlive their maker, so a vipd that starts has to tell what a dead one left from what
another vipd of this host (unit and DaemonSet, other addresses, same interface) has there now. A TC
slot is therefore a number, which is in the filter's handle, and a lock of that number
(`namespace_lock`), which lasts as long as its owner: a filter whose lock is free is an orphan.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import socket
import struct
from collections.abc import Collection, Mapping
from typing import NamedTuple

from announce.gate.bpf import Program
from announce.gate.program import Direction
from announce.gate.traffic_control import BPF, CLSACT, ETH_P_ALL, Filter, Place, TrafficControl
from announce.kernel.namespace_lock import TC_SLOT_PROTOCOL, HeldError, Holder, NamespaceLock, take
from announce.kernel.namespace_lock import Place as MarkPlace

NAME = "vipd-gate"
"""What `tc filter show dev eth0 ingress` calls it."""
TC_SLOTS = 16
"""More vipds than that on one interface are a mistake."""
_MARK = 0x76690000
"""'vi', the upper half of a handle; the lower half is the number of the TC slot."""
_MADE_HOOK = 0x8000
"""In a handle: vipd made the hook as well, and takes it away when nobody else uses it."""
_NUMBER_BITS = 0x7FFF


class Attached(NamedTuple):
    """What is in a TC slot.

    The kernel's numbers of the programs (0: none), and what is asked before them.
    """

    programs: Mapping[Direction, int]
    before: tuple[str, ...]

    @property
    def whole(self) -> bool:
        """Whether there is one in both directions."""
        return all(self.programs.values())


class TcSlot:
    """One TC slot on one interface, held from now until `close`.

    Prefers one that a dead vipd left filters in.

    All methods raise OSError for what the kernel refuses: ENODEV if the interface is gone, EEXIST
    if somebody's ingress qdisc is where clsact should be. `squatters`: sentences about processes
    that have the names of TC slots and are no vipd.
    """

    def __init__(self, control: TrafficControl, ifindex: int) -> None:
        self.ifindex = ifindex
        self._control = control
        self._number, self._lock, self.squatters = _taken(ifindex, _numbers(control, ifindex))

    def attached(self) -> Attached:
        """Look at what is there."""
        programs: dict[Direction, int] = {}
        before: list[str] = []
        for direction in Direction:
            filters = self._control.filters(self.ifindex, direction)
            at = next(
                (index for index, found in enumerate(filters) if number_of(found) == self._number),
                None,
            )
            programs[direction] = 0 if at is None else filters[at].program
            before += [
                _described(direction, found) for found in filters[: at or 0] if not number_of(found)
            ]
        # u32 keeps its tables as filters, too
        return Attached(programs, tuple(dict.fromkeys(before)))

    def put(self, programs: Mapping[Direction, Program]) -> None:
        """Put the programs in force, each at once in the place of the one that is there.

        Makes the hook if there is none.
        """
        handle = _MARK | self._number
        if self._control.add_hook(self.ifindex):
            handle |= _MADE_HOOK
        elif self._control.hooks().get(self.ifindex) != CLSACT:
            # The kernel would take both programs for the way in.
            raise OSError(
                errno.EEXIST, "an ingress qdisc of somebody else is where clsact should be"
            )
        for direction, program in programs.items():
            filters = self._control.filters(self.ifindex, direction)
            here = next((found for found in filters if number_of(found) == self._number), None)
            place = (
                Place(self.ifindex, direction, _foremost(filters), handle)
                if here is None
                else _place(self.ifindex, direction, here)
            )
            self._control.put(place, program.fileno(), NAME)

    def clear(self) -> None:
        """Remove the filters, and the hook if vipd made it and nothing else is
        on it. Idempotent.
        """
        _clear(self._control, self.ifindex, {self._number})

    def close(self) -> None:
        """Let go of the TC slot; what is in it becomes an orphan. Idempotent."""
        self._lock.close()


def sweep(control: TrafficControl, keep: Collection[int] = ()) -> list[int]:
    """Remove what dead vipds left on any interface but these.

    Return the numbers of the interfaces where something was.

    To be called when the addresses that they left are gone: from then on nothing would stop such an
    address.
    """
    swept: list[int] = []
    for ifindex in control.hooks().keys() - set(keep):
        orphans = {number for number in _numbers(control, ifindex) if _is_free(ifindex, number)}
        if orphans:
            _clear(control, ifindex, orphans)
            swept.append(ifindex)
    return swept


def others_before(control: TrafficControl, ifindex: int) -> tuple[str, ...]:
    """Return which filters of others would decide about frames before a gate on this interface.
    Raises OSError.
    """
    found: list[str] = []
    for direction in Direction:
        filters = control.filters(ifindex, direction)
        first = _foremost(filters)
        found += [
            _described(direction, one)
            for one in filters
            if one.priority < first and not number_of(one)
        ]
    return tuple(dict.fromkeys(found))


def number_of(found: Filter) -> int:
    """Return the number of the TC slot that a filter is in; 0 if it is no gate."""
    return (
        found.handle & _NUMBER_BITS if found.name == NAME and found.handle & ~0xFFFF == _MARK else 0
    )


# ---------------------------------------------------------------- filters


def _clear(control: TrafficControl, ifindex: int, numbers: Collection[int]) -> None:
    made_hook = False
    for direction in Direction:
        for found in control.filters(ifindex, direction):
            if number_of(found) in numbers:
                made_hook = made_hook or bool(found.handle & _MADE_HOOK)
                control.remove(_place(ifindex, direction, found))
    # Between this look and the removal somebody may add a filter, and lose it; nothing in the
    # kernel could prevent that.
    if made_hook and not any(control.filters(ifindex, direction) for direction in Direction):
        control.remove_hook(ifindex)


def _place(ifindex: int, direction: Direction, found: Filter) -> Place:
    return Place(ifindex, direction, found.priority, found.handle)


def _numbers(control: TrafficControl, ifindex: int) -> list[int]:
    found = {
        number_of(item) for direction in Direction for item in control.filters(ifindex, direction)
    }
    return sorted(found - {0})


def _foremost(filters: Collection[Filter]) -> int:
    """Return the first priority that a program for all protocols can have.

    One priority has one kind and one protocol.

    Where others of that kind are, the kernel puts the last one first.
    """
    taken = {
        found.priority for found in filters if (found.kind, found.protocol) != (BPF, ETH_P_ALL)
    }
    return next(priority for priority in itertools.count(1) if priority not in taken)


def _described(direction: Direction, found: Filter) -> str:
    name = f" {found.name}" if found.name else ""
    return (
        f"another filter ({found.kind}{name}, priority {found.priority}) decides about "
        f"{direction.value} frames first"
    )


# ---------------------------------------------------------------- who has a slot


def _taken(ifindex: int, left: Collection[int]) -> tuple[int, NamespaceLock, tuple[str, ...]]:
    """Take a TC slot: one of those with filters in them if its owner is dead, else the first that
    is free.

    Returns its number, its lock, and a sentence for each process met that has the name of a TC slot
    and is no vipd.
    """
    held: HeldError | None = None
    squatters: list[str] = []
    for number in (*left, *range(1, TC_SLOTS + 1)):
        try:
            lock = _lock(ifindex, number)
        except HeldError as error:
            held = error
            if not error.is_vipd:
                squatters.append(_squatted(ifindex, number, error.holder))
        else:
            if lock.squatter is not None:
                squatters.append(_squatted(ifindex, number, lock.squatter))
            return number, lock, tuple(squatters)
    who = f"{held.holder}" if held else "nobody"
    raise OSError(
        errno.EBUSY,
        f"{TC_SLOTS} other processes have the sockets @vipd/gate/{ifindex}/1 to {TC_SLOTS}; "
        f"the last is {who}",
    )


def _squatted(ifindex: int, number: int, holder: Holder) -> str:
    socket_name = f"@vipd/gate/{ifindex}/{number}"
    return (
        f"{holder} has the socket {socket_name}, a slot of the kernel's gate, and is no vipd: "
        "it is ignored; end that process"
    )


def _is_free(ifindex: int, number: int) -> bool:
    with contextlib.suppress(HeldError, OSError):
        _lock(ifindex, number).close()
        return True
    return False


def _lock(ifindex: int, number: int) -> NamespaceLock:
    """Take the lock that says that a TC slot is taken; raises HeldError if another vipd has it."""
    return take(f"vipd/gate/{ifindex}/{number}", _mark_place(ifindex, number))


def _mark_place(ifindex: int, number: int) -> MarkPlace | None:
    """Return where a TC slot is marked, if a process that is no vipd has its name.

    240.0.0.0/4 has room for both numbers.
    """
    if not 1 <= number <= TC_SLOTS:
        return None
    return MarkPlace(
        socket.inet_ntoa(struct.pack("!I", 0xF0 << 24 | (number - 1) << 24 | ifindex & 0xFFFFFF)),
        TC_SLOT_PROTOCOL,
    )
