"""Whom a mishap befalls, and what can be done to one node."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.sim.host import Host
    from tests.sim.world import World


def any_host(world: World) -> Host:
    """Pick any node."""
    return world.rng.choice(world.hosts)


def any_election(world: World) -> str:
    """Pick any election."""
    return world.rng.choice(list(world.hosts[0].settings))


def holder_of(world: World, election: str) -> Host:
    """Pick the one that holds, as a rule: there it hurts."""
    serving = [h for h in world.hosts if h.kernel.serving_until(election) > world.now]
    return serving[0] if serving and world.rng.random() < 0.7 else any_host(world)


def victim(world: World) -> Host:
    """Pick a node, as a rule one that holds: there it hurts."""
    return holder_of(world, any_election(world))


def for_a_while(
    world: World, seconds: float, begin: Callable[[], None], end: Callable[[], None]
) -> None:
    """Let a fault last for so long."""
    world.disturb(seconds)
    begin()
    world.later(seconds, _end, world, end)


def _end(world: World, end: Callable[[], None]) -> None:
    world.availability.look()
    end()


def any_length(world: World) -> float:
    """Return a duration around the lease's.

    The interesting ones are just shorter and just longer.
    """
    lease = world.faults.longest_lease
    return world.rng.choice(
        (
            world.rng.uniform(0.0, 0.5),
            world.rng.uniform(0.0, lease),
            world.rng.uniform(lease * 0.8, lease * 2.5),
        )
    )


def kill_all(world: World, host: Host) -> None:
    """SIGKILL both of this node's processes in one moment."""
    world.disturb(2.5)
    for process in (host.daemon, host.guard):
        if process is not None:
            process.kill()


def cut_off_host(world: World, host: Host, seconds: float) -> None:
    """Let this node not reach the store."""
    for_a_while(
        world,
        seconds,
        lambda: setattr(host, "store_cut", True),
        lambda: setattr(host, "store_cut", False),
    )
