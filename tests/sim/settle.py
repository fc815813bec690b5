"""After the last fault.

Everything heals, and within a bounded time exactly one node is Active, the right one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from election.events import FitnessChanged, InterfaceChanged
from election.model import Found, State
from tests.sim.moves import set_drain
from tests.sim.node_mishaps import mend

if TYPE_CHECKING:
    from tests.sim.host import Host
    from tests.sim.world import World

RESTARTS = 16.0
"""Seconds for what is not the election's: a guard that gives up after three crashes, a refused bind
(5 s), a stop (5 s)."""
LAST_STOP = 12.0
DAMPING = 75.0
"""Seconds for what may hold a preemption back: damping (60 s), preempt_delay."""


def heal(world: World) -> None:
    """End every fault that lasts, and bring every node and check back."""
    world.availability.look()
    world.over = True
    world.weather.clear_up()
    world.store.down_until = min(world.store.down_until, world.now)
    world.store.stalled_until = min(world.store.stalled_until, world.now)
    world.rivals_on_wire.clear()
    for host in world.hosts:
        host.store_cut = host.replies_cut = host.link_cut = False
        host.slowness = 0.0
        host.state_readable = True
        mend(host)
        for process in (host.guard, host.daemon):
            if process is not None:
                process.frozen_until = min(process.frozen_until, world.now)
        for election in host.settings:
            host.fit[election] = event = FitnessChanged(fit=True, priority=host.priority)
            if host.daemon is not None:
                host.daemon.deliver(election, event)
            if host.daemon is not None:
                # Refusals were momentary; a node that met one waits for a sign that they are over.
                host.daemon.deliver(election, InterfaceChanged())
        if host.drained:
            set_drain(host, drained=False)
        host.power_on()
        host.want()


def one_active_within(world: World) -> float:
    """Return the bound.

    The longest lease that any node knows of is waited out once, an old look at the record included.
    """
    longest = [
        machine.longest
        for host in world.hosts
        if host.daemon is not None
        for machine in host.daemon.machines.values()
    ]
    return 1.6 * max([world.faults.longest_lease, *longest]) + RESTARTS


def active(world: World, election: str) -> list[Host]:
    """Return the nodes that are Active, by machine and by kernel."""
    return [
        host
        for host in world.hosts
        if host.daemon is not None
        and host.daemon.is_active(election)
        and host.kernel.serving_until(election) > world.now
    ]


def is_served(world: World, election: str) -> bool:
    """Whether exactly one node is Active and its record says so."""
    serving = [host for host in world.hosts if host.kernel.serving_until(election) > world.now]
    found = active(world, election)
    content = world.store.records.get(election)
    return (
        len(found) == 1
        and serving == found
        and isinstance(content, Found)
        and found[0].daemon is not None
        and content.record.held_by(found[0].daemon.me)
    )


def is_best(world: World, election: str) -> bool:
    """Whether nobody who preempts is better than the holder, or the holder is pinned."""
    content = world.store.records.get(election)
    if not isinstance(content, Found):
        return False
    record = content.record
    if record.pin and record.pin == record.holder:
        return True
    return not any(
        host.settings[election].preempt
        and host.daemon is not None
        and host.daemon.machines[election].state is State.BACKUP
        and host.priority > record.priority
        for host in world.hosts
    )


def settle(world: World) -> None:
    """Heal, and see that the group comes to rest."""
    heal(world)
    elections = list(world.hosts[0].settings)
    bound = one_active_within(world)
    world.availability.permit(bound)
    if not world.run_until_true(
        world.now + bound, lambda: all(is_served(world, e) for e in elections)
    ):
        missing = next(e for e in elections if not is_served(world, e))
        names = [host.label for host in active(world, missing)]
        world.judge.blame(
            world.hosts[0], missing, f"{bound:.1f} s after the last fault Active are: {names}"
        )
    if not world.run_until_true(
        world.now + DAMPING + bound,
        lambda: all(is_served(world, e) and is_best(world, e) for e in elections),
    ):
        world.judge.blame(world.hosts[0], elections[0], "the best node did not take over")
    # Two nodes of one name may need a second look at each other until one of them gives way for
    # good.
    if world.availability.demanding:
        stay_calm(world, elections)


def stay_calm(world: World, elections: list[str]) -> None:
    """See that a group at rest serves at every instant, and that a preemption that was still to
    come is the last move.

    One instant says nothing: in the middle of a planned move two nodes are Active, and the record
    names one of them.
    """
    # Who was cut off serves on, at first, though its lease runs out before it is renewed.
    world.run_until(world.now + world.availability.recovery())
    if not world.run_until_true(
        world.now + DAMPING, lambda: all(is_served(world, e) for e in elections)
    ):
        world.judge.blame(world.hosts[0], elections[0], "nobody serves long after the last fault")
    world.availability.forgive_nothing()
    world.run_until(world.now + 2 * world.faults.longest_lease)
    for election in elections:
        world.judge.account(election)
    if not world.run_until_true(
        world.now + DAMPING,
        lambda: all(is_served(world, e) and is_best(world, e) for e in elections),
    ):
        world.judge.blame(
            world.hosts[0], elections[0], "nobody, or not only one, is Active in calm"
        )


def stop_all(world: World) -> None:
    """Stop every node: nothing may be left behind."""
    world.availability.demanding = False
    for number, host in enumerate(world.hosts):
        world.after(number * 0.05, host.stop)
    if not world.run_until_true(
        world.now + LAST_STOP,
        lambda: all(h.guard is None and h.daemon is None for h in world.hosts),
    ):
        world.judge.blame(world.hosts[0], "", "did not stop")
    for host in world.hosts:
        world.judge.stopped(host)
    # A guard that has seen three crashes gives up: that daemon's lease is left to expire. So is one
    # that the store, or the successors, did not let it go in the time that a stop has.
    killed = {host.name for host in world.hosts if host.last_killed or host.gave_up}
    for election in world.hosts[0].settings:
        content = world.store.records.get(election)
        if (
            isinstance(content, Found)
            and content.record.holder
            and content.record.holder not in killed
        ):
            world.judge.blame(
                world.hosts[0],
                election,
                f"{content.record.holder} holds the lease after everybody stopped",
            )
