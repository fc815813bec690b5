"""One configured instance, running: its interface, its frames, its rivals and its checks.

An election has one or several of them. What an instance sees it reports to its election, which
decides.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import NamedTuple, Protocol

from announce.frames.announcer import Announcer, Pace, delays
from announce.frames.forge import Forge, InterfaceFrames
from announce.frames.sender import Sender
from announce.kernel.addresses import ReadyMessages
from announce.kernel.interface import Interface, Links, is_running, unsuitable
from announce.kernel.messages import ready_messages
from announce.rivals.ask import probe
from announce.rivals.rivals import LINE_PAUSE, Dispute, Listeners, RivalSeen
from health.kinds.workers import Workers
from health.model import Check, InterfaceCheck, LinkState, Result, Verdict
from health.runner import Runner
from vipd.clock import now
from vipd.config import values as config


class InstanceObserver(Protocol):
    """What an instance reports beyond what its election decides."""

    def notice(self, name: str, text: str, *, warning: bool) -> None:
        """Pass a sentence on to the operator."""

    def conflict(self, instance: str) -> None:
        """Count a frame of somebody else who answers for the VIP."""

    def announced(self, instance: str, frames: Sequence[bytes], sent: int) -> None:
        """So many of these frames have left."""

    def check_result(self, instance: str, check: Check, result: Result, seconds: float) -> None:
        """Note the result of a check."""

    def verdict(
        self, instance: str, verdict: Verdict, checks: Mapping[str, bool], *, changed: bool
    ) -> None:
        """Note the checks' common verdict and each one's, by name; `changed`.

        Not what was last kept on disk.
        """


class Election(Protocol):
    """The election that an instance belongs to."""

    def judge(self) -> None:
        """Look again at how fit this node is: an instance's checks or frames have changed."""

    def rival_seen(self, instance: Instance, rival: RivalSeen) -> None:
        """Take in that somebody else speaks as an address of this instance."""


@dataclass(frozen=True, slots=True)
class Deps:
    """What the instances of a daemon share.

    `keep_verdicts` keeps the checks' results for the next daemon: True if they are new.
    """

    observer: InstanceObserver
    forge: Forge
    listeners: Listeners
    workers: Workers
    links: Links
    keep_verdicts: Callable[[str, Mapping[str, bool]], bool]
    paces: dict[int, Pace] = field(default_factory=dict)
    """By the number of the interface, which may have several names: what leaves by it passes the
    same switch port."""

    def pace(self, ifindex: int) -> Pace:
        """Return what the announcements of an interface share."""
        return self.paces.setdefault(ifindex, Pace())


class Seen(NamedTuple):
    """What was last taken in of a name.

    The interface that has it, and whether the guard has armed it.
    """

    link: Interface | None
    armed: bool

    @property
    def usable(self) -> bool:
        """Whether addresses on it can be reached."""
        return self.link is not None and self.link.usable and self.armed


class Instance:
    """Everything on this node that one instance has for itself.

    `named`: the names of its interface and of those that its checks are about. `ready` is None
    until the interface has been seen. `position` is the number of checks that other instances have.
    `armed`: the guard knows the addresses on the interface as it is now, and has the kernel's gate
    before it; until then the interface counts as down. `lapsed`: it has to be armed anew, though
    perhaps with the same messages: an interface that was moved to another network namespace and
    back has lost its gate.
    """

    def __init__(
        self, settings: config.Instance, deps: Deps, election: Election, position: int
    ) -> None:
        self.settings = settings
        self.name = settings.name
        self.interface = settings.interface
        self.ips = frozenset(str(address.ip) for address in settings.addresses)
        self.ready: ReadyMessages | None = None
        self.armed = False
        self.lapsed = True
        self._why_not_armed = ""
        self.verdict = Verdict(None)
        self._observer = deps.observer
        self._election = election
        self._keep_verdicts = deps.keep_verdicts
        self._links = deps.links
        kinds = (check.kind for check in settings.checks)
        self.named = frozenset(
            {
                self.interface,
                *(kind.interface for kind in kinds if isinstance(kind, InterfaceCheck)),
            }
        )
        self._seen: dict[str, Seen] = {}
        self._sender = Sender(self._where)
        self._asker = Sender(self._where, past_gate=True)
        self._rivals = deps.listeners.on(settings.interface, self._where)
        self._unsubscribe: Callable[[], None] | None = None
        self._disputes = {ip: Dispute(ip) for ip in self.ips}
        self._more_to_say: dict[str, asyncio.TimerHandle] = {}
        self._deps = deps
        self.announcer = Announcer(
            self._sender.send, self._schedule, self._announced, self._pace, settings.announce.pace
        )
        self._link = InterfaceFrames(
            settings.addresses, deps.forge, self._on_frames, self._on_trouble
        )
        self.checks = Runner(
            settings.checks,
            self.on_verdict,
            now,
            on_result=self._on_result,
            position=position,
            workers=deps.workers,
        )

    async def close(self) -> None:
        """End checks, timers and sockets; what is bound stays as it is."""
        self.watch_rivals(wanted=False)
        for timer in self._more_to_say.values():
            timer.cancel()
        self._link.close()
        await self.checks.stop()
        self._sender.close()
        self._asker.close()

    # ------------------------------------------------------------------ the interface

    def _where(self) -> int:
        """Return the number of the interface that the addresses are bound on, or would be; 0: there
        is none yet.
        """
        return self.ready.ifindex if self.ready else 0

    @property
    def problem(self) -> str:
        """What is wrong with the interface, a sentence, or nothing."""
        link = self._links.named(self.interface)
        if link is None:
            return f"interface {self.interface} does not exist"
        return self._why_not_armed or unsuitable(link)

    def prepare(self) -> bool:
        """Make the messages for what the interface's name means now.

        Return whether the guard has to arm it, anew or for the first time.
        """
        link = self._links.named(self.interface)
        if link is None:
            self.armed, self.lapsed = False, True
            return False
        if self._where() == link.ifindex and not self.lapsed:
            return False
        # Two hundred addresses take 70 ms to build: at start that holds up nobody, later the
        # heartbeat would miss its beat.
        self.ready = (
            ready_messages(self.interface, self.settings.addresses, link.ifindex)
            if self.ready is None
            else self.ready.moved(link.ifindex)
        )
        self.armed = self.lapsed = False
        self._sender.open()
        return True

    def on_armed(self) -> None:
        """Take in that the guard knows the addresses, on the interface as it
        was when it was asked.
        """
        self._why_not_armed = ""
        self.armed = self.ready is not None and not self.lapsed

    def not_armed(self, why: str) -> None:
        """Take in why the guard does not know the addresses."""
        if not self.armed:
            self._why_not_armed = why

    def look(self) -> None:
        """Ask the kernel for the interfaces before its watch reports them.

        A restart has no time to wait for that.
        """
        for name in self.named:
            self._links.look(name)

    def is_usable(self) -> bool:
        """Whether the interface exists, is up and is armed, asked now."""
        return self.armed and is_running(self._where())

    def follow(self) -> bool:
        """Take in what the names mean now, and how it is.

        Return whether something about its own interface has changed.
        """
        views = {
            name: Seen(self._links.named(name), self.armed or name != self.interface)
            for name in self.named
        }
        changed = {name: view for name, view in views.items() if self._seen.get(name) != view}
        for name, view in changed.items():
            before = self._seen.get(name)
            self._seen[name] = view
            self.checks.link(_state(name, view))
            if name == self.interface and view.link is not None:
                self._see(before, view, view.link)
        return self.interface in changed

    def _see(self, before: Seen | None, view: Seen, link: Interface) -> None:
        frames = self.announcer.frames
        self._link.on_mac(link.mac)
        self._rivals.check()
        came_up = (
            before is None
            or not before.usable
            or before.link is None
            or before.link.ifindex != link.ifindex
        )
        # others were announced as they came
        if view.usable and came_up and self.announcer.frames == frames:
            self.announcer.again()
        trouble = unsuitable(link)
        # At the start the configuration's findings have said so.
        if (
            trouble
            and before is not None
            and trouble != (unsuitable(before.link) if before.link else "")
        ):
            self._on_trouble(trouble)

    # ------------------------------------------------------------------ frames

    @property
    def has_frames(self) -> bool:
        """Whether its announcements are ready to be sent."""
        return bool(self._link.frames)

    def _on_frames(self) -> None:
        # First one frame for each address: what is sent besides, for the few who heed nothing else,
        # must not keep the others waiting.
        in_turn = zip_longest(*(frames.announce for frames in self._link.frames))
        self.announcer.frames = tuple(
            frame for turn in in_turn for frame in turn if frame is not None
        )
        self.announcer.addresses = len(self._link.frames)
        self.announcer.again()
        self._election.judge()

    def _on_trouble(self, text: str) -> None:
        self._observer.notice(self.name, text, warning=True)

    def _schedule(self) -> Iterator[float]:
        announce = self.settings.announce
        return delays(announce.burst, announce.interval, announce.refresh)

    def _pace(self) -> Pace:
        return self._deps.pace(self._where())

    def _announced(self, frames: Sequence[bytes], sent: int) -> None:
        self._observer.announced(self.name, frames, sent)

    # ------------------------------------------------------------------ rivals

    @property
    def waits(self) -> bool:
        """Whether it is to ask for rivals before a record that was absent is taken."""
        return self.settings.on_conflict is config.OnConflict.WAIT

    async def probe(self, timeout: float) -> str:
        """Ask on the wire who has an address of this instance.

        Return a MAC, or nothing after `timeout` seconds of silence.
        """
        return await probe(self._asker, self._rivals, self._link.frames, timeout)

    def watch_rivals(self, *, wanted: bool) -> None:
        """Listen for rivals, or cease to. Idempotent."""
        if wanted and self._unsubscribe is None:
            self._unsubscribe = self._rivals.subscribe(
                self.ips, lambda rival: self._election.rival_seen(self, rival)
            )
        elif not wanted and self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None

    def announce_against(self, rival: RivalSeen) -> None:
        """Report a rival, and tell the link again who has the address."""
        self._observer.conflict(self.name)
        dispute = self._disputes[rival.ip]
        dispute.add_frame(rival.mac)
        self._say(dispute)
        if dispute.answers(now()):
            announce = self.settings.announce
            frames = next(
                (one.announce for one in self._link.frames if one.address == rival.ip), ()
            )
            self.announcer.answer(rival.ip, frames, delays(announce.burst, announce.interval, 0.0))

    def _say(self, dispute: Dispute) -> None:
        """Log what is due to be said of an address, and see to it that what comes after it is said
        as well.
        """
        if line := dispute.line(now()):
            self._observer.notice(self.name, line, warning=True)
        elif dispute.address not in self._more_to_say:
            timer = asyncio.get_running_loop().call_later(LINE_PAUSE, self._say_more, dispute)
            self._more_to_say[dispute.address] = timer

    def _say_more(self, dispute: Dispute) -> None:
        del self._more_to_say[dispute.address]
        if line := dispute.line(now()):
            self._observer.notice(self.name, line, warning=True)

    # ------------------------------------------------------------------ checks

    def _on_result(self, check: Check, result: Result, seconds: float) -> None:
        self._observer.check_result(self.name, check, result, seconds)

    def on_verdict(self, verdict: Verdict) -> None:
        """Take in what the checks say, all together."""
        self.verdict = verdict
        if verdict.fit is not None:
            checks = self.checks.verdicts_to_keep()
            self._observer.verdict(
                self.name, verdict, checks, changed=self._keep_verdicts(self.name, checks)
            )
        self._election.judge()


def _state(name: str, view: Seen) -> LinkState:
    """Return what the checks of the interface of this name are to know."""
    if view.link is None:
        return LinkState(name, up=False, detail=f"interface {name} does not exist")
    if not view.link.usable:
        return LinkState(name, up=False, detail=f"{name} is down or has no carrier")
    return LinkState(
        name, view.usable, "" if view.usable else f"the guard has not taken note of {name} yet"
    )
