"""Why the guard did something, in words for its log. Pure."""

from __future__ import annotations

from collections.abc import Callable

from election.fencing import CRASHES, REMOVE_PATIENCE, START_PATIENCE, STOP_PATIENCE, UNREAPED_PATIENCE, View, Why, patience


def killed_for(why: Why, moment: float, view: View, name: Callable[[int], str]) -> str:
    """Return why a daemon is killed, to follow its number; `view` is that of before, `name` gives a slot's election."""
    match why:
        case Why.STUCK:
            silent = moment - max(view.alive_at, view.late_at)
            return f"gives no sign of life: killed (silent for {silent * 1000:.0f} ms, allowed are {patience(view) * 1000:.0f} ms)"
        case Why.DEADLINE:
            missed = [name(slot.number) for slot in view.slots if slot.armed and slot.deadline and moment >= slot.deadline]
            return f"missed a deadline: killed (the right to {', '.join(missed) or 'an address'} has ended, and it has not let go)"
        case Why.START_TIMEOUT:
            return f"did not come up: killed (it had {START_PATIENCE:g} s)"
        case Why.STOP_TIMEOUT:
            return f"did not stop in time: killed (it had {STOP_PATIENCE:g} s)"
        case Why.LEAVING:
            return "is in the way of the end: killed"


def gave_up(view: View) -> str:
    """Return what follows from too many deaths of the daemon."""
    last = view.crashes[-CRASHES:]
    within = last[-1] - last[0]
    lease = max((slot.lease_duration for slot in view.slots), default=0.0)
    when = f" once its lease of {lease:g} s has expired" if lease else ""
    return f"giving up: {len(last)} deaths in {within:.1f} s; the addresses are removed, and another node takes over{when}"


def quits_for(moment: float, view: View) -> str:
    """Return why the guard ends though nobody told it to; empty: that was said before, or somebody did."""
    if view.killed_at and moment >= view.killed_at + UNREAPED_PATIENCE:
        return f"giving up: the daemon was killed {moment - view.killed_at:.0f} s ago and has not ended: it is asleep in the kernel"
    if any(slot.deadline and moment >= slot.deadline for slot in view.slots):
        return f"giving up: an address could not be removed within {REMOVE_PATIENCE:g} s; a new start tries again"
    return ""
