"""Carries out what a machine decided, in its order.

The shared word, netlink, frames, requests, the state directory.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from election.actions import (
    Action,
    Announce,
    Bind,
    ForeignEdit,
    Notice,
    Probe,
    Read,
    Refresh,
    Remember,
    SetDeadline,
    Transition,
    Unbind,
    Waits,
    Write,
    WriteKind,
)
from election.events import BindDone, ProbeDone, ReadDone, UnbindDone, WriteDone
from election.model import Conflict, ReadAnswer, Unknown, WriteAnswer
from election.timing import came_late, fence_margin, lifetime_to_set, wakes_guard
from tests.sim.interfaces import NAME
from tests.sim.process import Turn
from tests.sim.store import Answer

if TYPE_CHECKING:
    from tests.sim.daemon import Daemon

AtOnce = SetDeadline | Read | Write | Probe | Remember | Transition | Notice | Waits | ForeignEdit
"""Actions that take the process no time."""
BURST = (0.0, 1.1, 2.2)
"""Seconds after the bind at which frames go out (three of the product's burst are enough here)."""


class Executor:
    """The dull part of a daemon. Kernel calls block the loop; requests do not."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._host = daemon.host
        self._world = daemon.world
        self._words = daemon.host.kernel.words
        self._waiting: dict[tuple[str, int], Read | Write] = {}
        self._burst: dict[str, int] = {}
        self.holds: set[str] = set()
        # Where the kernel has it from a previous daemon, on whatever interface: there it is
        # unbound.
        self._places = {
            election: self._host.kernel.places(election) for election in self._host.settings
        }
        self._host.kernel.has_refused.clear()
        self.index: int | None = None
        self.look()

    def look(self) -> None:
        """See what the interface of the configuration is now."""
        found = self._host.kernel.links.find(NAME)
        self.index = found.index if found is not None else None

    def carry_out(self, election: str, actions: Sequence[Action]) -> Turn:
        """Do one action after the other; the process may be stopped or killed before each."""
        bound = True
        for action in actions:
            if self._daemon.hazard():
                yield 0.0
            match action:
                case Bind():
                    done = yield from self._bind(election, action)
                    bound = done.ok
                    self._daemon.inbox.appendleft((election, done))
                case Refresh():
                    yield from self._touch(election, action.lease_duration, shrink=action.shrink)
                case Unbind():
                    yield from self._unbind(election)
                case Announce():
                    if bound:
                        self._world.judge.announcing(
                            self._host, election, holds=election in self.holds
                        )
                        self._announce(election)
                case _:
                    self._do_at_once(election, action)

    def _do_at_once(self, election: str, action: AtOnce) -> None:
        match action:
            case SetDeadline(deadline):
                self._set_deadline(election, deadline)
            case Read() | Write():
                self._request(election, action)
            case Probe():
                self._probe(election, action)
            case Remember():
                self._host.remember(self._daemon, election, action)
            case Transition() | Notice() | Waits() | ForeignEdit():
                pass

    # ------------------------------------------------------------------ the kernel

    def _set_deadline(self, election: str, deadline: float) -> None:
        before = self._words.get(election)
        self._host.kernel.open_until(self._words, election, deadline)
        if wakes_guard(before, deadline, former_gate=self._host.kernel.is_succeeding):
            self._host.poke_guard(self._daemon)
        elif before == 0.0:
            self._host.guard_looks_soon()

    def _bind(self, election: str, bind: Bind) -> Generator[float, None, BindDone]:
        self._world.judge.binding(self._host, election, bind)
        self._host.kernel.has_refused.add(election)
        if self._world.weather.refuses_bind():
            return BindDone(bind.epoch, ok=False, why="EPERM")
        if self.index is None:
            return BindDone(bind.epoch, ok=False, why="the interface does not exist")
        self._host.kernel.remove(election, self._places[election] - {self.index})
        self._places[election] = {self.index}
        ok = yield from self._touch(election, bind.lease_duration)
        if ok is not None:
            self._host.kernel.has_refused.discard(election)
        if ok:
            self.holds.add(election)
            self._world.judge.bound(self._host, election, bind.epoch)
        elif election in self._host.kernel.refused:
            self._world.availability.refused(self._host, election)
        return BindDone(bind.epoch, ok=ok is True, why="EPERM" if ok is None else "")

    def _touch(
        self, election: str, lease_duration: float, *, shrink: bool = False
    ) -> Generator[float, None, bool | None]:
        """Bind or refresh: ask before, call, ask after, and undo what came late.

        Return whether it is bound; None: it was refused.
        """
        seconds = lifetime_to_set(
            self._daemon.now, self._words.get(election), lease_duration, shrink=shrink
        )
        if seconds < 1:
            return False
        if self._host.kernel.gate and self._daemon.hazard():
            yield 0.0
        spent = self._world.weather.kernel_time(fence_margin(lease_duration))
        if spent:
            yield spent
        done = [
            self._host.kernel.add(election, index, seconds, lease_duration)
            for index in self._places[election]
        ]
        if self._host.kernel.gate and self._daemon.hazard():
            yield 0.0
        if came_late(self._daemon.now, self._words.get(election)):
            self._host.kernel.remove(election, self._places[election])
            return False
        self._world.judge.touched(self._host, election)
        return True if all(done) else None

    def _unbind(self, election: str) -> Turn:
        self.holds.discard(election)
        self._burst[election] = self._burst.get(election, 0) + 1
        spent = self._world.weather.kernel_time(
            fence_margin(self._host.settings[election].timing.lease_duration)
        )
        if spent:
            yield spent
        # Without the gate nothing stands behind a kernel that does not answer within the margin.
        in_time = self._host.kernel.gate or self._daemon.now < self._words.get(election)
        done = not (in_time and self._world.weather.refuses_unbind())
        if done:
            self._host.kernel.remove(election, self._places[election])
        self._daemon.inbox.append((election, UnbindDone(ok=done, why="" if done else "EBUSY")))

    # ------------------------------------------------------------------ the wire

    def _announce(self, election: str) -> None:
        self._burst[election] = burst = self._burst.get(election, 0) + 1
        for delay in BURST:
            self._world.after(delay, self._send_frames, election, burst)

    def _send_frames(self, election: str, burst: int) -> None:
        running = self._daemon.alive and not self._daemon.frozen
        if (
            running
            and self._burst[election] == burst
            and not came_late(self._daemon.now, self._words.get(election))
        ):
            self._world.send_frames(self._host, election)

    def _probe(self, election: str, probe: Probe) -> None:
        mac = self._world.who_answers(self._host, election)
        delay = self._world.weather.latency if mac else probe.timeout
        self._world.after(delay, self._daemon.deliver, election, ProbeDone(mac))

    # ------------------------------------------------------------------ the store

    def _request(self, election: str, request: Read | Write) -> None:
        store, host = self._world.store, self._host
        key = (election, request.request)
        self._waiting[key] = request
        if isinstance(request, Write):
            self._world.judge.sending(host, election, request)
            stamped = replace(
                request,
                record=replace(
                    request.record, renew_time=f"{self._daemon.now + host.wall_offset:.3f}"
                ),
            )
            store.submit(
                host,
                lambda: store.write(host, election, stamped),
                lambda answer: self._answered(key, request, answer),
            )
        else:
            store.submit(
                host,
                lambda: store.read(election),
                lambda answer: self._answered(key, request, answer),
            )
        self._world.after(request.timeout / self._daemon.clock.rate, self._give_up, key)

    def _answered(self, key: tuple[str, int], request: Read | Write, answer: Answer) -> None:
        in_time = self._waiting.pop(key, None) is not None
        if not in_time and not self._world.weather.answers_late():
            return
        if (
            in_time
            and isinstance(request, Write)
            and request.kind is WriteKind.NAME
            and isinstance(answer, Conflict)
        ):
            self._world.judge.naming_refused(self._host, key[0])
        self._report(key, request, answer)

    def _give_up(self, key: tuple[str, int]) -> None:
        request = self._waiting.pop(key, None)
        if request is not None:
            self._report(key, request, Unknown("timeout"))

    def _report(self, key: tuple[str, int], request: Read | Write, answer: Answer) -> None:
        election, number = key
        if isinstance(request, Write):
            self._daemon.deliver(election, WriteDone(number, cast("WriteAnswer", answer)))
        else:
            self._daemon.deliver(election, ReadDone(number, cast("ReadAnswer", answer)))
