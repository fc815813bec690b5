"""The programs of one gate, or of several that know the same addresses.

Loaded, tried out, and exchanged when there is no room.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from announce.gate.loaded import Loaded, Slots
from announce.gate.maps import Deadlines
from announce.gate.selftest import self_test


class GateError(Exception):
    """The gate cannot be in force; the text says why."""


class Supply:
    """Loads nothing before it is asked to. `loaded` is what there is, if there is anything."""

    def __init__(self, deadlines: Deadlines, loaded: Loaded | None = None) -> None:
        self.loaded = loaded
        self._deadlines = deadlines
        self._earlier_drops = Counter[bytes]()

    def covering(self, slots: Slots, elsewhere: Slots) -> Loaded:
        """Return programs that know these addresses and no others.

        New ones if there are none or they have no room.

        Raises GateError if the kernel does not do with them what it should, BpfError if it refuses
        them.
        """
        former = self.loaded
        if former is None or not former.has_room({**slots, **elsewhere}):
            fresh = Loaded(self._deadlines, len({**slots, **elsewhere}))
            wrong = self_test(fresh, self._deadlines)
            if wrong:
                fresh.close()
                raise GateError(wrong)
            if former is not None:
                self._earlier_drops.update(former.dropped())
                former.close()
            self.loaded = former = fresh
        former.cover(slots, elsewhere)
        return former

    def dropped(self) -> Mapping[bytes, int]:
        """Return how many frames were dropped for each address; raises BpfError."""
        drops = Counter(self._earlier_drops)
        if self.loaded is not None:
            drops.update(self.loaded.dropped())
        return dict(drops)

    def close(self) -> None:
        """Let go of the programs; what is attached stays in force. Idempotent."""
        if self.loaded is not None:
            self.loaded.close()
            self.loaded = None
