"""The kernel's gate.

From an election's deadline on, no frame for its addresses comes in, and none in their name goes
out.

    election --slot--> its word in the map of deadlines (maps)
        <--read by-- two programs (program) on each interface, which know its addresses (loaded)
        and are the first ones on its traffic control hook (hook, traffic_control)

Linux answers for an address on every interface, not only on the one that has it. So the programs
are also on all others by which the LAN can come in (announce.gate.links has the rule), and stop
there what this node would take for an address without a right.

It holds with every process of vipd dead or frozen. Whoever owns a `Gates` (the guard) covers an
election's addresses before anything is bound, with its word closed; whoever maps the words (the
daemon) opens it with the lease, and then binds. On the way out: unbind, close the word, uncover.
Synchronous, some milliseconds a call; the standard library only.

Beyond its reach: frames that AF_PACKET sends with QDISC_BYPASS, XDP, DPDK, what a card handles by
itself, this node itself and the containers on it, and programs that others run before it
(`GateState.before`).
"""

from __future__ import annotations

import itertools
import socket
from collections.abc import Collection, Mapping
from typing import Protocol

from announce.gate.hook import sweep
from announce.gate.interface import NEVER, GateState, InterfaceGate, Supply
from announce.gate.links import hole
from announce.gate.loaded import Loaded
from announce.gate.maps import Deadlines
from announce.gate.support import probe_support, self_test, why_not
from announce.gate.traffic_control import TrafficControl

__all__ = [
    "Deadlines",
    "GateState",
    "Gates",
    "TrafficControl",
    "probe_support",
    "remove_leftovers",
    "why_not",
]

LOOK = 10.0
"""Seconds between two looks at everything, in case that a notice of a removal did not come."""

MOST_OTHERS = 128
"""Interfaces beside those of the addresses that get a gate: each takes a file descriptor and a look
now and then. A host with more of them is a router with VLANs by the hundred."""
AT_A_TIME = 16
"""Gates that one call looks at or puts in force, about a millisecond each: the guard has deadlines
to watch."""

Places = Mapping[int, Collection[bytes]]
"""An election's packed addresses, by the number of their interface."""


class Surroundings(Protocol):
    """Knows the interfaces of the network namespace (announce.gate.uplinks)."""

    def others(self, carriers: Collection[int], vips: Collection[bytes]) -> Mapping[int, str]:
        """Return number and name of the interfaces that can answer the LAN for addresses which
        these carriers have.
        """

    def left_alone(self, carriers: Collection[int], vips: Collection[bytes]) -> str:
        """Return the interfaces taken for those of containers on which the kernel would answer, for
        people.
        """

    def closed_by_sysctl(self, ifindex: int) -> bool:
        """Whether the kernel answers ARP on an interface only for the addresses of that very
        interface.
        """


class Nowhere:
    """No other interfaces."""

    def others(self, carriers: Collection[int], vips: Collection[bytes]) -> Mapping[int, str]:  # noqa: ARG002 -- there are none
        """Return nothing."""
        return {}

    def left_alone(self, carriers: Collection[int], vips: Collection[bytes]) -> str:  # noqa: ARG002 -- likewise
        """Return nothing."""
        return ""

    def closed_by_sysctl(self, ifindex: int) -> bool:  # noqa: ARG002 -- likewise
        """Nothing is asked."""
        return True


class Gates:
    """The gates of all interfaces: which election's addresses are where.

    Moments are seconds on CLOCK_BOOTTIME.

    No method raises: what is wrong with an interface's gate is in its state, and is tried again.
    """

    def __init__(
        self,
        deadlines: Deadlines,
        control: TrafficControl,
        surroundings: Surroundings | None = None,
    ) -> None:
        self._deadlines = deadlines
        self._control = control
        self._surroundings = surroundings or Nowhere()
        self._places: dict[int, Places] = {}
        self._gates: dict[int, InterfaceGate] = {}
        self._others: Mapping[int, str] = {}
        self._due: dict[int, None] = {}
        self._look_at = NEVER
        self._spare: Loaded | None = None
        self._common = Supply(deadlines)

    def prepare(self) -> str:
        """Load and try out programs for the first interface, ahead of need.

        Return why the gate cannot be had, if so. About 10 ms.
        """
        try:
            self._spare = Loaded(self._deadlines, 1)
            wrong = self_test(self._spare, self._deadlines)
        except OSError as error:
            return why_not(error)
        if wrong:
            self._spare.close()
            self._spare = None
        return wrong

    def cover(self, slot: int, places: Places, longest_right: float, now: float) -> str:
        """Let these addresses pass only before the slot's deadline.

        Return why that is not so, if it is not.

        Replaces what was covered for the slot before. `longest_right`: the lease_duration, in
        seconds. To be called with the word closed, or with what it was open for; an address on two
        slots goes with the last.
        """
        former = self._places.pop(slot, {})
        if any(places.values()):
            self._places[slot] = {ifindex: frozenset(ips) for ifindex, ips in places.items() if ips}
        for ifindex in {*former, *self._places.get(slot, {})}:
            self._cover_own(ifindex, longest_right, now)
        self._cover_elsewhere(now)
        self.surround(now)
        while self._due:
            self._restore_due(now)
        self._look_at = now + LOOK
        return self.trouble(slot)

    def surround(self, now: float) -> None:
        """Have gates on the other interfaces that can answer, as they are now.

        Most of the work is left to `tick`.
        """
        carriers = self._carriers()
        found = self._surroundings.others(carriers, self._slots()) if carriers else {}
        self._others = found
        wanted = list(
            itertools.islice((ifindex for ifindex in found if ifindex not in carriers), MOST_OTHERS)
        )
        for ifindex in self._gates.keys() - carriers - set(wanted):
            self._gates.pop(ifindex).clear()
            self._due.pop(ifindex, None)
        common = self._common.loaded
        for ifindex in wanted:
            if ifindex not in self._gates:
                self._gates[ifindex] = InterfaceGate(
                    self._control, self._deadlines, ifindex, self._common
                )
            if not self._gates[ifindex].follows:
                self._gates[ifindex].follow(self._common, self._leaders_wait)
                self._due[ifindex] = None
            self._gates[ifindex].cover_elsewhere(self._slots(), now)
        if self._common.loaded is not common:
            self._due.update(dict.fromkeys(wanted))

    def trouble(self, slot: int) -> str:
        """Return why the slot's addresses are not all covered, or nothing.

        An interface that is gone needs no gate.
        """
        return self.troubles().get(slot, "")

    def troubles(self) -> dict[int, str]:
        """Return the same for each slot of which not all is covered."""
        bad = {
            gate.ifindex: gate.trouble
            for gate in self._gates.values()
            if gate.trouble and not gate.gone
        }
        holes = self._holes()
        if not bad and not holes:
            return {}
        found: dict[int, str] = {}
        for slot, places in self._places.items():
            sentences = [
                f"{_name(ifindex)}: {bad[ifindex]}" for ifindex in places if ifindex in bad
            ]
            # Only of IPv4 does the kernel answer for an address of another interface: nobody learns
            # that others can be had there.
            if any(len(ip) == 4 for ips in places.values() for ip in ips):  # noqa: PLR2004 -- the length of an IPv4 address
                sentences += holes
            if sentences:
                found[slot] = "; ".join(sentences)
        return found

    def _holes(self) -> list[str]:
        """Return which other interfaces would answer for the addresses after the deadline,
        sentences.
        """
        bad = {
            gate.ifindex: gate.trouble
            for gate in self._following()
            if gate.trouble and not gate.gone
        }
        ungated = self._others.keys() - self._gates.keys() if self._gates else set()
        bad |= dict.fromkeys(
            sorted(ungated),
            f"more than {MOST_OTHERS} interfaces can answer, and this one has no gate",
        )
        return [
            hole(self._others[ifindex], why)
            for ifindex, why in bad.items()
            if ifindex in self._others and not self._surroundings.closed_by_sysctl(ifindex)
        ]

    def uncover(self, slot: int, now: float) -> None:
        """Let the slot's addresses pass freely; they must be bound no more."""
        self.cover(slot, {}, 0.0, now)

    def settle(self, now: float) -> None:
        """Handle that every election is covered, so that programs of an earlier vipd need not wait
        for more of them.
        """
        for gate in self._gates.values():
            gate.settle(now)

    def tick(self, now: float) -> float:
        """Do what is due; return when to call again.

        Also to be called whenever a word was opened.
        """
        if now >= self._look_at:
            self.restore(now)
        moments = [gate.tick(now) for gate in self._leading()]
        # After those: they follow.
        moments += [gate.tick(now) for gate in self._following()]
        self._restore_due(now)
        return now if self._due else min([self._look_at, *moments])

    def restore(self, now: float, ifindexes: Collection[int] | None = None) -> list[int]:
        """Put back the gates that are gone, of all or of those on these interfaces; return where
        that was.

        Of all, those on interfaces without addresses of their own are looked at by and by, in
        `tick`.
        """
        if ifindexes is None:
            self._look_at = now + LOOK if self._gates else NEVER
            self._due.update(dict.fromkeys(gate.ifindex for gate in self._following()))
            self.surround(now)
            wanted = self._leading()
        else:
            wanted = [gate for ifindex, gate in self._gates.items() if ifindex in ifindexes]
        return [gate.ifindex for gate in wanted if gate.reconcile(now)]

    def _restore_due(self, now: float) -> None:
        """Look at some of the gates that are due."""
        for ifindex in list(itertools.islice(self._due, AT_A_TIME)):
            del self._due[ifindex]
            if ifindex in self._gates:
                self._gates[ifindex].reconcile(now)

    @property
    def inherited(self) -> bool:
        """Whether programs of an earlier vipd are still in force somewhere.

        Then `tick` has to be called when a word is opened.
        """
        return any(gate.inherited for gate in self._leading())

    @property
    def on(self) -> tuple[int, ...]:
        """The numbers of the interfaces on which the gate is in force, those with the addresses
        first.
        """
        return tuple(
            gate.ifindex for gate in (*self._leading(), *self._following()) if not gate.trouble
        )

    @property
    def before(self) -> tuple[str, ...]:
        """What decides about frames before the gates are asked, sentences."""
        return tuple(
            f"{_name(gate.ifindex)}: {sentence}"
            for gate in self._gates.values()
            for sentence in gate.before
        )

    @property
    def squatters(self) -> tuple[str, ...]:
        """Who has the names of the gates' TC slots without being a vipd, sentences."""
        return tuple(sentence for gate in self._gates.values() for sentence in gate.squatters)

    @property
    def put_back(self) -> int:
        """How often a gate that is there now was taken away and put back."""
        return sum(gate.put_back for gate in self._gates.values())

    @property
    def left_alone(self) -> str:
        """The interfaces without a gate on which the kernel would answer for the addresses.

        They are taken for those of containers.
        """
        return (
            self._surroundings.left_alone(self._carriers(), self._slots()) if self._places else ""
        )

    def states(self) -> list[GateState]:
        """Return how those are that have addresses of their own."""
        return [gate.state() for gate in self._leading()]

    def sweep(self) -> list[int]:
        """Remove what dead vipds left on interfaces that have no gate now.

        Return their numbers. Raises OSError.
        """
        return sweep(self._control, self._gates.keys())

    def close(self) -> list[str]:
        """Remove all gates; the addresses must be bound no more. Return what went wrong."""
        troubles = [
            f"{_name(ifindex)}: {trouble}"
            for ifindex, gate in self._gates.items()
            if (trouble := gate.clear())
        ]
        self.let_go()
        return troubles

    def let_go(self) -> None:
        """Forget all gates; what is attached stays in force, for the next vipd. Idempotent."""
        for gate in self._gates.values():
            gate.close()
        self._common.close()
        if self._spare is not None:
            self._spare.close()
            self._spare = None
        self._gates.clear()
        self._due.clear()
        self._places.clear()
        self._look_at = NEVER

    # ------------------------------------------------------------ which gate has which addresses

    def _carriers(self) -> set[int]:
        return {ifindex for places in self._places.values() for ifindex in places}

    def _slots(self) -> dict[bytes, int]:
        """Return all addresses with their slots, wherever they are."""
        return {
            ip: slot
            for slot, places in self._places.items()
            for ips in places.values()
            for ip in ips
        }

    def _own(self, ifindex: int) -> dict[bytes, int]:
        return {ip: slot for slot, places in self._places.items() for ip in places.get(ifindex, ())}

    def _elsewhere(self, own: Collection[bytes]) -> dict[bytes, int]:
        return {ip: slot for ip, slot in self._slots().items() if ip not in own}

    def _leading(self) -> list[InterfaceGate]:
        return [gate for gate in self._gates.values() if not gate.follows]

    def _following(self) -> list[InterfaceGate]:
        return [gate for gate in self._gates.values() if gate.follows]

    def _leaders_wait(self) -> bool:
        return self.inherited

    def _cover_own(self, ifindex: int, longest_right: float, now: float) -> None:
        """Cover an interface's own addresses; one that has none any more is left to `surround`."""
        own = self._own(ifindex)
        if not own:
            return
        gate = self._gates.get(ifindex)
        if gate is None:
            gate = self._gates[ifindex] = InterfaceGate(
                self._control, self._deadlines, ifindex, self._supply()
            )
        elif gate.follows:
            gate.lead(self._supply())
        gate.cover(own, self._elsewhere(own), longest_right, now)

    def _supply(self) -> Supply:
        supply, self._spare = Supply(self._deadlines, self._spare), None
        return supply

    def _cover_elsewhere(self, now: float) -> None:
        """Have each gate with addresses of its own know those of the others."""
        for gate in self._leading():
            own = self._own(gate.ifindex)
            if own:
                gate.cover_elsewhere(self._elsewhere(own), now)


def remove_leftovers() -> list[str]:
    """Remove the gates of dead vipds on all interfaces, after their addresses are gone.

    Return the interfaces' names.

    For `vipd release`. Raises OSError.
    """
    control = TrafficControl()
    try:
        return [_name(ifindex) for ifindex in sweep(control)]
    finally:
        control.close()


def _name(ifindex: int) -> str:
    try:
        return socket.if_indextoname(ifindex)
    except OSError:
        return f"interface {ifindex}"
