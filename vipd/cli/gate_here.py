"""Whether the kernel's gate can be had on this host and on the configured interfaces, for `vipd check`."""

from __future__ import annotations

import contextlib
import errno

from announce.gate.hook import others_before
from announce.gate.support import before_traffic_control, probe_interface, probe_support
from announce.gate.traffic_control import TrafficControl
from announce.gate.uplinks import second_ways
from announce.kernel.interface import find
from vipd.config.values import Config, Gate

_TRIED = "tried here and now, as this user:"


def gate_here(config: Config) -> list[str]:
    """Return sentences, those about what is missing first; none if the gate is not wanted. Changes nothing.

    They hold as far as this process can tell: the service may have other rights.
    """
    if config.fence.gate is Gate.OFF:
        return []
    if why := probe_support():
        return [f"{_TRIED} there is no gate ({why})"]
    names = list(dict.fromkeys(instance.interface for instance in config.instances))
    with contextlib.closing(TrafficControl()) as control:
        tried = {name: _tried(control, name) for name in names}
    said = [f"{_TRIED} there is no gate on {name} ({why})" for name, (_, why, _) in tried.items() if why]
    if works := [name for name, (_, why, _) in tried.items() if not why]:
        said.append(f"{_TRIED} the gate works on {', '.join(works)}")
    said += [f"on {name} {sentence}" for name, (_, _, before) in tried.items() for sentence in before]
    return said + _second_ways(config, {ifindex for ifindex, _, _ in tried.values() if ifindex})


def _second_ways(config: Config, carriers: set[int]) -> list[str]:
    """Say on which other interfaces Linux would answer for the addresses, and whether the gate can stand there."""
    addresses = [address.ip.packed for instance in config.instances for address in instance.addresses]
    try:
        return second_ways(carriers, addresses) if carriers else []
    except OSError as error:
        return [f"the other interfaces could not be looked at: {error.strerror or error}"]


def _tried(control: TrafficControl, name: str) -> tuple[int, str, tuple[str, ...]]:
    """Return an interface's number (0: it is not known), why it cannot have the gate, and what decides about frames before it."""
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
