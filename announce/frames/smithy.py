"""Frames for all instances from one child at a time.

A child takes half a second of a core, most of it an import. A hundred of them at once, one for each
instance, would keep the daemon from running for longer than the guard waits for a sign of life.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from announce.frames.build import Frames
from announce.frames.forge import ForgeError, forge

Requests = Sequence[tuple[str, str]]
"""Addresses, each with the MAC address that it is announced with."""
Forge = Callable[[Requests], Awaitable[dict[str, Frames]]]


@dataclass(frozen=True, slots=True)
class Job:
    """What one instance has asked for. A failure is an answer too: who asked may have given up."""

    requests: Requests
    answer: asyncio.Future[dict[str, Frames] | Exception]


class Smithy:
    """Asks for all instances together; what is asked while a child works goes into the next one."""

    def __init__(self, make: Forge = forge) -> None:
        self._make = make
        self._waiting: list[Job] = []
        self._work: asyncio.Task[None] | None = None

    async def forge(self, requests: Requests) -> dict[str, Frames]:
        """Return the frames by address; raises ForgeError and OSError."""
        loop = asyncio.get_running_loop()
        job = Job(requests, loop.create_future())
        self._waiting.append(job)
        if self._work is None or self._work.done():
            self._work = loop.create_task(self._work_off())
        answer = await job.answer
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def _work_off(self) -> None:
        while self._waiting:
            jobs, self._waiting = [job for job in self._waiting if not job.answer.done()], []
            built: dict[str, Frames] = {}
            failure: Exception | None = None
            try:
                built = await self._make([request for job in jobs for request in job.requests])
            except (ForgeError, OSError) as error:
                failure = error
            for job in jobs:
                if not job.answer.done():
                    job.answer.set_result(
                        failure or {address: built[address] for address, _ in job.requests}
                    )
