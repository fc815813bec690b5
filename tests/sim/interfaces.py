"""A node's network interfaces: what they are called changes, what is bound stays with the index."""

from __future__ import annotations

from dataclasses import dataclass

NAME, SPARE = "eth0", "eth1"
"""The interface of the configuration, and a second one in the same LAN."""


@dataclass(slots=True)
class Interface:
    """One interface. `here`: it is in this network namespace."""

    index: int
    name: str
    mac: str
    here: bool = True


class Interfaces:
    """The interfaces of one node; indexes are never used twice."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._made = 1
        self._all: dict[int, Interface] = {}
        for name in (NAME, SPARE):
            self.make(name)

    def make(self, name: str) -> Interface:
        """Make an interface, with a MAC address that nobody else has."""
        self._made += 1
        made = Interface(
            self._made, name, f"02:00:00:{self._made:02x}:00:{self._label.encode().hex()}"
        )
        self._all[made.index] = made
        return made

    def find(self, name: str) -> Interface | None:
        """Return what is called so here, if there is one."""
        return next((one for one in self._all.values() if one.here and one.name == name), None)

    def at(self, index: int) -> Interface | None:
        """Return the interface with this index, if it is here."""
        one = self._all.get(index)
        return one if one is not None and one.here else None

    def lost(self, name: str) -> Interface | None:
        """Return one of this name that is in another namespace."""
        return next((one for one in self._all.values() if not one.here and one.name == name), None)

    def delete(self, index: int) -> None:
        """Remove an interface for good."""
        self._all.pop(index)
