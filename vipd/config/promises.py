"""What a configuration promises, in sentences.

How long which fault takes, computed from its durations.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from election.timing import HANDOVER_TIMEOUT, RANK_STEP, SHORT_LEASE, crash_promise
from health.model import Check, InterfaceCheck, Weight
from vipd.config.values import Config, EtcdBackend, Gate, Instance, KubernetesBackend

LONG_ROUND = 5.0
"""Seconds of announcing each address once that an operator should know of."""


def promises(config: Config) -> list[str]:
    """Return one sentence for each thing that this configuration promises."""
    timing = config.timing
    soonest, latest = (
        timing.lease_duration - timing.renew_interval,
        timing.lease_duration + RANK_STEP,
    )
    planned = f"at most 50 ms, with a second fault in its middle {HANDOVER_TIMEOUT * 1000:g} ms"
    return [
        f"node {config.node}, {_store(config)}, {_profile(config)}",
        *map(_instance, config.instances),
        f"a planned handover loses nothing: both nodes have the address for {planned}",
        (
            f"when the Active node is lost, the next one starts to take over {soonest:.2f}s to "
            f"{latest:.2f}s later"
        ),
        *(sentence for instance in config.instances for sentence in _checks(instance)),
        crash_promise(timing) or "when only the daemon crashes or hangs, the address does not move",
        *_killed_at_once(timing.lease_duration, config.fence.gate),
        *_announced(config.instances),
    ]


def _instance(instance: Instance) -> str:
    addresses = ", ".join(map(str, instance.addresses))
    group = f", elected with the group {instance.group}" if instance.group else ""
    return (
        f"{instance.name}: {addresses} on {instance.interface}, priority {instance.priority}{group}"
    )


def _store(config: Config) -> str:
    if isinstance(config.backend, EtcdBackend):
        return f"etcd with {len(config.backend.endpoints)} endpoint(s)"
    if isinstance(config.backend, KubernetesBackend):
        return f"Kubernetes with Leases in namespace {config.backend.namespace}"
    return "the embedded file store, which works on one host only"


def _profile(config: Config) -> str:
    timing = config.timing
    name = f"profile {config.profile}: " if config.profile else ""
    return (
        f"{name}lease {timing.lease_duration:g}s, renewed every {timing.renew_interval:g}s, "
        f"request timeout {timing.request_timeout:g}s"
    )


def _checks(instance: Instance) -> list[str]:
    return [f"{instance.name}: {_check(check, instance.group)}" for check in instance.checks]


def _check(check: Check, group: str) -> str:
    change = (
        f"all addresses of the group {group} are given up" if group else "the address is given up"
    )
    if isinstance(check.on_fail, Weight):
        points = check.on_fail.points
        change = (
            f"the priority of the group {group} changes by {-abs(points)}"
            if group
            else f"the priority changes by {-abs(points)}"
        )
    if isinstance(check.kind, InterfaceCheck):
        return f"when {check.kind.interface} goes down, {change} at once"
    seen = check.interval * check.fall + check.timeout
    return f"when the check {check.name} begins to fail, {change} at most {seen:.2f}s later"


def _announced(instances: Sequence[Instance]) -> list[str]:
    """Say how long it takes until all addresses of an interface are known behind a switch that
    limits announcements, if it is long.
    """
    seconds: Counter[str] = Counter()
    for instance in instances:
        seconds[instance.interface] += math.ceil(
            1000 * len(instance.addresses) / instance.announce.pace
        )
    return [
        f"all addresses of {interface} are announced at once, and behind a switch that limits "
        "that, one after the other, "
        f"in {milliseconds / 1000:.0f}s (announce.pace)"
        for interface, milliseconds in seconds.items()
        if milliseconds > LONG_ROUND * 1000
    ]


def _killed_at_once(lease: float, gate: Gate) -> list[str]:
    """Say what is left when daemon and guard die or freeze at once, with and without the kernel's
    gate.
    """
    kernel = "if all of vipd is killed or frozen at once, the kernel"
    strictly = f"{kernel}'s gate stops this node at its deadline, to the millisecond"
    cut = (
        ""
        if lease >= STRICT_LEASE
        else "; a full kill in the middle of a handover may then overlap by 1.5s, 2.2s at worst"
    )
    alone = f"lets the addresses expire: {lifetimes(lease)}{cut}"
    match gate:
        case Gate.OFF:
            return [f"{kernel} {alone}"]
        case Gate.REQUIRE:
            return [
                (
                    f"{strictly}; where there is no gate (it needs CAP_BPF and Linux 5.8) this "
                    "node does not take part"
                )
            ]
        case Gate.AUTO:
            return [
                strictly,
                f"where there is no gate (it needs CAP_BPF and Linux 5.8) the kernel {alone}",
            ]


STRICT_LEASE = 8.0
"""Seconds: from here on the kernel's lifetimes alone, in whole seconds and up to 1.2 s late, end
before the next owner starts."""


def with_gate() -> str:
    """Return what the gate covers."""
    return (
        "the kernel's gate stands behind the guard: any lease is covered strictly, to the "
        "millisecond"
    )


def without_gate(lease_duration: float, why: str) -> str:
    """Return what is left without the gate, and whether that is enough for this lease; `why` there
    is none.
    """
    return (
        f"only address lifetimes stand behind the guard, no kernel gate ({why}): "
        f"{lifetimes(lease_duration)}"
    )


def lifetimes(lease_duration: float) -> str:
    """Return how far address lifetimes cover a lease if daemon and guard die at once."""
    strictly, rule = f"{STRICT_LEASE:g}s", f"{SHORT_LEASE:g}s"
    if lease_duration >= STRICT_LEASE:
        return (
            f"a lease of {lease_duration:g}s is covered strictly, as is every one from "
            f"{strictly} on"
        )
    if lease_duration >= SHORT_LEASE:
        return (
            f"a lease of {lease_duration:g}s is covered as a rule, one of {strictly} and "
            "longer strictly"
        )
    return (
        f"a lease of {lease_duration:g}s is not covered, one of {rule} and longer is as a "
        f"rule, one of {strictly} strictly"
    )
