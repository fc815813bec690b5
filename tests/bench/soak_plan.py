"""What befalls the group in a soak, drawn from a seed: the same seed gives the same plan. Pure.

A plan is an endless row of rounds. In a round one fault happens, or several at once, each healed
after a time of its own; after it the group has to become calm again. Every kind of fault is played
once before any comes again.
"""

from __future__ import annotations

import enum
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

LATEST_BEGIN = 3.0
"""Faults of one round begin within so many seconds of one another."""
TOGETHER = ((1, 0.55), (2, 0.30), (3, 0.15))
"""How often a round has so many faults."""


class Scope(enum.StrEnum):
    """What a fault takes hold of.

    A round has no two faults of one scope, but up to three on different nodes.
    """

    NODE = "node"
    STORE = "store"
    RECORD = "record"
    CONFIG = "config"
    NETWORK = "network"


class Aim(enum.StrEnum):
    """Which node a fault is meant for; who that is shows when it happens."""

    WEB_OWNER = "the owner of web"
    EDGE_OWNER = "the owner of edge"
    OTHER = "one that owns nothing"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault. It lasts for `shortest` to `longest` seconds, short ones as often as long
    ones (by their logarithm).
    """

    key: str
    title: str
    scope: Scope
    shortest: float = 0.5
    longest: float = 6.0
    aims: tuple[Aim, ...] = (Aim.WEB_OWNER, Aim.EDGE_OWNER)


OWNERS = (Aim.WEB_OWNER, Aim.EDGE_OWNER)
ANY = (*OWNERS, Aim.OTHER)
CATALOGUE = (
    Kind("handover", "planned handover, then --auto", Scope.NODE, 1.0, 4.0),
    Kind("drain", "drain, then resume", Scope.NODE, 1.0, 6.0),
    Kind("stop", "stopped (SIGTERM), then started", Scope.NODE, 0.5, 6.0, ANY),
    Kind("daemon_killed", "daemon killed, guard stays", Scope.NODE, 1.0, 2.0, ANY),
    Kind("daemon_frozen", "daemon frozen, guard stays", Scope.NODE, 1.0, 3.0),
    Kind("guard_killed", "guard killed, daemon stays", Scope.NODE, 2.0, 4.0),
    Kind("all_killed", "guard and daemon killed at once", Scope.NODE, 0.1, 6.0, ANY),
    Kind("all_frozen", "guard and daemon frozen", Scope.NODE, 0.1, 20.0, ANY),
    Kind("cable", "cable pulled", Scope.NODE, 0.3, 8.0, ANY),
    Kind("cut", "cut off without a sign", Scope.NODE, 0.3, 10.0, ANY),
    Kind("ingress", "ingress broken", Scope.NODE, 1.0, 6.0),
    Kind("vip_deleted", "VIP deleted by hand", Scope.NODE, 0.5, 1.0),
    Kind("vip_added", "VIP added by hand on a Backup", Scope.NODE, 0.5, 1.0, (Aim.OTHER,)),
    Kind("nft_flushed", "nft flush ruleset", Scope.NODE, 0.5, 1.0),
    Kind("split", "nodes cannot reach each other", Scope.NETWORK, 1.0, 8.0),
    Kind("etcd_killed", "an etcd member killed", Scope.STORE, 1.0, 6.0),
    Kind("etcd_frozen", "an etcd member frozen", Scope.STORE, 0.5, 8.0),
    Kind("etcd_cut", "an etcd member cut off", Scope.STORE, 0.5, 8.0),
    Kind("etcd_all_frozen", "all of etcd frozen", Scope.STORE, 0.1, 5.0),
    Kind("record_edited", "a record edited by hand", Scope.RECORD, 0.5, 1.0),
    Kind("record_deleted", "a record deleted by hand", Scope.RECORD, 0.5, 1.0),
    Kind("record_emptied", "a record emptied by hand", Scope.RECORD, 0.5, 1.0),
    Kind("timing_changed", "reload with another lease_duration", Scope.CONFIG, 2.0, 6.0),
    Kind("addresses_changed", "reload with fewer addresses", Scope.CONFIG, 2.0, 6.0),
)
STOPPING = frozenset({"all_killed", "all_frozen"})
"""Guard and daemon stand still at once: the address may stay bound, but nothing may answer."""


@dataclass(frozen=True, slots=True)
class Strike:
    """One fault of a round.

    It happens `at` seconds after the round's begin and is healed `lasts` seconds later.

    `pick` (0 to 2) tells which of several like things: the etcd member, the record, the address.
    """

    kind: Kind
    at: float
    lasts: float
    aim: Aim
    pick: int

    @property
    def ends(self) -> float:
        """When it is healed, in seconds after the round's begin."""
        return self.at + self.lasts


@dataclass(frozen=True, slots=True)
class Round:
    """Faults that happen together.

    `phase` seconds of calm come first, so that they fall at any moment of a renewal.
    """

    number: int
    phase: float
    strikes: tuple[Strike, ...]

    @property
    def name(self) -> str:
        """The kind of its only fault, or that there were several."""
        return (
            self.strikes[0].kind.key if len(self.strikes) == 1 else f"{len(self.strikes)} at once"
        )


def rounds(seed: int, catalogue: tuple[Kind, ...] = CATALOGUE) -> Iterator[Round]:
    """Yield the rounds of a seed, without end."""
    rng = random.Random(seed)
    deck: list[Kind] = []
    number = 0
    while True:
        number += 1
        (wanted,) = rng.choices(
            [count for count, _ in TOGETHER], [weight for _, weight in TOGETHER]
        )
        drawn: list[Kind] = []
        while len(drawn) < wanted:
            if not deck:
                deck = list(catalogue)
                rng.shuffle(deck)
            if not _fits(deck[-1], drawn):
                break  # it opens the next round instead: no kind is put off for ever
            drawn.append(deck.pop())
        yield Round(
            number,
            round(rng.uniform(0.0, 0.6), 3),
            tuple(_strike(rng, kind, first=not i) for i, kind in enumerate(drawn)),
        )


def _fits(kind: Kind, drawn: list[Kind]) -> bool:
    return kind.scope is Scope.NODE or all(other.scope is not kind.scope for other in drawn)


def _strike(rng: random.Random, kind: Kind, *, first: bool) -> Strike:
    lasts = math.exp(rng.uniform(math.log(kind.shortest), math.log(kind.longest)))
    begin = 0.0 if first else rng.uniform(0.0, LATEST_BEGIN)
    return Strike(kind, round(begin, 3), round(lasts, 3), rng.choice(kind.aims), rng.randrange(3))
