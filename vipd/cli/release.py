"""`vipd release`: cleans up by hand after a dead daemon.

Addresses first, then leases; refused while a daemon runs.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
from pathlib import Path

from announce.gate.gates import remove_leftovers
from announce.kernel.addresses import ReadyMessages, RouteSocket, look, unbind
from announce.kernel.interface import find
from announce.kernel.messages import elsewhere, ready_messages
from announce.kernel.netlink import interface_name
from announce.kernel.ownership import written
from election import model
from election.machine import requests
from election.stores.contract import Store
from vipd.cli.exit_codes import DONE, FAILED, REFUSED, USAGE
from vipd.config.load import examine
from vipd.config.values import Config, Instance
from vipd.daemon.stores import open_store
from vipd.guard.errors import LockedError
from vipd.guard.locks import Locks
from vipd.state_dir import InUseError, Memory

ATTEMPTS = 5


def main(args: argparse.Namespace) -> int:
    """Read the configuration (`args`: config) and clean up; return the exit code."""
    examined = examine(args.config)
    for finding in examined.findings:
        print(finding, file=sys.stderr)
    return USAGE if examined.config is None else release(examined.config)


def release(config: Config) -> int:
    """Remove this node's addresses and release the leases that it is known to have held; return the
    exit code.
    """
    locks = Locks(lambda text: print(text, file=sys.stderr))
    try:
        memory = Memory.open(Path(config.state_dir), secrets.token_hex(8))
        if memory.trouble:
            print(memory.trouble, file=sys.stderr)
        locks.lock(
            [str(address.ip) for instance in config.instances for address in instance.addresses]
        )
    except (InUseError, LockedError) as error:
        print(f"refused: {error}; stop it instead", file=sys.stderr)
        return REFUSED
    try:
        failures = _remove_addresses(config)
        if failures:
            # Unbind before release, always: a lease let go while the address is bound makes two
            # owners.
            print(*failures, sep="\n", file=sys.stderr)
            return FAILED
        gate_is_gone = _remove_gate()
        code = asyncio.run(_release_leases(config, frozenset(memory.former)))
        return code if gate_is_gone else FAILED
    finally:
        locks.close()
        memory.close()


def _remove_addresses(config: Config) -> list[str]:
    failures = []
    kernel = RouteSocket()
    for instance in config.instances:
        try:
            places = _places(kernel, instance)
            failures += [
                trouble
                for place in places
                if (trouble := _remove_from(kernel, instance.name, place))
            ]
        except OSError as error:
            failures.append(f"{instance.name}: {error}")
    kernel.close()
    return failures


def _remove_from(kernel: RouteSocket, name: str, ready: ReadyMessages) -> str:
    """Remove what vipd has bound of these addresses there, and say so.

    Return what could not be removed. Raises OSError.
    """
    where = interface_name(ready.ifindex)
    before, _ = look(kernel, ready)
    done = unbind(kernel, ready, own_only=True)
    for one in done.kept:
        why = f" ({one.needed})" if one.needed else ""
        print(f"{name}: {written(one.address)} on {where} is left alone: vipd did not bind it{why}")
    if done.remaining:
        return f"{name}: {', '.join(map(written, done.remaining))} on {where} could not be removed"
    for address in before:
        print(f"{name}: removed {written(address)} from {where}")
    if not done.kept:
        print(f"{name}: no address of it is bound on {where}")
    return ""


def _places(kernel: RouteSocket, instance: Instance) -> list[ReadyMessages]:
    """Return the messages for where the addresses may be bound.

    The interface may have been renamed since the daemon died.
    """
    try:
        present = [
            ready_messages(instance.interface, instance.addresses, find(instance.interface).ifindex)
        ]
    except OSError:
        print(f"{instance.name}: interface {instance.interface} does not exist")
        present = []
    template = present[0] if present else ready_messages(instance.interface, instance.addresses, 0)
    left = elsewhere(kernel.addresses(), template)
    return present + [place for place in left if place not in present]


def _remove_gate() -> bool:
    """Take down the gates of dead daemons, now that nothing is behind them.

    Those of a living one of this host stay.
    """
    try:
        for interface in remove_leftovers():
            print(f"the kernel's gate on {interface} is removed")
    except OSError as error:
        print(f"the kernel's gate could not be removed: {error}", file=sys.stderr)
        return False
    return True


async def _release_leases(config: Config, former: frozenset[str]) -> int:
    store = open_store(config)
    code = DONE
    try:
        for election in config.elections:
            outcome, done = await _release(config, store, election, former)
            print(f"{election}: {outcome}")
            code = code if done else FAILED
    finally:
        await store.close()
    return code


async def _release(
    config: Config, store: Store, election: str, former: frozenset[str]
) -> tuple[str, bool]:
    """Release one lease if a former daemon of this host and boot held it.

    A namesake's on another host is left alone.
    """
    timeout = config.timing.request_timeout
    for _ in range(ATTEMPTS):
        answer = await store.read(election, timeout)
        match answer:
            case model.Unknown(why):
                return f"the lease could not be read ({why}); it ends by itself", False
            case model.Found(record, revision) if record.holder == config.node:
                if record.session not in former:
                    return (
                        (
                            "the lease is held under this node's name, but not by a daemon of this "
                            "host and boot: left alone"
                        ),
                        False,
                    )
                written = await store.write(
                    election, requests.released(record, record.counter + 1), revision, timeout
                )
                if isinstance(written, model.Applied):
                    return "lease released", True
            case _:
                return "no lease of this node to release", True
    return "the lease changed under our hands; it ends by itself", False
