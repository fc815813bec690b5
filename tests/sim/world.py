"""A world of nodes around one store, in virtual time.

Deterministic for a seed, and as fast as it can be computed.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import TYPE_CHECKING

from election.actions import Action
from election.events import Event, RivalSeen
from tests.sim.availability import Availability
from tests.sim.faults import Faults
from tests.sim.judge import Judge
from tests.sim.speech import say_actions, say_event
from tests.sim.store import Store, Watch
from tests.sim.weather import Climate, Weather

if TYPE_CHECKING:
    from tests.sim.daemon import Daemon
    from tests.sim.host import Host

LOOK = 0.1
FRAME_TIME = 0.0002
"""Seconds that a frame needs to the other hosts of the link."""


class World:
    """The heap of what will happen: (true time, order of planning, what).

    `now` is true time in seconds.
    """

    def __init__(
        self,
        seed: int = 0,
        climate: Climate | None = None,
        tell: Callable[[str], object] | None = None,
    ) -> None:
        self.rng = Random(seed)
        self.now = 0.0
        self._heap: list[tuple[float, int, Callable[..., object], tuple[object, ...]]] = []
        self._order = 0
        self.hosts: list[Host] = []
        self.availability = Availability(self)
        self.judge = Judge(self)
        self.weather = Weather(self, climate or Climate())
        self.faults = Faults(self)
        self.store = Store(self)
        self.rivals_on_wire: set[str] = set()
        self.disturbed_until = 0.0
        self.over = False
        self._tell = tell
        self.tracing = tell is not None

    # ------------------------------------------------------------------ time

    def at(self, time: float, call: Callable[..., object], *what: object) -> None:
        """Plan a call at a true time."""
        if time < float("inf"):
            self._order += 1
            heapq.heappush(self._heap, (max(time, self.now), self._order, call, what))

    def after(self, delay: float, call: Callable[..., object], *what: object) -> None:
        """Plan a call so many true seconds from now."""
        self.at(self.now + delay, call, *what)

    def later(self, delay: float, call: Callable[..., object], *what: object) -> None:
        """Plan a mishap, or its end; after the last fault neither happens any more."""
        self.after(delay, self._unless_over, call, *what)

    def _unless_over(self, call: Callable[..., object], *what: object) -> None:
        if not self.over:
            call(*what)

    def run_until(self, time: float) -> None:
        """Let everything happen up to this time."""
        heap = self._heap
        while heap and heap[0][0] <= time:
            self.now, _, call, what = heapq.heappop(heap)
            call(*what)
        self.now = max(self.now, time)

    def run_until_true(self, time: float, done: Callable[[], bool]) -> bool:
        """Let everything happen until `done`, looked at every LOOK seconds, or up to this time;
        return whether it was.
        """
        while not done():
            if self.now >= time:
                return False
            self.run_until(min(time, self.now + LOOK))
        return True

    def disturb(self, seconds: float) -> None:
        """Note a fault that lasts so long.

        A handover that it meets may overlap for longer, and an address may be away.
        """
        self.stir(seconds)
        self.availability.permit_recovery(seconds)

    def stir(self, seconds: float) -> None:
        """Note an event that lasts so long and costs no address.

        Only a handover that it meets may overlap for longer.
        """
        self.disturbed_until = max(self.disturbed_until, self.now + seconds)

    # ------------------------------------------------------------------ who is there

    def watches(self) -> Iterator[Watch]:
        """Yield the watches of all running daemons."""
        for host in self.hosts:
            if host.daemon is not None:
                yield host.daemon.watch

    def host_of(self, session: str) -> Host | None:
        """Return the host on which this session ran; sessions begin with the host's label."""
        return next((h for h in self.hosts if session.startswith(h.label)), None)

    # ------------------------------------------------------------------ the link

    def send_frames(self, sender: Host, election: str) -> None:
        """Let the others on the link see frames for the address from a foreign MAC."""
        self.judge.sent_frames(sender, election)
        for host in self.hosts:
            apart = host is sender or host.link_cut or sender.link_cut
            if (
                not apart
                and host.daemon is not None
                and host.daemon.is_active(election)
                and not self.weather.loses_frame()
            ):
                self.after(FRAME_TIME, host.daemon.deliver, election, RivalSeen())

    def who_answers(self, asker: Host, election: str) -> str:
        """Return the MAC address of whoever answers for the election's addresses, or nothing."""
        if election in self.rivals_on_wire:
            return "02:00:00:00:00:99"
        for host in self.hosts:
            if (
                host is not asker
                and not host.link_cut
                and not asker.link_cut
                and host.kernel.serving_until(election) > self.now
            ):
                return f"02:00:00:00:00:{host.label.encode().hex()}"
        return ""

    # ------------------------------------------------------------------ telling

    def say(self, who: str, text: str) -> None:
        """Write one line of the trace."""
        if self._tell is not None:
            self._tell(f"{self.now:9.4f} {who:<9} {text}")

    def trace_step(
        self, daemon: Daemon, election: str, event: Event, actions: Sequence[Action]
    ) -> None:
        """Write what a machine was told and what it wants done."""
        self.say(
            daemon.me.session,
            f"< {say_event(event)}" + (f"   [{election}]" if len(daemon.machines) > 1 else ""),
        )
        for line in say_actions(actions, shift=self.now - daemon.now):
            self.say("", f"    > {line}")
