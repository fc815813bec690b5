"""From drafts to frozen values.

Where a key is not given, the default of the frozen class itself holds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from election.timing import PROFILES, Timing, longest_request
from health.model import Check, HttpCheck, InterfaceCheck, Kind, OnUnknown, TcpCheck
from vipd.config.defaults import CONTROL_SOCKET, STATE_DIR
from vipd.config.scalars import Address
from vipd.config.schema import (
    BackendDraft,
    CheckDraft,
    ConfigDraft,
    Draft,
    InstanceDraft,
    TimingDraft,
)
from vipd.config.values import (
    DEFAULT_METRICS,
    LINK_CHECK,
    Announce,
    Backend,
    Config,
    EtcdBackend,
    Fence,
    FileBackend,
    Gate,
    Instance,
    KubernetesBackend,
    Log,
    LogFormat,
    LogLevel,
    OnConflict,
)

DEFAULT_PROFILE = "default"
KUBERNETES_PROFILE = "relaxed"
"""Without `timing`: an API server that restarts, for some seconds, must not drop the VIP."""
RENEWALS_PER_LEASE = 5
REQUESTS_PER_LEASE = 4
"""Where only lease_duration is given: the proportions of the profile `fast`, which leave room for
two requests after a missed renewal. A lease of 2 s to 2.5 s leaves room for shorter requests
only."""
TIMEOUT_SHARE = 0.8
"""Where a check's interval is given and its timeout is not: the proportion of the defaults 400ms
and 500ms."""

T = TypeVar("T")


def needed(value: T | None) -> T:
    """Return a value that the relations found to be given."""
    if value is None:
        raise AssertionError("a draft with findings must not be built")
    return value


def given(draft: Draft | None) -> dict[str, Any]:
    """Return the keys that were given, so that the defaults of a frozen class
    fill in the others.
    """
    return (
        {}
        if draft is None
        else {
            name: value
            for name in type(draft).model_fields
            if (value := getattr(draft, name)) is not None
        }
    )


def timing(draft: TimingDraft | None, store: BackendDraft | None) -> tuple[Timing, str]:
    """Return the timings and the name of their profile, which is empty if they are written out.

    The store decides the default.
    """
    draft = draft or TimingDraft()
    if draft.lease_duration is None:
        name = draft.profile or (
            KUBERNETES_PROFILE if store and store.kubernetes is not None else DEFAULT_PROFILE
        )
        return PROFILES[name], name
    lease = draft.lease_duration
    renew = draft.renew_interval if draft.renew_interval is not None else lease / RENEWALS_PER_LEASE
    proportional = min(
        lease / REQUESTS_PER_LEASE, math.floor(100 * min(longest_request(lease), lease)) / 100
    )
    timeout = draft.request_timeout if draft.request_timeout is not None else proportional
    return Timing(lease, renew, timeout), ""


def kind(draft: CheckDraft) -> Kind | None:
    """Return what is checked; None: it is not fully given."""
    if draft.http and draft.http.url:
        return HttpCheck(**given(draft.http))
    if draft.tcp and draft.tcp.host and draft.tcp.port is not None:
        return TcpCheck(draft.tcp.host, draft.tcp.port)
    if draft.interface and draft.interface.interface:
        return InterfaceCheck(draft.interface.interface)
    return None


def check(draft: CheckDraft, what: Kind) -> Check:
    """Return a check; a timeout that is not given follows a shorter interval."""
    options = given(draft)
    for name in ("name", "http", "tcp", "interface"):
        options.pop(name, None)
    if "on_unknown" in options:
        options["on_unknown"] = OnUnknown(options["on_unknown"])
    result = Check(draft.name or "", what, **options)
    if draft.timeout is None and result.timeout > TIMEOUT_SHARE * result.interval:
        return replace(result, timeout=round(TIMEOUT_SHARE * result.interval, 6))
    return result


def complete_check(draft: CheckDraft) -> Check:
    """Return a check whose kind the relations found to be fully given."""
    what = kind(draft)
    if what is None:
        raise AssertionError("a draft with findings must not be built")
    return check(draft, what)


def alone(address: Address) -> Address:
    """Return the address as it is bound, without its network: as /32 or /128."""
    return type(address)((address.ip, address.max_prefixlen))


def instance(draft: InstanceDraft) -> Instance:
    """Return an instance; the check of its own link comes first.

    Proof that it is down needs no second try.
    """
    interface = needed(draft.interface)
    own = Check(LINK_CHECK, InterfaceCheck(interface), fall=1)
    options = given(draft)
    options["announce"] = Announce(**given(draft.announce))
    options["addresses"] = tuple(
        alone(address) for address in needed(draft.addresses) if address is not None
    )
    drafts = [needed(one) for one in draft.checks or ()]
    options["checks"] = (own, *map(complete_check, drafts))
    if draft.on_conflict:
        options["on_conflict"] = OnConflict(draft.on_conflict)
    return Instance(**options)


def backend(draft: BackendDraft) -> Backend:
    """Return the one backend that is given."""
    if draft.etcd is not None:
        return EtcdBackend(
            **{**given(draft.etcd), "endpoints": tuple(map(needed, needed(draft.etcd.endpoints)))}
        )
    if draft.kubernetes is not None:
        return KubernetesBackend(**given(draft.kubernetes))
    return FileBackend(**given(draft.file))


def log(options: Mapping[str, str]) -> Log:
    """Return how to log."""
    return Log(
        LogFormat(options.get("format", LogFormat.TEXT)),
        LogLevel(options.get("level", LogLevel.INFO)),
    )


def config(draft: ConfigDraft, *, host_name: str, state_dir: str, path: str) -> Config:
    """Return the configuration of a draft without errors.

    `state_dir`, if not empty, wins over the file's.
    """
    durations, profile = timing(draft.timing, draft.backend)
    listen = (
        draft.metrics.listen
        if draft.metrics and draft.metrics.listen is not None
        else DEFAULT_METRICS
    )
    return Config(
        node=draft.node or host_name,
        backend=backend(needed(draft.backend)),
        timing=durations,
        instances=tuple(instance(needed(one)) for one in needed(draft.instances)),
        profile=profile,
        metrics_listen=None if isinstance(listen, str) else listen,
        control_socket=draft.control.socket
        if draft.control and draft.control.socket
        else CONTROL_SOCKET,
        state_dir=state_dir or draft.state_dir or STATE_DIR,
        log=log(given(draft.log)),
        fence=Fence(Gate(draft.fence.gate)) if draft.fence and draft.fence.gate else Fence(),
        path=path,
    )
