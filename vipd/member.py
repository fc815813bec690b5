"""One configured instance and all that surrounds its machine on this node: interface, frames, rivals and checks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from announce.address import ready_messages
from announce.burst import delays
from announce.netlink import FOREVER, ReadyMessages, RouteSocket
from announce.probe import probe
from announce.rivals import Rivals, RivalSeen
from announce.route_socket import ifindex_of
from announce.sender import Sender
from election import events
from election.lateness import lifetime_to_set
from election.machine import Machine
from election.model import Identity, Reason, State
from election.settings import Settings
from election.store import Store
from election.timing import Timing
from health.effective import effective_priority
from health.model import Check, LinkState, Result, Verdict
from health.runner import Runner
from vipd import config
from vipd.announcer import Announcer
from vipd.clock import now
from vipd.executor import Executor, Word
from vipd.instance import Instance, Observer, Ports
from vipd.link import Link, look
from vipd.memory import Election
from vipd.smithy import Smithy

CONFLICT_PAUSE = 1.0
"""Seconds between two announcements against the same rival: both sides answering each frame would be a storm."""


class MemberObserver(Observer, Protocol):
    """What a member reports beyond what its machine does."""

    def conflict(self, instance: str, rival: RivalSeen) -> None:
        """Somebody else answers for the VIP."""

    def announced(self, instance: str, frames: tuple[bytes, ...], sent: int) -> None:
        """So many of these frames have left."""

    def check_result(self, instance: str, check: Check, result: Result, seconds: float) -> None:
        """Note the result of a check."""

    def verdict(self, instance: str, verdict: Verdict, remembered: Mapping[str, bool]) -> None:
        """Note that the checks' common verdict changed."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all members of a daemon share. `unmet` tells why an instance may not take part for want of the kernel's gate."""

    me: Identity
    store: Store
    timing: Timing
    kernel: RouteSocket
    observer: MemberObserver
    arm: Callable[[str, Sequence[ReadyMessages]], object]
    unmet: Callable[[str], str] = lambda _instance: ""
    smithy: Smithy = field(default_factory=Smithy)


class Member:
    """Connects one instance's machine with its interface and its checks. `word` is its shared deadline."""

    def __init__(self, settings: config.Instance, around: Surroundings, word: Word, known: Election, position: int = 0) -> None:
        self.settings = settings
        self.name = settings.name
        self._around = around
        self._ips = frozenset(str(address.ip) for address in settings.addresses)
        self._sender = Sender(settings.interface)
        self._asker = Sender(settings.interface, past_gate=True)
        self._rivals = Rivals(settings.interface)
        self._unsubscribe: Callable[[], None] | None = None
        self._answered_at: dict[str, float] = {}
        self._seeded = False
        self.verdict = Verdict(None)
        self._judged: tuple[bool, int, Reason] | None = None
        self._loss_noted = False
        self.link_problem = ""
        announcer = Announcer(self._sender.send, self._schedule, self._announced)
        self.announcer = announcer
        self.executor = Executor(word, around.kernel)
        machine = Machine(self._machine_settings(), around.me, known.epoch, known.lease_duration / 1000)
        self.instance = Instance(self.name, machine, Ports(around.store, self.executor, announcer, self._probe, around.observer))
        self.link = Link(settings.addresses, around.smithy.forge, self._on_frames, self._on_trouble)
        self.checks = Runner(settings.checks, self._on_verdict, now, on_result=self._on_result, position=position)

    def _machine_settings(self) -> Settings:
        settings = self.settings
        addresses = tuple(str(address) for address in settings.addresses)
        probing = settings.on_conflict is config.OnConflict.WAIT
        return Settings(self.name, addresses, self._around.timing, settings.preempt, settings.preempt_delay, probing)

    # ------------------------------------------------------------------ life

    def start(self, former: frozenset[str], verdicts: Mapping[str, bool], *, drained: bool) -> None:
        """Begin: the first thing the machine does is to read its record."""
        self._first_look()
        self.checks.seed(verdicts)
        inherited = self.executor.word.deadline
        leftover = self._has_leftover(former)
        # Only who still has the address bound may go on before its frames are ready; a takeover must not wait for them.
        self._seeded = bool(verdicts) and (inherited > 0 or leftover)
        if drained:
            self.instance.post(events.DrainChanged(drained=True))
        if self._seeded:
            # The last verdict holds until the first result: a restart takes its own lease back without waiting for checks.
            self._on_verdict(self.checks.verdict)
        self.instance.post(events.Started(former, inherited, leftover=leftover))
        self.checks.start()

    def _first_look(self) -> None:
        """See the interface before the kernel watch reports it: a restart has no time to wait for that."""
        try:
            up, mac = look(self.settings.interface)
        except OSError:
            self.on_link_gone()
            return
        self.on_link(up=up, mac=mac)

    def _has_leftover(self, former: frozenset[str]) -> bool:
        """Whether addresses of an earlier life are bound that the kernel will remove by itself; others have to go at once."""
        bound = self.executor.bound()
        return bool(former) and bool(bound) and all(lifetime < FOREVER for lifetime in bound.values())

    def look_at_interface(self) -> None:
        """Make the messages for the interface if it exists, and tell the guard before anything is bound."""
        before = self.executor.ready
        try:
            ifindex = ifindex_of(self.settings.interface)
            # Two hundred addresses take 70 ms to build: at start that holds up nobody, later the heartbeat would miss its beat.
            ready = ready_messages(self.settings.interface, self.settings.addresses) if before is None else before.moved(ifindex)
        except OSError:
            self.link_problem = f"interface {self.settings.interface} does not exist"
            return
        self.link_problem = ""
        if ready != before:
            self._around.arm(self.name, [ready])
            self.executor.ready = ready
            self._sender.open()

    async def close(self) -> None:
        """End checks, timers and sockets; what is bound stays as it is."""
        self.instance.cancel()
        self._watch_rivals(wanted=False)
        self._rivals.close()
        self.link.close()
        await self.checks.stop()
        self._sender.close()
        self._asker.close()

    # ------------------------------------------------------------------ the interface

    def on_link(self, *, up: bool, mac: str) -> None:
        """Take in what the kernel says of the interface."""
        self.look_at_interface()
        self.link.see_mac(mac)
        detail = "" if up else f"{self.settings.interface} is down or has no carrier"
        self.checks.link(LinkState(self.settings.interface, up, detail))
        self._rivals.check()
        if up:
            self.announcer.again()

    def on_link_gone(self) -> None:
        """Take in that the interface does not exist any more."""
        self.link_problem = f"interface {self.settings.interface} does not exist"
        self.checks.link(LinkState(self.settings.interface, up=False, detail=self.link_problem))

    def on_resync(self, ips: frozenset[str]) -> None:
        """Compare with what the kernel has: events may have been missed."""
        for ip in self._ips:
            if ip in ips:
                self.on_address_seen(ip)
            else:
                self.on_address_gone(ip)

    def on_address_gone(self, ip: str) -> None:
        """Put an address back that somebody removed. One that the kernel ended near the deadline stays away."""
        if ip in self._ips and self.instance.machine.state is State.ACTIVE and not self._loss_noted:
            # One look for all: somebody who flushes an interface removes two hundred at once.
            self._loss_noted = True
            asyncio.get_running_loop().call_soon(self._look_for_losses)

    def _look_for_losses(self) -> None:
        self._loss_noted = False
        if not self._is_usable():
            # The kernel takes addresses away with the link, and tells that first: a repair would fail, or count as somebody's deed.
            self._first_look()
            return
        active = self.instance.machine.state is State.ACTIVE
        right_left = lifetime_to_set(now(), self.executor.word.deadline, self._around.timing.lease_duration) >= 1
        if active and right_left and self._ips - self.executor.bound().keys():
            self.instance.post(events.AddressLost())

    def _is_usable(self) -> bool:
        try:
            return look(self.settings.interface)[0]
        except OSError:
            return False

    def on_address_seen(self, ip: str) -> None:
        """Remove the VIP if it appears on a node that does not own it."""
        if ip in self._ips and self.instance.machine.is_clear and ip in self.executor.bound():
            self._around.observer.notice(self.name, f"{ip} was bound here although this node does not own it; removed", warning=True)
            self.executor.unbind()

    @property
    def gate_problem(self) -> str:
        """Why this node may not take part for want of the kernel's gate, or nothing."""
        return self._around.unmet(self.name)

    def on_gate(self, *, renewed: bool) -> None:
        """Take in what the guard says of the gate. `renewed`: until now an earlier life's programs may have stopped announcements."""
        if renewed:
            self.announcer.again()
        self._judge()

    def _on_frames(self) -> None:
        self.announcer.frames = tuple(frame for frames in self.link.frames for frame in frames.announce)
        self.announcer.again()
        self._judge()

    def _on_trouble(self, text: str) -> None:
        self._around.observer.notice(self.name, text, warning=True)

    def _schedule(self) -> Iterator[float]:
        announce = self.settings.announce
        return delays(announce.burst, announce.interval, announce.refresh)

    def _announced(self, sent: int) -> None:
        self._around.observer.announced(self.name, self.announcer.frames, sent)

    async def _probe(self, timeout: float) -> str:
        return await probe(self._asker, self._rivals, self.link.frames, timeout)

    # ------------------------------------------------------------------ rivals

    def follow_state(self) -> None:
        """Listen for rivals while Active, and only then; called after each step of the machine."""
        self._watch_rivals(wanted=self.instance.machine.state is State.ACTIVE)

    def _watch_rivals(self, *, wanted: bool) -> None:
        if wanted and self._unsubscribe is None:
            self._unsubscribe = self._rivals.subscribe(self._ips, self._on_rival)
        elif not wanted and self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None

    def _on_rival(self, rival: RivalSeen) -> None:
        machine = self.instance.machine
        moment = now()
        if not machine.snapshot(moment).handing_over_to:
            self._around.observer.conflict(self.name, rival)
            if moment - self._answered_at.get(rival.mac, -CONFLICT_PAUSE) >= CONFLICT_PAUSE:
                self._answered_at[rival.mac] = moment
                self.announcer.again()
        self.instance.post(events.RivalSeen())

    # ------------------------------------------------------------------ checks

    def _on_result(self, check: Check, result: Result, seconds: float) -> None:
        self._around.observer.check_result(self.name, check, result, seconds)

    def _on_verdict(self, verdict: Verdict) -> None:
        self.verdict = verdict
        if verdict.fit is not None:
            self._around.observer.verdict(self.name, verdict, self.checks.remembered())
        self._judge()

    def _judge(self) -> None:
        """Tell the machine how fit this node is. Without frames it is not: a takeover must not wait for them."""
        verdict = self.verdict
        if verdict.fit is None or not (self.link.frames or self._seeded or verdict.fit is False):
            return
        reason = Reason.LINK_DOWN if config.LINK_CHECK in verdict.failing else Reason.CHECK_FAILED
        fit = verdict.fit
        if fit and self.gate_problem:
            fit, reason = False, Reason.FENCED
        judged = (fit, effective_priority(self.settings.priority, verdict), reason)
        if judged != self._judged:
            self._judged = judged
            self.instance.post(events.FitnessChanged(*judged))
