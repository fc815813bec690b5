"""The guard's decisions: a table of its rules, and what holds in every view."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

from election import fencing
from election.fencing import (
    GuardAction,
    Kill,
    Life,
    Quit,
    Refresh,
    Remove,
    Slot,
    Start,
    View,
    Why,
    decide,
    next_wake,
)
from election.timing import LIFETIME_RESERVE, SHORT_LEASE

NOW = 1000.0
OPEN = Slot(1, NOW + 2.5, 3.0)
PASSED = Slot(1, NOW - 0.001, 3.0)
CLOSED = Slot(1, 0.0, 3.0)
OTHER = Slot(2, NOW + 2.0, 3.0, refreshed_at=NOW - 0.1)

RUNNING = View(life=Life.RUNNING, started_at=NOW - 60, alive_at=NOW - 0.1, slots=(OPEN,))
STARTING = View(life=Life.STARTING, started_at=NOW - 0.1)
STOPPING = replace(RUNNING, life=Life.STOPPING, stop_asked_at=NOW - 1, alive_at=NOW - 1)
AWAY = View(ended_at=NOW - 0.01, status=-9, crashes=(NOW - 0.01,))


def guards(slot: Slot) -> Slot:
    """Return the slot as one that the present daemon has not armed."""
    return replace(slot, armed=False)


TABLE: dict[str, tuple[View, list[GuardAction]]] = {
    "the first start": (View(), [Start()]),
    "nothing to start from yet": (View(can_start=False), []),
    "all is well": (RUNNING, []),
    "a deadline passed: the daemon first": (
        replace(RUNNING, slots=(PASSED,)),
        [Kill(Why.DEADLINE)],
    ),
    "exactly at the deadline": (
        replace(RUNNING, slots=(replace(OPEN, deadline=NOW),)),
        [Kill(Why.DEADLINE)],
    ),
    "killed, not reaped yet": (replace(RUNNING, slots=(PASSED,), killed_at=NOW - 0.001), []),
    "killed and not to be reaped": (
        replace(RUNNING, slots=(PASSED,), killed_at=NOW - 0.1),
        [Remove(1, Why.DEADLINE, close=False)],
    ),
    "killed, not to be reaped, tried a moment ago": (
        replace(RUNNING, slots=(replace(PASSED, removal_tried_at=NOW - 0.1),), killed_at=NOW - 0.2),
        [],
    ),
    "killed and not to be reaped for too long": (
        replace(RUNNING, slots=(PASSED,), killed_at=NOW - 6),
        [Quit(1)],
    ),
    "reaped: removed before a new start, the others stay": (
        replace(AWAY, slots=(PASSED, OTHER)),
        [Remove(1, Why.DEADLINE)],
    ),
    "a removal that did not do is repeated after a pause": (
        replace(AWAY, slots=(replace(PASSED, removal_tried_at=NOW - 0.005),)),
        [],
    ),
    "and then": (
        replace(AWAY, slots=(replace(PASSED, removal_tried_at=NOW - 0.020),)),
        [Remove(1, Why.DEADLINE)],
    ),
    "somebody puts the address back for ever": (
        replace(
            AWAY,
            ended_at=NOW - 3,
            slots=(replace(PASSED, deadline=NOW - 1.9, removal_tried_at=NOW - 1),),
        ),
        [Remove(1, Why.DEADLINE)],
    ),
    "until a fresh guard is better": (
        replace(
            AWAY,
            ended_at=NOW - 3,
            slots=(replace(PASSED, deadline=NOW - 2.5, removal_tried_at=NOW - 0.001),),
        ),
        [Quit(1)],
    ),
    "the word is closed": (replace(AWAY, slots=(CLOSED,)), [Start()]),
    "a crash: refreshed and started again at once": (
        replace(AWAY, slots=(OPEN,)),
        [Refresh(1, 1), Start()],
    ),
    "refreshed already": (
        replace(AWAY, slots=(replace(OPEN, refreshed_at=NOW - 0.01),)),
        [Start()],
    ),
    "too little left for a whole second": (
        replace(AWAY, slots=(replace(OPEN, deadline=NOW + 1.5),)),
        [Start()],
    ),
    "a short lease": (replace(AWAY, slots=(Slot(1, NOW + 0.1, 1.0),)), [Refresh(1, 1), Start()]),
    "a slow start beside a passed deadline": (
        replace(STARTING, slots=(guards(PASSED),)),
        [Remove(1, Why.DEADLINE)],
    ),
    "a slow start, still time": (replace(STARTING, slots=(guards(OPEN),)), [Refresh(1, 1)]),
    "a deadline counts as soon as the new daemon armed it": (
        replace(STARTING, slots=(PASSED,)),
        [Kill(Why.DEADLINE)],
    ),
    "what a new configuration no longer has": (
        replace(RUNNING, slots=(OPEN, guards(replace(PASSED, number=2)))),
        [Remove(2, Why.DEADLINE)],
    ),
    "no sign of life": (replace(RUNNING, alive_at=NOW - 0.501), [Kill(Why.STUCK)]),
    "a sixth of the lease is not over": (replace(RUNNING, alive_at=NOW - 0.499), []),
    "250 ms with a short lease": (
        replace(RUNNING, slots=(Slot(1, 0.0, 1.0),), alive_at=NOW - 0.251),
        [Kill(Why.STUCK)],
    ),
    "not before, with a short lease": (
        replace(RUNNING, slots=(Slot(1, 0.0, 1.0),), alive_at=NOW - 0.249),
        [],
    ),
    "the shortest lease counts": (
        replace(RUNNING, slots=(Slot(1, 0.0, 30.0), Slot(2, 0.0, 3.0)), alive_at=NOW - 0.6),
        [Kill(Why.STUCK)],
    ),
    "a long lease": (replace(RUNNING, slots=(Slot(1, 0.0, 30.0),), alive_at=NOW - 4.9), []),
    "a guard that itself did not run does not judge": (
        replace(RUNNING, alive_at=NOW - 60, late_at=NOW - 0.1),
        [],
    ),
    "but the deadline it does": (
        replace(RUNNING, alive_at=NOW - 60, late_at=NOW - 0.1, slots=(PASSED,)),
        [Kill(Why.DEADLINE)],
    ),
    "no beat yet": (replace(STARTING, started_at=NOW - 3.9), []),
    "never came up": (replace(STARTING, started_at=NOW - 4.0), [Kill(Why.START_TIMEOUT)]),
    "stopping, without beats": (STOPPING, []),
    "did not stop": (replace(STOPPING, stop_asked_at=NOW - 5), [Kill(Why.STOP_TIMEOUT)]),
    "stopping, and a deadline passed": (replace(STOPPING, slots=(PASSED,)), [Kill(Why.DEADLINE)]),
    "three crashes in ten seconds": (
        replace(AWAY, crashes=(NOW - 9, NOW - 5, NOW), slots=(OPEN,)),
        [Remove(1, Why.LEAVING)],
    ),
    "and all is removed, the lease not expired": (
        replace(AWAY, crashes=(NOW - 9, NOW - 5, NOW), slots=(CLOSED,)),
        [],
    ),
    "and the lease has expired": (
        replace(AWAY, ended_at=NOW - 4, crashes=(NOW - 9, NOW - 5, NOW - 4), slots=(CLOSED,)),
        [Quit(1)],
    ),
    "and a stop is asked for meanwhile": (
        replace(AWAY, crashes=(NOW - 9, NOW - 5, NOW), slots=(CLOSED,), stop_asked_at=NOW),
        [Quit(1)],
    ),
    "three crashes before anything was held": (
        replace(AWAY, crashes=(NOW - 9, NOW - 5, NOW)),
        [Quit(1)],
    ),
    "and it cannot be removed": (
        replace(
            AWAY,
            ended_at=NOW - 2,
            crashes=(NOW - 9, NOW - 5, NOW - 2),
            slots=(replace(OPEN, removal_tried_at=NOW - 0.001),),
        ),
        [Quit(1)],
    ),
    "three crashes in more": (replace(AWAY, crashes=(NOW - 10.1, NOW - 5, NOW)), [Start()]),
    "a configuration error": (
        replace(AWAY, status=2, crashes=(), slots=(OPEN, CLOSED)),
        [Remove(1, Why.LEAVING)],
    ),
    "a configuration error, nothing bound": (replace(AWAY, status=2, crashes=()), [Quit(2)]),
    "refused": (replace(AWAY, status=4, crashes=()), [Quit(4)]),
    "reload": (replace(AWAY, status=75, crashes=(), slots=(OPEN,)), [Refresh(1, 1), Start()]),
    "stopped in order": (replace(AWAY, status=0, crashes=(), stop_asked_at=NOW - 1), [Quit(0)]),
    "stopped in order, something still open": (
        replace(AWAY, status=0, crashes=(), stop_asked_at=NOW - 1, slots=(OPEN,)),
        [Remove(1, Why.LEAVING)],
    ),
    "stopped, the right over": (
        replace(AWAY, status=0, stop_asked_at=NOW - 1, slots=(PASSED,)),
        [Remove(1, Why.DEADLINE)],
    ),
    "stopped, but the addresses cannot be removed": (
        replace(AWAY, status=0, crashes=(), stop_asked_at=NOW - 4, ended_at=NOW - 3, slots=(OPEN,)),
        [Quit(1)],
    ),
    "stopped before there was a handler for it": (
        replace(AWAY, status=-15, crashes=(), stop_asked_at=NOW - 1),
        [Quit(0)],
    ),
    "stopped before the first start": (View(stop_asked_at=NOW), [Quit(0)]),
    "stopped in the middle of a reload": (
        replace(AWAY, status=75, crashes=(), stop_asked_at=NOW - 1),
        [Quit(0)],
    ),
    "crashed while stopping": (
        replace(AWAY, status=-9, crashes=(), stop_asked_at=NOW - 1),
        [Quit(1)],
    ),
    "refused while stopping": (
        replace(AWAY, status=4, crashes=(), stop_asked_at=NOW - 1),
        [Quit(4)],
    ),
}


@pytest.mark.parametrize(("view", "expected"), TABLE.values(), ids=TABLE.keys())
def test_rule(view: View, expected: list[GuardAction]) -> None:
    """Each line of the table is a situation and what follows from it."""
    assert decide(NOW, view) == expected


@pytest.mark.parametrize(
    ("status", "stop_asked", "reload_asked", "crash"),
    [
        (-9, False, False, True),
        (1, False, False, True),
        (0, False, False, True),
        (75, False, False, True),
        (75, False, True, False),
        (0, False, True, True),
        (2, False, False, False),
        (4, False, False, False),
        (0, True, False, False),
        (-9, True, False, False),
    ],
)
def test_what_counts_as_a_crash(
    status: int, stop_asked: bool, reload_asked: bool, crash: bool
) -> None:
    """Whatever nobody asked for and a new start may mend."""
    assert fencing.is_crash(status, stop_asked=stop_asked, reload_asked=reload_asked) is crash


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        (RUNNING, True),
        (replace(RUNNING, alive_at=NOW - 0.6), False),
        (replace(RUNNING, killed_at=NOW - 0.01), False),
        (STARTING, False),
        (STOPPING, False),
        (AWAY, False),
    ],
)
def test_the_watchdog_is_fed_for_a_daemon_in_good_health_only(view: View, expected: bool) -> None:
    """A guard that works beside a daemon that does not is no reason for systemd to be content."""
    assert fencing.feeds_watchdog(NOW, view) is expected


# ---------------------------------------------------------------- in every view

moments = st.floats(NOW - 20, NOW + 20)
since = st.just(0.0) | st.floats(NOW - 1, NOW) | st.floats(NOW - 20, NOW)
slots = st.builds(
    Slot,
    number=st.just(0),
    deadline=st.just(0.0) | moments,
    lease_duration=st.sampled_from([1.0, 1.9, 2.0, 3.0, 10.0, 30.0]),
    armed=st.booleans(),
    refreshed_at=since,
    removal_tried_at=since,
)
views = st.builds(
    View,
    slots=st.lists(slots, max_size=4).map(
        lambda found: tuple(replace(slot, number=i + 1) for i, slot in enumerate(found))
    ),
    life=st.sampled_from(Life),
    can_start=st.booleans(),
    started_at=since,
    alive_at=since,
    late_at=since,
    killed_at=since,
    ended_at=since,
    status=st.sampled_from([None, 0, 1, 2, 4, 75, -9, -15]),
    crashes=st.lists(since, max_size=3).map(lambda found: tuple(sorted(found))),
    stop_asked_at=since,
)


def by_number(view: View, number: int) -> Slot:
    """Return the slot with this number."""
    return next(slot for slot in view.slots if slot.number == number)


@given(views)
def test_nothing_is_removed_under_a_daemon_that_could_bind_it_again(view: View) -> None:
    """Removed is what no living daemon has armed.

    What a daemon beyond return had armed stays to be removed once more.
    """
    for action in decide(NOW, view):
        if (
            isinstance(action, Remove)
            and view.life is not Life.NONE
            and by_number(view, action.slot).armed
        ):
            assert 0 < view.killed_at <= NOW - fencing.REAP_PATIENCE
            assert not action.close


@given(views)
def test_a_daemon_is_started_once_and_killed_once(view: View) -> None:
    """No second daemon beside a living one, no start while something that ran
    out is still bound.
    """
    actions = decide(NOW, view)
    if Start() in actions:
        assert view.life is Life.NONE
        assert view.can_start
        assert not any(slot.deadline and slot.deadline <= NOW for slot in view.slots)
    kills = [action for action in actions if isinstance(action, Kill)]
    assert len(kills) <= (view.life is not Life.NONE and not view.killed_at)


@given(views)
def test_a_right_that_lasts_is_not_cut_short_without_leaving(view: View) -> None:
    """Addresses whose deadline lies ahead are removed only by a guard that is about to end."""
    for action in decide(NOW, view):
        if isinstance(action, Remove) and by_number(view, action.slot).deadline > NOW:
            assert action.why is Why.LEAVING


def acts_on(view: View, kind: type[fencing.GuardAction], *, deadline_ahead: bool) -> bool:
    """Whether a slot's removal or another action of this kind is decided, for a slot whose deadline
    lies ahead (or has passed).
    """
    found = [action for action in decide(NOW, view) if isinstance(action, kind)]
    if kind is not Remove:
        return bool(found)
    return any(
        (by_number(view, action.slot).deadline > NOW) is deadline_ahead
        for action in found
        if isinstance(action, Remove)
    )


def some_view(wanted: Callable[[View], bool]) -> View:
    """Return a view of which this is true."""
    return find(
        views, wanted, settings=settings(max_examples=2000, phases=[Phase.generate], database=None)
    )


@pytest.mark.parametrize("deadline_ahead", [False, True])
@pytest.mark.parametrize("kind", [Kill, Remove, Refresh, Start, Quit])
def test_the_views_contain_what_these_tests_are_about(
    kind: type[fencing.GuardAction], deadline_ahead: bool
) -> None:
    """What is asserted of an action that is never decided holds in vain."""
    found = some_view(lambda view: acts_on(view, kind, deadline_ahead=deadline_ahead))
    assert acts_on(found, kind, deadline_ahead=deadline_ahead)
    if kind is Remove and not deadline_ahead:
        beside = some_view(
            lambda view: view.life is not Life.NONE and acts_on(view, Remove, deadline_ahead=False)
        )
        assert beside.life is not Life.NONE
    if kind is Quit:
        still_open = some_view(
            lambda view: (
                acts_on(view, Quit, deadline_ahead=False) and any(s.deadline for s in view.slots)
            )
        )
        assert any(slot.deadline for slot in still_open.slots)


@given(views)
def test_the_guard_ends_only_without_open_slots_or_after_its_patience(view: View) -> None:
    """Quit stands alone, and nothing is left open unless two seconds of removing did not help."""
    actions = decide(NOW, view)
    if any(isinstance(action, Quit) for action in actions):
        assert len(actions) == 1
        if any(slot.deadline for slot in view.slots):
            assert (
                NOW >= view.ended_at + fencing.REMOVE_PATIENCE
                or NOW >= view.killed_at + fencing.UNREAPED_PATIENCE
            )


@given(views)
def test_the_guard_is_awake_while_there_is_something_to_do(view: View) -> None:
    """next_wake is now whenever decide has an answer."""
    assert (next_wake(NOW, view) <= NOW) is bool(decide(NOW, view))


def test_the_guard_looks_for_the_first_beat() -> None:
    """A beat wakes nobody.

    A daemon that beats once and hangs is found out as any other, not at the end of START_PATIENCE.
    """
    assert next_wake(NOW, replace(STARTING, slots=(CLOSED,))) == NOW + 0.5
    assert next_wake(NOW, replace(STARTING, slots=(OPEN,))) == NOW + 0.5


# ---------------------------------------------------------------- in the course of time


@dataclass
class World:
    """A dull executor with a virtual clock, and a daemon that does nothing any more."""

    view: View
    reap_after: float
    failures: int
    now: float = NOW
    sample: float = 0.5
    done: list[tuple[float, GuardAction]] = field(default_factory=list)
    closed: dict[int, float] = field(default_factory=dict)
    over: bool = False

    def run(self, until: float) -> None:
        """Decide and act until that moment or until there is nothing left to do."""
        while not self.over and self.now <= until:
            for action in decide(self.now, self.view):
                self.done.append((self.now, action))
                self._do(action)
            self._sleep()

    def _sleep(self) -> None:
        reaped_at = self.view.killed_at + self.reap_after if self.view.killed_at else math.inf
        wake = min(next_wake(self.now, self.view), reaped_at)
        between = self.now + self.sample * (min(wake, self.now + 100) - self.now)
        if self.now < between < wake:
            assert decide(between, self.view) == [], "the guard would have slept through this"
        self.now = wake
        if self.now >= reaped_at:
            self._reap()

    def _reap(self) -> None:
        slots = tuple(
            replace(slot, armed=False, refreshed_at=0.0, removal_tried_at=0.0)
            for slot in self.view.slots
        )
        crashes = (*self.view.crashes, self.now)[-fencing.CRASHES :]
        self.view = replace(
            self.view,
            life=Life.NONE,
            killed_at=0.0,
            ended_at=self.now,
            status=-9,
            crashes=crashes,
            slots=slots,
        )

    def _do(self, action: GuardAction) -> None:
        match action:
            case Kill():
                self.view = replace(self.view, killed_at=self.now)
            case Remove(slot=number, close=close):
                self.failures -= 1
                self._change(number, removal_tried_at=self.now)
                if self.failures < 0 and close:
                    self._change(number, deadline=0.0)
                    self.closed[number] = self.now
            case Refresh(slot=number):
                self._change(number, refreshed_at=self.now)
            case Start():
                self.view = replace(
                    self.view, life=Life.STARTING, started_at=self.now, alive_at=0.0
                )
            case Quit():
                self.over = True

    def _change(self, number: int, **values: float) -> None:
        changed = tuple(
            replace(slot, **values) if slot.number == number else slot  # type: ignore[arg-type]
            for slot in self.view.slots
        )
        self.view = replace(self.view, slots=changed)


@given(views, st.floats(0, 1), st.integers(0, 3), st.floats(0, 1))
def test_a_passed_deadline_leads_to_the_removal(
    view: View, reap_after: float, failures: int, sample: float
) -> None:
    """Whatever the situation, and if no daemon ever does anything.

    Every open slot is closed soon after its deadline.

    On the way there is nothing to do at any moment that the guard sleeps through.
    """
    world = World(view, reap_after, failures, sample=sample)
    world.run(NOW + 30)
    assert world.over or not any(slot.deadline for slot in world.view.slots)
    delay = reap_after + (failures + 1) * fencing.REMOVE_RETRY_BESIDE + 1e-6
    for number, closed_at in world.closed.items():
        assert closed_at <= max(by_number(view, number).deadline, NOW) + delay
    for at, action in world.done:
        if isinstance(action, Remove) and action.why is Why.DEADLINE:
            assert at >= by_number(view, action.slot).deadline


@given(st.floats(NOW + 0.001, NOW + 20), st.sampled_from([2.0, 3.0, 10.0, 30.0]))
def test_refreshed_lifetimes_reach_to_the_reserve_and_never_beyond(
    deadline: float, lease_duration: float
) -> None:
    """A guard on its own keeps the addresses without a gap, until 0.7 s to 0.6 s before the
    deadline.
    """
    view = View(slots=(Slot(1, deadline, lease_duration, armed=False),), can_start=False)
    world = World(view, reap_after=0.0, failures=0)
    world.run(deadline)
    refreshes = [(at, action.seconds) for at, action in world.done if isinstance(action, Refresh)]
    best = deadline - LIFETIME_RESERVE
    for at, seconds in refreshes:
        assert at + seconds <= best + 1e-6
    for (at, seconds), (following, _) in itertools.pairwise(refreshes):
        assert following < at + seconds
    if best - NOW >= 2:
        at, seconds = refreshes[-1]
        assert best - 0.11 <= at + seconds
    assert len(refreshes) <= 3


@given(st.floats(NOW + 0.001, NOW + 1.7))
def test_short_leases_are_refreshed_for_as_long_as_the_right_lasts(deadline: float) -> None:
    """Below two seconds the lifetime is one second.

    Never a gap before the deadline; the gate ends it in time.
    """
    assert SHORT_LEASE > 1.9
    world = World(
        View(slots=(Slot(1, deadline, 1.9, armed=False),), can_start=False),
        reap_after=0.0,
        failures=0,
    )
    world.run(deadline)
    refreshes = [at for at, action in world.done if isinstance(action, Refresh)]
    assert refreshes[0] == NOW
    assert all(later - earlier < 1 for earlier, later in itertools.pairwise(refreshes))
    assert refreshes[-1] + 1 >= deadline


def test_a_suspended_host_fences_on_waking() -> None:
    """The clock jumps by a night.

    The deadline counts at once, whatever the guard makes of the silence.
    """
    morning = NOW + 8 * 3600
    view = replace(RUNNING, late_at=morning)
    assert decide(morning, view) == [Kill(Why.DEADLINE)]
    without_right = replace(view, slots=(CLOSED,))
    assert decide(morning, without_right) == []
    assert decide(morning + 0.5, without_right) == [Kill(Why.STUCK)]
