"""Which elections of the store claim which addresses.

One address in two of them makes the later one stay out.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from ipaddress import ip_interface

from election.model import Found, Record
from election.stores.contract import ElectionChanged


@dataclass(frozen=True, slots=True)
class Claim:
    """What an election's record last said, and when it last changed."""

    record: Record
    changed_at: float

    def stands(self, now: float) -> bool:
        """Whether somebody holds it: a record that nobody renews or takes claims nothing."""
        return (
            bool(self.record.holder)
            and now < self.changed_at + 2 * self.record.lease_duration / 1000
        )


class Claims:
    """The held records of all elections of the store, this node's and others.

    Found by address, for there may be hundreds.
    """

    def __init__(self) -> None:
        self._claims: dict[str, Claim] = {}
        self._elections: dict[str, set[str]] = {}

    def observe_election(self, now: float, event: ElectionChanged) -> frozenset[str]:
        """Take in what a watch showed.

        Return the addresses whose claim may be another one now; a renewal changes none.
        """
        before = self._claims.pop(event.election, None)
        claim = Claim(event.content.record, now) if isinstance(event.content, Found) else None
        if claim is not None:
            self._claims[event.election] = claim
        claimed_before = hosts(before.record.addresses) if before else frozenset[str]()
        claimed_now = hosts(claim.record.addresses) if claim else frozenset[str]()
        for address in claimed_before - claimed_now:
            self._elections[address].discard(event.election)
            if not self._elections[address]:
                del self._elections[address]
        for address in claimed_now - claimed_before:
            self._elections.setdefault(address, set()).add(event.election)
        stood = claimed_before if before is not None and before.stands(now) else frozenset()
        stands = claimed_now if claim is not None and claim.stands(now) else frozenset()
        has_bound = (
            claim is not None
            and claim.record.bound
            and not (before is not None and before.record.bound)
        )
        return stood ^ stands | (stands if has_bound else frozenset())

    def against(self, now: float, election: str, addresses: frozenset[str], *, active: bool) -> str:
        """Return the election whose claim this one has to respect, or nothing.

        Who is Active was first, and stays, though another took its record in the same moment: that
        one sees this claim before it has bound. If both have, the name decides.
        """
        others = {other for address in addresses for other in self._elections.get(address, ())} - {
            election
        }
        for other in sorted(others):
            if not self._claims[other].stands(now):
                continue
            if not active or (other < election and self._claims[other].record.bound):
                return other
        return ""


@functools.lru_cache(maxsize=4096)
def hosts(addresses: tuple[str, ...]) -> frozenset[str]:
    """Return the addresses without their prefix lengths; what is none is left out."""
    found = set()
    for address in addresses:
        try:
            found.add(str(ip_interface(address).ip))
        except ValueError:
            continue
    return frozenset(found)
