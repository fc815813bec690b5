"""One node's kernel.

Addresses with whole-second lifetimes, and the gate that obeys the shared words.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from announce.gate.interface import ProgramHandover
from tests.sim.interfaces import Interfaces

if TYPE_CHECKING:
    from tests.sim.host import Host

EARLIEST, USUALLY_LATEST, LATEST = -0.02, 0.5, 1.2
"""Seconds by which a lifetime ends early or late (measured; the last one only with other timed
addresses on the host)."""


class Words:
    """The memory that guard, daemon and gate share.

    A deadline in the node's own seconds for each election, 0.0 for closed.
    """

    def __init__(self) -> None:
        self._deadlines: dict[str, float] = {}

    def get(self, election: str) -> float:
        """Return the deadline."""
        return self._deadlines.get(election, 0.0)

    def set(self, election: str, deadline: float) -> None:
        """Write the deadline: one store of eight bytes."""
        self._deadlines[election] = deadline

    def open(self, now: float) -> frozenset[str]:
        """Return the elections whose deadline is still ahead."""
        return frozenset(
            election for election, deadline in self._deadlines.items() if deadline > now
        )


class Kernel:
    """Addresses by election and interface (all of an election's are bound and unbound in one
    batch).

    `refused`: elections whose addresses the kernel takes from nobody at present (IPv6 switched off,
    no right, MTU too small). `has_refused`: elections whose last bind by the present daemon failed,
    whatever the kernel would grant now. `foreign`: elections whose address somebody else has bound
    here; vipd leaves it alone.
    """

    def __init__(self, host: Host, *, gate: bool, sloppy: bool) -> None:
        self._host = host
        self._world = host.world
        self.gate = gate
        self._latest = LATEST if sloppy else USUALLY_LATEST
        self.words = Words()
        self._obeyed = self.words
        self._slots: dict[str, int] = {}
        self._handover: ProgramHandover | None = None
        self.links = Interfaces(host.label)
        self.refused: set[str] = set()
        self.has_refused: set[str] = set()
        self.foreign: set[str] = set()
        self._ends: dict[str, dict[int, float]] = {}
        self._watched: set[tuple[str, int]] = set()
        self.promises: dict[str, tuple[float, int]] = {}
        self.bound_under: dict[str, Words] = {}

    def bound(self, election: str) -> bool:
        """Whether the addresses are on any interface now."""
        return self._world.now < self._latest_end(election)

    def places(self, election: str) -> set[int]:
        """Return the indexes of the interfaces on which vipd's addresses are."""
        return {
            index for index, end in self._ends.get(election, {}).items() if self._world.now < end
        }

    def _latest_end(self, election: str) -> float:
        ends = self._ends.get(election)
        return max(ends.values(), default=-math.inf) if ends else -math.inf

    def serving_until(self, election: str) -> float:
        """Return the true time until which this node answers for the addresses if nothing is done
        (-inf: it doesn't).
        """
        ends = self._latest_end(election)
        return min(ends, self._host.clock.true(self._obeyed.get(election))) if self.gate else ends

    def add(self, election: str, index: int, seconds: int, lease_duration: float) -> bool:
        """Bind, or give a new lifetime, and return whether the kernel did it.

        `lease_duration` is for the judge.
        """
        if self.links.at(index) is None or election in self.refused or election in self.foreign:
            return False
        self._world.judge.account(election)
        self.promises[election] = (lease_duration, seconds)
        self.bound_under[election] = self.words
        rng = self._world.rng
        late = (
            rng.uniform(EARLIEST, USUALLY_LATEST if rng.random() < 0.9 else self._latest)
            if self._world.weather.rough
            else 0.0
        )
        ends = self._ends.setdefault(election, {})
        ends[index] = self._world.now + seconds + late
        if (election, index) not in self._watched:
            self._watched.add((election, index))
            self._world.at(ends[index], self._expire, election, index)
        return True

    def remove(self, election: str, places: Iterable[int] | None = None) -> None:
        """Unbind in these places (None: in all); nothing happens where it is not."""
        for index in list(self._ends.get(election, ())) if places is None else places:
            self._drop(election, index)

    def flush(self, index: int) -> list[str]:
        """Lose all that is on an interface, and return which elections that were."""
        lost = [election for election in self._ends if index in self.places(election)]
        for election in lost:
            self._drop(election, index)
        return lost

    def open_until(self, words: Words, election: str, deadline: float) -> None:
        """Write a shared word, which the gate obeys at once if its programs read this one."""
        self._world.judge.account(election)
        self._world.judge.opening(self._host, election, words.get(election), deadline)
        words.set(election, deadline)

    # ------------------------------------------------------------------ whose programs are attached

    def fresh_words(self, elections: tuple[str, ...], longest_right: float) -> Words:
        """Start a new guard's life: a new memory.

        The programs of a life that did not end in order stay attached, and read the old one.
        """
        self._slots = {election: number for number, election in enumerate(elections)}
        if self._obeyed.open(-math.inf):
            self._handover = ProgramHandover(
                self._host.clock.local(self._world.now) + longest_right
            )
            self.words = Words()
        else:
            self.words = self._obeyed = Words()
        return self.words

    def cover(self, election: str) -> None:
        """Learn that a daemon answers for this election.

        An address that is bound then was left by the former daemon.
        """
        if self._handover is not None and self.bound(election):
            self._handover.inherited.add(self._slots[election])

    @property
    def is_succeeding(self) -> bool:
        """Whether programs of an earlier guard are still attached."""
        return self._handover is not None

    def settle(self) -> None:
        """Learn that all elections are covered."""
        if self._handover is not None:
            self._handover.settled = True

    def succeed(self) -> float:
        """Put the new programs in the place of the old ones if it is time.

        Return when it will be, in the node's own seconds.
        """
        if self._handover is None:
            return math.inf
        now = self._host.clock.local(self._world.now)
        at = self._handover.replace_at(
            now, {self._slots[e] for e in self.words.open(now) if e in self._slots}
        )
        if now < at:
            return at
        self._account_all()
        self._obeyed, self._handover = self.words, None
        return math.inf

    def detach(self) -> None:
        """Take the programs off the interface, in an orderly end."""
        self._account_all()
        self.words = self._obeyed = Words()
        self._handover = None

    def _account_all(self) -> None:
        for election in self._slots:
            self._world.judge.account(election)

    def reset(self) -> None:
        """Lose everything, as in a reboot."""
        for election in list(self._ends):
            self.remove(election)
        self.detach()

    def _expire(self, election: str, index: int) -> None:
        self._watched.discard((election, index))
        end = self._ends.get(election, {}).get(index)
        if end is None:
            return
        if self._world.now < end:
            self._watched.add((election, index))
            self._world.at(end, self._expire, election, index)
            return
        self._drop(election, index)
        self._host.address_lost(election)

    def _drop(self, election: str, index: int) -> None:
        self._world.judge.account(election)
        self._ends.get(election, {}).pop(index, None)
