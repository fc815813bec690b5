"""What operators ask for, and what befalls a node in the very moment that hurts most."""

from __future__ import annotations

from typing import TYPE_CHECKING

from election.events import DrainChanged, Event, HandoverAsked, UnpinAsked
from election.model import Found
from tests.sim.victims import (
    any_election,
    any_host,
    any_length,
    cut_off_host,
    holder_of,
    kill_all,
    victim,
)

if TYPE_CHECKING:
    from tests.sim.host import Host
    from tests.sim.world import World

LOOK, CLOSE_LOOK = 0.01, 0.0005
"""Seconds between two looks for the moment that hurts: a start takes tenths of a second, a naming
is answered within 2 ms."""


def ask_handover(world: World) -> None:
    """Move the address, as an operator, perhaps twice in a row."""
    election = any_election(world)
    for _ in range(world.rng.choice((1, 1, 2))):
        to = world.rng.choice(["", any_host(world).name])
        world.later(
            world.rng.uniform(0.0, 0.3),
            _order,
            world,
            election,
            HandoverAsked(to, pin=world.rng.random() < 0.5),
        )


def _move(world: World) -> Host:
    """Ask the holder for a move, right now."""
    election = any_election(world)
    host = holder_of(world, election)
    if host.daemon is not None:
        host.daemon.deliver(election, HandoverAsked("", pin=False))
    return host


def cut_in_move(world: World) -> None:
    """Let the successor be silent, and cut the holder off just when it strikes it out."""
    host = _move(world)
    for other in world.hosts:
        if other is not host and other.daemon is not None:
            other.daemon.freeze(world.rng.uniform(0.2, 0.45))
    world.later(
        world.rng.uniform(0.18, 0.201), cut_off_host, world, host, 2.0 * world.faults.longest_lease
    )


def kill_in_move(world: World) -> None:
    """Kill guard and daemon of the holder in the middle of a move; they come back late."""
    host = _move(world)
    world.later(world.rng.uniform(0.0, 0.004), _kill_for_long, world, host)


def _kill_for_long(world: World, host: Host) -> None:
    host.wanted = False
    kill_all(world, host)
    world.later(world.faults.longest_lease, host.want)


def move_after_kill(world: World) -> None:
    """Kill all of a node.

    When it is back and has taken a lease back, move that one, and kill all again in the middle of
    it.
    """
    host = victim(world)
    kill_all(world, host)
    world.later(0.0, _move_when_back, world, host, world.now + world.faults.longest_lease, True)


def _move_when_back(world: World, host: Host, until: float, kill: bool) -> None:
    held = [e for e in host.settings if host.daemon is not None and host.daemon.is_active(e)]
    if host.daemon is not None and held:
        host.daemon.deliver(held[0], HandoverAsked("", pin=False))
        if kill:
            _kill_when_named(world, host, held[0], until)
    elif world.now < until:
        world.later(LOOK, _move_when_back, world, host, until, kill)


def _kill_when_named(world: World, host: Host, election: str, until: float) -> None:
    content = world.store.records.get(election)
    if isinstance(content, Found) and content.record.successor is not None:
        _kill_for_long(world, host)
    elif world.now < until:
        world.later(CLOSE_LOOK, _kill_when_named, world, host, election, until)


def kill_and_delete(world: World) -> None:
    """Kill all of a holder's processes and delete its record in one move.

    What it had not written down yet is lost.
    """
    host = victim(world)
    for election in host.settings:
        _kill_and_delete_when_taken(world, host, election, world.now + world.faults.longest_lease)


def _kill_and_delete_when_taken(world: World, host: Host, election: str, until: float) -> None:
    """Wait for a take by this node, or until then."""
    content = world.store.records.get(election)
    fresh = (
        isinstance(content, Found)
        and world.host_of(content.record.session) is host
        and not content.record.bound
    )
    if fresh or world.now >= until:
        world.later(world.rng.uniform(0.0, 0.03), _kill_and_delete, world, host, election)
    else:
        world.later(CLOSE_LOOK, _kill_and_delete_when_taken, world, host, election, until)


def _kill_and_delete(world: World, host: Host, election: str) -> None:
    kill_all(world, host)
    world.judge.tampered(election)
    world.store.delete(election)


def delete_in_move(world: World) -> None:
    """Delete the record in the middle of a move that the holder has not seen end, while others do
    not reach the store.
    """
    host = _move(world)
    if host.watch is not None:
        host.watch.break_off(1.0)
    world.later(world.rng.uniform(0.0, 0.02), _delete_and_cut, world, host)


def _delete_and_cut(world: World, host: Host) -> None:
    for election in host.settings:
        world.judge.tampered(election)
        world.store.delete(election)
    for other in world.hosts:
        if other is not host:
            cut_off_host(world, other, 1.0)


def freeze_in_move(world: World) -> None:
    """Stop the holder's daemon just after it has named a successor; its guard sleeps."""
    host = _move(world)
    if host.daemon is not None:
        world.later(world.rng.uniform(0.0, 0.004), _freeze, world, host)


def _freeze(world: World, host: Host) -> None:
    if host.daemon is not None:
        host.daemon.freeze(world.faults.longest_lease)


def freeze_in_call(world: World) -> None:
    """Stop a holder's guard and daemon beyond the deadline, the daemon in a netlink call that it
    ends while the guard removes.
    """
    _freeze_when_in_call(world, victim(world), world.now + world.faults.longest_lease)


def _freeze_when_in_call(world: World, host: Host, until: float) -> None:
    guard, daemon = host.guard, host.daemon
    if (
        guard is not None
        and daemon is not None
        and daemon.is_in_call
        and any(daemon.is_active(e) for e in host.settings)
    ):
        length = world.rng.uniform(0.9, 1.0) * world.faults.longest_lease
        guard.freeze(length)
        daemon.freeze(length + world.rng.uniform(0.0, 0.1))
        daemon.freeze_at_next_step(1.0)
        host.note_stunned()
    elif world.now < until:
        world.later(LOOK, _freeze_when_in_call, world, host, until)


def crash_and_delete_in_move(world: World) -> None:
    """Kill the holder's daemon in a move, and delete the record before the next one reads it.

    Nobody else reaches the store.
    """
    host = _move(world)
    world.later(world.rng.uniform(0.0, 0.004), host.kill_daemon)
    world.later(world.rng.uniform(0.006, 0.1), _delete_and_cut, world, host)


def crash_after_take(world: World) -> None:
    """Kill the daemon of a successor that has just taken the lease, and move that on when it is
    back; who handed over is frozen.
    """
    host = _move(world)
    for election in host.settings:
        _crash_when_taken(world, host, election, world.now + 0.1)


def _crash_when_taken(world: World, host: Host, election: str, until: float) -> None:
    content = world.store.records.get(election)
    taker = (
        world.host_of(content.record.session)
        if isinstance(content, Found) and content.record.holder
        else None
    )
    if (
        taker is not None
        and taker is not host
        and taker.kernel.bound(election)
        and host.kernel.bound(election)
    ):
        world.disturb(1.0)
        if host.daemon is not None:
            host.daemon.freeze(1.0)
        taker.kill_daemon()
        _move_when_back(world, taker, world.now + 0.5, False)
    elif world.now < until:
        world.later(CLOSE_LOOK, _crash_when_taken, world, host, election, until)


def crash_cut_off(world: World) -> None:
    """Let the holder's daemon crash twice, the second time before another is ready, while it does
    not reach the store.
    """
    host, lease = victim(world), world.faults.longest_lease
    cut_off_host(world, host, 2.0 * lease)
    first = world.rng.uniform(0.3, 1.0) * lease
    for delay in (first, first + world.rng.uniform(0.0, 0.3)):
        world.later(delay, host.kill_daemon)


def ask_unpin(world: World) -> None:
    """Give the choice back to the priorities, as an operator."""
    _order(world, any_election(world), UnpinAsked())


def _order(world: World, election: str, order: Event) -> None:
    host = holder_of(world, election)
    if host.daemon is not None:
        host.daemon.deliver(election, order)


def drain(world: World) -> None:
    """Drain a node, as an operator, and resume it later."""
    host = victim(world)
    set_drain(host, drained=True)
    world.later(any_length(world) * 2, set_drain, host, False)


def set_drain(host: Host, drained: bool) -> None:
    """Set a node's drain flag, and tell its daemon."""
    host.world.availability.look()
    host.drained = drained
    if not drained:
        for election in host.settings:
            host.world.availability.returns(host, election)
    if host.daemon is not None:
        host.daemon.deliver_all(DrainChanged(drained))
