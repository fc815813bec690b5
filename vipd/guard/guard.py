"""`vipd run`: a small, dull parent. It starts the daemon, and takes its addresses away when their right ends.

    wait in one poll --> take note of what came --> decide (election.fencing, pure) --> act --> wait

It needs the standard library only, holds ready-made netlink messages, and never waits for anything but its poll and the
kernel's answers. Everything that can fail for other reasons (files, libraries, stores) happens in its children.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import assert_never

from announce.kernel.addresses import RouteSocket
from election import fencing
from election.fencing import Kill, Quit, Refresh, Remove, Start, Why, crashes_on, decide, fresh, next_wake
from vipd.clock import now, unix
from vipd.guard.channel import WireError
from vipd.guard.children import Born, NotBorn, Nursery, NurseryEvent, Outdated, Refused, Reloaded, Unchanged, ending
from vipd.guard.daemon_seen import Daemon, Stack, dump_at
from vipd.guard.entries import Entries
from vipd.guard.gate import GateKeeper
from vipd.guard.link import ConfigState
from vipd.guard.locks import Locks
from vipd.guard.log import CRITICAL, ERROR, INFO, Log, gave_up, killed_for, quits_for
from vipd.guard.processes import Waiter, become_subreaper, children, descendants, kill, reaped
from vipd.guard.requests import Requests
from vipd.guard.slots import Slots
from vipd.guard.systemd import Notifier
from vipd.guard.template import Shared

LATE = 0.1
"""Seconds after the moment by which it would look at the clock again, from which on it takes itself to have stood still."""
NOTIFY_AGAIN = 0.1
"""Seconds until systemd is told again what it did not take."""
LAST_REAP = 1.0
_LOOK = 0.001


def run(config_path: str) -> int:
    """Run until told to stop; return the exit code. To be called in a process of its own."""
    return Guard(config_path, Entries()).run()


class Guard:
    """One guard process. `entries` are its children's main functions."""

    def __init__(self, config_path: str, entries: Entries) -> None:
        self._log = Log()
        self._notifier = Notifier(os.environ)
        self._waiter = Waiter()
        self._gate = GateKeeper(self._log)
        words = self._gate.words
        self._kernel = RouteSocket()
        self._slots = Slots(words, self._kernel, self._gate)
        self._locks = Locks(self._log)
        self._daemon = Daemon(words)
        self._stack = Stack()
        shared = Shared(entries, words, self._waiter.counter, os.getpid(), self._stack.descriptor)
        self._nursery = Nursery(config_path, shared, self._log)
        self._requests = Requests(self._slots, self._locks, self._on_ready, self._notifier.status, self._tell_gate)
        self._unclaimed: dict[int, int] = {}
        # A shell that started something and then became the guard has left it these.
        self._strangers = children(os.getpid())
        self._code: int | None = None
        self._up = False
        self._fed_at = 0.0
        self._due_at = now()
        self._gate_at = fencing.NEVER

    def run(self) -> int:
        """Run until there is an exit code, and return it."""
        become_subreaper()
        self._waiter.listen()
        self._nursery.begin()
        self._gate.open()
        while self._code is None:
            self._act()
            if self._code is None:
                self._wait()
        self._end()
        return self._code

    # ------------------------------------------------------------ wait

    def _wait(self) -> None:
        moment = self._look()
        wake_at = self._wake_at(moment)
        self._due_at = max(moment, wake_at)
        ready = self._waiter.wait(wake_at, self._sources())
        self._notifier.flush()
        # Before a new daemon can arm it: a slot that ran out during its start is removed, and nobody is killed for it.
        self._act()
        for number in ready:
            if self._daemon.wire is not None and number == self._daemon.wire.fileno():
                self._on_daemon()
            elif not self._gate.handle(number):
                self._heed(self._nursery.handle(number))
        # Signals last: what a process said before its end was said first.
        for number in self._waiter.signals():
            self._on_signal(number)
        for pid, status in reaped():
            self._on_reaped(pid, status)
        self._nursery.tick(now())
        self._gate_at = self._gate.tick(now())
        self._tell_gate()

    def _sources(self) -> Iterator[tuple[int, int]]:
        yield from self._nursery.waits()
        yield from self._gate.waits()
        wire = self._daemon.wire
        # Before its process id is known nothing that the daemon says is heard: what is not armed need not be killed for.
        if wire is not None and not wire.ended and self._daemon.pid:
            yield wire.fileno(), select.POLLIN | (select.POLLOUT if wire.waiting else 0)

    def _wake_at(self, moment: float) -> float:
        view = self._view()
        moments = [next_wake(moment, view), self._nursery.wake_at(), self._gate_at, self._dump_at()]
        if self._notifier.waiting:
            moments.append(moment + NOTIFY_AGAIN)
        if fresh(moment, view):
            moments.append(self._feed_at())
        return min(moments)

    def _view(self) -> fencing.View:
        return self._daemon.view(self._slots.view(), can_start=self._nursery.can_start)

    # ------------------------------------------------------------ take note

    def _on_signal(self, number: int) -> None:
        if self._daemon.stop_asked_at:
            return
        if number in {signal.SIGTERM, signal.SIGINT}:
            self._log(f"{signal.Signals(number).name}: stopping", INFO)
            self._notifier.stopping()
            self._daemon.ask_stop(now())
        elif number == signal.SIGHUP:
            if self._up:
                self._notifier.reloading()
            self._heed(self._nursery.reload())

    def _on_reaped(self, pid: int, status: int) -> None:
        if pid == self._daemon.pid:
            self._on_daemon_ended(status)
        elif pid in self._nursery.pids:
            self._heed(self._nursery.ended(pid, status))
        elif self._daemon.started and not self._daemon.pid:
            # It may be the daemon that is just being born, dead before the guard was told its process id.
            self._unclaimed[pid] = status

    def _heed(self, events: Iterable[NurseryEvent]) -> None:
        for event in events:
            match event:
                case Born(pid=pid):
                    self._on_born(pid)
                case NotBorn():
                    self._on_not_born()
                case Refused():
                    self._on_refused(event)
                case Reloaded(blob=blob):
                    self._on_loaded("the new configuration is valid")
                    self._daemon.ask_reload(blob)
                case Unchanged():
                    self._on_loaded("the configuration is unchanged: nothing to do")
                    self._notifier.ready(again=self._up)
                case Outdated():
                    if not self._daemon.started:
                        self._code = fencing.EXIT_FAILED
                case _:
                    assert_never(event)

    def _on_refused(self, refused: Refused) -> None:
        if refused.first:
            self._code = refused.code
            return
        self._log(f"the new configuration cannot be used, nothing changes: {refused.why}", ERROR)
        self._daemon.tell_config(replace(self._daemon.config, refused=refused.why or "it cannot be used", refused_at=unix()))
        self._notifier.ready(again=self._up)

    def _on_loaded(self, text: str) -> None:
        self._log(text, INFO)
        self._daemon.tell_config(ConfigState(loaded_at=unix()))

    def _on_born(self, pid: int) -> None:
        self._daemon.born(pid)
        self._log(f"daemon {pid} started", INFO)
        if pid in self._unclaimed:
            self._on_daemon_ended(self._unclaimed[pid])
        self._unclaimed.clear()

    def _on_not_born(self) -> None:
        self._unclaimed.clear()
        if self._daemon.not_born(now()):
            self._log("the daemon could not be started", ERROR)
            self._ended()

    def _on_daemon_ended(self, status: int) -> None:
        pid, held = self._daemon.pid, self._slots.open()
        what = "is dead" if self._daemon.killed_at else "crashed"
        if self._daemon.ended(now(), status):
            self._log(f"daemon {pid} {what} ({ending(status)})" + (f"; still bound: {', '.join(held)}" if held else ""), ERROR)
        self._ended()

    def _ended(self) -> None:
        self._slots.daemon_ended()
        self._sweep()
        view = self._view()
        if crashes_on(view) and not view.stop_asked_at:
            self._log(gave_up(view), CRITICAL)
        elif self._nursery.outdated:
            self._code = fencing.EXIT_FAILED

    def _on_daemon(self) -> None:
        wire = self._daemon.wire
        if wire is None:
            return
        try:
            wire.flush()
            self._requests.serve(wire)
        except WireError as error:
            self._log(f"the daemon cannot be served ({error}): hanging up", ERROR)
            self._daemon.hang_up()

    def _tell_gate(self) -> None:
        self._daemon.tell_gate(self._gate.report())

    def _on_ready(self) -> None:
        self._up = True
        self._gate.settle()
        self._notifier.ready()

    # ------------------------------------------------------------ act

    def _act(self) -> None:
        """Decide and act until nothing is to be done."""
        while self._code is None and (actions := decide(self._look(), self._view())):
            for action in actions:
                self._do(action)
        moment = now()
        if moment >= self._dump_at():
            self._stack.ask(self._daemon.pid, moment)
        if moment >= self._feed_at() and fresh(moment, self._view()):
            self._fed_at = moment
            self._notifier.watchdog()

    def _look(self) -> float:
        """Look at the clock, and note if the guard itself was stopped or starved since it last did, asleep or awake."""
        moment = now()
        if moment > self._due_at + LATE:
            self._daemon.late_at = moment
        self._due_at = moment
        return moment

    def _feed_at(self) -> float:
        interval = self._notifier.watchdog_interval
        return self._fed_at + interval if interval and self._up else fencing.NEVER

    def _dump_at(self) -> float:
        return dump_at(self._view(), self._stack.asked_at) if self._daemon.pid else fencing.NEVER

    def _do(self, action: fencing.GuardAction) -> None:
        match action:
            case Kill(why=why):
                self._kill(why)
            case Remove(slot=slot, why=why, close=close):
                self._remove(slot, why, close=close)
            case Refresh(slot=slot, seconds=seconds):
                self._tell(slot, "refresh", self._slots.refresh(slot, seconds))
            case Start():
                self._start()
            case Quit(code=code):
                self._code = code
                if text := quits_for(now(), self._view()):
                    self._log(text, CRITICAL)
            case _:
                assert_never(action)

    def _kill(self, why: Why) -> None:
        pid, moment, view = self._daemon.pid, now(), self._view()
        stack = self._stack.read(pid) if pid else ()
        self._daemon.kill(moment, self._nursery.abort_start)
        self._log(f"daemon {pid or ''} {killed_for(why, moment, view, self._slots.name)}", ERROR, stack)

    def _start(self) -> None:
        self._locks.begin_life()
        self._daemon.code = self._nursery.code
        if not self._daemon.config.loaded_at:
            self._daemon.config = ConfigState(loaded_at=unix())
        try:
            self._daemon.start(now(), self._nursery.start, self._gate.refusal)
        except OSError as error:
            self._log(f"no connection for a new daemon: {error}")
            self._on_not_born()

    def _remove(self, slot: int, why: Why, *, close: bool) -> None:
        late = now() - self._slots.deadline(slot)
        trouble = self._slots.remove(slot, close=close)
        self._tell(slot, "removal", trouble)
        for address in self._slots.foreign:
            self._log(f"removed {address} too, which vipd had not bound")
        self._slots.foreign.clear()
        if trouble or not close:
            return
        name = self._slots.name(slot)
        if why is Why.DEADLINE:
            self._daemon.fenced[name] += 1
            self._log(f"{name}: the right ended {late * 1000:.0f} ms ago, addresses removed", ERROR)
        else:
            self._log(f"{name}: addresses removed", INFO)

    def _tell(self, slot: int, what: str, trouble: str) -> None:
        name = self._slots.name(slot)
        self._log.changed(f"{what} {name}", f"{name}: {what} failed: {trouble}" if trouble else "", ERROR)

    # ------------------------------------------------------------ end

    def _sweep(self) -> None:
        """Kill what a dead daemon left running: checks and hooks, which became the guard's children by its death."""
        strays = children(os.getpid()) - self._nursery.pids - self._strangers - {self._daemon.pid}
        for pid in strays.union(*map(descendants, strays)):
            kill(pid)

    def _end(self) -> None:
        """Leave nothing behind, but do not wait for ever for a process that cannot die."""
        troubles = {slot.number: self._slots.remove(slot.number, close=True) for slot in self._slots.view() if slot.deadline}
        for slot, trouble in troubles.items():
            self._tell(slot, "removal", trouble)
        self._daemon.hang_up()
        self._nursery.close()
        if self._daemon.pid:
            kill(self._daemon.pid)
        self._sweep()
        until = now() + LAST_REAP
        while now() < until and children(os.getpid()) - self._strangers:
            if not list(reaped()):
                time.sleep(_LOOK)
        self._gate.close(leave=any(troubles.values()))
        self._kernel.close()
        self._locks.close()
        self._notifier.close()
        self._waiter.close()
        self._stack.close()
