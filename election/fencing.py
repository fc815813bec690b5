"""What the guard decides.

When to kill the daemon, what to remove, what to refresh, when to start the daemon again. Pure.

    decide(now, view) -> actions in order            next_wake(now, view) -> when to ask again at
    the latest

A slot is one election's word (its deadline) with the addresses that go with it. Somebody answers
for every open slot: the daemon for those that the present process armed, the guard for all others.
From this follows

- *fence*: a daemon that misses the deadline of a slot it armed is killed and reaped, and only then
  is the slot removed. A daemon that is merely paused between its check and its netlink call would
  bind again after a removal. One that has not armed a slot cannot bind it, so a slow start is no
  reason to kill: the guard removes what has run out beside it.
- *keep*: what the guard answers for keeps its addresses, and gets its lifetimes refreshed, for as
  long as the right lasts.

Times are seconds on CLOCK_BOOTTIME. 0.0 means closed for a deadline and never for any other moment.
The executor reads the words anew before each call, compares the deadline again around each refresh,
and reports nothing but what it saw.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import assert_never

from election.timing import Timing, lifetime_seconds, next_refresh

NEVER = math.inf
EXIT_FAILED = 1
EXIT_CONFIG = 2
EXIT_REFUSED = 4
EXIT_RELOAD = 75
"""Exit status (EX_TEMPFAIL) of a daemon that gave way for one with a new configuration."""
FINAL = frozenset({EXIT_CONFIG, EXIT_REFUSED})
"""What a new start cannot mend: a configuration error, an address or a state directory that another
daemon holds."""
ORDERLY_STOP = frozenset({None, 0, EXIT_RELOAD, -15})
"""Ends that are fine once a stop was asked for; -15: SIGTERM met a daemon so young that it had no
handler yet."""

CRASHES = 3
CRASH_WINDOW = 10.0
"""So many crashes within so many seconds are a fault that a new start does not mend."""
SHORTEST_PATIENCE = 0.250
PATIENCE_FRACTION = 6
"""A daemon is stuck after max(250 ms, a sixth of the shortest lease) without a sign of life."""
START_PATIENCE = 4.0
"""From the start of a daemon to its first beat: 0.1 s as a rule, seconds on a host that boots.
Three fit into CRASH_WINDOW."""
STOP_PATIENCE = 5.0
REAP_PATIENCE = 0.030
"""Seconds after SIGKILL at which the addresses of a daemon that is not reaped yet are removed all
the same.

1. The daemon waits for its disk in the kernel, so SIGKILL does not end it. 2. The removal would
wait for the reaping, and the
address would stay. A killed process runs no code of its own again, so the removal need not wait; it
is repeated after the reaping, for the one call that may have been under way."""
UNREAPED_PATIENCE = 5.0
REMOVE_RETRY = 0.020
REMOVE_RETRY_BESIDE = 0.250
"""Pause between removals that did not do: with no daemon, and beside one that is dying or has
nothing to do with the slot."""
REMOVE_PATIENCE = 2.0
"""Somebody else may put an address back for ever; a guard that starts afresh is of more use than
one that only removes."""
EXPIRY_RESERVE = 1.0
"""Seconds after a lease_duration by which another node that is fit has taken the lease: the delay
of its rank, and the store."""


class Life(enum.Enum):
    """What the daemon is doing.

    STARTING lasts until its first beat, STOPPING begins with the SIGTERM to it.
    """

    NONE = "none"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"


class Why(enum.StrEnum):
    """Why a daemon is killed or an election's addresses are removed."""

    DEADLINE = "deadline"
    STUCK = "stuck"
    START_TIMEOUT = "start_timeout"
    STOP_TIMEOUT = "stop_timeout"
    LEAVING = "leaving"


@dataclass(frozen=True, slots=True)
class Slot:
    """One election: its word as just read, its lease_duration (s), and what was last done for it.

    `armed`: the present daemon asked for it. `refreshed_at` and `removal_tried_at`: when the guard
    last refreshed the lifetimes or tried to remove the addresses. Both are 0.0 again when the slot
    is armed, and when a daemon has ended: what was done beside it says nothing about what it left.
    """

    number: int
    deadline: float
    lease_duration: float
    armed: bool = True
    refreshed_at: float = 0.0
    removal_tried_at: float = 0.0


@dataclass(frozen=True, slots=True)
class View:
    """All that a decision depends on.

    `status` is the last daemon's exit status (negative: a signal), None before the first end;
    `ended_at` when it was reaped. `alive_at` is the heartbeat, `killed_at` when the kill of the
    present daemon was ordered. `late_at` is when the guard last noticed that it had itself been
    stopped or starved. `can_start`: a process to fork the daemon from is ready. `crashes` are
    times, oldest first, this end included if it was one (`is_crash`).
    """

    slots: tuple[Slot, ...] = ()
    life: Life = Life.NONE
    can_start: bool = True
    started_at: float = 0.0
    alive_at: float = 0.0
    late_at: float = 0.0
    killed_at: float = 0.0
    ended_at: float = 0.0
    status: int | None = None
    crashes: tuple[float, ...] = ()
    stop_asked_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Kill:
    """Send SIGKILL to the daemon and reap it; its exit is an event like any other."""

    why: Why


@dataclass(frozen=True, slots=True)
class Remove:
    """Remove the slot's addresses, read back that they are gone, then close its word.

    Without `close` the word stays open: the killed daemon is not reaped yet, and the removal is to
    be repeated.
    """

    slot: int
    why: Why
    close: bool = True


@dataclass(frozen=True, slots=True)
class Refresh:
    """Give the slot's addresses this many whole seconds of lifetime, comparing the deadline before
    and after.
    """

    slot: int
    seconds: int


@dataclass(frozen=True, slots=True)
class Start:
    """Start the daemon."""


@dataclass(frozen=True, slots=True)
class Quit:
    """End the guard with this exit code, after a last attempt on whatever is still open."""

    code: int


GuardAction = Kill | Remove | Refresh | Start | Quit


def is_crash(status: int, *, stop_asked: bool, reload_asked: bool) -> bool:
    """Whether a daemon's end was a crash.

    Any but one that was asked for, or that says that a new start is of no use.

    An exit with 0 that nobody asked for counts as one: else a daemon that ends at once would be
    started for ever.
    """
    return not (stop_asked or status in FINAL or (reload_asked and status == EXIT_RELOAD))


def patience(view: View) -> float:
    """Return for how many seconds a running daemon may give no sign of life."""
    shortest = min(
        (slot.lease_duration for slot in view.slots if slot.armed), default=Timing().lease_duration
    )
    return max(SHORTEST_PATIENCE, shortest / PATIENCE_FRACTION)


def feeds_watchdog(now: float, view: View) -> bool:
    """Whether the daemon is known to make progress, or none is wanted for now.

    Systemd's watchdog is fed only then.
    """
    waiting = view.life is Life.NONE and now < _expired_at(view)
    return waiting or (
        view.life is Life.RUNNING and not view.killed_at and now < view.alive_at + patience(view)
    )


def decide(now: float, view: View) -> list[GuardAction]:
    """Return what is to be done now, in order. Ask again, with a new view, until nothing is."""
    code = _quit_code(now, view)
    if code is not None:
        return _remove_and_quit(now, view, code)
    actions: list[GuardAction] = []
    if view.life is not Life.NONE and not view.killed_at:
        actions += [Kill(why) for at, why in offences(view) if now >= at][:1]
    actions += _removals_and_refreshes(now, view)
    if (
        view.life is Life.NONE
        and view.can_start
        and not any(_overdue(now, slot) for slot in view.slots)
    ):
        actions.append(Start())
    return actions


def next_wake(now: float, view: View) -> float:
    """Return when `decide` may have something to do though nothing happens.

    NEVER if only an event can change that.
    """
    if decide(now, view):
        return now
    moments = (
        [view.ended_at + REMOVE_PATIENCE, _expired_at(view)]
        if view.life is Life.NONE
        else _wakes_beside_daemon(now, view)
    )
    leaving = _quit_code(now, view) is not None
    for slot in view.slots:
        if slot.deadline and _guard_answers_for(now, view, slot):
            moments += [slot.deadline, slot.deadline + REMOVE_PATIENCE, _refresh_at(now, slot)]
            moments += [_remove_again_at(view, slot)] if leaving or _overdue(now, slot) else []
    return min((moment for moment in moments if moment > now), default=NEVER)


# ---------------------------------------------------------------- with a daemon


def offences(view: View) -> list[tuple[float, Why]]:
    """Return what the living daemon will be killed for, and from when on; the gravest first."""
    found = [(slot.deadline, Why.DEADLINE) for slot in view.slots if slot.armed and slot.deadline]
    match view.life:
        case Life.STOPPING:
            found.append((view.stop_asked_at + STOP_PATIENCE, Why.STOP_TIMEOUT))
        case Life.STARTING:
            found.append((max(view.started_at, view.late_at) + START_PATIENCE, Why.START_TIMEOUT))
        case Life.RUNNING:
            # After a suspend, or when the whole host was starved, the guard may run before the
            # daemon does. If the guard itself was not scheduled, a missing heartbeat proves
            # nothing; the deadlines above hold all the same.
            found.append((max(view.alive_at, view.late_at) + patience(view), Why.STUCK))
        case Life.NONE:
            pass
        case _:
            assert_never(view.life)
    return found


def _wakes_beside_daemon(now: float, view: View) -> list[float]:
    if view.killed_at:
        return [view.killed_at + REAP_PATIENCE, view.killed_at + UNREAPED_PATIENCE]
    moments = [at for at, _ in offences(view)]
    if view.life is Life.STARTING:
        # The first beat wakes nobody: without this look a daemon that beats once and hangs has
        # START_PATIENCE.
        moments.append(now + patience(view))
    return moments


# ---------------------------------------------------------------- addresses


def _guard_answers_for(now: float, view: View, slot: Slot) -> bool:
    """Whether the guard answers for this slot: nobody else can bind it any more, or not yet."""
    return view.life is Life.NONE or not slot.armed or _cannot_act_again(now, view)


def _cannot_act_again(now: float, view: View) -> bool:
    """Whether the daemon was killed and is not reaped only because it sleeps in the kernel."""
    return view.killed_at > 0 and now >= view.killed_at + REAP_PATIENCE


def _overdue(now: float, slot: Slot) -> bool:
    return slot.deadline != 0 and now >= slot.deadline


def _removals_and_refreshes(now: float, view: View) -> list[GuardAction]:
    """Return the removals and refreshes of the slots that the guard answers for, removals first."""
    slots = [slot for slot in view.slots if slot.deadline and _guard_answers_for(now, view, slot)]
    removals: list[GuardAction] = [
        Remove(slot.number, Why.DEADLINE, close=view.life is Life.NONE or not slot.armed)
        for slot in slots
        if _overdue(now, slot) and now >= _remove_again_at(view, slot)
    ]
    refreshes: list[GuardAction] = [
        Refresh(slot.number, lifetime_seconds(slot.deadline, now, slot.lease_duration))
        for slot in slots
        if not _overdue(now, slot) and now >= _refresh_at(now, slot)
    ]
    return removals + refreshes


def _remove_again_at(view: View, slot: Slot) -> float:
    """Return the earliest moment for a removal: at once, or after a pause if one did not do."""
    if slot.removal_tried_at == 0:
        return 0.0
    return slot.removal_tried_at + (REMOVE_RETRY if view.life is Life.NONE else REMOVE_RETRY_BESIDE)


def _refresh_at(now: float, slot: Slot) -> float:
    """Return when the guard refreshes the slot's lifetimes next; `now` or earlier.

    At once, NEVER: it is done.

    At once when the guard takes over, since the daemon may have been stuck for a while.
    """
    refreshed_at = slot.refreshed_at
    if refreshed_at == 0:
        return now if lifetime_seconds(slot.deadline, now, slot.lease_duration) >= 1 else NEVER
    return next_refresh(now, slot.deadline, refreshed_at, slot.lease_duration)


# ---------------------------------------------------------------- the end


def _quit_code(now: float, view: View) -> int | None:
    """Return the exit code if the guard is to end, or None."""
    if view.life is not Life.NONE:
        return EXIT_FAILED if view.killed_at and now >= view.killed_at + UNREAPED_PATIENCE else None
    if view.stop_asked_at:
        if view.status in FINAL:
            return view.status
        return 0 if view.status in ORDERLY_STOP else EXIT_FAILED
    if view.status in FINAL:
        return view.status
    if crashes_on(view):
        return EXIT_FAILED
    if any(
        _overdue(now, slot) and now >= max(slot.deadline, view.ended_at) + REMOVE_PATIENCE
        for slot in view.slots
    ):
        return EXIT_FAILED
    return None


def _remove_and_quit(now: float, view: View, code: int) -> list[GuardAction]:
    """Return the removals of all that is open, and the end once nothing is or time is up."""
    still_open = [slot for slot in view.slots if slot.deadline]
    if not still_open and now < _expired_at(view):
        return []
    if view.life is not Life.NONE or not still_open:
        return [Quit(code)]
    if now >= view.ended_at + REMOVE_PATIENCE:
        return [Quit(code or EXIT_FAILED)]
    due = [slot for slot in still_open if now >= _remove_again_at(view, slot)]
    return [
        Remove(slot.number, Why.DEADLINE if _overdue(now, slot) else Why.LEAVING) for slot in due
    ]


def crashes_on(view: View) -> bool:
    """Whether the daemon has ended so often that a new start does not mend it."""
    return (
        len(view.crashes) >= CRASHES and view.crashes[-1] - view.crashes[-CRASHES] <= CRASH_WINDOW
    )


def _expired_at(view: View) -> float:
    """Return until when a guard whose daemon crashes again and again stays, with nothing bound.

    The service manager starts it afresh at once, and the next daemon would take its own lease back
    and crash again: the VIP would come and go on this node for as long as that lasts, and no other
    node would ever have it.
    """
    if not crashes_on(view) or view.stop_asked_at:
        return 0.0
    return view.ended_at + max(
        (slot.lease_duration + EXPIRY_RESERVE for slot in view.slots), default=0.0
    )
