"""What must be given, and what must not stand together.

Everything that more than one value decides.

Works on drafts, so that these faults are found beside those of single values. A value that was
refused is not called missing.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterator

from election.timing import crash_promise, problems
from health.model import InterfaceCheck
from health.problems import problems as check_problems
from vipd.config import backend_rules as backend
from vipd.config import build
from vipd.config.findings import Findings, Path
from vipd.config.resolve import Addresses, Resolve
from vipd.config.scalars import Address, host_in, shown
from vipd.config.schema import (
    LATER,
    BackendDraft,
    CheckDraft,
    ConfigDraft,
    InstanceDraft,
    TimingDraft,
)
from vipd.config.values import LINK_CHECK, Instance

RESOLVE_SECONDS = 1.0
"""All lookups together: a start while no name server answers must not wait for it."""
MANY_IPV6, MOST_IPV6 = 250, 500
"""IPv6 addresses of one node. With each that is set the kernel looks at all of a network namespace:
a refresh of 100 takes 4 ms, of 250 21 ms, of 500 100 ms, of 1000 360 ms, and nobody else can change
an address meanwhile (Linux 6.18; 1000 IPv4 addresses: 6 ms)."""
KINDS = ("http", "tcp", "interface")
NOWHERE_TO_CHECK = InterfaceCheck("lo")
"""Stands in for a kind that is not fully given, so that the rest of such a check is looked at
too."""

COMMON_KEYS = ("priority", "preempt", "preempt_delay")
"""Keys that belong to the election rather than to an interface."""
INSTANCE_DEFAULTS = Instance("", "", ())

Instances = list[tuple[Path, InstanceDraft]]


def relate(draft: ConfigDraft, findings: Findings, resolve: Resolve) -> None:
    """Note everything that is missing from the draft, contradicts something else in it, or is out
    of range.
    """
    instances: Instances = [
        (("instances", i), one) for i, one in enumerate(draft.instances or ()) if one is not None
    ]
    backend.relate(draft.backend, findings)
    _timing(draft.timing, draft.backend, findings, _most_addresses(instances))
    if not draft.instances:
        findings.need(("instances",), None, "a list with at least one instance")
    for path, instance in instances:
        _instance(path, instance, findings)
    findings.unique([((*path, "name"), one.name) for path, one in instances], "the instance")
    _relate_groups(instances, findings)
    addresses = list(_addresses(instances))
    findings.unique([(path, one.ip) for path, one in addresses], "the address")
    _alone(addresses, findings)
    _not_too_many(addresses, findings)
    _never_the_vip(draft, instances, addresses, findings, resolve)


def _most_addresses(instances: Instances) -> int:
    """Return how many addresses an election has at most."""
    elections = Counter[object]()
    for path, instance in instances:
        elections[("group", instance.group) if instance.group else path] += len(
            instance.addresses or ()
        )
    return max(elections.values(), default=1)


def _timing(
    draft: TimingDraft | None, store: BackendDraft | None, findings: Findings, addresses: int
) -> None:
    if draft is None:
        return
    path: Path = ("timing",)
    explicit = [
        name
        for name in ("lease_duration", "renew_interval", "request_timeout")
        if getattr(draft, name) is not None
    ]
    if draft.profile and explicit:
        findings.error(
            (*path, explicit[0]), "a profile is given as well", "either profile, or the durations"
        )
    elif explicit:
        findings.need(
            (*path, "lease_duration"),
            draft.lease_duration,
            "a duration, since others are given without a profile",
        )
    if any(findings.refused((*path, name)) for name in type(draft).model_fields):
        return
    timing, _ = build.timing(draft, store)
    wrong = problems(timing, addresses)
    for problem in wrong:
        findings.error(path, problem)
    # Where the timings are not even safe, what a crash would do is beside the point.
    if not wrong and (doubt := crash_promise(timing)):
        findings.warn(path, doubt)


def _instance(path: Path, draft: InstanceDraft, findings: Findings) -> None:
    findings.need((*path, "name"), draft.name, "a DNS label")
    findings.need(
        (*path, "interface"),
        draft.interface,
        "the name of the interface that carries the addresses",
    )
    if not draft.addresses:
        findings.need((*path, "addresses"), None, "a list with at least one address")
    checks = [
        ((*path, "checks", i), check)
        for i, check in enumerate(draft.checks or ())
        if check is not None
    ]
    for place, check in checks:
        _check(place, check, findings)
    findings.unique([((*place, "name"), check.name) for place, check in checks], "the check")


def _check(path: Path, draft: CheckDraft, findings: Findings) -> None:
    findings.need((*path, "name"), draft.name, "a DNS label")
    if draft.name == LINK_CHECK:
        findings.error(
            (*path, "name"),
            f"{LINK_CHECK} is the built-in check of the instance's own interface",
            "another name",
        )
    _kind(path, draft, findings)
    check = build.check(draft, build.kind(draft) or NOWHERE_TO_CHECK)
    for key, problem in check_problems(check):
        findings.error((*path, *key.split(".")), problem)
    if check.timeout > check.interval and not findings.refused((*path, "interval")):
        longest = f"at most the interval, {shown(check.interval)}"
        findings.error(
            (*path, "timeout"), f"{shown(check.timeout)} is longer than the interval", longest
        )


def _kind(path: Path, draft: CheckDraft, findings: Findings) -> None:
    kinds = [name for name in KINDS if getattr(draft, name) is not None]
    if len(kinds) > 1:
        findings.error(
            path,
            f"a check has one kind, this one has {' and '.join(kinds)}",
            "one of " + ", ".join(KINDS),
        )
    elif not kinds and not any(
        findings.refused((*path, name)) for name in (*KINDS, *LATER["instances.checks"])
    ):
        findings.error(path, "the check has no kind", "one of " + ", ".join(KINDS))
    if draft.http is not None:
        findings.need((*path, "http", "url"), draft.http.url, "http://host:port/path")
        backend.must_be_file((*path, "http", "ca_file"), draft.http.ca_file, findings)
    if draft.tcp is not None:
        findings.need((*path, "tcp", "host"), draft.tcp.host, "an address or a host name")
        findings.need((*path, "tcp", "port"), draft.tcp.port, "1..65535")
    if draft.interface is not None:
        findings.need(
            (*path, "interface", "interface"), draft.interface.interface, "the name of an interface"
        )


def _addresses(instances: Instances) -> Iterator[tuple[Path, Address]]:
    for path, instance in instances:
        for index, address in enumerate(instance.addresses or ()):
            if address is not None:
                yield (*path, "addresses", index), address


def _alone(addresses: list[tuple[Path, Address]], findings: Findings) -> None:
    """Say that a prefix length is not used: keepalived's users write that of the network."""
    for path, address in addresses:
        if address.network.prefixlen < address.max_prefixlen:
            why = (
                "with a network it could become the primary address there, and take the host's "
                "own along when it is removed"
            )
            findings.warn(path, f"is bound as {build.alone(address)}, without its network: {why}")


def _not_too_many(addresses: list[tuple[Path, Address]], findings: Findings) -> None:
    """Refuse so many IPv6 addresses that the kernel could not refresh them in time."""
    six = [path for path, address in addresses if address.version == 6]  # noqa: PLR2004 -- the number of the protocol
    slow = "the kernel looks at all of a host's with each that it sets"
    if len(six) > MOST_IPV6:
        problem = (
            f"{len(six)} IPv6 addresses on one node: {slow}, and 1000 take it 0.4s at every renewal"
        )
        findings.error(six[MOST_IPV6], problem, f"at most {MOST_IPV6}")
    elif len(six) > MANY_IPV6:
        findings.warn(
            ("instances",),
            f"{len(six)} IPv6 addresses on one node: {slow}; a planned move overlaps longer than "
            "50ms (500: 0.3s)",
        )


def _targets(draft: ConfigDraft, instances: Instances) -> Iterator[tuple[Path, str]]:
    """Yield the host of every connection that this configuration makes."""
    for path, url in backend.urls(draft.backend):
        yield path, host_in(url)
    for path, instance in instances:
        for index, check in enumerate(instance.checks or ()):
            if check and check.http and check.http.url and not check.http.unix_socket:
                yield (*path, "checks", index, "http", "url"), host_in(check.http.url)
            if check and check.tcp and check.tcp.host:
                yield (*path, "checks", index, "tcp", "host"), check.tcp.host


def _never_the_vip(
    draft: ConfigDraft,
    instances: Instances,
    addresses: list[tuple[Path, Address]],
    findings: Findings,
    resolve: Resolve,
) -> None:
    """Refuse the VIP as a target.

    A check of it asks whoever holds it, and a store behind it is gone just when it has to move.
    """
    vips = {address.ip for _, address in addresses}
    targets = [(path, host.partition("%")[0]) for path, host in _targets(draft, instances) if host]
    names = [host for _, host in targets if not _literal(host)]
    resolved = resolve(names, RESOLVE_SECONDS) if vips and names else {}
    for path, host in targets:
        known = _literal(host) or resolved.get(host)
        for address in sorted((known or frozenset()) & vips, key=str):
            how = (
                "is the virtual address"
                if _literal(host)
                else f"{host} resolves to the virtual address"
            )
            findings.error(
                path,
                f"{how} {address}, which is on another node when it matters",
                "an address of one node",
            )
        if known is None and vips:
            findings.warn(
                path,
                f"{host} was not resolved within {shown(RESOLVE_SECONDS)}: it may be the virtual "
                "address",
            )
    listen = draft.metrics.listen if draft.metrics else None
    if isinstance(listen, tuple) and _literal(listen[0]) & vips:
        findings.error(
            ("metrics", "listen"),
            "is the virtual address, which this node does not always have",
            "an address of this node",
        )


def _literal(host: str) -> Addresses:
    try:
        return frozenset({ipaddress.ip_address(host)})
    except ValueError:
        return frozenset()


def _relate_groups(instances: Instances, findings: Findings) -> None:
    """Note what makes it impossible to elect the instances of a group as one, or to tell a group
    from an instance.
    """
    first: dict[str, tuple[Path, InstanceDraft]] = {}
    for path, instance in instances:
        if instance.group is None:
            continue
        founder = first.setdefault(instance.group, (path, instance))
        _agree(founder, (path, instance), findings)
    for group, (path, _) in first.items():
        _own_name(group, path, instances, findings)


def _agree(
    founder: tuple[Path, InstanceDraft], other: tuple[Path, InstanceDraft], findings: Findings
) -> None:
    """Note where an instance differs from the first one of its group."""
    (first, one), (path, instance) = founder, other
    for key in COMMON_KEYS:
        wanted, has = _value(one, key), _value(instance, key)
        if wanted == has or findings.refused((*first, key)) or findings.refused((*path, key)):
            continue
        line = findings.values[first].line
        problem = (
            f"is {_written(has)} here, and {_written(wanted)} in the first instance of the "
            f"group {one.group}, on line {line}"
        )
        findings.error((*path, key), problem, "the same in all instances of a group")


def _own_name(group: str, path: Path, instances: Instances, findings: Findings) -> None:
    """Note that an instance outside of the group has its name.

    Two elections would have one record, or one command two meanings.
    """
    for place, instance in instances:
        if (
            instance.name == group
            and instance.group != group
            and not findings.refused((*place, "group"))
        ):
            line = findings.values[place].line
            findings.error(
                (*path, "group"),
                f"{group} is the name of an instance that is not in this group (line {line})",
                "another name",
            )


def _value(draft: InstanceDraft, key: str) -> object:
    given = getattr(draft, key)
    return getattr(INSTANCE_DEFAULTS, key) if given is None else given


def _written(value: object) -> str:
    """Return a value as it stands in a file."""
    return shown(value) if isinstance(value, float) else str(value).lower()
