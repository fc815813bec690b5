"""`vipd check`: what is wrong with a configuration file, what it promises, and what this host says
of it.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import signal
import sys

from announce.gate.hook import others_before
from announce.gate.support import before_traffic_control, probe_interface, probe_support
from announce.gate.traffic_control import TrafficControl
from announce.gate.uplinks import second_ways
from announce.kernel.interface import find, obstacle
from vipd.cli.exit_codes import DONE, REFUSED, USAGE
from vipd.cli.service_user import unreadable
from vipd.config.load import examine
from vipd.config.own_addresses import findings_here
from vipd.config.promises import promises
from vipd.config.values import Config, Gate
from vipd.control import client
from vipd.control.errors import FailedError, RefusedError, UnreachableError
from vipd.guard import installed

_TRIED = "tried here and now, as this user:"


def main(args: argparse.Namespace) -> int:
    """Check a file; `args`.

    File or config, reload (None: no reload is coming; 0; a guard's process number). Return the exit
    code.
    """
    path = args.file or args.config
    examined = examine(path)
    findings = [
        *examined.findings,
        *(findings_here(path, examined.config) if examined.config else ()),
    ]
    for finding in findings:
        print(finding)
    errors = sum(not finding.warning for finding in findings)
    if examined.config is None or errors:
        print(f"{path} is not valid: {errors} error{'s' if errors > 1 else ''}")
        return _refused(args.reload, USAGE)
    for sentence in unreadable(path, examined.config):
        print(f"{path}: warning: {sentence}")
    print(f"{path} is valid")
    if args.reload is not None:
        return _before_reload(examined.config, args.reload)
    for sentence in [
        *promises(examined.config),
        *_gate_here(examined.config),
        *_obstacles_here(examined.config),
    ]:
        print(f"  {sentence}")
    return DONE


# ---------------------------------------------------------------- before a reload


def _before_reload(config: Config, guard: int) -> int:
    if why := outdated(config.control_socket):
        print(f"refused: {why}; nothing changes", file=sys.stderr)
        return _refused(guard, REFUSED)
    return DONE


def outdated(socket_path: str) -> str:
    """Return why the vipd behind this control socket would refuse to be reloaded.

    Another version is installed by now.

    Empty: it would not, or nobody answers there.
    """
    try:
        running = client.request(socket_path, "status")
    except (UnreachableError, RefusedError, FailedError):
        return ""
    return installed.difference(str(running.get("code", "")), str(running.get("version", "?")))


def _refused(guard: int | None, code: int) -> int:
    """Return the code, after having the guard read the file that it will refuse.

    Then status and metrics say why.
    """
    if guard:
        try:
            os.kill(guard, signal.SIGHUP)
        except OSError as error:
            print(
                f"process {guard} cannot be made to look at it: {error.strerror}", file=sys.stderr
            )
    return code


# ---------------------------------------------------------------- what this host says


def _obstacles_here(config: Config) -> list[str]:
    """Say which addresses the kernel of this host would refuse as things are."""
    found = [
        (instance.name, obstacle(instance.interface, instance.addresses))
        for instance in config.instances
    ]
    return [f"{name}: here and now {why}" for name, why in found if why]


def _gate_here(config: Config) -> list[str]:
    """Say whether the kernel's gate can be had, what is missing first.

    Nothing if it is not wanted. Changes nothing.

    That holds as far as this process can tell: the service may have other rights.
    """
    if config.fence.gate is Gate.OFF:
        return []
    if why := probe_support():
        return [f"{_TRIED} there is no gate ({why})"]
    names = list(dict.fromkeys(instance.interface for instance in config.instances))
    with contextlib.closing(TrafficControl()) as control:
        tried = {name: _tried(control, name) for name in names}
    said = [
        f"{_TRIED} there is no gate on {name} ({why})" for name, (_, why, _) in tried.items() if why
    ]
    if works := [name for name, (_, why, _) in tried.items() if not why]:
        said.append(f"{_TRIED} the gate works on {', '.join(works)}")
    said += [
        f"on {name} {sentence}" for name, (_, _, before) in tried.items() for sentence in before
    ]
    return said + _second_ways(config, {ifindex for ifindex, _, _ in tried.values() if ifindex})


def _second_ways(config: Config, carriers: set[int]) -> list[str]:
    """Say on which other interfaces Linux would answer for the addresses, and whether the gate can
    stand there.
    """
    addresses = [
        address.ip.packed for instance in config.instances for address in instance.addresses
    ]
    try:
        return second_ways(carriers, addresses) if carriers else []
    except OSError as error:
        return [f"the other interfaces could not be looked at: {error.strerror or error}"]


def _tried(control: TrafficControl, name: str) -> tuple[int, str, tuple[str, ...]]:
    """Return an interface's number (0: it is not known), why it cannot have the gate, and what
    decides about frames before it.
    """
    ifindex = 0
    try:
        ifindex = find(name).ifindex
        if why := probe_interface(control, ifindex):
            return ifindex, why, ()
        return ifindex, "", (*others_before(control, ifindex), *before_traffic_control(ifindex))
    except OSError as error:
        if error.errno == errno.ENODEV:
            return 0, "it does not exist here", ()
        return ifindex, f"it cannot be looked at: {error.strerror or error}", ()
