"""The process that systemd supervises.

Starts the daemon, and removes addresses at their deadline; standard library only.

    wait in one poll --> handle what came --> decide (election.fencing, pure) --> act --> wait

It holds ready-made netlink messages, and never waits for anything but its poll and the kernel's
answers. Everything that can fail for other reasons (files, libraries, stores) happens in its
children.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import assert_never

from announce.kernel.addresses import RouteSocket
from election import fencing
from election.fencing import (
    Kill,
    Quit,
    Refresh,
    Remove,
    Start,
    Why,
    crashes_on,
    decide,
    feeds_watchdog,
    next_wake,
)
from vipd.clock import now, unix
from vipd.guard.children import (
    ChildEvent,
    Children,
    Outdated,
    Refused,
    Reloaded,
    Started,
    StartFailed,
    Unchanged,
    ending,
)
from vipd.guard.daemon_seen import Daemon, Stack, dump_at
from vipd.guard.entries import Entries
from vipd.guard.errors import ChannelError
from vipd.guard.gate import GateKeeper
from vipd.guard.link import ConfigState
from vipd.guard.locks import Locks
from vipd.guard.log import CRITICAL, ERROR, INFO, Log, gave_up, killed_for, quits_for
from vipd.guard.processes import Waiter, become_subreaper, child_pids, descendants, kill, reaped
from vipd.guard.requests import Requests
from vipd.guard.slots import Slots
from vipd.guard.systemd import Notifier
from vipd.guard.template import Shared

LATE = 0.1
"""Seconds after its wake time from which on the guard counts itself as having been stopped or
starved."""
NOTIFY_AGAIN = 0.1
"""Seconds until a notification that systemd did not take is sent again."""
LAST_REAP = 1.0
_REAP_PAUSE = 0.001


def run(config_path: str) -> int:
    """Run until asked to stop; return the exit code. To be called in a process of its own."""
    return Guard(config_path, Entries()).run()


class Guard:
    """One guard process. `entries` are its children's main functions, `gate` makes its gate."""

    def __init__(
        self, config_path: str, entries: Entries, gate: Callable[[Log], GateKeeper] = GateKeeper
    ) -> None:
        self._log = Log()
        self._notifier = Notifier(os.environ)
        self._waiter = Waiter()
        self._gate = gate(self._log)
        words = self._gate.words
        self._kernel = RouteSocket()
        self._slots = Slots(words, self._kernel, self._gate)
        self._locks = Locks(self._log)
        self._daemon = Daemon(words)
        self._stack = Stack()
        shared = Shared(entries, words, self._waiter.counter, os.getpid(), self._stack.descriptor)
        self._children = Children(config_path, shared, self._log)
        self._requests = Requests(
            self._slots, self._locks, self._on_ready, self._notifier.status, self._send_gate_report
        )
        self._unclaimed: dict[int, int] = {}
        # Children of a shell that then became the guard by exec: they are not killed at the end.
        self._not_ours = child_pids(os.getpid())
        self._code: int | None = None
        self._up = False
        self._fed_at = 0.0
        self._due_at = now()
        self._gate_at = fencing.NEVER

    def run(self) -> int:
        """Run until there is an exit code, and return it."""
        become_subreaper()
        self._waiter.listen()
        self._children.begin()
        self._gate.open()
        while self._code is None:
            self._act()
            if self._code is None:
                self._wait()
        self._end()
        return self._code

    # ------------------------------------------------------------ wait

    def _wait(self) -> None:
        moment = self._read_clock()
        wake_at = self._wake_at(moment)
        self._due_at = max(moment, wake_at)
        ready = self._waiter.wait(wake_at, self._sources())
        self._notifier.flush()
        # Before the requests of a new daemon are served: 1. a slot runs out while the daemon
        # starts, 2. the daemon arms it,
        # 3. so the daemon would be killed for a deadline that was never its own.
        self._act()
        for number in ready:
            if self._daemon.channel is not None and number == self._daemon.channel.fileno():
                self._on_daemon()
            elif not self._gate.handle(number):
                self._handle_child_events(self._children.handle(number))
        # Signals last: what a process sent before its end was sent first.
        for number in self._waiter.signals():
            self._on_signal(number)
        for pid, status in reaped():
            self._on_reaped(pid, status)
        self._children.tick(now())
        self._gate_at = self._gate.tick(now())
        self._send_gate_report()

    def _sources(self) -> Iterator[tuple[int, int]]:
        yield from self._children.waits()
        yield from self._gate.waits()
        channel = self._daemon.channel
        # Nothing is read from a daemon before its process id is known: it could not be killed for
        # what it armed.
        if channel is not None and not channel.ended and self._daemon.pid:
            yield channel.fileno(), select.POLLIN | (select.POLLOUT if channel.waiting else 0)

    def _wake_at(self, moment: float) -> float:
        view = self._view()
        moments = [
            next_wake(moment, view),
            self._children.wake_at(),
            self._gate_at,
            self._dump_at(),
        ]
        if self._notifier.waiting:
            moments.append(moment + NOTIFY_AGAIN)
        if feeds_watchdog(moment, view):
            moments.append(self._feed_at())
        return min(moments)

    def _view(self) -> fencing.View:
        return self._daemon.view(self._slots.view(), can_start=self._children.can_start)

    # ------------------------------------------------------------ handle what came

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
            self._handle_child_events(self._children.reload())

    def _on_reaped(self, pid: int, status: int) -> None:
        if pid == self._daemon.pid:
            self._on_daemon_ended(status)
        elif pid in self._children.pids:
            self._handle_child_events(self._children.on_ended(pid, status))
        elif self._daemon.started and not self._daemon.pid:
            # It may be the daemon that was asked for, dead before the template reported its process
            # id.
            self._unclaimed[pid] = status

    def _handle_child_events(self, events: Iterable[ChildEvent]) -> None:
        for event in events:
            match event:
                case Started(pid=pid):
                    self._on_started(pid)
                case StartFailed():
                    self._on_start_failed()
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
        self._daemon.send_config_state(
            replace(
                self._daemon.config, refused=refused.why or "it cannot be used", refused_at=unix()
            )
        )
        self._notifier.ready(again=self._up)

    def _on_loaded(self, text: str) -> None:
        self._log(text, INFO)
        self._daemon.send_config_state(ConfigState(loaded_at=unix()))

    def _on_started(self, pid: int) -> None:
        self._daemon.on_started(pid)
        self._log(f"daemon {pid} started", INFO)
        if pid in self._unclaimed:
            self._on_daemon_ended(self._unclaimed[pid])
        self._unclaimed.clear()

    def _on_start_failed(self) -> None:
        self._unclaimed.clear()
        if self._daemon.on_start_failed(now()):
            self._log("the daemon could not be started", ERROR)
            self._after_daemon()

    def _on_daemon_ended(self, status: int) -> None:
        pid, held = self._daemon.pid, self._slots.open()
        what = "is dead" if self._daemon.killed_at else "crashed"
        if self._daemon.on_ended(now(), status):
            self._log(
                f"daemon {pid} {what} ({ending(status)})"
                + (f"; still bound: {', '.join(held)}" if held else ""),
                ERROR,
            )
        self._after_daemon()

    def _after_daemon(self) -> None:
        self._slots.daemon_ended()
        self._kill_strays()
        view = self._view()
        if crashes_on(view) and not view.stop_asked_at:
            self._log(gave_up(view), CRITICAL)
        elif self._children.outdated:
            self._code = fencing.EXIT_FAILED

    def _on_daemon(self) -> None:
        channel = self._daemon.channel
        if channel is None:
            return
        try:
            channel.flush()
            self._requests.serve(channel)
        except ChannelError as error:
            self._log(f"the daemon cannot be served ({error}): hanging up", ERROR)
            self._daemon.hang_up()

    def _send_gate_report(self) -> None:
        self._daemon.send_gate_report(self._gate.report())

    def _on_ready(self) -> None:
        self._up = True
        self._gate.settle()
        self._notifier.ready()

    # ------------------------------------------------------------ act

    def _act(self) -> None:
        """Decide and act until nothing is to be done."""
        while self._code is None and (actions := decide(self._read_clock(), self._view())):
            for action in actions:
                self._carry_out(action)
        moment = now()
        if moment >= self._dump_at():
            self._stack.ask(self._daemon.pid, moment)
        if moment >= self._feed_at() and feeds_watchdog(moment, self._view()):
            self._fed_at = moment
            self._notifier.watchdog()

    def _read_clock(self) -> float:
        """Return the time; note if the guard was stopped or starved since it last asked."""
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

    def _carry_out(self, action: fencing.GuardAction) -> None:
        match action:
            case Kill(why=why):
                self._kill(why)
            case Remove(slot=slot, why=why, close=close):
                self._remove(slot, why, close=close)
            case Refresh(slot=slot, seconds=seconds):
                self._log_trouble(slot, "refresh", self._slots.refresh(slot, seconds))
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
        self._daemon.kill(moment, self._children.abort_start)
        self._log(
            f"daemon {pid or ''} {killed_for(why, moment, view, self._slots.name)}", ERROR, stack
        )

    def _start(self) -> None:
        self._locks.expect_daemon()
        self._daemon.code = self._children.code
        if not self._daemon.config.loaded_at:
            self._daemon.config = ConfigState(loaded_at=unix())
        try:
            self._daemon.start(now(), self._children.start, self._gate.refusal)
        except OSError as error:
            self._log(f"no connection for a new daemon: {error}")
            self._on_start_failed()

    def _remove(self, slot: int, why: Why, *, close: bool) -> None:
        late = now() - self._slots.deadline(slot)
        trouble = self._slots.remove(slot, close=close)
        self._log_trouble(slot, "removal", trouble)
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

    def _log_trouble(self, slot: int, what: str, trouble: str) -> None:
        name = self._slots.name(slot)
        self._log.changed(
            f"{what} {name}", f"{name}: {what} failed: {trouble}" if trouble else "", ERROR
        )

    # ------------------------------------------------------------ end

    def _kill_strays(self) -> None:
        """Kill the checks and hooks of a dead daemon, which became the guard's children by its
        death.
        """
        strays = child_pids(os.getpid()) - self._children.pids - self._not_ours - {self._daemon.pid}
        for pid in strays.union(*map(descendants, strays)):
            kill(pid)

    def _end(self) -> None:
        """Remove all addresses, end all children and close everything.

        Wait at most LAST_REAP for a process that does not end.
        """
        troubles = {
            slot.number: self._slots.remove(slot.number, close=True)
            for slot in self._slots.view()
            if slot.deadline
        }
        for slot, trouble in troubles.items():
            self._log_trouble(slot, "removal", trouble)
        self._daemon.hang_up()
        self._children.close()
        if self._daemon.pid:
            kill(self._daemon.pid)
        self._kill_strays()
        until = now() + LAST_REAP
        while now() < until and child_pids(os.getpid()) - self._not_ours:
            if not list(reaped()):
                time.sleep(_REAP_PAUSE)
        self._gate.close(leave=any(troubles.values()))
        self._kernel.close()
        self._locks.close()
        self._notifier.close()
        self._waiter.close()
        self._stack.close()
