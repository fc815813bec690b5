"""The guard's hold on the kernel's gate.

The words are in its memory, and every election's addresses are covered by it.

    at once             the memory, since daemon and guard have to share it before the first process
    is forked while they import   `open`: programs loaded and tried out, traffic control watched at
    each arming      `cover`, before anything is bound; with the word closed nothing passes whenever
    it wakes   `tick`; and when somebody changed traffic control, `handle`: what was taken away is
    put back; and when
                        interfaces come or go: those by which the LAN can come in have a gate too
    at the end          `close`, after the addresses are gone

Where the gate cannot be had, the words are in ordinary shared memory, and everything else is as it
would be.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from announce.gate.maps import Deadlines
from announce.kernel.addresses import ReadyMessages
from election.fencing import NEVER
from vipd.clock import now
from vipd.guard.link import GateReport
from vipd.guard.log import Log
from vipd.guard.shared_words import DEFAULT_SLOTS, Words

if TYPE_CHECKING:
    from announce.gate.gates import Gates, TrafficControl
    from announce.gate.traffic_control import GateWatch
    from announce.gate.uplinks import Uplinks

LOOK_AROUND = 10.0
"""Seconds between two looks at which interfaces the kernel would answer on: a sysctl that changes
tells nobody."""


class GateKeeper:
    """One for the guard.

    No method raises. `refusal`: why the gate cannot be had on this host, a sentence; empty: it can.
    """

    def __init__(self, log: Log, slots: int = DEFAULT_SLOTS) -> None:
        self.refusal = "it is not loaded yet"
        self._log = log
        self._names: dict[int, str] = {}
        self._swept = False
        self._control: TrafficControl | None = None
        self._gates: Gates | None = None
        self._watch: GateWatch | None = None
        self._uplinks: Uplinks | None = None
        self._on: tuple[str, ...] = ()
        self._left_alone = ""
        self._look_around_at = NEVER
        self._deadlines: Deadlines | None = None
        self._refused: OSError | None = None
        try:
            self._deadlines = Deadlines.create(slots + 1)
        except OSError as error:
            self._refused = error
        self.words = Words(slots, None if self._deadlines is None else self._deadlines.memory)

    def open(self) -> None:
        """Load the programs and try them out; to be called once.

        About 15 ms, and 10 more for the modules.
        """
        from announce.gate.gates import Gates, TrafficControl, why_not  # noqa: PLC0415 -- the children, which need none of it, are forked before
        from announce.gate.traffic_control import GateWatch  # noqa: PLC0415 -- likewise
        from announce.gate.uplinks import Uplinks  # noqa: PLC0415 -- likewise

        try:
            self._control = TrafficControl()
            if self._deadlines is None:
                self.refusal = why_not(self._refused) if self._refused else "there is no map"
                return
            uplinks = Uplinks(self._control)
            gates = Gates(self._deadlines, self._control, uplinks)
            self.refusal = gates.prepare()
            if not self.refusal:
                self._watch, self._uplinks = GateWatch(), uplinks
                self._gates = gates
        except OSError as error:
            self.refusal = f"netlink: {error}"

    # ------------------------------------------------------------ what is covered

    def cover(
        self, slot: int, name: str, ready: Iterable[ReadyMessages], lease_duration: float
    ) -> None:
        """Let an election's addresses pass only while its word is open.

        To be called before anything of it is bound.
        """
        self._names[slot] = name
        if self._gates is None:
            self._remove_orphans()
            return
        places: dict[int, set[bytes]] = {}
        for messages in ready:
            places.setdefault(messages.ifindex, set()).update(
                packed for _, packed, _ in messages.keys
            )
        self._gates.cover(slot, places, lease_duration, now())
        self._look_around_at = 0.0

    def uncover(self, slot: int) -> None:
        """Let an election's addresses pass, or what is left of them.

        They are bound no more, or the gate is not wanted.
        """
        self._names.pop(slot, None)
        if self._gates is None:
            self._remove_orphans()
        else:
            self._gates.uncover(slot, now())

    def settle(self) -> None:
        """Handle that the daemon has armed all its elections, and has removed what an earlier
        daemon left bound.
        """
        if self._gates is not None:
            self._gates.settle(now())
            self._remove_orphans()

    def _remove_orphans(self) -> None:
        """Remove what a dead daemon left on interfaces that have no gate now.

        Closed for ever, it would cut off a VIP of this daemon.
        """
        if self._control is None or (self._swept and self._gates is None):
            return
        self._swept = True
        try:
            from announce.gate.hook import sweep  # noqa: PLC0415 -- as above

            swept = sweep(self._control) if self._gates is None else self._gates.sweep()
        except OSError as error:
            self._log.changed(
                "sweep",
                f"what an earlier vipd left in traffic control could not be removed: {error}",
            )
        else:
            for ifindex in swept:
                self._log(f"removed the gate that an earlier vipd left on {_name(ifindex)}")

    # ------------------------------------------------------------ what happens

    def waits(self) -> Iterator[tuple[int, int]]:
        """Yield the descriptors to wait on, with their poll events."""
        for source in (self._watch, self._uplinks):
            if source is not None and source.fileno() >= 0:
                yield source.fileno(), select.POLLIN

    def handle(self, descriptor: int) -> bool:
        """Handle a change of traffic control or of interfaces if it came on this descriptor; return
        whether it did.
        """
        if self._gates is None:
            return False
        if self._watch is not None and descriptor == self._watch.fileno():
            self._on_traffic_control(self._gates, self._watch)
        elif self._uplinks is not None and descriptor == self._uplinks.fileno():
            self._on_links(self._gates, self._uplinks)
        else:
            return False
        return True

    def _on_traffic_control(self, gates: Gates, watch: GateWatch) -> None:
        try:
            changed = watch.changed()
        except OSError as error:
            self._log(
                f"changes of traffic control are not reported any more ({error}): looking at it "
                "every now and then"
            )
            watch.close()
            self._watch, changed = None, None
        for ifindex in gates.restore(now(), changed):
            self._log(f"somebody took the gate on {_name(ifindex)} away: it is back")

    def _on_links(self, gates: Gates, uplinks: Uplinks) -> None:
        """Follow interfaces.

        One that came back, perhaps under its old number, has lost its gate; no news of traffic
        control says so.
        """
        try:
            came = uplinks.follow()
        except OSError as error:
            self._log(
                f"interfaces that come and go are not reported any more ({error}): those there "
                "now are covered"
            )
            uplinks.close()
            return
        moment = now()
        gates.restore(moment, came)
        gates.surround(moment)
        self._look_around_at = 0.0

    def tick(self, moment: float) -> float:
        """Do what is due; return when there is something to do again.

        To be called whenever the guard wakes.
        """
        if self._gates is None:
            return NEVER
        wake_at = self._gates.tick(moment)
        if moment >= self._look_around_at and wake_at > moment:
            self._look_around(self._gates)
            self._look_around_at = moment + LOOK_AROUND
        return min(wake_at, self._look_around_at)

    def _look_around(self, gates: Gates) -> None:
        """Note on which interfaces the gate is and is not, for the report."""
        self._on = tuple(map(_name, gates.on))
        self._left_alone = gates.left_alone

    def report(self) -> GateReport:
        """Return how it is, for the daemon and its operators.

        Log it if an election's addresses are not covered any more.
        """
        gates = self._gates
        if gates is None:
            return GateReport(dict.fromkeys(self._names.values(), self.refusal))
        found = gates.troubles()
        troubles = {
            name: trouble for slot, name in self._names.items() if (trouble := found.get(slot, ""))
        }
        for name in self._names.values():
            trouble = troubles.get(name, "")
            self._log.changed(
                f"gate {name}", f"{name}: no kernel gate: {trouble}" if trouble else ""
            )
        self._log.changed("tc slots", "; ".join(gates.squatters))
        return GateReport(
            troubles, gates.before, gates.put_back, gates.inherited, self._on, self._left_alone
        )

    # ------------------------------------------------------------ the end

    def close(self, *, leave: bool) -> None:
        """End. `leave`: an address could not be removed, so the gate stays, closed, for the next
        vipd to take over.
        """
        if self._gates is not None:
            if leave:
                self._gates.let_go()
            for trouble in self._gates.close():
                self._log(f"the gate could not be removed: {trouble}")
        for kept in (self._watch, self._uplinks, self._control):
            if kept is not None:
                kept.close()


def _name(ifindex: int) -> str:
    try:
        return socket.if_indextoname(ifindex)
    except OSError:
        return f"interface {ifindex}"
