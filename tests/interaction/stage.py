"""The calm world of the golden dialogues.

The simulation's, without dice, with what a story needs to steer it by hand.

Every message takes 1 ms one way, every clock runs at the true rate, netlink takes no time, and the
gate is there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from election.actions import Action, Write
from election.candidates import Candidates
from election.events import Event
from election.model import Candidacy, Candidate, WriteAnswer
from election.timing import Settings
from tests.interaction.narration import Narrator
from tests.sim.daemon import Daemon
from tests.sim.host import Host
from tests.sim.judge import Judge
from tests.sim.kernel import Kernel, Words
from tests.sim.store import Answer, Store
from tests.sim.weather import Climate
from tests.sim.world import World

ELECTION = "ingress"
KEYWORD = re.compile(r"<\w+\.\w+: '(\w+)'>")


class Stage(World):
    """A world that narrates.

    Answers that come after a request was given up reach the machine, as those of a real store may.

    `bystander` and `steered` are its judge and its store, by the names that commands know them by.
    """

    def __init__(self) -> None:
        super().__init__(climate=Climate(late_answers=1.0), tell=lambda _: None)
        self.narrator = Narrator()
        self.bystander = Bystander(self)
        self.judge = self.bystander
        self.steered = SteeredStore(self)
        self.store = self.steered
        self.candidates_readable = True

    def add(self, label: str, name: str, settings: Settings, priority: int) -> Host:
        """Put a node on the stage, switched off."""
        host = CarefulHost(self, label, name, {ELECTION: settings}, priority)
        host.kernel = ToldKernel(self, host)
        self.hosts.append(host)
        return host

    def find(self, label: str) -> Host:
        """Return the node with this label; raises ValueError."""
        for host in self.hosts:
            if host.label == label:
                return host
        raise ValueError(
            f"there is no node {label!r}; there is {', '.join(host.label for host in self.hosts)}"
        )

    def holder(self) -> Host:
        """Return the Active node; raises ValueError."""
        for host in self.hosts:
            if host.daemon is not None and host.daemon.is_active(ELECTION):
                return host
        raise ValueError("no node is Active")

    def trace_step(
        self, daemon: Daemon, election: str, event: Event, actions: Sequence[Action]
    ) -> None:
        """Narrate what a machine was told and what it wants done."""
        self.narrator.step(self.now, daemon, daemon.machines[election], event, actions)

    def say(self, who: str, text: str) -> None:
        """Narrate what guards do and how processes end."""
        label, _, process = who.partition(".")
        if process == "guard" and "(" in text and not text.startswith("Quit"):
            name, _, values = KEYWORD.sub(r"\1", text).rstrip(")").partition("(")
            kept = [
                value.partition("=")
                for value in values.split(", ")
                if not value.startswith(("slot", "close"))
            ]
            said = " ".join(value for _, _, value in kept)
            self.narrator.line(
                self.now,
                label,
                f"guard: {name} {said}".rstrip() + (" s" if name == "Refresh" else ""),
            )
        elif not process:
            self.narrator.line(self.now, label, text.replace("(None)", "(killed)"))


class CarefulHost(Host):
    """A node whose daemon, as that of `vipd run`, looks whose record stands under its name before
    it publishes its own.
    """

    def arm(self, daemon: Daemon, election: str) -> None:
        """Let a new daemon look first; arming is the last thing before it runs."""
        stage = self.world
        if isinstance(stage, Stage) and not stage.candidates_readable:
            daemon.candidates = NobodyKnown(daemon.me)
            # What a daemon has not read it does not report either: the machine's ranking stays
            # unknown.
            daemon._seen[election] = ()
        elif not self.store_cut:
            daemon.candidates.see_all(daemon.now, stage.store.candidates.values())
        super().arm(daemon, election)


class NobodyKnown(Candidates):
    """The candidates as seen by a node that may not read their records."""

    def of(self, now: float, election: str, own: Mapping[str, Candidacy]) -> tuple[Candidate, ...]:
        """Return nothing: not even this node's own record could be read."""
        del now, election, own
        return ()


class Bystander(Judge):
    """The simulation's judge, which also keeps the figures that `check` prints."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._world = world
        self._unserved_since: float | None = None
        self.served = False
        self.longest_gap = 0.0
        self.binds: list[str] = []

    def account(self, election: str) -> None:
        """Add up for how long nobody served; the overlaps are the judge's."""
        since = self.ledger(election).accounted
        super().account(election)
        now = self._world.now
        if now <= since:
            return
        until = max(
            (host.kernel.serving_until(election) for host in self._world.hosts), default=since
        )
        if until > since:
            self._end_gap(since)
            self.served = True
        if until < now and self.served and self._unserved_since is None:
            self._unserved_since = max(since, until)

    def bound(self, host: Host, election: str, epoch: int) -> None:
        """Note who bound at which epoch."""
        super().bound(host, election, epoch)
        if (entry := f"{host.label}({epoch})") not in self.binds[-1:]:
            self.binds.append(entry)

    def _end_gap(self, now: float) -> None:
        if self._unserved_since is not None:
            self.longest_gap = max(self.longest_gap, now - self._unserved_since)
            self._unserved_since = None


class SteeredStore(Store):
    """The model of a store, with answers that are lost or late by order.

    A drop holds for one write.
    """

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._world = world
        self.drops: set[str] = set()
        self.delays: dict[str, float] = {}
        self._wrote = False

    def write(self, host: Host, election: str, write: Write) -> WriteAnswer:
        """Compare and swap, and remember that this was a write of an election's record."""
        self._wrote = True
        return super().write(host, election, write)

    def submit(
        self, host: Host, perform: Callable[[], Answer], reply: Callable[[Answer], None]
    ) -> None:
        """Carry a request there and its answer back, unless a command said otherwise."""
        wrote = False

        def performed() -> Answer:
            nonlocal wrote
            self._wrote = False
            answer = perform()
            wrote = self._wrote
            return answer

        def replied(answer: Answer) -> None:
            if wrote and host.label in self.drops:
                self.drops.discard(host.label)
                # A lost answer is a fault: a handover that it meets may overlap for longer.
                self._world.disturb(0.0)
            else:
                self._world.after(self.delays.get(host.label, 0.0), reply, answer)

        super().submit(host, performed, replied)


class ToldKernel(Kernel):
    """A kernel that says when it acts by itself.

    When a lifetime ends, and when the gate closes over a bound address.
    """

    def __init__(self, stage: Stage, host: Host) -> None:
        super().__init__(host, gate=True, sloppy=False)
        self._stage = stage

    def open_until(self, words: Words, election: str, deadline: float) -> None:
        """Write a shared word; look when its time has come whether anybody was there to obey it."""
        super().open_until(words, election, deadline)
        self._stage.at(
            self._host.clock.true(deadline), partial(self._close, words, election, deadline)
        )

    def _close(self, words: Words, election: str, deadline: float) -> None:
        if (
            deadline
            and words is self.words
            and words.get(election) == deadline
            and self.bound(election)
        ):
            self._tell("gate: closed at the deadline, though the address is still bound")

    def _expire(self, election: str, index: int) -> None:
        ends = self._ends.get(election, {}).get(index)
        if ends is not None and self._stage.now >= ends:
            self._tell("kernel: the address's lifetime ends")
        super()._expire(election, index)

    def _tell(self, text: str) -> None:
        self._stage.narrator.line(self._stage.now, self._host.label, text)
