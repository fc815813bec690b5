"""Whole nodes in one process.

Everything of the daemon but the guard, over a real file store and a kernel made of memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Interface, ip_address
from pathlib import Path

from announce.frames.build import Frames
from announce.frames.forge import FrameBuilder, Requests
from announce.kernel.addresses import ReadyMessages
from announce.kernel.interface import Links
from announce.kernel.netlink import REQUEST_TIMEOUT, RouteSocket
from announce.kernel.rtnetlink import (
    ATTRIBUTES_AT,
    BODY_AT,
    IFA_CACHEINFO,
    IFA_LOCAL,
    IFA_PROTO,
    RTM_NEWADDR,
    BoundAddress,
    Key,
    Route,
    attributes,
)
from election import events, model
from election.stores.file.store import FileStore
from election.timing import PROFILES
from health.model import Verdict
from vipd.clock import now
from vipd.config import values as config
from vipd.config.values import Config, FileBackend
from vipd.control import status
from vipd.daemon.commands import Commands
from vipd.daemon.deps import Deps
from vipd.daemon.member import Member
from vipd.daemon.peers import Peers
from vipd.daemon.saver import Saver
from vipd.daemon.view import View
from vipd.observe.metrics import Metrics
from vipd.observe.observe import Observe
from vipd.state_dir import Election, Memory

PATIENCE = 20.0
NLM_F_EXCL = 0x200
VIP = "192.0.2.100"
WEB = "web"
INTERFACE = "lo"
Arm = Callable[[str, Sequence[ReadyMessages], Callable[[str], None]], None]
"""What stands in for the guard: takes an election's addresses, and calls back with "" or with why
not."""
_TYPE = struct.Struct("=IHH")
_BODY = struct.Struct("=BBBBi")
_LIFETIMES = struct.Struct("=II")


async def until(done: Callable[[], object], what: str) -> None:
    """Return once this is true; AssertionError after a long while."""
    end = now() + PATIENCE
    while not done():
        assert now() < end, f"waited {PATIENCE:g} s in vain for: {what}"
        await asyncio.sleep(0.002)


class MemoryKernel(RouteSocket):
    """Addresses and nothing else.

    `log` tells what was asked, in order; `refuses` is the errno for whoever adds one.

    `keeps`: nothing is removed. `unserved`: IPv6 addresses that are accepted and not finished.
    """

    def __init__(self, log: list[str] | None = None) -> None:
        self.log: list[str] = [] if log is None else log
        self.refuses = 0
        self.keeps = False
        self.unserved: set[bytes] = set()
        self._bound: dict[tuple[int, Key], BoundAddress] = {}

    def close(self) -> None:
        """Nothing to close."""

    def request(self, messages: Sequence[bytes], timeout: float | None = None) -> list[int]:  # noqa: ARG002 -- nothing waits
        """Do what the messages say and return an errno for each."""
        return [self._one(message) for message in messages]

    def addresses(
        self,
        ifindex: int | None = None,
        timeout: float = REQUEST_TIMEOUT,  # noqa: ARG002 -- likewise
    ) -> list[BoundAddress]:
        """Return what is bound."""
        return [address for address in self._bound.values() if ifindex in {None, address.ifindex}]

    def ipv6_addresses(
        self,
        ifindex: int,
        ips: Sequence[bytes],
        timeout: float | None = None,  # noqa: ARG002 -- likewise
    ) -> list[BoundAddress]:
        """Return those that are bound."""
        return [address for address in self.addresses(ifindex) if address.ip in ips]

    def routes(self, family: int, ifindex: int, timeout: float = REQUEST_TIMEOUT) -> list[Route]:  # noqa: ARG002 -- likewise
        """Return nothing: there are none."""
        return []

    def is_served(self, ifindex: int, ip: bytes, timeout: float = REQUEST_TIMEOUT) -> bool:  # noqa: ARG002 -- likewise
        """Return whether an address that is bound serves already."""
        return ip not in self.unserved

    @property
    def bound(self) -> set[str]:
        """The addresses that are bound."""
        return {socket.inet_ntop(one.family, one.ip) for one in self._bound.values()}

    def drop(self) -> None:
        """Lose every address, as if somebody had flushed the interface."""
        self._bound.clear()

    def _one(self, message: bytes) -> int:
        _, kind, flags = _TYPE.unpack_from(message)
        family, prefixlen, _, scope, ifindex = _BODY.unpack_from(message, BODY_AT)
        values = {
            number: message[start:end] for number, start, end in attributes(message, ATTRIBUTES_AT)
        }
        ip = values[IFA_LOCAL]
        key = (ifindex, (family, ip, prefixlen))
        if kind != RTM_NEWADDR:
            self.log.append(f"unbind {ip_address(ip)}")
            if not self.keeps:
                self._bound.pop(key, None)
            return 0
        if self.refuses:
            return self.refuses
        if flags & NLM_F_EXCL and key in self._bound:
            return errno.EEXIST
        self.log.append(f"bind {ip_address(ip)}")
        lifetime = _LIFETIMES.unpack_from(values[IFA_CACHEINFO])[1]
        self._bound[key] = BoundAddress(
            ifindex, family, ip, prefixlen, 0, values[IFA_PROTO][0], lifetime, "", scope=scope
        )
        return 0


@dataclass
class LocalWord:
    """A shared deadline that nobody shares. It logs each change to open or closed."""

    log: list[str] = field(default_factory=list)
    deadline: float = 0.0

    def set(self, deadline: float) -> None:
        """Write it."""
        if (deadline > 0) != (self.deadline > 0):
            self.log.append("open" if deadline > 0 else "close")
        self.deadline = deadline


@dataclass
class Node:
    """One node. `log` is what its kernel and its word were told."""

    config: Config
    me: model.Identity
    kernel: MemoryKernel
    memory: Memory
    metrics: Metrics
    observe: Observe
    peers: Peers
    members: dict[str, Member]
    view: View
    commands: Commands
    links: Links

    @property
    def member(self) -> Member:
        """Its one election."""
        [member] = self.members.values()
        return member

    @property
    def state(self) -> model.State:
        """The state of its one election."""
        return self.member.driver.machine.state

    def judge(self, *, fit: bool, priority: int = 100) -> None:
        """Be what the checks say."""
        for part in self.member.instances:
            part.verdict = Verdict(fit)
        self.member.driver.post(events.FitnessChanged(fit, priority))

    def metric(self, name: str, **labels: str) -> float:
        """Return one sample."""
        return self.metrics.registry.get_sample_value(f"vipd_{name}", labels) or 0.0


def instance(name: str = WEB, address: str = VIP, group: str = "") -> config.Instance:
    """Return an instance with one address that nobody preempts."""
    take = config.OnConflict.TAKE
    return config.Instance(
        name,
        INTERFACE,
        (IPv4Interface(f"{address}/32"),),
        preempt=False,
        on_conflict=take,
        group=group,
    )


def configuration(
    folder: Path, name: str, instances: Sequence[config.Instance] = (instance(),)
) -> Config:
    """Return the configuration of a node whose store, that of all nodes, is in this folder."""
    return Config(
        name,
        FileBackend(str(folder / "store")),
        PROFILES["fast"],
        tuple(instances),
        state_dir=str(folder / name),
    )


async def blank_frames(requests: Requests) -> dict[str, Frames]:
    """Forge nothing that could be sent."""
    return {address: Frames(address, (), ()) for address, _ in requests}


@contextlib.asynccontextmanager
async def node(
    folder: Path,
    name: str,
    notices: list[str] | None = None,
    instances: Sequence[config.Instance] = (instance(),),
    store_class: type[FileStore] = FileStore,
    arm: Arm = lambda _name, _ready, done: done(""),
) -> AsyncIterator[Node]:
    """Run a node that is fit, until the end of the context."""
    settings = configuration(folder, name, instances)
    said = notices if notices is not None else []
    store = store_class(folder / "store")
    me = model.Identity(name, f"session-of-{name}")
    memory = Memory.open(Path(settings.state_dir), me.session)
    kernel, metrics = MemoryKernel(), Metrics()
    peers = Peers(
        me, store, settings.timing, frozenset(memory.former), said.append, metrics.store_watch_lost
    )
    saver = Saver(memory, lambda one, epoch: members[one].driver.post(events.Remembered(epoch)))
    observe = Observe(metrics, settings.elections, settings.timing)

    def stepped(one: str) -> None:
        observe.show(one, members[one].snapshot())
        peers.stepped()

    deps = Deps(
        me,
        store,
        settings.timing,
        kernel,
        observe,
        arm,
        remember=saver.remember,
        keep_verdicts=saver.keep_verdicts,
        stepped=stepped,
        frame_builder=FrameBuilder(blank_frames),
        knows_claims=lambda: peers.knows_claims,
    )
    members = {
        one: Member(instances, deps, LocalWord(kernel.log), Election())
        for one, instances in settings.elections.items()
    }

    def judge() -> None:
        for member in members.values():
            member.judge()

    peers.serve(members, judge)
    fence = status.Fence(guard=False, gate=False, covers="")
    view = View(settings, me, members, peers, observe, now(), lambda: fence)
    commands = Commands(
        view, members, memory, lambda election: peers.candidates.of(now(), election, {})
    )
    made = Node(
        settings, me, kernel, memory, metrics, observe, peers, members, view, commands, deps.links
    )
    for member in members.values():
        member.look()
        if memory.drained:
            member.driver.post(events.DrainChanged(drained=True))
        member.driver.post(events.Started(frozenset(memory.former)))
        for part in member.instances:
            part.on_verdict(Verdict(fit=True))
    tasks = [asyncio.create_task(work) for work in (peers.watch(), peers.publish(), saver.run())]
    try:
        yield made
    finally:
        await _ended(tasks)
        for member in members.values():
            await member.close()
        await store.close()
        memory.close()


async def _ended(tasks: Iterable[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def free(folder: Path, election: str = WEB) -> None:
    """Leave a record that its last holder released, so that a node need not wait for a lease that
    nobody has.
    """
    store = FileStore(folder / "store")
    record = model.Record(
        "uid", "", "gone", epoch=1, counter=1, lease_duration=1000, release=model.Release("gone", 1)
    )
    assert isinstance(await store.write(election, record, None, PATIENCE), model.Applied)
    await store.close()
