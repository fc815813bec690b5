"""One node's configuration as everything else sees it: checked, complete and frozen.

Plain dataclasses that can be pickled, so that whoever uses a configuration needs neither YAML nor
pydantic. Durations are seconds (float). The defaults of all optional keys stand here and in
`health.model`.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface

from election.timing import Timing
from health.model import Check
from vipd.config.defaults import CONTROL_SOCKET, STATE_DIR

DEFAULT_METRICS = ("127.0.0.1", 9477)
LINK_CHECK = "link"
"""The name of the built-in check of an instance's own interface, always the first of its checks."""


@dataclass(frozen=True, slots=True)
class FileBackend:
    """The embedded store: a directory that all nodes share because they are on one host."""

    path: str = "/var/lib/vipd/store"


@dataclass(frozen=True, slots=True)
class EtcdBackend:
    """An etcd cluster; endpoints are `https://host:port` or `http://…`, the prefix begins and ends
    with a slash.

    The files are names: what is in them is read by whoever connects, and never part of a
    configuration. Empty: not given.
    """

    endpoints: tuple[str, ...]
    prefix: str = "/vipd/"
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    username: str = ""
    password_file: str = ""


@dataclass(frozen=True, slots=True)
class KubernetesBackend:
    """Leases in one namespace of a cluster; without `kubeconfig` that in which vipd runs as a pod.

    `context`: empty for the current one.

    The default namespace does not follow the pod's: two nodes that looked into two namespaces would
    both be Active.
    """

    namespace: str = "vipd-system"
    kubeconfig: str = ""
    context: str = ""


Backend = FileBackend | EtcdBackend | KubernetesBackend


@dataclass(frozen=True, slots=True)
class Announce:
    """After the first frames `burst` more, `interval` seconds apart.

    Then one each `refresh` seconds for as long as Active.

    All but the first are spread, to at most `pace` frames a second.
    """

    burst: int = 5
    interval: float = 1.1
    refresh: float = 60.0
    pace: int = 15


class OnConflict(enum.StrEnum):
    """What a node does that finds somebody answering for the VIP before it
    takes an absent record.
    """

    WAIT = "wait"
    TAKE = "take"


@dataclass(frozen=True, slots=True)
class Instance:
    """One virtual IP or several that move together.

    Instances of one `group` are elected as one; empty: by itself.

    `priority` is 1..254. `checks` begins with the built-in one of the own interface (LINK_CHECK).
    """

    name: str
    interface: str
    addresses: tuple[IPv4Interface | IPv6Interface, ...]
    priority: int = 100
    preempt: bool = True
    preempt_delay: float = 0.0
    announce: Announce = Announce()
    on_conflict: OnConflict = OnConflict.WAIT
    checks: tuple[Check, ...] = ()
    group: str = ""

    @property
    def election(self) -> str:
        """The name of its election."""
        return self.group or self.name


class LogFormat(enum.StrEnum):
    """`text` for people, `json` for collectors."""

    TEXT = "text"
    JSON = "json"


class LogLevel(enum.StrEnum):
    """The least weight of a line that is written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Log:
    """How the daemon logs; always to stderr."""

    format: LogFormat = LogFormat.TEXT
    level: LogLevel = LogLevel.INFO


class Gate(enum.StrEnum):
    """Whether the kernel's gate stands behind the guard.

    Where it can be had, on a node that has it only, or never.
    """

    AUTO = "auto"
    REQUIRE = "require"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Fence:
    """What ends the right to the VIP besides daemon, guard and address lifetimes."""

    gate: Gate = Gate.AUTO


@dataclass(frozen=True, slots=True)
class Config:
    """All of a node's configuration.

    `profile` is empty where the timings are written out. `metrics_listen` is host (empty: all
    addresses) and port; None: off. `path` is the file that it was read from.
    """

    node: str
    backend: Backend
    timing: Timing
    instances: tuple[Instance, ...]
    profile: str = ""
    metrics_listen: tuple[str, int] | None = DEFAULT_METRICS
    control_socket: str = CONTROL_SOCKET
    state_dir: str = STATE_DIR
    log: Log = Log()
    fence: Fence = Fence()
    path: str = ""

    @property
    def elections(self) -> dict[str, tuple[Instance, ...]]:
        """The instances of each election, in the order of the file."""
        found: dict[str, tuple[Instance, ...]] = {}
        for instance in self.instances:
            found[instance.election] = (*found.get(instance.election, ()), instance)
        return found


def changed(old: Config, new: Config) -> set[str]:
    """Return the names of the elections whose addresses may not stay bound over a reload."""
    if (old.node, old.backend, old.state_dir) != (new.node, new.backend, new.state_dir):
        return set(old.elections)
    kept = {name: _places(instances) for name, instances in new.elections.items()}
    return {
        name for name, instances in old.elections.items() if kept.get(name) != _places(instances)
    }


def _places(instances: Iterable[Instance]) -> frozenset[tuple[str, str]]:
    """Return what of an election is in the kernel: pairs of interface and address."""
    return frozenset(
        (instance.interface, str(address))
        for instance in instances
        for address in instance.addresses
    )
