"""One election on this node.

One machine and one deadline for its instance, or for all the instances of its group.

What concerns one interface alone is in `vipd.daemon.instance`; here is what the instances have in
common.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping, Sequence

from announce.kernel.addresses import FOREVER, ReadyMessages
from announce.kernel.interface import obstacle
from announce.kernel.ownership import written
from announce.rivals.rivals import RivalSeen
from election import events
from election.machine.machine import Machine, Snapshot
from election.model import Candidacy, Reason, State
from election.timing import Settings, lifetime_to_set
from health.verdict import combined, effective_priority
from vipd.clock import now
from vipd.config import values as config
from vipd.daemon.arming import Arming
from vipd.daemon.deps import Deps
from vipd.daemon.driver import Deps as DriverDeps
from vipd.daemon.driver import Driver
from vipd.daemon.executor import Executor, Word
from vipd.daemon.instance import Deps as InstanceDeps
from vipd.daemon.instance import Instance
from vipd.state_dir import Election


class Member:
    """Connects an election's machine with its instances. `word` is its shared deadline.

    `configured` are all that take part in it: they agree in all that the machine needs, as the
    configuration's relations see to.
    """

    def __init__(
        self,
        configured: Sequence[config.Instance],
        deps: Deps,
        word: Word,
        known: Election,
        position: int = 0,
    ) -> None:
        self.settings = configured[0]
        self.name = self.settings.election
        self._deps = deps
        self._seeded = False
        self.obstacle = ""
        self._judged: tuple[bool, int, Reason] | None = None
        self._loss_noted = self._look_noted = False
        self._in_use = ""
        self._arm_trouble = ""
        self.instances = self._make_instances(configured, position)
        self._ips = frozenset(ip for instance in self.instances for ip in instance.ips)
        parts = len(self.instances)
        self.executor = Executor(word, deps.kernel, parts=parts, on_removed=self.notice)
        self._arming = Arming(
            lambda ready, done: deps.arm(self.name, ready, done), self._on_armed, self._on_not_armed
        )
        self.driver = Driver(self.name, self._make_machine(known), self._driver_deps())

    def _make_instances(
        self, configured: Sequence[config.Instance], position: int
    ) -> tuple[Instance, ...]:
        deps = self._deps
        shared = InstanceDeps(
            observer=deps.observer,
            forge=deps.frame_builder.build,
            listeners=deps.listeners,
            workers=deps.workers,
            links=deps.links,
            keep_verdicts=deps.keep_verdicts,
            paces=deps.paces,
        )
        made = []
        for one in configured:
            made.append(Instance(one, shared, self, position))
            position += len(one.checks)
        return tuple(made)

    def _driver_deps(self) -> DriverDeps:
        return DriverDeps(
            store=self._deps.store,
            executor=self.executor,
            announcers=tuple(instance.announcer for instance in self.instances),
            probe=self._probe,
            observer=self._deps.observer,
            remember=self._deps.remember,
            stepped=self._deps.stepped,
        )

    def _make_machine(self, known: Election) -> Machine:
        longest = known.lease_duration / 1000
        return Machine(self._machine_settings(), self._deps.me, known.epoch, longest, known.chosen)

    def _ready(self) -> tuple[ReadyMessages, ...]:
        return tuple(instance.ready for instance in self.instances if instance.ready is not None)

    def _machine_settings(self) -> Settings:
        addresses = tuple(
            str(address) for instance in self.instances for address in instance.settings.addresses
        )
        probing = any(instance.waits for instance in self.instances)
        return Settings(
            self.name,
            addresses,
            timing=self._deps.timing,
            preempt=self.settings.preempt,
            preempt_delay=self.settings.preempt_delay,
            probe=probing,
        )

    # --------------------------------------------------------- what others see of it, and ask of it

    @property
    def state(self) -> State:
        """Its state (RFC 9568 section 6.3, and Fault)."""
        return self.driver.machine.state

    @property
    def reason(self) -> Reason:
        """Why it is in that state."""
        return self.driver.machine.situation.reason

    @property
    def holder(self) -> str:
        """The node in the record as last seen; empty: nobody."""
        record = self.driver.machine.situation.seen.record
        return record.holder if record else ""

    @property
    def is_clear(self) -> bool:
        """Whether no address of it is bound here, or on its way."""
        return self.driver.machine.is_clear

    @property
    def has_stopped(self) -> bool:
        """Whether it has done all that an order to stop asked of it."""
        return self.driver.machine.stopped

    @property
    def addresses(self) -> tuple[str, ...]:
        """Its addresses with prefix length, as they stand in the record."""
        return self.driver.machine.settings.addresses

    @property
    def acquired_at(self) -> str:
        """When this daemon last tried to take the record, by the wall clock (RFC 3339); empty:
        never.
        """
        return self.driver.acquired_at

    def snapshot(self) -> Snapshot:
        """Return what is known of the election at this moment."""
        return self.driver.machine.snapshot(now())

    def candidacy(self) -> Candidacy:
        """Return what this node says of itself to the others."""
        return self.driver.machine.candidacy(now())

    def order(self, event: events.Event) -> None:
        """Have the machine take an event in.

        What an operator, another node or the end of the daemon asks.
        """
        self.driver.post(event)

    def store_request(self, op: str, answer: object, seconds: float) -> None:
        """Count a request that was made for all elections of this node."""
        self._deps.observer.store_request(op, answer, seconds)

    def notice(self, text: str) -> None:
        """Log a warning about this election, and keep it for `vipd status`."""
        self._deps.observer.notice(self.name, text, warning=True)

    # ------------------------------------------------------------------ life

    def start(
        self, former: frozenset[str], verdicts: Mapping[str, Mapping[str, bool]], *, drained: bool
    ) -> None:
        """Begin: the first thing the machine does is to read its record.

        `verdicts` are those of the previous daemon, by instance.
        """
        self.look()
        self.executor.adopt(self.executor.ready)
        for instance in self.instances:
            instance.checks.restore_verdicts(verdicts.get(instance.name, {}))
        self.executor.take_stock()
        self._look_for_others()
        self.obstacle = self._obstacles()
        inherited = self.executor.word.deadline
        leftover = self._has_leftover(former)
        # Only who still has the addresses bound may go on before their frames are ready; a takeover
        # must not wait for them.
        self._seeded = all(verdicts.get(instance.name) for instance in self.instances) and (
            inherited > 0 or leftover
        )
        if drained:
            self.driver.post(events.DrainChanged(drained=True))
        if self._seeded:
            # The last verdict holds until the first result: a restart takes its own lease back
            # without waiting for checks.
            for instance in self.instances:
                instance.on_verdict(instance.checks.verdict)
        self.driver.post(events.Started(former, inherited, leftover=leftover))
        for instance in self.instances:
            instance.checks.start()

    def _has_leftover(self, former: frozenset[str]) -> bool:
        """Whether addresses of the previous daemon are bound that the kernel will remove by itself.

        Others have to go at once.
        """
        bound = self.executor.bound()
        return (
            bool(former) and bool(bound) and all(lifetime < FOREVER for lifetime in bound.values())
        )

    def look(self) -> None:
        """Ask the kernel for the interfaces, and take in what it says."""
        for instance in self.instances:
            instance.look()
        self._follow_links()

    def prepare(self) -> None:
        """Make the messages for the interfaces as they are now, and have the guard arm them before
        anything is bound.
        """
        changed = [instance.prepare() for instance in self.instances]
        if any(changed):
            # Only the guard's answer makes them usable: the interface counts as down until then.
            self._arming.start(self._ready)

    def _on_armed(self, ready: tuple[ReadyMessages, ...]) -> None:
        self._arm_trouble = ""
        self.executor.ready = ready
        # An interface that came with the host's own address: news of that may have come before this
        # answer.
        self._expect_others()
        for instance in self.instances:
            instance.on_armed()
        self._follow_parts()

    def _on_not_armed(self, why: str) -> None:
        text = f"the addresses cannot be bound here: {why}"
        if text != self._arm_trouble:
            self._arm_trouble = text
            self.notice(text)
        for instance in self.instances:
            instance.not_armed(text)

    async def close(self) -> None:
        """End checks, timers and sockets; what is bound stays as it is."""
        self.driver.cancel()
        self._arming.stop()
        await asyncio.gather(*(instance.close() for instance in self.instances))

    # ------------------------------------------------------------------ the interfaces

    def on_links(self, names: frozenset[str]) -> None:
        """Take in that what these names mean, or how it is, may have changed."""
        if any(not instance.named.isdisjoint(names) for instance in self.instances):
            self._follow_links()
            self.on_interface_changed()

    def _follow_links(self) -> None:
        self.prepare()
        self._follow_parts()

    def look_for_obstacles(self) -> None:
        """See whether the kernel would refuse an address.

        No event tells that a setting was changed.
        """
        before, self.obstacle = self.obstacle, self._obstacles()
        if self.obstacle != before:
            self.on_interface_changed()
            self.judge()

    def _obstacles(self) -> str:
        found = (
            obstacle(instance.interface, instance.settings.addresses) for instance in self.instances
        )
        return "; ".join(dict.fromkeys(filter(None, found)))

    def on_interface_changed(self) -> None:
        """Take in that something about an interface changed.

        What the kernel refused it may now grant.
        """
        if self.driver.machine.was_refused:
            self.driver.post(events.InterfaceChanged())

    def _follow_parts(self) -> None:
        changed = [instance.follow() for instance in self.instances]
        if any(changed):
            # What is bound may be where the name has led until now.
            self._expect_losses()

    def on_resync(self, bound: frozenset[tuple[int, str]]) -> None:
        """Compare with what the kernel has, pairs of an interface's number and an address.

        Events may have been missed.
        """
        for ready in self.executor.ready:
            for family, packed, _ in ready.keys:
                ip = socket.inet_ntop(family, packed)
                if (ready.ifindex, ip) in bound:
                    self.on_address_seen(ready.ifindex, ip)
                else:
                    self.on_address_gone(ready.ifindex, ip)

    def _is_own(self, ifindex: int, ip: str) -> bool:
        return ip in self._ips and any(ready.ifindex == ifindex for ready in self.executor.ready)

    def on_address_gone(self, ifindex: int, ip: str) -> None:
        """Put an address back that somebody removed.

        One that the kernel ended near the deadline stays away.
        """
        if self._is_own(ifindex, ip):
            if self._in_use:
                self._expect_others()
            self._expect_losses()
        else:
            self._on_other_address(ifindex, ip)

    def _expect_losses(self) -> None:
        if self.state is State.ACTIVE and not self._loss_noted:
            # One look for all: somebody who flushes an interface removes two hundred at once.
            self._loss_noted = True
            asyncio.get_running_loop().call_soon(self._look_for_losses)

    def _look_for_losses(self) -> None:
        self._loss_noted = False
        if not all(instance.is_usable() for instance in self.instances):
            # The kernel takes addresses away with the link, and tells that first: a repair would
            # fail, or count as somebody's deed.
            self.look()
            return
        active = self.state is State.ACTIVE
        right_left = (
            lifetime_to_set(now(), self.executor.word.deadline, self._deps.timing.lease_duration)
            >= 1
        )
        if (
            active
            and right_left
            and (self.executor.has_strays or self._ips - self.executor.bound().keys())
        ):
            self.driver.post(events.AddressLost())

    def on_address_seen(self, ifindex: int, ip: str) -> None:
        """Look at who has the VIP here: somebody bound it."""
        if self._is_own(ifindex, ip):
            self._expect_others()
        else:
            self._on_other_address(ifindex, ip)

    def _on_other_address(self, ifindex: int, ip: str) -> None:
        # Those of this election come and go with its own tries.
        if ip not in self._ips and any(ready.ifindex == ifindex for ready in self.executor.ready):
            self.on_interface_changed()

    def _expect_others(self) -> None:
        if not self._look_noted:
            # One look for all, and after the kernel has made the routes that come with the address.
            self._look_noted = True
            asyncio.get_running_loop().call_soon(self._look_again)

    def _look_again(self) -> None:
        self._look_noted = False
        self._look_for_others()
        if self.is_clear and (self.executor.bound() or self.executor.foreign()):
            done = self.executor.unbind()
            if not done.ok:
                self.notice(done.why)
        self.judge()

    def _look_for_others(self) -> None:
        """Note whether this host depends on an address of this election that vipd has not bound.

        Such a one is not touched.
        """
        needed = [(interface, one) for interface, one in self.executor.foreign() if one.needed]
        said, self._in_use = self._in_use, ""
        if needed:
            interface, one = needed[0]
            self._in_use = (
                f"{written(one.address)} on {interface} is this host's own address, not bound by "
                f"vipd ({one.needed}): it is left alone, "
                f"and this node stays out of {self.name}; take the address off the host, or out "
                "of vipd's configuration"
            )
        if self._in_use and self._in_use != said:
            self.notice(self._in_use)

    # ------------------------------------------------------------------ the gate

    @property
    def gate_problem(self) -> str:
        """Why this node may not take part for want of the kernel's gate, or nothing."""
        return self._deps.unmet(self.name)

    @property
    def address_problem(self) -> str:
        """Why this node may not take part for want of an address that is vipd's to bind, or
        nothing.
        """
        return self._in_use

    def on_gate(self, *, renewed: bool) -> None:
        """Take in what the guard says of the gate.

        `renewed`: until now a previous vipd's programs may have stopped announcements.
        """
        if renewed:
            for instance in self.instances:
                instance.announcer.again()
        self.judge()

    # ------------------------------------------------------------------ rivals

    async def _probe(self, timeout: float) -> str:
        answers = await asyncio.gather(
            *(instance.probe(timeout) for instance in self.instances if instance.waits)
        )
        return next(filter(None, answers), "")

    def follow_state(self) -> None:
        """Listen for rivals while Active, and only then; called after each step of the machine."""
        wanted = self.state is State.ACTIVE
        for instance in self.instances:
            instance.watch_rivals(wanted=wanted)

    def rival_seen(self, instance: Instance, rival: RivalSeen) -> None:
        """Announce against somebody else who speaks as the VIP, unless it is being handed over."""
        if self.driver.machine.is_handing_over:
            self.driver.post(events.RivalSeen())
        else:
            instance.announce_against(rival)

    # ------------------------------------------------------------------ fitness

    def judge(self) -> None:
        """Tell the machine how fit this node is.

        Unready it is not: a takeover must not wait for frames.

        Nor go ahead of what other elections claim: a daemon that has just started would bind what
        one of them has long been serving.
        """
        verdict = combined([instance.verdict for instance in self.instances])
        ready = self._deps.knows_claims() and all(
            instance.has_frames for instance in self.instances
        )
        if verdict.fit is None or not (verdict.fit is False or self._seeded or ready):
            return
        reason = Reason.LINK_DOWN if config.LINK_CHECK in verdict.failing else Reason.CHECK_FAILED
        fit = verdict.fit
        if fit and self.gate_problem:
            fit, reason = False, Reason.FENCED
        if fit and self._in_use:
            fit, reason = False, Reason.ADDRESS_IN_USE
        if fit and self.obstacle:
            fit, reason = False, Reason.BIND_FAILED
        judged = (fit, effective_priority(self.settings.priority, verdict), reason)
        if judged != self._judged:
            self._judged = judged
            self.driver.post(events.FitnessChanged(*judged))
