"""What a soak counts again and again, to find what grows.

Memory and descriptors of each process, and what lies about on host and store.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from announce.errors import BpfError
from announce.gate import bpf
from tests.bench.soak_judge import Finding, Sample, Trend, grown_up, thirds, trend
from tests.bench.soak_world import Group, Node
from tests.netns.stories.node import VipdNode


class Kind(NamedTuple):
    """What the kernel counts of BPF: commands of linux/bpf.h, and where in the info the name is."""

    get_next_id: int
    get_fd_by_id: int
    name_at: int


PROGRAMS, MAPS = Kind(11, 13, 64), Kind(12, 14, 24)
NEXT_ID = struct.Struct("=III")
INFO_SIZE = 256
OBJ_GET_INFO_BY_FD = 15
NAME = b"vipd"
"""What the names of the gate's programs and maps begin with: those of others come and go."""
ROLES = {"vipd-daemon": "daemon", "vipd-template": "warm"}
ALLOWED = {"MiB": 2.0, "descriptors": 3.0, "threads": 2.0}
"""By how much a soak may raise something: a library's pools, a request under way. Everything else
is to be where it was."""
DESCRIPTORS = ("socket", "pipe", "anon_inode", "file")
YOUNG = 300.0
"""Seconds in which a process may still grow: pages that it shared with the warm process become its
own, and free lists fill. Measured, an idle daemon: 0.5 MiB in five minutes, nothing in the twenty
after them."""
ENOUGH = 6
"""Fewer samples than these say nothing of growth."""


@dataclass
class Census:
    """All samples so far, by what they are of."""

    samples: dict[str, list[Sample]] = field(default_factory=dict)

    def take(self, group: Group) -> None:
        """Count everything once. To be called when the group is calm."""
        now = time.monotonic()
        for node in group.nodes:
            for what, life, value in (*processes(node.vipd), *_host(group, node)):
                self.samples.setdefault(what, []).append(Sample(now, f"{node.name} {life}", value))
        for what, value in (("keys in the store", group.count_keys()), *_machine()):
            self.samples.setdefault(what, []).append(Sample(now, "", value))

    def findings(self) -> list[Finding]:
        """Return what has grown further than it may."""
        found = []
        for what, samples in self.samples.items():
            first, last = thirds(samples)
            allowed = next((allowed for word, allowed in ALLOWED.items() if word in what), 0.0)
            # Processes are replaced in a soak: what each life gathers may never show in the level,
            # but in the trend within the lives.
            rise = trend(grown_up(samples, YOUNG))
            grown = (
                rise.slope * (samples[-1].at - samples[0].at) / 3600
                if rise and rise.certain
                else 0.0
            )
            if len(samples) >= ENOUGH and max(last - first, grown) > allowed:
                text = (
                    f"{what} went from {first:.1f} to {last:.1f}, by "
                    f"{rise.slope if rise else 0.0:+.1f} an hour within the lives"
                )
                found.append(Finding(samples[-1].at, text))
        return found

    def rows(self) -> Iterator[tuple[str, float, float, Trend | None, int]]:
        """Yield what it is, medians of the first and the last third, trend in an hour, and the
        number of samples.
        """
        for what, samples in self.samples.items():
            yield what, *thirds(samples), trend(grown_up(samples, YOUNG)), len(samples)


def table(census: Census) -> str:
    """Return the leak table."""
    lines = [
        (
            "| counted in calm | first third | last third | trend per hour within the lives, after "
            "their first five minutes | samples |"
        ),
        "|---|---|---|---|---|",
    ]
    for what, first, last, rise, count in sorted(census.rows()):
        shown = "-" if rise is None else f"{rise.slope:+.2f} ± {rise.error:.2f}"
        lines.append(f"| {what} | {first:.1f} | {last:.1f} | {shown} | {count} |")
    return "\n".join(lines)


def processes(vipd: VipdNode) -> Iterator[tuple[str, str, float]]:
    """Yield what is counted of each of its processes: what it is, the process id, the figure."""
    for number, pid in enumerate(vipd.tree()):
        with contextlib.suppress(OSError, ValueError):  # it ended meanwhile
            role = "guard" if number == 0 else ROLES.get(_comm(pid), "")
            if role:
                links = [
                    _kind(str(entry.readlink())) for entry in Path(f"/proc/{pid}/fd").iterdir()
                ]
                yield f"{role}: memory, MiB PSS", str(pid), _pss(pid)
                yield f"{role}: descriptors", str(pid), len(links)
                for kind in DESCRIPTORS:
                    yield f"{role}: descriptors, {kind}", str(pid), links.count(kind)
                yield f"{role}: threads", str(pid), len(list(Path(f"/proc/{pid}/task").iterdir()))


def _kind(link: str) -> str:
    """Return what sort of thing a descriptor is: socket, pipe, anon_inode, or file."""
    kind = link.partition(":")[0]
    return kind if kind in DESCRIPTORS else "file"


def _comm(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text(encoding="ascii").strip()


def _pss(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def _host(group: Group, node: Node) -> Iterator[tuple[str, str, float]]:
    def listed(*words: str) -> int:
        return len(json.loads(group.lab.run(node.host, *words) or "[]"))

    links = json.loads(group.lab.run(node.host, "ip", "-json", "address", "show"))
    # IPv6 privacy and link-local addresses come and go by themselves in no test network: all count.
    yield (
        "addresses on a node (all nodes differ)",
        "",
        sum(len(link.get("addr_info", [])) for link in links),
    )
    yield "routes on a node", "", listed("ip", "-json", "route", "show", "table", "all")
    yield "routes on a node, IPv6", "", listed("ip", "-json", "-6", "route", "show", "table", "all")
    filters = (
        listed("tc", "-json", "filter", "show", "dev", "eth0", way) for way in ("ingress", "egress")
    )
    yield "filters on a node's interface", "", sum(filters)
    yield (
        "files in a state directory",
        "",
        sum(path.is_file() for path in node.vipd.state_dir.rglob("*")),
    )


def _machine() -> Sequence[tuple[str, float]]:
    return (("BPF programs of vipd", count(PROGRAMS)), ("BPF maps of vipd", count(MAPS)))


def count(kind: Kind) -> int:
    """Return how many programs or maps of vipd's the kernel has; needs CAP_BPF."""
    number, found = 0, 0
    with contextlib.suppress(BpfError):  # ENOENT after the last one
        while True:
            asked = bpf._bpf(kind.get_next_id, NEXT_ID.pack(number, 0, 0))
            number = NEXT_ID.unpack(asked)[1]
            found += _is_ours(kind, number)
    return found


def _is_ours(kind: Kind, number: int) -> bool:
    try:
        descriptor = bpf._opened(kind.get_fd_by_id, NEXT_ID.pack(number, 0, 0))
    except BpfError:
        return False  # gone meanwhile
    try:
        info = ctypes.create_string_buffer(INFO_SIZE)
        where = ctypes.addressof(info)
        bpf._bpf(OBJ_GET_INFO_BY_FD, struct.pack("=IIQ", descriptor, len(info), where))
        return info.raw[kind.name_at :].startswith(NAME)
    finally:
        os.close(descriptor)
