"""The kernel's gate: from an election's deadline on, no frame for its addresses comes in, and none in their name goes out.

    election --slot--> its word in the map of deadlines (gate_map) <--read by-- two programs (gate_program) on each interface,
    which know its addresses (gate_loaded) and sit first on its traffic control hook (gate_seat, traffic_control)

It holds with every process of vipd dead or frozen. Whoever owns a `Gates` (the guard) covers an election's addresses before
anything is bound, with its word closed; whoever maps the words (the daemon) opens it with the lease, and then binds. On the
way out: unbind, close the word, uncover. Synchronous, some milliseconds a call; the standard library only.

Beyond its reach: frames that AF_PACKET sends with QDISC_BYPASS, XDP, DPDK, what a card handles by itself, other interfaces,
loopback on this node, and programs that others run before it (`GateState.before`).
"""

from __future__ import annotations

import socket
from collections.abc import Collection, Mapping

from announce.gate_interface import NEVER, GateState, InterfaceGate
from announce.gate_loaded import Loaded
from announce.gate_map import Deadlines
from announce.gate_seat import sweep
from announce.gate_selftest import self_test
from announce.gate_support import probe_support, why_not
from announce.traffic_control import TrafficControl

__all__ = ["Deadlines", "GateState", "Gates", "TrafficControl", "probe_support", "remove_leftovers", "why_not"]

LOOK = 10.0
"""Seconds between two looks at everything, in case that a notice of a removal did not come."""

Places = Mapping[int, Collection[bytes]]
"""An election's packed addresses, by the number of their interface."""


class Gates:
    """The gates of all interfaces: which election's addresses are where. Moments are seconds on CLOCK_BOOTTIME.

    No method raises: what is wrong with an interface's gate is in its state, and is tried again.
    """

    def __init__(self, deadlines: Deadlines, control: TrafficControl) -> None:
        self._deadlines = deadlines
        self._control = control
        self._places: dict[int, Places] = {}
        self._gates: dict[int, InterfaceGate] = {}
        self._look_at = NEVER
        self._spare: Loaded | None = None

    def prepare(self) -> str:
        """Load and try out programs for the first interface, ahead of need; return why the gate cannot be had, if so. About 10 ms."""
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
        """Let these addresses pass only before the slot's deadline; return why that is not so, if it is not.

        Replaces what was covered for the slot before. `longest_right`: the lease_duration, in seconds. To be called with
        the word closed, or with what it was open for; an address on two slots goes with the last.
        """
        former = self._places.pop(slot, {})
        if any(places.values()):
            self._places[slot] = {ifindex: frozenset(ips) for ifindex, ips in places.items() if ips}
        for ifindex in {*former, *self._places.get(slot, {})}:
            self._apply(ifindex, longest_right, now)
        self._look_at = now + LOOK
        return self.trouble(slot)

    def trouble(self, slot: int) -> str:
        """Return why the slot's addresses are not all covered, or nothing. An interface that is gone needs no gate."""
        gates = [self._gates[ifindex] for ifindex in self._places.get(slot, {})]
        return "; ".join(f"{_name(gate.ifindex)}: {gate.trouble}" for gate in gates if gate.trouble and not gate.gone)

    def uncover(self, slot: int, now: float) -> None:
        """Let the slot's addresses pass freely; they must be bound no more."""
        self.cover(slot, {}, 0.0, now)

    def settle(self, now: float) -> None:
        """Take note that every election is covered, so that programs of a former life need not wait for more of them."""
        for gate in self._gates.values():
            gate.settle(now)

    def tick(self, now: float) -> float:
        """Do what is due; return when to call again. Also to be called whenever a word was opened."""
        if now >= self._look_at:
            self.look(now)
        return min([self._look_at, *(gate.tick(now) for gate in self._gates.values())])

    def look(self, now: float, ifindexes: Collection[int] | None = None) -> list[int]:
        """Look whether all gates are in place, or those on these interfaces, and put back what is gone; return where that was."""
        if ifindexes is None:
            self._look_at = now + LOOK if self._gates else NEVER
        wanted = [gate for ifindex, gate in self._gates.items() if ifindexes is None or ifindex in ifindexes]
        return [gate.ifindex for gate in wanted if gate.reconcile(now)]

    @property
    def inherited(self) -> bool:
        """Whether programs of a former life are still in force somewhere: then `tick` has to be called when a word is opened."""
        return any(gate.inherited for gate in self._gates.values())

    @property
    def before(self) -> tuple[str, ...]:
        """What decides about frames before the gates are asked, sentences."""
        return tuple(f"{_name(gate.ifindex)}: {sentence}" for gate in self._gates.values() for sentence in gate.before)

    @property
    def put_back(self) -> int:
        """How often a gate that is there now was taken away and put back."""
        return sum(gate.put_back for gate in self._gates.values())

    def states(self) -> list[GateState]:
        """Return how all are."""
        return [gate.state() for gate in self._gates.values()]

    def sweep(self) -> list[int]:
        """Remove what dead lives left on interfaces that have no gate now; return their numbers. Raises OSError."""
        return sweep(self._control, self._gates.keys())

    def close(self) -> list[str]:
        """Remove all gates; the addresses must be bound no more. Return what went wrong."""
        troubles = [f"{_name(ifindex)}: {trouble}" for ifindex, gate in self._gates.items() if (trouble := gate.clear())]
        self.let_go()
        return troubles

    def let_go(self) -> None:
        """Forget all gates; what is attached stays in force, for the next life. Idempotent."""
        for gate in self._gates.values():
            gate.close()
        if self._spare is not None:
            self._spare.close()
            self._spare = None
        self._gates.clear()
        self._places.clear()
        self._look_at = NEVER

    def _apply(self, ifindex: int, longest_right: float, now: float) -> None:
        slots = {ip: slot for slot, places in self._places.items() for ip in places.get(ifindex, ())}
        if not slots:
            self._gates.pop(ifindex).clear()
            return
        if ifindex not in self._gates:
            self._gates[ifindex] = InterfaceGate(self._control, self._deadlines, ifindex, self._spare)
            self._spare = None
        self._gates[ifindex].cover(slots, longest_right, now)


def remove_leftovers() -> list[str]:
    """Remove the gates of dead lives on all interfaces, after their addresses are gone; return the interfaces' names.

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
