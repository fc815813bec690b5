"""The gate's programs for one interface, loaded and tried out, with the map of the addresses that
they know.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping

from announce.gate import bpf
from announce.gate.maps import Deadlines
from announce.gate.program import (
    ENTRY_SIZE,
    KEY_SIZE,
    LICENSE,
    Direction,
    dropped,
    entry,
    key,
    program,
)

SMALLEST = 64
"""Addresses that there is room for at least; before Linux 5.11 all room counts against
RLIMIT_MEMLOCK."""

Slots = Mapping[bytes, int]
"""Packed addresses, each with the number of its deadline."""


class Loaded:
    """Two programs, one for each direction, and their addresses. Nothing is attached here.

    Raises OSError (EPERM without CAP_BPF and CAP_NET_ADMIN) when the kernel does not take them.
    """

    def __init__(self, deadlines: Deadlines, room: int) -> None:
        self.room = max(SMALLEST, 1 << (room - 1).bit_length())
        self._known: dict[bytes, tuple[int, bool]] = {}
        with contextlib.ExitStack() as undo:
            self._addresses = bpf.create_map(
                bpf.MAP_HASH, (KEY_SIZE, ENTRY_SIZE), self.room, name="vipd_addresses"
            )
            undo.callback(self._addresses.close)
            self.programs: dict[Direction, bpf.Program] = {}
            for direction in Direction:
                code = program(direction, self._addresses.fileno(), deadlines.fileno())
                self.programs[direction] = bpf.load(code, LICENSE, f"vipd_{direction.value}")
                undo.callback(self.programs[direction].close)
            undo.pop_all()

    def has_room(self, ips: Collection[bytes]) -> bool:
        """Return whether `cover` could do it, which adds before it takes away."""
        return len(self._known.keys() | set(ips)) <= self.room

    def cover(self, slots: Slots, elsewhere: Slots | None = None) -> None:
        """Know these addresses and no others, from now on.

        Raises BpfError (E2BIG) if there is no room.

        `elsewhere`: those that belong to other interfaces.
        """
        self._know(
            {
                **{ip: (slot, True) for ip, slot in (elsewhere or {}).items()},
                **{ip: (slot, False) for ip, slot in slots.items()},
            }
        )

    def _know(self, wanted: Mapping[bytes, tuple[int, bool]]) -> None:
        for ip, known in wanted.items():
            # An entry that stays is not touched: it counts on.
            if self._known.get(ip) != known:
                self._addresses.set(key(ip), entry(known[0], elsewhere=known[1]))
                self._known[ip] = known
        for ip in self._known.keys() - wanted.keys():
            self._addresses.delete(key(ip))
            del self._known[ip]

    def dropped(self) -> dict[bytes, int]:
        """Return how many frames were dropped for each address since it is
        known; raises BpfError.
        """
        return {ip: dropped(found) for ip in self._known if (found := self._addresses.get(key(ip)))}

    def ids(self) -> dict[Direction, int]:
        """Return the kernel's numbers of the programs, by which an attached filter is told from
        another one.
        """
        return {direction: loaded.id for direction, loaded in self.programs.items()}

    @contextlib.contextmanager
    def borrowed(self, slots: Slots, elsewhere: Slots | None = None) -> Iterator[None]:
        """Know these addresses instead for a while, before anything is attached."""
        kept = dict(self._known)
        try:
            self.cover(slots, elsewhere)
            yield
        finally:
            self._know(kept)

    def close(self) -> None:
        """Let go of programs and map; what is attached stays in force. Idempotent."""
        for loaded in self.programs.values():
            loaded.close()
        self._addresses.close()
