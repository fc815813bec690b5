"""One node's kernel: addresses with whole-second lifetimes, and the gate that obeys the shared words."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from announce.gate_succession import Succession

if TYPE_CHECKING:
    from tests.sim.host import Host

EARLIEST, USUALLY_LATEST, LATEST = -0.02, 0.5, 1.2
"""Seconds by which a lifetime ends early or late (measured; the last one only with other timed addresses on the host)."""


class Words:
    """The memory that guard, daemon and gate share: a deadline in the node's own seconds for each election, 0.0 for closed."""

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
        return frozenset(election for election, deadline in self._deadlines.items() if deadline > now)


class Kernel:
    """Addresses by election (all of an election's are bound and unbound in one batch)."""

    def __init__(self, host: Host, *, gate: bool, sloppy: bool) -> None:
        self._host = host
        self._world = host.world
        self.gate = gate
        self._latest = LATEST if sloppy else USUALLY_LATEST
        self.words = Words()
        self._obeyed = self.words
        self._slots: dict[str, int] = {}
        self._succession: Succession | None = None
        self._ends: dict[str, float] = {}
        self._watched: set[str] = set()
        self.promises: dict[str, tuple[float, int]] = {}
        self.bound_under: dict[str, Words] = {}

    def bound(self, election: str) -> bool:
        """Whether the addresses are on the interface now."""
        return self._world.now < self._ends.get(election, -math.inf)

    def serving_until(self, election: str) -> float:
        """Return the true time until which this node answers for the addresses if nothing is done (-inf: it doesn't)."""
        ends = self._ends.get(election, -math.inf)
        return min(ends, self._host.clock.true(self._obeyed.get(election))) if self.gate else ends

    def add(self, election: str, seconds: int, lease_duration: float) -> None:
        """Bind, or give a new lifetime; `lease_duration` is for the judge."""
        self._world.judge.account(election)
        self.promises[election] = (lease_duration, seconds)
        self.bound_under[election] = self.words
        rng = self._world.rng
        late = rng.uniform(EARLIEST, USUALLY_LATEST if rng.random() < 0.9 else self._latest) if self._world.weather.rough else 0.0
        self._ends[election] = self._world.now + seconds + late
        if election not in self._watched:
            self._watched.add(election)
            self._world.at(self._ends[election], self._expire, election)

    def remove(self, election: str) -> None:
        """Unbind; nothing happens if it is not there."""
        self._drop(election)

    def open_until(self, words: Words, election: str, deadline: float) -> None:
        """Write a shared word, which the gate obeys at once if its programs read this one."""
        self._world.judge.account(election)
        self._world.judge.opening(self._host, election, words.get(election), deadline)
        words.set(election, deadline)

    # ------------------------------------------------------------------ whose programs are attached

    def fresh_words(self, elections: tuple[str, ...], longest_right: float) -> Words:
        """Start a new guard's life: a new memory. The programs of a life that did not end in order stay attached, and read the old one."""
        self._slots = {election: number for number, election in enumerate(elections)}
        if self._obeyed.open(-math.inf):
            self._succession = Succession(self._host.clock.local(self._world.now) + longest_right)
            self.words = Words()
        else:
            self.words = self._obeyed = Words()
        return self.words

    def cover(self, election: str) -> None:
        """Learn that a daemon answers for this election: an address that is bound then was left by the former life."""
        if self._succession is not None and self.bound(election):
            self._succession.inherited.add(self._slots[election])

    @property
    def is_succeeding(self) -> bool:
        """Whether programs of an earlier life are still attached."""
        return self._succession is not None

    def settle(self) -> None:
        """Learn that all elections are covered."""
        if self._succession is not None:
            self._succession.settled = True

    def succeed(self) -> float:
        """Put the new programs in the place of the old ones if it is time; return when it will be, in the node's own seconds."""
        if self._succession is None:
            return math.inf
        now = self._host.clock.local(self._world.now)
        at = self._succession.replace_at(now, {self._slots[e] for e in self.words.open(now) if e in self._slots})
        if now < at:
            return at
        self._account_all()
        self._obeyed, self._succession = self.words, None
        return math.inf

    def detach(self) -> None:
        """Take the programs off the interface, in an orderly end."""
        self._account_all()
        self.words = self._obeyed = Words()
        self._succession = None

    def _account_all(self) -> None:
        for election in self._slots:
            self._world.judge.account(election)

    def reset(self) -> None:
        """Lose everything, as in a reboot."""
        for election in list(self._ends):
            self.remove(election)
        self.detach()

    def _expire(self, election: str) -> None:
        self._watched.discard(election)
        ends = self._ends.get(election)
        if ends is None:
            return
        if self._world.now < ends:
            self._watched.add(election)
            self._world.at(ends, self._expire, election)
            return
        self._drop(election)
        self._host.address_lost(election)

    def _drop(self, election: str) -> None:
        self._world.judge.account(election)
        self._ends.pop(election, None)
