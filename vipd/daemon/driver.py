"""Drives the machine of one election.

Feeds it, does what the machine says, in order, and reports back.

    event --> queue --> Machine.step(now, event) --> actions --> store (a task),
                ^                                                  |        kernel, frames (at once)
                +------------------ WriteDone, BindDone, ... <-----+

Nothing else touches the machine. A kernel call's outcome is an event like any other and is handled
before anything new.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, assert_never

from announce.frames.announcer import Announcer
from election import model
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
from election.events import BindDone, Event, ProbeDone, ReadDone, Tick, WriteDone
from election.machine.machine import Machine
from election.model import State
from election.stores.contract import Store
from vipd.clock import now, wall
from vipd.daemon.executor import Executor

SERVICE_LOOK, SERVICE_SOON = 0.001, 0.02
"""Seconds between two looks whether the kernel serves what it accepted: at first, and once it has
taken longer than the second."""
SERVICE_PATIENCE = 1.0

Plain = (
    SetDeadline | Refresh | Unbind | Probe | Remember | Transition | Notice | Waits | ForeignEdit
)
"""What is done at once and whose outcome nothing in the same list depends on."""


class Observer(Protocol):
    """Who learns what happens: log and metrics. Nothing that it does changes what vipd does."""

    def transition(self, election: str, change: Transition) -> None:
        """Note that a state changed."""

    def notice(self, election: str, text: str, *, warning: bool) -> None:
        """Pass a sentence on to the operator."""

    def waits(self, election: str, wait: Waits) -> None:
        """Say for what this node waits before it takes the VIP."""

    def foreign_edit(self, election: str, edit: ForeignEdit) -> None:
        """Count that somebody else changed the record, and say so."""

    def store_request(self, op: str, answer: object, seconds: float) -> None:
        """Note that a store request was answered, or given up."""

    def took_over(self, election: str, seconds: float) -> None:
        """Note that the VIP was bound and announced, so long after the chance was seen."""

    def repaired(self, election: str) -> None:
        """Note that an address that somebody removed was put back."""

    def fenced(self, election: str) -> None:
        """Note that the daemon unbound because the right ended."""


@dataclass(frozen=True, slots=True)
class Deps:
    """What a driver is given.

    `announcers`: one for each of the election's instances. `probe` waits so many seconds at most
    and returns a MAC address or nothing. `remember` keeps something for the next daemon; `stepped`
    is called after each step, with the election's name.
    """

    store: Store
    executor: Executor
    announcers: Sequence[Announcer]
    probe: Callable[[float], Awaitable[str]]
    observer: Observer
    remember: Callable[[str, Remember], None]
    stepped: Callable[[str], None]


class Driver:
    """Drives one machine. All methods are called on the event loop's thread.

    `acquired_at` is when it last tried to take the record, by the wall clock; `wake_at` when it
    moves by itself.
    """

    def __init__(self, name: str, machine: Machine, deps: Deps) -> None:
        self.name = name
        self.machine = machine
        self.deps = deps
        self._queue: deque[Event] = deque()
        self._busy = False
        self._timer: asyncio.TimerHandle | None = None
        self._service_timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.acquired_at = ""
        self._chance_at = 0.0
        self._epoch = 0
        self._repairs = False
        self.wake_at = 0.0

    def post(self, event: Event) -> None:
        """Take an event in and do all that follows from it, before returning unless a step is under
        way.
        """
        self._queue.append(event)
        if self._busy:
            return
        self._busy = True
        try:
            while self._queue:
                actions = self.machine.step(now(), self._queue.popleft())
                self._perform(actions)
        finally:
            self._busy = False
        self._set_timer()
        self.deps.stepped(self.name)

    def tick(self) -> None:
        """Post a Tick if wake_at has passed; called by its timer and by the heartbeat.

        Timers stand still while the host is suspended, CLOCK_BOOTTIME does not.
        """
        if now() >= self.wake_at:
            self.post(Tick())

    def cancel(self) -> None:
        """Forget timers and store requests: the daemon is about to end."""
        if self._timer is not None:
            self._timer.cancel()
        self._await_no_service()
        self._stop_announcing()
        for task in self._tasks:
            task.cancel()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        moment = now()
        self.wake_at = self.machine.next_wake(moment)
        # One millisecond at least: a wake time that is already past must not starve everything else
        # on the loop.
        pause = min(max(self.wake_at - moment, 0.001), 60.0)
        self._timer = asyncio.get_running_loop().call_later(pause, self.tick)

    # ------------------------------------------------------------------ actions

    def _perform(self, actions: list[Action]) -> None:
        announced = True
        for action in actions:
            match action:
                case Bind():
                    announced = self._bind(action)
                case Announce(epoch):
                    # Not if the bind before it failed, or if the kernel does not serve the address
                    # yet.
                    if announced:
                        self._announce(epoch)
                case Read() | Write():
                    self._request(action)
                case _:
                    self._do(action)

    def _do(self, action: Plain) -> None:
        deps = self.deps
        match action:
            case SetDeadline(deadline):
                deps.executor.word.set(deadline)
            case Refresh():
                self._complain(deps.executor.refresh(action))
            case Unbind(why=reason):
                self._unbind(reason)
            case Probe(timeout):
                self._spawn(self._probe(timeout))
            case Remember():
                deps.remember(self.name, action)
            case Transition():
                deps.observer.transition(self.name, action)
            case Notice(text, warning):
                deps.observer.notice(self.name, text, warning=warning)
            case Waits():
                deps.observer.waits(self.name, action)
            case ForeignEdit():
                deps.observer.foreign_edit(self.name, action)
            case _:
                assert_never(action)

    def _complain(self, why: str) -> None:
        if why:
            self.deps.observer.notice(self.name, why, warning=True)

    def _stop_announcing(self) -> None:
        for announcer in self.deps.announcers:
            announcer.stop()

    def _unbind(self, reason: model.Reason) -> None:
        self._await_no_service()
        self._stop_announcing()
        executor = self.deps.executor
        done = executor.unbind_leftovers() if reason is model.Reason.STARTUP else executor.unbind()
        self._queue.append(done)
        if reason is model.Reason.LEASE_EXPIRED:
            self.deps.observer.fenced(self.name)
        if not done.ok:
            self._complain(done.why)

    def _bind(self, action: Bind) -> bool:
        """Bind, and return whether to announce at once: not before each address serves."""
        self._epoch, self._repairs = action.epoch, action.repair
        self._await_no_service()
        done = self.deps.executor.bind(action)
        if done.ok and not self.deps.executor.serves():
            self._await_service(action, now())
            return False
        # Handled before anything that came in meanwhile: what follows depends on it.
        self._queue.appendleft(done)
        if action.repair and done.ok:
            self.deps.observer.repaired(self.name)
        return done.ok

    def _await_service(self, action: Bind, since: float) -> None:
        pause = SERVICE_LOOK if now() - since < SERVICE_SOON else SERVICE_SOON
        self._service_timer = asyncio.get_running_loop().call_later(
            pause, self._look_for_service, action, since
        )

    def _look_for_service(self, action: Bind, since: float) -> None:
        """Announce, and tell the machine, once the kernel serves what it has accepted.

        1. A successor binds an IPv6 address and announces it. 2. The former holder, or a client,
        acts on that.
        3. The kernel finishes the address 5 ms later: what was sent meanwhile is lost.
        """
        self._service_timer = None
        executor = self.deps.executor
        if executor.serves():
            if action.repair:
                self.deps.observer.repaired(self.name)
            self._announce(action.epoch)
            self.post(BindDone(action.epoch, ok=True))
        elif now() - since >= SERVICE_PATIENCE:
            why = (
                f"the kernel accepted {executor.awaited} and does not serve it after "
                f"{SERVICE_PATIENCE:g}s"
            )
            self.post(BindDone(action.epoch, ok=False, why=why))
        else:
            self._await_service(action, since)

    def _await_no_service(self) -> None:
        if self._service_timer is not None:
            self._service_timer.cancel()
            self._service_timer = None

    def _announce(self, epoch: int) -> None:
        word, machine = self.deps.executor.word, self.machine

        def owner() -> bool:
            return machine.state is State.ACTIVE and self._epoch == epoch and now() < word.deadline

        for announcer in self.deps.announcers:
            announcer.start(owner, lambda: machine.is_handing_over, repair=self._repairs)
        if self._chance_at:
            self.deps.observer.took_over(self.name, now() - self._chance_at)
            self._chance_at = 0.0

    # ------------------------------------------------------------------ store and wire

    def _request(self, action: Read | Write) -> None:
        if isinstance(action, Write) and action.kind is WriteKind.TAKE:
            self._chance_at = now()
            self.acquired_at = wall()
        self._spawn(self._read(action) if isinstance(action, Read) else self._write(action))

    async def _read(self, action: Read) -> None:
        sent_at = now()
        answer = await self.deps.store.read(self.name, action.timeout)
        self.deps.observer.store_request("read", answer, now() - sent_at)
        self.post(ReadDone(action.request, answer))

    async def _write(self, action: Write) -> None:
        sent_at = now()
        answer = await self.deps.store.write(
            self.name, self._stamped(action.record), action.expected, action.timeout
        )
        self.deps.observer.store_request(str(action.kind), answer, now() - sent_at)
        self.post(WriteDone(action.request, answer))

    def _stamped(self, record: model.Record) -> model.Record:
        """Put the wall-clock times in, for people."""
        if record.holder != self.machine.me.name:
            return replace(record, renew_time=wall())
        return replace(
            record, renew_time=wall(), acquire_time=record.acquire_time or self.acquired_at
        )

    async def _probe(self, timeout: float) -> None:
        self.post(ProbeDone(await self.deps.probe(timeout)))

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
