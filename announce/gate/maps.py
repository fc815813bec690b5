"""The gate's memory: one deadline for each election, read by the programs on all interfaces.

Words of 8 bytes, CLOCK_BOOTTIME in ns in the machine's byte order, 0 closed. Whoever maps it stores
a deadline without a system call; a value is an absolute moment, so one that is stored late, by a
process that was frozen, extends nothing. The map lives as long as a descriptor, a mapping in some
process, or an attached program of it.
"""

from __future__ import annotations

import mmap
import resource
import sys

from announce.gate import bpf

WORD = 8
_ONE_MORE = 1


class Deadlines:
    """The map of deadlines, mapped into this process and those that are forked from it.

    `words` counts the first one, which belongs to whoever made the map (vipd's heartbeat) and which
    no address refers to. A last word beyond them is for self-tests: no mapping reaches it.

    A mapping holds a descriptor of its own. Keep this object to the end of the process: after a
    child has closed inherited descriptors, its destruction would close one that is not its own.
    """

    def __init__(self, kept: bpf.Map, words: int) -> None:
        self.words = words
        self.map = kept
        self.memory = mmap.mmap(
            kept.fileno(),
            words * WORD,
            flags=mmap.MAP_SHARED,
            prot=mmap.PROT_READ | mmap.PROT_WRITE,
        )
        self._view = memoryview(self.memory).cast("Q")

    @classmethod
    def create(cls, words: int) -> Deadlines:
        """Return a new map, all closed.

        Raises OSError (EPERM without CAP_BPF, EINVAL before Linux 5.5).

        Takes all the locked memory that this process may have: before Linux 5.11 maps and programs
        count against it.
        """
        _, most = resource.getrlimit(resource.RLIMIT_MEMLOCK)
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (most, most))
        kept = bpf.create_map(
            bpf.MAP_ARRAY, (4, WORD), words + _ONE_MORE, flags=bpf.F_MMAPABLE, name="vipd_deadlines"
        )
        return cls(kept, words)

    @classmethod
    def from_descriptor(cls, number: int, words: int) -> Deadlines:
        """Return the map behind a descriptor that another process passed on (SCM_RIGHTS).

        It belongs to this object now.
        """
        return cls(bpf.Map(number, 4, WORD), words)

    def fileno(self) -> int:
        """Return the map's descriptor, to pass on or to keep over a fork."""
        return self.map.fileno()

    def at(self, slot: int) -> int:
        """Return a slot's deadline in ns; 0 is closed. Raises IndexError for no slot."""
        if not 1 <= slot < self.words:
            raise IndexError(f"there is no slot {slot}: they are numbered 1 to {self.words - 1}")
        return int(self._view[slot])

    def close(self) -> None:
        """Unmap it, if nobody looks into it (BufferError), and close the descriptor."""
        self._view.release()
        self.memory.close()
        self.map.close()

    @property
    def test_slot(self) -> int:
        """The number of the word for self-tests."""
        return self.words

    def set_test(self, nanoseconds: int) -> None:
        """Store the deadline of the self-test's slot; raises BpfError."""
        self.map.set(
            self.test_slot.to_bytes(4, sys.byteorder), nanoseconds.to_bytes(WORD, sys.byteorder)
        )
