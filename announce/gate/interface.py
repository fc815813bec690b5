"""One interface's gate.

Brings about what is wanted from whatever is there, and can be asked to as often as one likes.
"""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from announce.errors import BpfError, GateError
from announce.gate.hook import Attached, TcSlot
from announce.gate.loaded import Loaded, Slots
from announce.gate.maps import Deadlines
from announce.gate.program import Direction
from announce.gate.support import before_traffic_control, probe_interface, self_test, why_not
from announce.gate.traffic_control import TrafficControl

NEVER = float("inf")
_NANOSECONDS = 1_000_000_000
RETRY = 1.0
"""Seconds until a gate that could not be put in force is tried again."""


@dataclass(frozen=True, slots=True)
class GateState:
    """One interface's gate, for people. `trouble`: why it is not in force, empty if it is.

    `before`: what decides about frames before the gate is asked, so that it may never be.
    `put_back`: how often it was gone. `dropped`: frames, by packed address. `inherited`: the
    programs of an earlier vipd are still in force.
    """

    ifindex: int
    trouble: str
    before: tuple[str, ...]
    put_back: int
    dropped: Mapping[bytes, int]
    inherited: bool


class InterfaceGate:
    """The gate on one interface, none before the first `reconcile`.

    No method raises; what went wrong is in `trouble`.

    It leads where the interface has addresses of its own to cover, and follows elsewhere: there it
    knows only addresses of other interfaces, has its programs in common with others, and exchanges
    those of an earlier vipd when the leading gates have done so.
    """

    def __init__(
        self, control: TrafficControl, deadlines: Deadlines, ifindex: int, supply: Supply
    ) -> None:
        self.ifindex = ifindex
        self.trouble = ""
        self.gone = False
        self.put_back = 0
        self.before: tuple[str, ...] = ()
        self._control = control
        self._deadlines = deadlines
        self._supply = supply
        self._leaders_wait: Callable[[], bool] | None = None
        self._wanted: dict[bytes, int] = {}
        self._elsewhere: Mapping[bytes, int] = {}
        self._tc_slot: TcSlot | None = None
        self._in_force: Mapping[Direction, int] = {}
        self._handover: ProgramHandover | None = None
        self._retry_at = NEVER

    # ------------------------------------------------------------ what is wanted

    def cover(
        self,
        slots: Mapping[bytes, int],
        elsewhere: Mapping[bytes, int],
        longest_right: float,
        now: float,
    ) -> None:
        """Let these addresses, and no others, pass only before the deadlines in their slots.

        `elsewhere`: addresses of other interfaces, which count here only as far as this node takes
        them itself. `longest_right`: seconds that an earlier vipd's right may last at most, from
        now on.
        """
        news = set(slots.values()) - set(self._wanted.values())
        self._wanted, self._elsewhere = dict(slots), elsewhere
        self.reconcile(now, longest_right, frozenset(news))

    def cover_elsewhere(self, elsewhere: Mapping[bytes, int], now: float) -> None:
        """Know these addresses of other interfaces beside the own ones.

        Quick, as it happens at each arming of another election.
        """
        if elsewhere == self._elsewhere:
            return
        self._elsewhere = elsewhere
        loaded = self._supply.loaded
        if self.trouble or loaded is None or not loaded.has_room({**self._wanted, **elsewhere}):
            self.reconcile(now)
            return
        try:
            self._supply.covering(self._wanted, elsewhere)
        except (GateError, BpfError):
            self.reconcile(now)

    @property
    def follows(self) -> bool:
        """Whether it has no addresses of its own to cover."""
        return self._leaders_wait is not None

    def lead(self, supply: Supply) -> None:
        """Have addresses of its own from the next `cover` on, and programs of its own.

        Until then all stays in force.
        """
        self._leaders_wait = None
        self._supply = supply

    def follow(self, supply: Supply, leaders_wait: Callable[[], bool]) -> None:
        """Have none of its own from now on, and these programs.

        `leaders_wait` tells whether those of an earlier vipd still count.
        """
        if not self.follows:
            self._leaders_wait = leaders_wait
            self._wanted = {}
            former, self._supply = self._supply, supply
            former.close()

    def settle(self, now: float) -> None:
        """Handle that all addresses of this interface are known."""
        if self._handover is not None:
            self._handover.settled = True
            self.reconcile(now)

    def reconcile(
        self, now: float, longest_right: float = 0.0, news: frozenset[int] = frozenset()
    ) -> bool:
        """Make it so, and look that it is; return whether it was gone and has been put back."""
        self._retry_at = NEVER
        self.gone = False
        try:
            found_gone = self._reconcile(now, longest_right, news)
        except GateError as error:
            self.trouble = str(error)
        except BpfError as error:
            self.trouble = why_not(error)
        except OSError as error:
            self.trouble, self.gone = _sentence(error), error.errno == errno.ENODEV
        else:
            self.trouble = ""
            return found_gone
        self._retry_at = now + RETRY
        return False

    def tick(self, now: float) -> float:
        """Do what is due; return the moment of the next time, to be asked again before it when a
        slot was opened.
        """
        if now >= self._due_at(now):
            self.reconcile(now)
        return self._due_at(now)

    def _due_at(self, now: float) -> float:
        if self._handover is None or self.trouble:
            return self._retry_at
        if self._leaders_wait is not None:
            # Asked again whenever a leading gate has moved.
            return NEVER if self._leaders_wait() else now
        return self._handover.replace_at(now, self._open(now))

    def state(self) -> GateState:
        """Return how it is, as of the last `reconcile`."""
        return GateState(
            self.ifindex,
            self.trouble,
            self.before,
            self.put_back,
            self._supply.dropped(),
            self.inherited,
        )

    @property
    def inherited(self) -> bool:
        """Whether the programs of an earlier vipd are still in force."""
        return self._handover is not None

    def clear(self) -> str:
        """Take it off the interface and forget everything; return what went wrong, if anything."""
        trouble = ""
        if self._tc_slot is not None:
            try:
                self._tc_slot.clear()
            except OSError as error:
                trouble = "" if error.errno == errno.ENODEV else _sentence(error)
        self.close()
        return trouble

    def close(self) -> None:
        """Let go of everything but common programs; what is attached stays in force."""
        if self._tc_slot is not None:
            self._tc_slot.close()
        if not self.follows:
            self._supply.close()
        self._tc_slot, self._handover, self._in_force = None, None, {}

    @property
    def squatters(self) -> tuple[str, ...]:
        """Who has the names of TC slots here without being a vipd, sentences."""
        return () if self._tc_slot is None else self._tc_slot.squatters

    # ------------------------------------------------------------ making it so

    def _reconcile(self, now: float, longest_right: float, news: frozenset[int]) -> bool:
        tc_slot = self._tc_slot or self._take_tc_slot(now + longest_right)
        loaded = self._loaded_or_nothing(tc_slot)
        attached = self._attached(tc_slot)
        gone = bool(self._in_force) and attached.programs != self._in_force
        if self._handover is not None and not gone and self._waits(self._handover, now, news):
            return False
        self._handover = None
        if attached.programs != loaded.ids():
            tc_slot.put(loaded.programs)
            self._in_force = self._attached(tc_slot).programs
            if self._in_force != loaded.ids():
                raise GateError("somebody else takes its filters away")
        self.put_back += gone
        return gone

    def _waits(self, handover: ProgramHandover, now: float, news: frozenset[int]) -> bool:
        """Whether the earlier vipd's programs have to stay for now."""
        if self._leaders_wait is not None:
            return self._leaders_wait()
        handover.inherited |= self._bound(news)
        return now < handover.replace_at(now, self._open(now))

    def _attached(self, tc_slot: TcSlot) -> Attached:
        attached = tc_slot.attached()
        self.before = (*attached.before, *before_traffic_control(self.ifindex))
        return attached

    def _take_tc_slot(self, until: float) -> TcSlot:
        """Take a TC slot; if an earlier vipd's programs are in it, leave them there for the time
        being.
        """
        refusal = probe_interface(self._control, self.ifindex)
        if refusal:
            raise GateError(refusal)
        self._tc_slot = TcSlot(self._control, self.ifindex)
        attached = self._tc_slot.attached()
        if attached.whole:
            self._in_force, self._handover = attached.programs, ProgramHandover(until)
        return self._tc_slot

    def _loaded_or_nothing(self, tc_slot: TcSlot) -> Loaded:
        """Return programs; if there are none and never were, the earlier vipd's go too.

        Closed for ever, they would cut off the VIP.
        """
        had_some = self._supply.loaded is not None
        try:
            return self._supply.covering(self._wanted, self._elsewhere)
        except (GateError, BpfError):
            if not had_some:
                tc_slot.clear()
                self._in_force, self._handover = {}, None
            raise

    def _bound(self, slots: frozenset[int]) -> set[int]:
        """Return those slots that have an address bound on the interface."""
        bound = (
            {address.ip for address in self._control.addresses(self.ifindex)}
            if slots
            else set[bytes]()
        )
        return {slot for ip, slot in self._wanted.items() if slot in slots and ip in bound}

    def _open(self, now: float) -> set[int]:
        moment = int(now * _NANOSECONDS)
        return {slot for slot in set(self._wanted.values()) if self._deadlines.at(slot) > moment}


def _sentence(error: OSError) -> str:
    """Return what an error of traffic control means."""
    match error.errno:
        case errno.ENODEV:
            return "the interface is gone"
        case errno.ENOENT | errno.EOPNOTSUPP if error.strerror == os.strerror(error.errno):
            return "this kernel has no clsact or no BPF filters (sch_ingress, cls_bpf)"
        case errno.EPERM:
            return "this process lacks CAP_NET_ADMIN"
        case _:
            return error.strerror or str(error)


# ---------------------------------------------------------------- its programs


class Supply:
    """Loads nothing before it is asked to. `loaded` is what there is, if there is anything."""

    def __init__(self, deadlines: Deadlines, loaded: Loaded | None = None) -> None:
        self.loaded = loaded
        self._deadlines = deadlines
        self._earlier_drops = Counter[bytes]()

    def covering(self, slots: Slots, elsewhere: Slots) -> Loaded:
        """Return programs that know these addresses and no others.

        New ones if there are none or they have no room.

        Raises GateError if the kernel does not do with them what it should, BpfError if it refuses
        them.
        """
        former = self.loaded
        if former is None or not former.has_room({**slots, **elsewhere}):
            fresh = Loaded(self._deadlines, len({**slots, **elsewhere}))
            wrong = self_test(fresh, self._deadlines)
            if wrong:
                fresh.close()
                raise GateError(wrong)
            if former is not None:
                self._earlier_drops.update(former.dropped())
                former.close()
            self.loaded = former = fresh
        former.cover(slots, elsewhere)
        return former

    def dropped(self) -> Mapping[bytes, int]:
        """Return how many frames were dropped for each address; raises BpfError."""
        drops = Counter(self._earlier_drops)
        if self.loaded is not None:
            drops.update(self.loaded.dropped())
        return dict(drops)

    def close(self) -> None:
        """Let go of the programs; what is attached stays in force. Idempotent."""
        if self.loaded is not None:
            self.loaded.close()
            self.loaded = None


# ---------------------------------------------------- when the programs of an earlier vipd give way


GRACE = 0.1
"""Seconds that the first VIP taken back waits for the others. Its own old deadline was about the
same as theirs: all of a node's leases are renewed on one tick."""


@dataclass(slots=True)
class ProgramHandover:
    """One interface's change from old programs to new ones. Moments are seconds on CLOCK_BOOTTIME.

    `until`: when no right of the earlier vipd can be left. `inherited`: slots whose addresses were
    bound when they became known. `settled`: all slots are known.
    """

    until: float
    inherited: set[int] = field(default_factory=set)
    settled: bool = False
    opened_at: float | None = None

    def replace_at(self, now: float, open_slots: AbstractSet[int]) -> float:
        """Return the moment to replace the programs at, `now` meaning at once.

        To be asked again whenever a slot opens.
        """
        waiting = self.inherited - open_slots
        if open_slots - self.inherited or (not waiting and (open_slots or self.settled)):
            return now
        if self.opened_at is None and open_slots:
            self.opened_at = now
        return self.until if self.opened_at is None else min(self.until, self.opened_at + GRACE)
