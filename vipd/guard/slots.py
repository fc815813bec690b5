"""All elections that the guard knows.

Their words, the netlink messages of their addresses, and what was done for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from announce.kernel.addresses import Key, ReadyMessages, RouteSocket, refresh, unbind
from announce.kernel.ownership import written
from election.fencing import Slot
from vipd.clock import now
from vipd.guard.errors import SlotError
from vipd.guard.gate import GateKeeper
from vipd.guard.link import Armed
from vipd.guard.shared_words import Words


@dataclass(slots=True)
class Entry:
    """One election. `former`: messages of an earlier arming whose addresses may still be bound.

    `gated`: the gate is wanted.
    """

    slot: int
    name: str
    lease_duration: float
    ready: tuple[ReadyMessages, ...]
    former: tuple[ReadyMessages, ...] = ()
    gated: bool = True
    armed: bool = True
    refreshed_at: float = 0.0
    removal_tried_at: float = 0.0


class Slots:
    """All elections that a daemon armed. An election keeps its slot over restarts of the daemon.

    `foreign` names the addresses that the last removals found beside vipd's own, and removed; the
    caller empties it.
    """

    def __init__(self, words: Words, kernel: RouteSocket, gate: GateKeeper) -> None:
        self._words = words
        self._kernel = kernel
        self._gate = gate
        self._entries: dict[str, Entry] = {}
        self.foreign: list[str] = []

    def view(self) -> tuple[Slot, ...]:
        """Return what the decisions need, with the words as they are now."""
        return tuple(
            Slot(
                number=entry.slot,
                deadline=self._words.deadline(entry.slot),
                lease_duration=entry.lease_duration,
                armed=entry.armed,
                refreshed_at=entry.refreshed_at,
                removal_tried_at=entry.removal_tried_at,
            )
            for entry in self._entries.values()
        )

    def arm(
        self, name: str, ready: Sequence[ReadyMessages], lease_duration: float, *, gate: bool = True
    ) -> Armed:
        """Note what goes with an election's word (nothing: it is not known yet).

        Return its slot and the deadline that stands.

        Has the addresses covered by the kernel's gate if it is wanted. Raises SlotError.
        """
        entry = self._entries.get(name)
        if entry is None:
            entry = self._entries[name] = Entry(self._free(), name, lease_duration, tuple(ready))
            self._words.set_deadline(entry.slot, 0.0)
        else:
            # While the right lasts, what was armed before may be bound: it stays if a daemon arms
            # before it has looked at its interface, and addresses that the new messages do not know
            # go with the others.
            kept = (*entry.former, *entry.ready) if self._words.deadline(entry.slot) else ()
            ready = ready or kept
            entry.former = tuple(messages for messages in kept if not _covered(messages, ready))
        entry.ready, entry.lease_duration, entry.armed = tuple(ready), lease_duration, True
        entry.refreshed_at = entry.removal_tried_at = 0.0
        entry.gated = gate
        if ready:
            self._cover(entry)
        return Armed(entry.slot, self._words.deadline(entry.slot))

    def disarm(self, name: str) -> None:
        """Forget an election whose addresses are gone; raises SlotError while its word is open."""
        entry = self._entries.get(name)
        if entry is None:
            return
        if self._words.deadline(entry.slot):
            raise SlotError(f"{name} still has a right to its addresses: close its word first")
        del self._entries[name]
        self._gate.uncover(entry.slot)

    def daemon_ended(self) -> None:
        """From now on the guard answers for all slots."""
        for entry in self._entries.values():
            entry.armed = False
            entry.refreshed_at = entry.removal_tried_at = 0.0

    def settle(self) -> None:
        """Forget the closed elections that the present daemon did not arm.

        Its configuration has them no more.
        """
        for name, entry in list(self._entries.items()):
            if not entry.armed and not self._words.deadline(entry.slot):
                del self._entries[name]
                self._gate.uncover(entry.slot)

    def open(self) -> list[str]:
        """Return the names of the elections whose word is open."""
        return [entry.name for entry in self._entries.values() if self._words.deadline(entry.slot)]

    def name(self, slot: int) -> str:
        """Return the election's name."""
        return self._entry(slot).name

    def deadline(self, slot: int) -> float:
        """Return the deadline that stands in the election's word."""
        return self._words.deadline(slot)

    def remove(self, slot: int, *, close: bool) -> str:
        """Remove the slot's addresses, read back, and close its word if they are gone.

        Return what went wrong, if anything.
        """
        entry = self._entry(slot)
        entry.removal_tried_at = now()
        left: list[str] = []
        for messages in (*entry.former, *entry.ready):
            # An interface that fails must not keep the addresses on the others.
            try:
                done = unbind(self._kernel, messages)
            except OSError as error:
                left.append(f"netlink: {error}")
            else:
                left += [f"{len(done.remaining)} still bound"] if done.remaining else []
                self.foreign += [f"{written(one)} on {messages.interface}" for one in done.others]
        if left:
            return ", ".join(left)
        if close:
            self._words.set_deadline(slot, 0.0)
            if entry.former:
                entry.former = ()
                self._cover(entry)
        return ""

    def refresh(self, slot: int, seconds: int) -> str:
        """Give the slot's addresses their lifetime again; return what went wrong, if anything.

        A refresh that came late brought expired addresses back: the caller decides anew right
        after, sees the deadline passed and removes them.
        """
        entry = self._entry(slot)
        entry.refreshed_at = now()
        if entry.refreshed_at >= self._words.deadline(slot):
            return ""
        wrong: list[str] = []
        for messages in entry.ready:
            try:
                refused = refresh(self._kernel, messages, seconds)
            except OSError as error:
                wrong.append(f"netlink: {error}")
            else:
                wrong += [f"the kernel refused {len(refused)} addresses"] if refused else []
        return ", ".join(wrong)

    def _cover(self, entry: Entry) -> None:
        if entry.gated:
            self._gate.cover(
                entry.slot, entry.name, (*entry.former, *entry.ready), entry.lease_duration
            )
        else:
            self._gate.uncover(entry.slot)

    def _entry(self, slot: int) -> Entry:
        return next(entry for entry in self._entries.values() if entry.slot == slot)

    def _free(self) -> int:
        taken = {entry.slot for entry in self._entries.values()}
        free = next((slot for slot in range(1, self._words.count + 1) if slot not in taken), None)
        if free is None:
            raise SlotError(f"there is room for {self._words.count} elections only")
        return free


def _covered(messages: ReadyMessages, ready: Iterable[ReadyMessages]) -> bool:
    """Whether others remove all that these messages would."""
    return set(_places((messages,))) <= set(_places(ready))


def _places(ready: Iterable[ReadyMessages]) -> Iterator[tuple[int, Key]]:
    return ((messages.ifindex, key) for messages in ready for key in messages.keys)
