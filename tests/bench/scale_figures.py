"""The figures of one size of installation, and what an instance or a node more costs. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tests.bench.takeover_steps import table

HANDLED = re.compile(r'^grpc_server_handled_total\{.*grpc_method="(\w+)".*\} (\S+)$', re.MULTILINE)
SENT = re.compile(r'^grpc_server_msg_sent_total\{.*grpc_method="Watch".*\} (\S+)$', re.MULTILINE)
PUTS = re.compile(r"^etcd(?:_debugging)?_mvcc_put_total (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Size:
    """How much there is of everything. `grouped`: all instances are elected as one."""

    store: str
    nodes: int
    instances: int
    grouped: bool = False

    @property
    def name(self) -> str:
        """What it is called."""
        return f"{self.store}{', one group' if self.grouped else ''}"


@dataclass(frozen=True, slots=True)
class Node:
    """What one node costs.

    CPU in percent of a core, memory in MiB of PSS, both of guard and daemon; `warm` is the process
    beside them.
    """

    cpu: float
    memory: float
    warm: float


@dataclass(frozen=True, slots=True)
class Failover:
    """Seconds from the death of the node that held everything to the first and to the last address
    on another, and the lease's.
    """

    first: float
    last: float
    lease: float

    @property
    def beyond(self) -> float:
        """Return how long after death and lease_duration the last address was back.

        The lease counts from a renewal before the death.
        """
        return self.last - self.lease

    @property
    def spread(self) -> float:
        """Return how long after the first address the last one was back."""
        return self.last - self.first


@dataclass(frozen=True, slots=True)
class Figures:
    """What one size gave.

    `requests` and the like are for a second, `started` is in seconds; `problem`: why it is void, or
    not reached.
    """

    size: Size
    started: float = 0.0
    holder: Node | None = None
    backup: Node | None = None
    requests: Mapping[str, float] = field(default_factory=dict, hash=False)
    failover: Failover | None = None
    problem: str = ""


def etcd_counts(text: str) -> dict[str, float]:
    """Return the counters of etcd's /metrics that tell of its work.

    Requests by method, messages of watches, keys written.
    """
    counts: dict[str, float] = {}
    for method, value in HANDLED.findall(text):
        counts[method] = counts.get(method, 0.0) + float(value)
    counts["watch messages"] = sum(map(float, SENT.findall(text)))
    counts["keys written"] = max(map(float, PUTS.findall(text)), default=0.0)
    return counts


def rates(
    before: Mapping[str, float], after: Mapping[str, float], seconds: float
) -> dict[str, float]:
    """Return what happened in a second, without what did not happen."""
    differences = {name: (value - before.get(name, 0.0)) / seconds for name, value in after.items()}
    return {name: rate for name, rate in differences.items() if rate > 0}


def asked(requests: Mapping[str, float]) -> float:
    """Return the requests of all kinds, without what only follows from them."""
    return sum(
        rate for name, rate in requests.items() if name not in {"watch messages", "keys written"}
    )


def report(all_figures: Sequence[Figures]) -> str:
    """Return the tables."""
    head = [
        "store",
        "nodes",
        "instances a node",
        "all up, s",
        "holder: CPU %, MiB",
        "backup: CPU %, MiB",
        "warm, MiB",
        "requests/s (by kind)",
    ]
    head += ["dead node: all serve beyond the lease, s", "first to last address, s"]
    parts = [table(head, map(_row, all_figures)), ""]
    costs = list(_costs(all_figures))
    if costs:
        head = [
            "store",
            "nodes",
            "from, to instances",
            "CPU of holder, % each",
            "of backup",
            "memory of holder, KiB each",
            "of backup",
        ]
        parts.append(table([*head, "requests/s each"], costs))
    parts += [
        f"\n{one.size.name}, {one.size.nodes} nodes, {one.size.instances} instances: {one.problem}"
        for one in all_figures
        if one.problem
    ]
    return "\n".join(parts)


def _row(one: Figures) -> list[str]:
    size = one.size
    kinds = ", ".join(
        f"{name} {rate:.1f}"
        for name, rate in sorted(one.requests.items(), key=lambda item: -item[1])
    )
    row = [
        size.name,
        str(size.nodes),
        str(size.instances),
        f"{one.started:.1f}" if one.started else "-",
    ]
    row += [
        f"{node.cpu:.1f}, {node.memory:.1f}" if node else "-" for node in (one.holder, one.backup)
    ]
    row.append(f"{one.holder.warm:.1f}" if one.holder else "-")
    row.append(f"{asked(one.requests):.1f} ({kinds})" if one.requests else "-")
    return row + (
        [f"{one.failover.beyond:+.3f}", f"{one.failover.spread:.3f}"]
        if one.failover
        else ["-", "-"]
    )


def _costs(all_figures: Iterable[Figures]) -> Iterable[list[str]]:
    """Yield what one instance more costs, from each number of instances to the next one of the same
    store and nodes.
    """
    former: dict[tuple[str, int], Figures] = {}
    for one in sorted(
        all_figures,
        key=lambda figures: (figures.size.name, figures.size.nodes, figures.size.instances),
    ):
        before = former.get((one.size.name, one.size.nodes))
        if one.holder is None or one.backup is None:
            continue
        former[one.size.name, one.size.nodes] = one
        if before is None or before.holder is None or before.backup is None:
            continue
        more = one.size.instances - before.size.instances
        yield [
            one.size.name,
            str(one.size.nodes),
            f"{before.size.instances}, {one.size.instances}",
            f"{(one.holder.cpu - before.holder.cpu) / more:.3f}",
            f"{(one.backup.cpu - before.backup.cpu) / more:.3f}",
            f"{(one.holder.memory - before.holder.memory) * 1024 / more:.0f}",
            f"{(one.backup.memory - before.backup.memory) * 1024 / more:.0f}",
            f"{(asked(one.requests) - asked(before.requests)) / more:.3f}",
        ]
