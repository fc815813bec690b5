"""Which elections of the store claim which addresses: one address in two of them makes the later one stay out."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_interface

from election.model import Found, Record
from election.store import ElectionChanged


@dataclass(frozen=True, slots=True)
class Claim:
    """What an election's record last said, and when it last changed."""

    record: Record
    changed_at: float

    def stands(self, now: float) -> bool:
        """Whether somebody holds it: a record that nobody renews or takes claims nothing."""
        return bool(self.record.holder) and now < self.changed_at + 2 * self.record.lease_duration / 1000


class Claims:
    """The held records of all elections of the store, this node's and others."""

    def __init__(self) -> None:
        self._claims: dict[str, Claim] = {}

    def see(self, now: float, event: ElectionChanged) -> None:
        """Take in what a watch showed."""
        if isinstance(event.content, Found):
            self._claims[event.election] = Claim(event.content.record, now)
        else:
            self._claims.pop(event.election, None)

    def against(self, now: float, election: str, addresses: frozenset[str], *, active: bool) -> str:
        """Return the election whose claim this one has to respect, or nothing.

        Who is Active was first, and stays; if both are, having started in one moment, the name decides.
        """
        for other, claim in self._claims.items():
            if other == election or not claim.stands(now) or not addresses & hosts(claim.record.addresses):
                continue
            if not active or other < election:
                return other
        return ""


def hosts(addresses: tuple[str, ...]) -> frozenset[str]:
    """Return the addresses without their prefix lengths; what is none is left out."""
    found = set()
    for address in addresses:
        try:
            found.add(str(ip_interface(address).ip))
        except ValueError:
            continue
    return frozenset(found)
