"""The daemon: one event loop that owns every machine of this node, and the wiring around it.

It is forked by the guard's template. It tells the guard the addresses and their deadlines before
anything is bound, beats as long as its elections make progress, and ends by an exit code that the
guard understands.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import pickle
import secrets
import signal
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Self, TypeVar

from announce.kernel.addresses import ReadyMessages, RouteSocket, remove
from announce.kernel.interface import Links
from announce.kernel.messages import leftovers
from announce.kernel.netlink import interface_name
from announce.kernel.ownership import written
from announce.kernel.watch import (
    AddressGone,
    AddressSeen,
    KernelEvent,
    LinkGone,
    LinkSeen,
    Resync,
    Watch,
)
from election import model
from election.events import Remembered
from election.fencing import EXIT_CONFIG, EXIT_REFUSED
from election.stores.contract import Store
from health.kinds.workers import Workers
from vipd.clock import now
from vipd.config.values import Config
from vipd.control.server import ControlServer
from vipd.daemon.commands import Commands
from vipd.daemon.deps import Deps
from vipd.daemon.ending import EXIT_STOPPED, Ending
from vipd.daemon.gate_report import GateStatus
from vipd.daemon.heartbeat import SHORTEST_BEAT, Heartbeat
from vipd.daemon.member import Member
from vipd.daemon.peers import Peers
from vipd.daemon.saver import Saver
from vipd.daemon.servers import Servers
from vipd.daemon.stores import open_store
from vipd.daemon.tasks import EXIT_CRASHED, Tasks
from vipd.daemon.view import View
from vipd.guard.errors import GuardError
from vipd.guard.link import GuardLink, Word
from vipd.observe.headline import Headline
from vipd.observe.log import configure
from vipd.observe.metrics import Metrics
from vipd.observe.observe import Observe
from vipd.state_dir import Election, InUseError, Memory

PREVIOUS_DAEMON_TIMEOUT = 5.0
"""Seconds to wait for the previous daemon, whose guard was killed, to hand over and let go of its
locks."""
ORPHAN_PAUSE = 0.1
"""Seconds between the guard's death and the daemon's handover; a `pkill -9` of all takes a few
milliseconds."""

T = TypeVar("T")

log = logging.getLogger("vipd")


class RefusedError(Exception):
    """This daemon must not run beside what runs already; the text says beside what."""


class ImpossibleError(Exception):
    """The configuration asks for what this host does not have; the text says what."""


def main(configuration: Config, link: GuardLink) -> int:
    """Run the daemon until it is told to stop; return its exit code.

    Called in the process that the guard watches.
    """
    configure(configuration.log)
    try:
        return asyncio.run(run(configuration, link))
    except RefusedError as error:
        log.error("%s", error)  # noqa: TRY400 -- a sentence, no traceback
        return EXIT_REFUSED
    except ImpossibleError as error:
        log.error("%s", error)  # noqa: TRY400 -- likewise
        return EXIT_CONFIG
    except GuardError as error:
        log.error("the daemon cannot start: %s", error)  # noqa: TRY400 -- likewise
        return EXIT_CRASHED


async def run(configuration: Config, link: GuardLink) -> int:
    """Run the daemon and return its exit code; raises what `Daemon.start` raises."""
    daemon = await Daemon.start(configuration, link)
    return await daemon.run()


def _open_memory(configuration: Config, me: model.Identity) -> Memory:
    memory = Memory.open(Path(configuration.state_dir), me.session)
    if memory.trouble:
        log.warning("%s", memory.trouble)
    return memory


def _lock_addresses(configuration: Config, link: GuardLink) -> None:
    names = [
        str(address.ip) for instance in configuration.instances for address in instance.addresses
    ]
    if refusal := link.lock(names):
        raise InUseError(refusal)


async def _patiently(link: GuardLink, attempt: Callable[[], T]) -> T:
    """Try again for a while.

    A previous daemon whose guard was killed hands over and is gone in a moment.
    """
    give_up_at = now() + PREVIOUS_DAEMON_TIMEOUT
    while True:
        try:
            return attempt()
        except InUseError as error:
            if now() >= give_up_at:
                raise RefusedError(str(error)) from error
            link.beat(now())
            await asyncio.sleep(SHORTEST_BEAT)


class Daemon:
    """Everything that lives as long as the process.

    Made on the event loop, when its memory and the locks of its addresses are its own.
    """

    def __init__(
        self,
        configuration: Config,
        link: GuardLink,
        me: model.Identity,
        memory: Memory,
        gate: GateStatus,
        metrics: Metrics,
    ) -> None:
        self.config = configuration
        self.link = link
        self.me = me
        self.memory = memory
        self.metrics = metrics
        self.members: dict[str, Member] = {}
        self.links = Links()
        self.kernel = RouteSocket()
        self.store: Store = open_store(configuration)
        timing = configuration.timing
        self.peers = Peers(
            me, self.store, timing, frozenset(memory.former), log.warning, metrics.store_watch_lost
        )
        self.observe = Observe(metrics, configuration.elections, timing)
        self._saver = Saver(memory, self._on_epoch_kept)
        self._heartbeat = Heartbeat(link, self.members, self.peers, metrics, timing.lease_duration)
        self._ending = Ending(configuration, link, self.members, lambda: self.observe.store.serves)
        self._headline = Headline(self.members, link.status)
        self._servers = Servers()
        self._workers = Workers()
        self._gate = gate
        self._tasks = Tasks()
        self._loop = asyncio.get_running_loop()
        self._guard = os.getppid()
        self._looks_soon = False
        self._listens = False

    @classmethod
    async def start(cls, configuration: Config, link: GuardLink) -> Self:
        """Make a daemon as soon as no other one has its memory or its addresses.

        Raises RefusedError if another one keeps them, and ImpossibleError if the host lacks what
        the configuration asks for.
        """
        metrics = Metrics()
        gate = GateStatus(configuration, link, metrics)
        if refusal := gate.refusal():
            raise ImpossibleError(refusal)
        me = model.Identity(configuration.node, secrets.token_hex(8))
        memory = await _patiently(link, lambda: _open_memory(configuration, me))
        await _patiently(link, lambda: _lock_addresses(configuration, link))
        return cls(configuration, link, me, memory, gate, metrics)

    async def run(self) -> int:
        """Start everything in the order of urgency, wait for the end, and take it all down; return
        the exit code.
        """
        self._count_crashes()
        self._show_config()
        self._saver.want()
        self._make_members()
        self._listen()
        self._remove_orphans()
        self._collect_garbage()
        code = await self._ending.wait(self.peers.last_word)
        await self._close(code)
        return code

    # ------------------------------------------------------------------ start

    def _count_crashes(self) -> None:
        self.metrics.crashed(self.link.start_info.crashes)
        for name, count in self.link.start_info.fenced.items():
            for instance in self.config.elections.get(name, ()):
                for _ in range(count):
                    self.metrics.fenced(instance.name, "guard")

    def _make_members(self) -> None:
        deps = Deps(
            me=self.me,
            store=self.store,
            timing=self.config.timing,
            kernel=self.kernel,
            observer=self.observe,
            arm=self._arm_later,
            remember=self._saver.remember,
            keep_verdicts=self._saver.keep_verdicts,
            stepped=self._on_step,
            unmet=self._gate.unmet,
            knows_claims=lambda: self.peers.knows_claims,
            workers=self._workers,
            links=self.links,
        )
        checks = 0
        for name, instances in self.config.elections.items():
            word = self._arm(name, [])
            self.members[name] = Member(
                instances, deps, word, self.memory.elections.get(name, Election()), checks
            )
            checks += sum(len(instance.checks) for instance in instances)
        self.peers.serve(self.members, self._judge)
        former, drained = frozenset(self.memory.former), self.memory.drained
        for member in self.members.values():
            member.start(former, self.memory.verdicts, drained=drained)

    def _on_step(self, name: str) -> None:
        """Follow a machine's step: show it, listen for rivals while Active, publish what is new."""
        member = self.members[name]
        self.observe.show(name, member.snapshot())
        member.follow_state()
        self.peers.stepped()
        self._heartbeat.moved(name)
        self._ending.moved()
        self._headline.update()

    def _on_epoch_kept(self, name: str, epoch: int) -> None:
        # The memory also holds elections that this configuration does not have.
        if name in self.members:
            self.members[name].order(Remembered(epoch))

    def _judge(self) -> None:
        for member in self.members.values():
            member.judge()

    def _arm_later(
        self, name: str, ready: Sequence[ReadyMessages], done: Callable[[str], None]
    ) -> None:
        """Have the guard arm an election's addresses.

        At start wait for it, later not even the guard holds up the loop.
        """
        if not self._listens:
            self._arm(name, ready)
            done("")
            return
        messages = [one.to_bytes() for one in ready]
        self.link.ask_to_arm(
            name, messages, self.config.timing.lease_duration, done, gate=self._gate.wanted
        )
        self._flush_link()

    def _flush_link(self) -> None:
        """Send to the guard what waits, now or as soon as its socket takes more.

        A guard that is stopped reads nothing.
        """
        self.link.flush()
        if self.link.waiting:
            self._loop.add_writer(self.link.fileno(), self._flush_link)
        else:
            self._loop.remove_writer(self.link.fileno())

    def _arm(self, name: str, ready: Sequence[ReadyMessages]) -> Word:
        """Tell the guard which addresses go with an election's deadline.

        They may be unknown until the interface exists.
        """
        # Making a hundred instances takes longer than a daemon may be silent.
        self.link.beat(now())
        messages = [one.to_bytes() for one in ready]
        if not self._looks_soon:
            # What the guard said beside its answer is no longer in the socket, and nothing else
            # would wake up for it: a reload asked for while this daemon starts, a report on the
            # gate.
            self._looks_soon = True
            self._loop.call_soon(self._on_guard)
        return self.link.word(
            self.link.arm(name, messages, self.config.timing.lease_duration, gate=self._gate.wanted)
        )

    def _listen(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._on_terminate)
        self._loop.add_reader(self.link.fileno(), self._on_guard)
        self._listens = True
        self._heartbeat.start()
        for work in (
            Watch(self._on_kernel).run(),
            self.peers.watch(),
            self.peers.publish(),
            self._saver.run(),
            self._serve(),
        ):
            self._tasks.spawn(work)

    async def _serve(self) -> None:
        view = View(
            self.config,
            self.me,
            self.members,
            self.peers,
            self.observe,
            now(),
            self._gate.document,
            lambda: self.link.config,
            self.link.start_info.code,
        )
        commands = Commands(view, self.members, self.memory, self._candidates)
        control = ControlServer(self.config.control_socket, commands.handle)
        await self._servers.start(self.config, control, self.metrics, view, self._heartbeat.trouble)
        self.link.ready()

    def _candidates(self, election: str) -> tuple[model.Candidate, ...]:
        return self.peers.candidates.of(now(), election, {})

    def _remove_orphans(self) -> None:
        """Remove what a previous daemon bound and this configuration does not know, unless another
        vipd manages it.
        """
        known = [ready for member in self.members.values() for ready in member.executor.ready]
        bound = self.kernel.addresses()
        for address in leftovers(bound, known):
            name = str(ip_address(address.ip))
            # 1. a killed daemon left the VIP on eth0, 2. the configuration says eth1 now, 3. the
            # lock taken for this removal is
            # that of the VIP itself: letting go of it would let a second daemon of this host manage
            # the VIP too.
            held = self.link.holds(name)
            if held or not self.link.lock([name]):
                [refused] = remove(self.kernel, [address], bound)
                where = f"{written(address)} from interface {interface_name(address.ifindex)}"
                if refused:
                    log.warning(
                        "could not remove %s, which an earlier vipd left: %s",
                        where,
                        os.strerror(refused),
                    )
                else:
                    log.warning("removed %s, which an earlier vipd left on this host", where)
            if not held:
                self.link.unlock([name])

    @staticmethod
    def _collect_garbage() -> None:
        """Collect once and freeze.

        A full collection takes 18 ms, and what is there after the start stays.
        """
        gc.collect()
        gc.freeze()

    # ------------------------------------------------------------------ while it runs

    def _on_guard(self) -> None:
        self._looks_soon = False
        for blob in self.link.receive():
            self._ending.reload(pickle.loads(blob))  # noqa: S301 -- the guard passes on what its own child wrote
        self._on_gate()
        self._show_config()
        self._flush_link()
        if self.link.ended:
            self._loop.remove_reader(self.link.fileno())
            self._on_terminate()

    def _show_config(self) -> None:
        known = self.link.config
        self.metrics.configuration(good=not known.refused, loaded_at=known.loaded_at)

    def _on_gate(self) -> None:
        """Take in the guard's last report on the gate, which may have come with the answer to an
        arming.
        """
        renewed = self._gate.take_in()
        for member in self.members.values():
            member.on_gate(renewed=renewed)

    def _on_kernel(self, seen: KernelEvent) -> None:
        names, bound = frozenset[str](), frozenset[tuple[int, str]]()
        match seen:
            case LinkSeen(interface):
                names = self.links.see(interface)
            case LinkGone(interface):
                names = self.links.forget(interface.ifindex)
            case Resync(addresses):
                bound = frozenset((address.ifindex, address.ip) for address in addresses)
        for member in self.members.values():
            match seen:
                case LinkSeen() | LinkGone():
                    member.on_links(names)
                case AddressGone(ifindex=ifindex, ip=ip):
                    member.on_address_gone(ifindex, ip)
                case AddressSeen(ifindex=ifindex, ip=ip):
                    member.on_address_seen(ifindex, ip)
                case Resync():
                    member.on_resync(bound)

    # ------------------------------------------------------------------ the end

    def _on_terminate(self) -> None:
        """Stop: because of an order, or because the guard is gone, which the kernel tells by the
        same signal.

        If somebody kills all of vipd, the guard often dies first. A handover begun in that moment
        would end half done, with the address left to its lifetime on this node and taken on the
        next one: so wait ORPHAN_PAUSE first.
        """
        if os.getppid() == self._guard:
            self._ending.stop()
        else:
            self._loop.call_later(ORPHAN_PAUSE, self._ending.stop)

    async def _close(self, code: int) -> None:
        self._tasks.cancel()
        for member in self.members.values():
            await member.close()
        await self._workers.close()
        if code == EXIT_STOPPED:
            await self.peers.withdraw()
        await self._servers.close()
        await self.store.close()
        await asyncio.to_thread(self.memory.save)
        self.memory.close()
