"""The words that daemon, guard and the kernel's gate share.

A heartbeat and one deadline for each election.

Each word is 8 bytes, aligned, CLOCK_BOOTTIME in ns in the machine's byte order; 0 is closed. Word 0
is the heartbeat, a slot's number is its word's. Each word stands alone: nothing follows from the
order of two stores.

A store is one aligned 8-byte move. `memoryview.cast("Q")` packs a native integer by a memcpy of
constant size 8, which compilers turn into one instruction, and on 64-bit machines that is atomic.
(`struct.pack_into("<Q")` writes byte by byte: a reader could see half of two deadlines.)
"""

from __future__ import annotations

import mmap
import sys
from typing import Protocol

WORD = 8
HEARTBEAT = 0
DEFAULT_SLOTS = 511
"""One page together with the heartbeat."""
_NANOSECONDS = 1_000_000_000

if sys.maxsize < 2**63 - 1:  # pragma: no cover
    raise ImportError("vipd needs a 64-bit machine: the shared deadline is one 8-byte store")


class Memory(Protocol):
    """Writable shared memory: an anonymous mapping here, that of a BPF array map for the gate."""

    def __buffer__(self, flags: int, /) -> memoryview:
        """Return the bytes (what the buffer protocol asks for)."""
        ...


class Words:
    """A heartbeat and `count` deadlines in shared memory.

    A forked process has the same ones without further doing.
    """

    def __init__(self, count: int = DEFAULT_SLOTS, memory: Memory | None = None) -> None:
        size = (count + 1) * WORD
        view = memoryview(mmap.mmap(-1, size) if memory is None else memory)[:size]
        if view.nbytes < size:
            raise ValueError(
                f"{view.nbytes} bytes are too few for a heartbeat and {count} deadlines"
            )
        self.count = count
        self._words = view.cast("B").cast("Q")

    def deadline(self, slot: int) -> float:
        """Return the moment in seconds at which the slot's right ends; 0.0: closed.

        Raises IndexError for no slot.
        """
        return self._words[self._checked(slot)] / _NANOSECONDS

    def set_deadline(self, slot: int, seconds: float) -> None:
        """Store the moment at which the slot's right ends; 0.0 or less closes it.

        Raises IndexError for no slot.
        """
        self._words[self._checked(slot)] = _nanoseconds(seconds)

    def alive_at(self) -> float:
        """Return the moment of the daemon's last sign of life; 0.0: none yet."""
        return self._words[HEARTBEAT] / _NANOSECONDS

    def beat(self, now: float) -> None:
        """Give a sign of life.

        Sent only while the elections make progress, not by a timer beside them.
        """
        self._words[HEARTBEAT] = _nanoseconds(now)

    def _checked(self, slot: int) -> int:
        if not 1 <= slot <= self.count:
            raise IndexError(f"there is no slot {slot}: they are numbered 1 to {self.count}")
        return slot


def _nanoseconds(seconds: float) -> int:
    return max(0, int(seconds * _NANOSECONDS))
