"""What befalls one node from inside: its interfaces, its kernel, its state directory.

And what somebody writes in its name.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from election.model import Candidacy, CandidateRecord
from tests.sim.interfaces import NAME
from tests.sim.victims import any_election, any_host, any_length, holder_of, kill_all, victim

if TYPE_CHECKING:
    from tests.sim.host import Host
    from tests.sim.world import World

OTHER_NAME = "renamed0"

# ---------------------------------------------------------------- interfaces


def rename_interface(world: World) -> None:
    """Give the interface another name, and its own again later; what is bound stays on it."""
    host = victim(world)
    found = host.kernel.links.find(NAME)
    if found is None:
        return
    length = any_length(world)
    world.disturb(length)
    found.name = OTHER_NAME
    host.links_changed()
    world.after(length, _rename_back, world, host, found.index)


def _rename_back(world: World, host: Host, index: int) -> None:
    found = host.kernel.links.at(index)
    if found is not None and host.kernel.links.find(NAME) is None:
        found.name = NAME
        host.links_changed()


def remake_interface(world: World) -> None:
    """Delete the interface, and make one of its name anew.

    Another index, another MAC, and nothing is bound there.
    """
    host = victim(world)
    found = host.kernel.links.find(NAME)
    if found is None:
        return
    length = world.rng.choice((0.0, any_length(world)))
    world.disturb(length)
    host.kernel.links.delete(found.index)
    _lose(host, found.index)
    world.after(length, _make, host)


def _make(host: Host) -> None:
    if host.kernel.links.find(NAME) is None:
        host.kernel.links.make(NAME)
        host.links_changed()


def move_interface(world: World) -> None:
    """Move the interface to another network namespace and back.

    The same index, and the kernel has flushed what was bound.
    """
    host = victim(world)
    found = host.kernel.links.find(NAME)
    if found is None:
        return
    length = world.rng.choice((0.0, any_length(world)))
    world.disturb(length)
    found.here = False
    _lose(host, found.index)
    world.after(length, _bring_back, host, found.index)


def _bring_back(host: Host, index: int) -> None:
    links = host.kernel.links
    found = links.lost(NAME)
    if found is not None and found.index == index and links.find(NAME) is None:
        found.here = True
        host.links_changed()


def _lose(host: Host, index: int) -> None:
    for election in host.kernel.flush(index):
        host.address_lost(election)
    host.links_changed()


# ---------------------------------------------------------------- the kernel


def refuse_for_long(world: World) -> None:
    """Let the kernel of one node take an election's addresses from nobody, as with IPv6 switched
    off: what is bound is flushed.
    """
    election = any_election(world)
    host = (
        max(world.hosts, key=lambda one: one.priority)
        if world.rng.random() < 0.7
        else holder_of(world, election)
    )
    if election in host.kernel.refused:
        return
    world.availability.refusal_begins(host, election)
    host.kernel.refused.add(election)
    if host.kernel.bound(election):
        host.kernel.remove(election)
        host.address_lost(election)
    host.interface_changed()
    world.later(
        world.rng.uniform(1.0, 4.0) * world.faults.longest_lease + 10.0,
        grant,
        world,
        host,
        election,
    )


def grant(world: World, host: Host, election: str) -> None:
    """Let the kernel take the addresses again."""
    world.availability.look()
    world.availability.returns(host, election)
    host.kernel.refused.discard(election)
    host.interface_changed()


def mend(host: Host) -> None:
    """Let the interface be what and where it was, and the kernel take any address."""
    links = host.kernel.links
    if links.find(NAME) is None:
        found = links.lost(NAME) or links.find(OTHER_NAME) or links.make(NAME)
        found.here, found.name = True, NAME
    host.kernel.refused.clear()
    host.interface_changed()
    host.links_changed()


# ---------------------------------------------------------------- the state directory


def lose_state(world: World) -> None:
    """Kill all of a node and lose its state directory."""
    host = victim(world)
    kill_all(world, host)
    world.judge.forgotten(host)
    host.state = replace(host.state, sessions=frozenset(), epochs={}, longest={})


def copy_state(world: World) -> None:
    """Kill all of a node, and let it find another's state directory.

    Nothing in it proves that one of its sessions is gone.
    """
    host, other = victim(world), any_host(world)
    kill_all(world, host)
    world.judge.forgotten(host)
    host.state = replace(
        other.state, epochs=dict(other.state.epochs), longest=dict(other.state.longest)
    )


def spoil_state(world: World) -> None:
    """Let a node neither read nor write its state directory for a while, and restart its daemon."""
    host = victim(world)
    world.judge.forgotten(host)
    host.state_readable = False
    world.disturb(0.0)
    host.kill_daemon()
    world.later(any_length(world) * 2, setattr, host, "state_readable", True)


# ---------------------------------------------------------------- false records


def false_candidate(world: World) -> None:
    """Write a candidate record that is none, or change one.

    Absurd figures, another session, a name that nobody has.
    """
    rng = world.rng
    names = [*(host.name for host in world.hosts), "nobody", "zz"]
    said = Candidacy(
        eligible=rng.random() < 0.8,
        priority=rng.choice((1, 254, 255, 0, -5, 10**9)),
        asks=rng.random() < 0.5,
        epoch=rng.choice((0, 7, 2**31, 2**53, 2**53 + 1)),
    )
    record = CandidateRecord(
        name=rng.choice(names),
        session=rng.choice(["", "forged", *(host.label + "1" for host in world.hosts)]),
        counter=rng.choice((0, 1, 10**6, 2**53)),
        elections={any_election(world): said},
        refresh_interval=rng.choice((0, 1, 3000, 10**9)),
    )
    # A record in a live node's own name keeps that node out as a namesake would; a phantom is named
    # and struck out.
    world.disturb(0.0)
    world.store.write_candidate(record)
