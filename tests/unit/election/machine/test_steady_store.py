"""A store that answers each request after the same time, however close to request_timeout.

Whoever may use the timings, binds and stays.

One node, one machine, no faults: a plain loop over the time, without the simulation's weather.
"""

from __future__ import annotations

import heapq
import itertools
import math
from dataclasses import dataclass, field

import pytest

from election import events
from election.actions import Bind, Read, Refresh, SetDeadline, Transition, Unbind, Write
from election.machine.machine import Machine
from election.model import Absent, Applied, Conflict, Found, Identity, Record, State
from election.timing import PROFILES, Settings, Timing, lifetime_to_set, longest_request, problems

START = 1000.0
WATCHED = 30.0
ALWAYS = 0.999


@dataclass
class Node:
    """One node whose store answers after `round_trip` seconds.

    `bound_for` is how long its address was bound since it settled.
    """

    timing: Timing
    round_trip: float
    now: float = START
    word: float = 0.0
    ends: float = 0.0
    bound_for: float = 0.0
    times_active: int = 0
    record: Record | None = None
    revision: str = ""
    queue: list[tuple[float, int, object]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Make its machine."""
        self.machine = Machine(
            Settings("web", ("192.0.2.1/32",), self.timing, probe=False), Identity("a", "a1")
        )
        self._numbers = itertools.count()
        # An absent record is waited out, then comes the skew time of an unknown rank, and the
        # requests of a take.
        self.settled = (
            START
            + self.timing.lease_duration
            + self.timing.renew_interval
            + 5 * self.timing.request_timeout
        )

    def run(self) -> float:
        """Return the share of the time for which the address was bound."""
        self.step(events.Started())
        self.step(events.FitnessChanged(fit=True, priority=100))
        while self.now < self.settled + WATCHED:
            wake_at = max(self.machine.next_wake(self.now), self.now + 0.001)
            self.pass_until(min([wake_at, *(at for at, _, _ in self.queue[:1]), self.expiry]))
            if self.queue and self.queue[0][0] <= self.now:
                self.happen(heapq.heappop(self.queue)[2])
            elif self.machine.next_wake(self.now) <= self.now:
                self.step(events.Tick())
        return self.bound_for / WATCHED

    @property
    def expiry(self) -> float:
        """When the kernel ends the address; never while it is not bound."""
        return self.ends if self.ends > self.now else math.inf

    def pass_until(self, moment: float) -> None:
        """Let time pass."""
        self.bound_for += max(0.0, min(moment, self.ends) - max(self.now, self.settled))
        self.now = moment

    def later(self, seconds: float, what: object) -> None:
        """Have something happen after a while."""
        heapq.heappush(self.queue, (self.now + seconds, next(self._numbers), what))

    def happen(self, what: object) -> None:
        """Do what is due: the store applies a write, or answers."""
        if not isinstance(what, Write):
            self.step(what)
            return
        if what.expected != (self.revision or None):
            self.later(self.round_trip / 2, events.WriteDone(what.request, Conflict()))
            return
        self.record, self.revision = what.record, f"{next(self._numbers)}"
        self.later(self.round_trip / 2, events.WriteDone(what.request, Applied(self.revision)))

    def step(self, event: object) -> None:
        """Tell the machine, and do what it says."""
        waiting = [event]
        while waiting:
            for action in self.machine.step(self.now, waiting.pop(0)):  # type: ignore[arg-type]
                match action:
                    case Read(request=request):
                        found = (
                            Absent() if self.record is None else Found(self.record, self.revision)
                        )
                        self.later(self.round_trip, events.ReadDone(request, found))
                    case Write():
                        self.later(self.round_trip / 2, action)
                    case SetDeadline(deadline):
                        self.word = deadline
                    case Bind():
                        waiting.append(events.BindDone(action.epoch, ok=self.give(action)))
                    case Refresh():
                        self.give(action)
                    case Unbind():
                        self.ends = 0.0
                        waiting.append(events.UnbindDone(ok=True))
                    case Transition(after=State.ACTIVE):
                        self.times_active += 1
                    case _:
                        pass

    def give(self, action: Bind | Refresh) -> bool:
        """Set the address's lifetime, as the executor does."""
        shrink = isinstance(action, Refresh) and action.shrink
        seconds = lifetime_to_set(self.now, self.word, action.lease_duration, shrink=shrink)
        if seconds:
            self.ends = self.now + seconds
        return seconds > 0


LEASES = (1.0, 1.5, 1.9, 2.0, 2.1, 2.3, 2.5, 2.6, 3.0, 4.0)
RENEWALS = (0.1, 0.2, 0.3)
TIMEOUTS = (0.05, 0.18, 0.3, 0.5, 0.7, 0.9)
ACCEPTED = [
    timing
    for lease, share, timeout in itertools.product(LEASES, RENEWALS, TIMEOUTS)
    if not problems(timing := Timing(lease, lease * share, timeout))
]


@pytest.mark.parametrize("timing", [*PROFILES.values(), *ACCEPTED], ids=str)
def test_whatever_is_accepted_binds_and_stays(timing: Timing) -> None:
    """Also where a request takes longer than the pause between two renewals."""
    for share in (0.3, 0.65, 0.98):
        node = Node(timing, share * timing.request_timeout)
        assert node.run() > ALWAYS
        assert node.times_active == 1


@pytest.mark.parametrize(
    ("lease", "renew", "timeout"),
    [(2.0, 0.4, 0.5), (2.0, 0.3, 0.6), (2.2, 0.4, 0.6), (2.5, 0.5, 0.7)],
)
def test_what_never_binds_is_refused_with_its_cure(
    lease: float, renew: float, timeout: float
) -> None:
    """Were it accepted, a slow and healthy store would leave the VIP nowhere."""
    timing = Timing(lease, renew, timeout)
    [problem] = problems(timing)
    assert "nothing would ever be bound" in problem
    assert Node(timing, 0.98 * timeout).run() < ALWAYS
    cured = Timing(lease, renew, math.floor(1000 * longest_request(lease)) / 1000)
    assert f"{1000 * cured.request_timeout:g}ms" in problem
    assert problems(cured) == []
    assert Node(cured, 0.98 * cured.request_timeout).run() > ALWAYS


def test_many_addresses_take_their_time_too() -> None:
    """The unbind has to begin earlier."""
    timing = Timing(2.5, 0.5, 0.62)
    assert problems(timing, addresses=1) == []
    assert problems(timing, addresses=500) != []
