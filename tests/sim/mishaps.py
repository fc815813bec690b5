"""Everything that befalls a world at a point in time: faults, operators and foreign writers.

Each takes the world and picks a victim.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from election.events import FitnessChanged
from election.model import Found, Reason, Record
from tests.sim.moves import (
    ask_handover,
    ask_unpin,
    crash_after_take,
    crash_and_delete_in_move,
    crash_cut_off,
    cut_in_move,
    delete_in_move,
    drain,
    freeze_in_call,
    freeze_in_move,
    kill_and_delete,
    kill_in_move,
    move_after_kill,
)
from tests.sim.node_mishaps import (
    copy_state,
    false_candidate,
    lose_state,
    move_interface,
    refuse_for_long,
    remake_interface,
    rename_interface,
    spoil_state,
)
from tests.sim.timings import any_timing
from tests.sim.victims import (
    any_election,
    any_length,
    cut_off_host,
    for_a_while,
    holder_of,
    kill_all,
    victim,
)

if TYPE_CHECKING:
    from tests.sim.host import Host
    from tests.sim.store import Backup
    from tests.sim.world import World

Mishap = Callable[["World"], None]


# ---------------------------------------------------------------- processes and nodes


def stop_daemon(world: World) -> None:
    """SIGSTOP the daemon for a while."""
    host = victim(world)
    if host.daemon is not None:
        host.daemon.freeze(any_length(world))
    host.note_stunned()


def stop_guard(world: World) -> None:
    """SIGSTOP the guard for a while."""
    host = victim(world)
    if host.guard is not None:
        host.guard.freeze(any_length(world))
    host.note_stunned()


def stop_both(world: World) -> None:
    """SIGSTOP guard and daemon in one moment; they need not go on in one moment."""
    host = victim(world)
    length = any_length(world)
    for process in (host.guard, host.daemon):
        if process is not None:
            process.freeze(length * world.rng.choice((1.0, 1.0, world.rng.uniform(0.5, 1.5))))
    host.note_stunned()


def kill_daemon(world: World) -> None:
    """Let the daemon crash."""
    victim(world).kill_daemon()


def kill_guard(world: World) -> None:
    """SIGKILL the guard: the daemon is told by the kernel."""
    host = victim(world)
    if host.guard is not None:
        host.guard.kill()


def kill_both(world: World) -> None:
    """SIGKILL both in one moment."""
    kill_all(world, victim(world))


def power_cut(world: World) -> None:
    """Cut a node's power; it boots again later."""
    host = victim(world)
    world.disturb(1.0)
    host.power_off()
    world.later(world.rng.uniform(0.5, 2.0) * world.faults.longest_lease, host.power_on)


def die(world: World) -> None:
    """Cut a node's power for good, as long as others remain."""
    host = victim(world)
    if sum(not other.dead for other in world.hosts) > 1 and not host.dead:
        world.disturb(1.0)
        host.dead = True
        host.power_off()


def restart(world: World) -> None:
    """Stop the service in an orderly way and start it again."""
    host = victim(world)
    host.stop()
    world.later(world.rng.uniform(0.5, 2.0) * world.faults.longest_lease, host.want)


def reload(world: World) -> None:
    """Change the lease of one node, or of all."""
    timing = any_timing(world.rng)
    everybody = world.rng.random() < 0.5
    for host in world.hosts if everybody else [victim(world)]:
        host.reload({e: replace(s, timing=timing) for e, s in host.settings.items()})
    world.faults.longest_lease = max(world.faults.longest_lease, timing.lease_duration)


# ---------------------------------------------------------------- network and store


def cut_off(world: World) -> None:
    """Let a node not reach the store."""
    cut_off_host(world, victim(world), any_length(world))


def cut_replies(world: World) -> None:
    """Let a node reach the store, but hear no answer."""
    host = victim(world)
    for_a_while(
        world,
        any_length(world),
        lambda: setattr(host, "replies_cut", True),
        lambda: setattr(host, "replies_cut", False),
    )


def cut_link(world: World) -> None:
    """Let a node's frames reach nobody."""
    host = victim(world)
    for_a_while(
        world,
        any_length(world),
        lambda: setattr(host, "link_cut", True),
        lambda: setattr(host, "link_cut", False),
    )


def store_down(world: World) -> None:
    """Restart the store: nobody reaches it, and watches end."""
    length = any_length(world)
    world.disturb(length)
    world.store.down_until = max(world.store.down_until, world.now + length)
    break_watches(world)


def store_stalls(world: World) -> None:
    """Let the store take requests and answer them much later, in another order."""
    length = any_length(world)
    world.disturb(length)
    world.store.stalled_until = max(world.store.stalled_until, world.now + length)


def slow_requests_and_cut_off(world: World) -> None:
    """Let the requests of all but one node take long to reach the store, with no watch, and cut off
    the one some time later.
    """
    host, lease = victim(world), world.faults.longest_lease
    break_watches(world)
    slowness = world.rng.uniform(0.8, 0.95) * min(
        settings.timing.request_timeout for settings in host.settings.values()
    )
    for other in world.hosts:
        if other is not host:
            for_a_while(
                world,
                lease,
                partial(setattr, other, "slowness", slowness),
                partial(setattr, other, "slowness", 0.0),
            )
    world.later(world.rng.uniform(0.5, 0.9) * lease, cut_off_host, world, host, 2.0 * lease)


def break_watches(world: World) -> None:
    """All watches die silently."""
    for watch in list(world.watches()):
        watch.break_off(world.weather.watch_retry())


def break_watch(world: World) -> None:
    """One watch dies silently."""
    watch = victim(world).watch
    if watch is not None:
        watch.break_off(world.weather.watch_retry() * 3)


def restore_backup(world: World) -> None:
    """Lose the store, and bring it back with older content after at least one lease_duration."""
    world.judge.tampered_all()
    age = world.rng.uniform(0.0, 3.0) * world.faults.longest_lease
    backup = world.store.backup()
    world.later(age, _lose_store, world, backup)


def _lose_store(world: World, backup: Backup) -> None:
    away = world.faults.longest_lease * world.rng.uniform(1.02, 1.5)
    world.store.down_until = max(world.store.down_until, world.now + away)
    world.disturb(away)
    break_watches(world)
    world.later(world.store.down_until - world.now, _restore, world, backup)


def _restore(world: World, backup: Backup) -> None:
    world.judge.tampered_all()
    world.availability.permit_recovery()
    world.store.restore(backup)


# ---------------------------------------------------------------- foreign writers


def _tamper(world: World, election: str) -> None:
    """Note that a foreign writer writes to the record.

    Its holder puts it back, but where nobody holds it the wait begins anew.
    """
    world.judge.tampered(election)
    if not any(host.daemon is not None and host.daemon.is_active(election) for host in world.hosts):
        world.availability.permit_recovery()


def delete_record(world: World) -> None:
    """Somebody deletes the record by hand."""
    election = any_election(world)
    _tamper(world, election)
    world.store.delete(election)


def remake_record(world: World) -> None:
    """Somebody deletes the record and makes an empty one."""
    election = any_election(world)
    _tamper(world, election)
    world.store.delete(election)
    world.later(
        world.rng.uniform(0.0, 0.5),
        _put,
        world,
        election,
        Record(uid=f"stranger{world.now}", lease_duration=1000),
    )


def _put(world: World, election: str, record: Record) -> None:
    _tamper(world, election)
    world.store.put(election, record)


def corrupt_record(world: World) -> None:
    """Somebody breaks the record."""
    election = any_election(world)
    _tamper(world, election)
    world.store.corrupt(election)


def annotate(world: World) -> None:
    """Somebody adds an annotation, several times."""
    election = any_election(world)
    for i in range(world.rng.randrange(1, 20)):
        world.later(i * world.rng.uniform(0.0, 0.3), _annotate, world, election, i)


def _annotate(world: World, election: str, number: int) -> None:
    world.store.edit(election, extra={"note": f"{number} {world.now}"})


def annotate_for_ever(world: World, election: str, interval: float) -> None:
    """Touch the record again and again, as some controller may: no fault, and no renewal."""
    _annotate(world, election, 0)
    world.after(interval, annotate_for_ever, world, election, interval)


def empty_holder(world: World) -> None:
    """Somebody empties the holder, and no more."""
    world.store.edit(any_election(world), holder="")


def edit_record(world: World) -> None:
    """Somebody changes one field."""
    election = any_election(world)
    content = world.store.records.get(election)
    if not isinstance(content, Found):
        return
    record, rng = content.record, world.rng
    changes: list[dict[str, object]] = [
        {"bound": not record.bound},
        {"pin": rng.choice([h.name for h in world.hosts])},
        {"priority": rng.randrange(1, 255)},
        {"counter": max(0, record.counter + rng.choice((-2, -1, 1, 2, 1000)))},
        {"epoch": max(0, record.epoch + rng.choice((-1, 1, 5)))},
        {"session": "nobody"},
        {"holder": rng.choice([*(h.name for h in world.hosts), "nobody"])},
        {"uid": "other"},
        {
            "lease_duration": rng.randrange(record.lease_duration, 12_000)
            if record.lease_duration < 12_000
            else record.lease_duration
        },
    ]
    _tamper(world, election)
    # Another holder, session or epoch is a loss; nothing shows that a foreign writer did it.
    world.availability.permit_recovery()
    world.store.edit(election, **rng.choice(changes))


def remove_address(world: World) -> None:
    """Somebody removes the address from the interface."""
    election = any_election(world)
    host = holder_of(world, election)
    if host.kernel.bound(election):
        host.kernel.remove(election)
        host.address_lost(election)


def rival_on_wire(world: World) -> None:
    """Somebody who is no part of the group answers for the address for a while."""
    election, on_wire = any_election(world), world.rivals_on_wire
    for_a_while(
        world, any_length(world), lambda: on_wire.add(election), lambda: on_wire.discard(election)
    )


# ---------------------------------------------------------------- health


def fall_ill(world: World) -> None:
    """Let a node's check fail for a while."""
    election = any_election(world)
    host = holder_of(world, election)
    _judge(world, host, election, fit=False, priority=host.priority)
    world.later(any_length(world), _judge, world, host, election, True, host.priority)


def lose_weight(world: World) -> None:
    """Change a node's effective priority for a while."""
    election = any_election(world)
    host = holder_of(world, election)
    _judge(world, host, election, fit=True, priority=world.rng.randrange(1, 255))
    world.later(any_length(world) * 2, _judge, world, host, election, True, host.priority)


def _judge(world: World, host: Host, election: str, fit: bool, priority: int) -> None:
    reason = world.rng.choice((Reason.CHECK_FAILED, Reason.LINK_DOWN))
    world.availability.look()
    if fit:
        world.availability.returns(host, election)
    else:
        world.availability.permit(world.availability.succession())
    host.fit[election] = event = FitnessChanged(fit, priority, reason)
    if host.daemon is not None:
        host.daemon.deliver(election, event)


MISHAPS: dict[str, Mishap] = {
    mishap.__name__: mishap
    for mishap in (
        stop_daemon,
        stop_guard,
        stop_both,
        kill_daemon,
        kill_guard,
        kill_both,
        power_cut,
        die,
        restart,
        reload,
        cut_off,
        cut_replies,
        cut_link,
        store_down,
        store_stalls,
        slow_requests_and_cut_off,
        break_watches,
        break_watch,
        restore_backup,
        delete_record,
        remake_record,
        corrupt_record,
        annotate,
        empty_holder,
        edit_record,
        remove_address,
        rival_on_wire,
        fall_ill,
        lose_weight,
        ask_handover,
        ask_unpin,
        drain,
        cut_in_move,
        kill_in_move,
        delete_in_move,
        crash_cut_off,
        move_after_kill,
        freeze_in_move,
        freeze_in_call,
        crash_and_delete_in_move,
        crash_after_take,
        kill_and_delete,
        rename_interface,
        remake_interface,
        move_interface,
        refuse_for_long,
        lose_state,
        copy_state,
        spoil_state,
        false_candidate,
    )
}
"""By name, for the themes."""
