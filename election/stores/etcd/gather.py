"""Calls that come within one turn of the event loop, sent as one request: load then grows with nodes, not with elections.

All elections that a node holds are renewed on one tick, and all of them read back together after an outage. Nobody waits
for a request to fill: it leaves as soon as the loop has run what was due at the same moment.

Every caller keeps its own timeout. One that gives up before its turn takes its part out of the request; when all have given
up, the request is cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from election.stores.etcd.faults import EtcdFault, EtcdRefusal

Q = TypeVar("Q")
A = TypeVar("A")

TURNS = 2
"""Turns of the loop that a call waits for others. Timers set for one moment can be due in two turns, a hair's breadth apart."""


@dataclass(frozen=True, slots=True)
class Caller(Generic[Q, A]):
    """Who waits for an answer. A fault is an answer too: an exception that nobody fetches any more would be reported as a bug."""

    question: Q
    answer: asyncio.Future[A | EtcdFault]

    @property
    def waits(self) -> bool:
        """Whether it has neither got its answer nor given up."""
        return not self.answer.done()


class Gatherer(Generic[Q, A]):
    """Asks together what is asked in one turn.

    `send` takes questions and returns as many answers, in their order; it raises EtcdFault for all of them, and EtcdRefusal
    if nothing was done for a reason that may lie in a single one: then the questions are asked again in two halves.
    `divide` tells how many of the first of these questions may go together, at least one.
    """

    def __init__(self, send: Callable[[Sequence[Q]], Awaitable[Sequence[A]]], divide: Callable[[Sequence[Q]], int]) -> None:
        self._send = send
        self._divide = divide
        self._waiting: list[Caller[Q, A]] = []
        self._requests: set[asyncio.Task[None]] = set()

    async def ask(self, question: Q) -> A:
        """Return the answer to this question; raises EtcdFault."""
        loop = asyncio.get_running_loop()
        caller: Caller[Q, A] = Caller(question, loop.create_future())
        if not self._waiting:
            loop.call_soon(self._turn, TURNS - 1)
        self._waiting.append(caller)
        answer = await caller.answer
        if isinstance(answer, EtcdFault):
            raise answer
        return answer

    def _turn(self, left: int) -> None:
        if left:
            asyncio.get_running_loop().call_soon(self._turn, left - 1)
            return
        waiting, self._waiting = self._waiting, []
        for part in self._parts([caller for caller in waiting if caller.waits]):
            request = asyncio.get_running_loop().create_task(self._deliver(part))
            self._requests.add(request)
            request.add_done_callback(self._requests.discard)
            for caller in part:
                caller.answer.add_done_callback(partial(_end_unawaited, part, request))

    def _parts(self, callers: Sequence[Caller[Q, A]]) -> Iterator[Sequence[Caller[Q, A]]]:
        while callers:
            size = self._divide([caller.question for caller in callers])
            yield callers[:size]
            callers = callers[size:]

    async def _deliver(self, callers: Sequence[Caller[Q, A]]) -> None:
        """Ask for these callers, and give each its answer."""
        callers = [caller for caller in callers if caller.waits]
        if not callers:
            return
        answers: Sequence[A | EtcdFault]
        try:
            answers = await self._send([caller.question for caller in callers])
        except EtcdRefusal as refusal:
            if len(callers) > 1:
                half = len(callers) // 2
                await asyncio.gather(self._deliver(callers[:half]), self._deliver(callers[half:]))
                return
            answers = [refusal]
        except EtcdFault as fault:
            answers = [fault.copy() for _ in callers]
        for caller, answer in zip(callers, answers, strict=True):
            if caller.waits:
                caller.answer.set_result(answer)


def _end_unawaited(callers: Sequence[Caller[Q, A]], request: asyncio.Task[None], _answer: object) -> None:
    if not any(caller.waits for caller in callers):
        request.cancel()
