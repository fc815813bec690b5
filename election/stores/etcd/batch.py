"""Calls that come within one turn of the event loop, sent as one request.

Load then grows with nodes, not with elections.

All elections that a node holds are renewed on one tick, and all of them read back together after an
outage. Nobody waits for a request to fill: it leaves as soon as the loop has run what was due at
the same moment.

Every caller keeps its own timeout. One that gives up before its turn takes its part out of the
request; when all have given up, the request is cancelled.

What is asked of the key-value store, one thing by itself or many in one transaction, stands below.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from election.stores.errors import NothingDone, StoreFault
from election.stores.etcd.rpc import rpc

Q = TypeVar("Q")
A = TypeVar("A")

TURNS = 2
"""Turns of the loop that a call waits for others. Timers set for one moment can be due in two
turns, a hair's breadth apart."""


@dataclass(frozen=True, slots=True)
class Caller(Generic[Q, A]):
    """Who waits for an answer.

    A fault is an answer too: an exception that nobody fetches any more would be reported as a bug.
    """

    question: Q
    answer: asyncio.Future[A | StoreFault]

    @property
    def waits(self) -> bool:
        """Whether it has neither got its answer nor given up."""
        return not self.answer.done()


class Gatherer(Generic[Q, A]):
    """Asks together what is asked in one turn.

    `send` takes questions and returns as many answers, in their order; it raises StoreFault for all
    of them, and NothingDone if nothing was done for a reason that may lie in a single one: then the
    questions are asked again in two halves. `divide` tells how many of the first of these questions
    may go together, at least one.
    """

    def __init__(
        self,
        send: Callable[[Sequence[Q]], Awaitable[Sequence[A]]],
        divide: Callable[[Sequence[Q]], int],
    ) -> None:
        self._send = send
        self._divide = divide
        self._waiting: list[Caller[Q, A]] = []
        self._requests: set[asyncio.Task[None]] = set()

    async def ask(self, question: Q) -> A:
        """Return the answer to this question; raises StoreFault."""
        loop = asyncio.get_running_loop()
        caller: Caller[Q, A] = Caller(question, loop.create_future())
        if not self._waiting:
            loop.call_soon(self._turn, TURNS - 1)
        self._waiting.append(caller)
        answer = await caller.answer
        if isinstance(answer, StoreFault):
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
        answers: Sequence[A | StoreFault]
        try:
            answers = await self._send([caller.question for caller in callers])
        except NothingDone as refusal:
            if len(callers) > 1:
                half = len(callers) // 2
                await asyncio.gather(self._deliver(callers[:half]), self._deliver(callers[half:]))
                return
            answers = [refusal]
        except StoreFault as fault:
            answers = [fault.copy() for _ in callers]
        for caller, answer in zip(callers, answers, strict=True):
            if caller.waits:
                caller.answer.set_result(answer)


def _end_unawaited(
    callers: Sequence[Caller[Q, A]], request: asyncio.Task[None], _answer: object
) -> None:
    if not any(caller.waits for caller in callers):
        request.cancel()


LARGEST_COMPARED = 256 * 1024
"""Bytes of an old value that go into a request; etcd takes requests of 1.5 MiB, and anybody may
have filled one."""
MOST_TOGETHER = 126
"""Records in one transaction. etcd takes 128 operations (its max-txn-ops) and counts them along
each path: those of the outer transaction, and to them the larger number of a nested one's
comparisons (two) and writes (measured, 3.4.23)."""
MOST_BYTES = 512 * 1024
"""Bytes of keys and values in one transaction, a third of what etcd takes; a larger record goes by
itself."""


@dataclass(frozen=True, slots=True)
class Item:
    """A key with its value, and the store's revision at which it got it."""

    key: str
    value: bytes
    revision: int


@dataclass(frozen=True, slots=True)
class Swap:
    """Write the value if the key is still as it was `before`; None: absent.

    The old value is compared besides its revision: after a restore from a backup etcd gives
    revisions out again.
    """

    key: str
    value: bytes
    before: Item | None

    @property
    def size(self) -> int:
        """Bytes in a request, roughly."""
        return 3 * len(self.key) + len(self.value) + (len(self.before.value) if self.before else 0)


def swap_request(swap: Swap) -> Any:  # noqa: ANN401 - a protobuf message
    """Return the transaction that does this."""
    name, before = swap.key.encode(), swap.before
    compare = [
        rpc.Compare(key=name, target=rpc.Compare.MOD, mod_revision=before.revision if before else 0)
    ]
    if before is not None and len(before.value) <= LARGEST_COMPARED:
        compare.append(rpc.Compare(key=name, target=rpc.Compare.VALUE, value=before.value))
    put = rpc.RequestOp(request_put=rpc.PutRequest(key=name, value=swap.value))
    return rpc.TxnRequest(compare=compare, success=[put])


def together(swaps: Sequence[Swap]) -> Any:  # noqa: ANN401 - a protobuf message
    """Return one transaction of a nested one for each, so that each is judged by itself.

    A conflict costs no other its write.
    """
    return rpc.TxnRequest(success=[rpc.RequestOp(request_txn=swap_request(swap)) for swap in swaps])


def fitting(swaps: Sequence[Swap]) -> int:
    """Return how many of these, from the first on, may go into one transaction.

    etcd refuses one that writes a key twice.
    """
    keys: set[str] = set()
    size = 0
    for swap in swaps[:MOST_TOGETHER]:
        size += swap.size
        if keys and (swap.key in keys or size > MOST_BYTES):
            break
        keys.add(swap.key)
    return len(keys)


def read_request(key: str) -> Any:  # noqa: ANN401 - a protobuf message
    """Return the request for one key."""
    return rpc.RangeRequest(key=key.encode())


def read_together(keys: Sequence[str]) -> Any:  # noqa: ANN401 - a protobuf message
    """Return one transaction that reads all of these.

    Without a write in it etcd makes it linearizable as it makes a read.
    """
    return rpc.TxnRequest(success=[rpc.RequestOp(request_range=read_request(key)) for key in keys])


def item_of(kv: Any) -> Item:  # noqa: ANN401 - a protobuf message
    """Return the item in a message."""
    return Item(bytes(kv.key).decode(errors="replace"), bytes(kv.value), int(kv.mod_revision))


def first_item(found: Any) -> Item | None:  # noqa: ANN401 - a protobuf message
    """Return the first item in the answer to a read, if there is one."""
    return item_of(found.kvs[0]) if found.kvs else None
