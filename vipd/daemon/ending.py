"""How the daemon ends.

What it hands over or releases before, what it leaves bound for the next one, and its exit code.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping

from election import events
from election.fencing import EXIT_RELOAD, NEVER
from election.model import Reason, State
from vipd.clock import now
from vipd.config.values import Config, changed
from vipd.daemon.member import Member
from vipd.guard.errors import GuardError
from vipd.guard.link import GuardLink

EXIT_STOPPED = 0
STOP_TIMEOUT = 3.0
"""Seconds for handover or release when stopping; then the lease is left to expire. The guard waits
longer than that."""
RELOAD_PAUSE = 1.0
"""Seconds for which a reload that changes addresses names no successor: where all nodes are
reloaded at once, the best of them is just ending, and would not answer. Files are read in 0.4 s, on
busy machines later on one than on the other."""
RELOAD_PATIENCE = 5.0
"""Seconds for which it goes on while no other node is fit: they are just starting, which takes 0.6
s, on busy machines some seconds."""
AWAY_PATIENCE = 0.5
"""Seconds that a reload waits for more than the addresses' removal while the store does not serve:
perhaps it is to mend just that."""
LOOK = 0.1
RELOAD_TIMEOUT = 8.0
"""Seconds in all; with them the time for a handover. Nobody waits as impatiently as at a stop: the
VIP is served meanwhile."""

log = logging.getLogger("vipd")


class Ending:
    """What was asked for last wins, but that nothing takes back a stop."""

    def __init__(
        self,
        configuration: Config,
        link: GuardLink,
        members: Mapping[str, Member],
        store_serves: Callable[[], bool],
    ) -> None:
        self._config = configuration
        self._link = link
        self._members = members
        self._exit_code: int | None = None
        self._leaving: set[str] = set()
        self._moved = asyncio.Event()
        self._store_serves = store_serves

    def stop(self) -> None:
        """Hand over or release everything, then end."""
        self._begin(EXIT_STOPPED, self._members, events.StopAsked())

    def reload(self, new: Config) -> None:
        """Stop what the new configuration changes, leave the rest bound, and end.

        The next daemon takes its leases back.
        """
        if self._exit_code == EXIT_STOPPED:
            # `systemctl stop` while a file is being read: the guard starts nobody who would take
            # back what is left bound.
            log.info("configuration changed while stopping: it counts from the next start on")
            return
        log.info("configuration changed; reloading")
        self._begin(
            EXIT_RELOAD, changed(self._config, new), events.StopAsked(RELOAD_PATIENCE, RELOAD_PAUSE)
        )

    def moved(self) -> None:
        """Note that a machine has taken a step."""
        self._moved.set()

    def _begin(self, code: int, names: Iterable[str], order: events.StopAsked) -> None:
        self._exit_code = code
        for name in set(names) & set(self._members):
            self._leaving.add(name)
            self._members[name].order(order)
        self._moved.set()

    async def wait(self, last_word: Callable[[], Awaitable[None]]) -> int:
        """Return the exit code, when all that leaves has left, or has had its time.

        Before a reload the last word is spoken.
        """
        while self._exit_code is None:
            await self._next_move()
        code: int | None = None
        while code != self._exit_code:
            # A stop that comes after a reload, even beside the last word, has its own time for all.
            code = self._exit_code
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(
                    STOP_TIMEOUT if code == EXIT_STOPPED else RELOAD_TIMEOUT
                ):
                    await self._leave(code)
            if code == EXIT_RELOAD:
                await last_word()
        self._disarm()
        return code

    async def _leave(self, code: int) -> None:
        """Wait until all that leaves has left, or another end is asked for.

        A store that does not serve is not waited for on a reload.
        """
        away_since = NEVER
        while code == self._exit_code and not self._have_left():
            if code == EXIT_STOPPED or self._store_serves():
                away_since = NEVER
                await self._next_move(LOOK)
                continue
            away_since = min(away_since, now())
            self._let_go()
            if self._are_clear() and now() >= away_since + AWAY_PATIENCE:
                return
            await self._next_move(LOOK)

    def _let_go(self) -> None:
        """Unbind what leaves.

        Nobody can be named as successor through this store, and the next daemon may have a better
        one.
        """
        for member in (self._members[name] for name in self._leaving):
            if member.state is State.ACTIVE:
                priority = member.snapshot().priority or 1
                member.order(
                    events.FitnessChanged(fit=False, priority=priority, reason=Reason.SHUTDOWN)
                )

    def _are_clear(self) -> bool:
        return all(self._members[name].is_clear for name in self._leaving)

    async def _next_move(self, at_most: float | None = None) -> None:
        self._moved.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(at_most):
                await self._moved.wait()

    def _have_left(self) -> bool:
        return all(self._members[name].has_stopped for name in self._leaving)

    def _disarm(self) -> None:
        for name in self._leaving:
            if self._members[name].is_clear:
                # A guard that is gone need not be informed.
                with contextlib.suppress(GuardError):
                    self._link.disarm(name)
