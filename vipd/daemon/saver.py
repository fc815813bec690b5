"""Writes the state directory on threads, and tells when it was written.

A disk that hangs must not hold up the election.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from election.actions import Remember
from vipd.state_dir import Memory

PAUSE = 0.2
"""Seconds between two writes at least, each of which waits for the disk."""

log = logging.getLogger("vipd")


class Saver:
    """Saves one memory.

    `kept` is called with an election and the highest epoch chosen in it once that outlives the
    daemon.

    That is also when it could not be written: nothing more can be done then, and the sentence about
    it is in the log.
    """

    def __init__(self, memory: Memory, kept: Callable[[str, int], None]) -> None:
        self._memory = memory
        self._kept = kept
        self._told: dict[str, int] = {}
        self._wanted = asyncio.Event()
        self._chosen = asyncio.Event()

    def remember(self, election: str, what: Remember) -> None:
        """Keep the highest epochs and the longest lease.

        A chosen epoch at once, since a bind waits for it.
        """
        self._memory.remember(election, what)
        if what.chosen > what.epoch:
            self.hurry()
        else:
            self.want()

    def keep_verdicts(self, instance: str, checks: Mapping[str, bool]) -> bool:
        """Keep the results of an instance's checks, by name; return whether they are new."""
        if dict(checks) == self._memory.verdicts.get(instance):
            return False
        self._memory.verdicts[instance] = dict(checks)
        self.want()
        return True

    def want(self) -> None:
        """Write everything soon."""
        self._wanted.set()

    def hurry(self) -> None:
        """Write the epochs at once: a bind waits for it. Everything follows."""
        self._wanted.set()
        self._chosen.set()

    async def run(self) -> None:
        """Write whenever it is wanted, until cancelled.

        Epochs do not wait for a write of everything that is under way.
        """
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._save())
            tasks.create_task(self._save_chosen())

    async def _save(self) -> None:
        said = self._memory.trouble
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            await asyncio.to_thread(self._memory.save)
            if self._memory.trouble != said:
                said = self._memory.trouble
                if said:
                    log.warning("%s", said)
            await asyncio.sleep(PAUSE)

    async def _save_chosen(self) -> None:
        while True:
            await self._chosen.wait()
            self._chosen.clear()
            chosen = {name: known.chosen for name, known in self._memory.elections.items()}
            await asyncio.to_thread(self._memory.save_chosen)
            for name, epoch in chosen.items():
                if epoch > self._told.get(name, 0):
                    self._told[name] = epoch
                    self._kept(name, epoch)
