"""What a configuration promises, in sentences: how long which fault takes, computed from its durations."""

from __future__ import annotations

from election.timing import HANDOVER_TIMEOUT, RANK_STEP, SHORT_LEASE, crash_promise
from health.model import Check, InterfaceCheck, Weight
from vipd.config import Config, EtcdBackend, Instance, KubernetesBackend

STRICT_LEASE = 8.0
"""Seconds: from here on the kernel's lifetimes alone, in whole seconds and up to 1.2 s late, end before the next owner starts."""


def promises(config: Config) -> list[str]:
    """Return one sentence for each thing that this configuration promises."""
    timing = config.timing
    soonest, latest = timing.lease_duration - timing.renew_interval, timing.lease_duration + RANK_STEP
    planned = f"at most 50 ms, with a second fault in its middle {HANDOVER_TIMEOUT * 1000:g} ms"
    return [
        f"node {config.node}, {_store(config)}, {_profile(config)}",
        *map(_instance, config.instances),
        f"a planned handover loses nothing: both nodes have the address for {planned}",
        f"when the Active node is lost, the next one starts to take over {soonest:.2f}s to {latest:.2f}s later",
        *(sentence for instance in config.instances for sentence in _checks(instance)),
        crash_promise(timing) or "when only the daemon crashes or hangs, the address does not move",
        _lifetimes(timing.lease_duration),
    ]


def _instance(instance: Instance) -> str:
    addresses = ", ".join(map(str, instance.addresses))
    return f"{instance.name}: {addresses} on {instance.interface}, priority {instance.priority}"


def _store(config: Config) -> str:
    if isinstance(config.backend, EtcdBackend):
        return f"etcd with {len(config.backend.endpoints)} endpoint(s)"
    if isinstance(config.backend, KubernetesBackend):
        return f"Kubernetes with Leases in namespace {config.backend.namespace}"
    return "the embedded file store, which works on one host only"


def _profile(config: Config) -> str:
    timing = config.timing
    name = f"profile {config.profile}: " if config.profile else ""
    return f"{name}lease {timing.lease_duration:g}s, renewed every {timing.renew_interval:g}s, request timeout {timing.request_timeout:g}s"


def _checks(instance: Instance) -> list[str]:
    return [f"{instance.name}: {_check(check)}" for check in instance.checks]


def _check(check: Check) -> str:
    change = "the address is given up"
    if isinstance(check.on_fail, Weight):
        points = check.on_fail.points
        change = f"the priority changes by {-abs(points)}"
    if isinstance(check.kind, InterfaceCheck):
        return f"when {check.kind.interface} goes down, {change} at once"
    seen = check.interval * check.fall + check.timeout
    return f"when the check {check.name} begins to fail, {change} at most {seen:.2f}s later"


def _lifetimes(lease: float) -> str:
    if lease >= STRICT_LEASE:
        return "if all of vipd is killed at once, the kernel removes the address in time, with and without the gate"
    if lease >= SHORT_LEASE:
        return "if all of vipd is killed at once, the kernel removes the address in time as a rule; strictly it needs the gate (CAP_BPF)"
    return "if all of vipd is killed at once, only the gate (CAP_BPF) stops this node in time: the lease is too short for address lifetimes"
