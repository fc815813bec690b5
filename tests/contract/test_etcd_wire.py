"""The way to etcd fails at every moment of every request.

What the store answers is the truth, or that nobody knows.

The moments are counted in bytes that have passed since the request began. The requests are made in
good order first, to learn how many bytes they take.
"""

from __future__ import annotations

import asyncio
import itertools
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from election.model import Applied, CandidateRecord, Conflict, Found, Record, Revision, Unknown
from election.outage import Outage
from election.stores.contract import ElectionChanged, WatchEvent, WatchLost
from election.stores.etcd.store import EtcdStore
from tests.contract.places import (
    PATIENCE,
    TIMEOUT,
    EtcdPlace,
    closing,
    current,
    found,
    opened,
    revision,
    stands,
    watching,
)
from tests.etcd_server import EtcdServer
from tests.wire_proxy import Fault, Way, WireProxy

RECORD = Record(uid="u", holder="a", session="s", epoch=1, counter=1)
MINE = replace(RECORD, counter=2)
THEIRS = replace(RECORD, holder="b", counter=9)
CANDIDATE = CandidateRecord("n", "s", 1)
SHORT = 0.4
"""Seconds that a call has whose answer is not to come."""
LATE = 2.0
"""Seconds after which a call with that timeout has hung, on a busy machine too."""
LEASE = 3.0
AT_ONCE = 16


@dataclass
class Stand:
    """A store whose way to etcd can fail, and another one whose way cannot."""

    proxy: WireProxy
    store: EtcdStore
    other: EtcdStore
    revision: Revision

    def way(self, up: bool) -> Way:
        """Return one direction."""
        return self.proxy.up if up else self.proxy.down


Ask = Callable[[Stand], Awaitable[object]]


class Request(ABC):
    """Something to ask, and what may be answered."""

    async def prepare(self, stand: Stand) -> None:
        """Bring the store into the state that the request is about."""
        assert (await current(stand.other, "ingress")).record == RECORD

    @abstractmethod
    async def ask(self, stand: Stand, timeout: float) -> object:
        """Ask."""

    @abstractmethod
    async def judge(self, stand: Stand, answer: object) -> None:
        """Check an answer that is not Unknown against what is there."""


class Reading(Request):
    """The record is read."""

    async def ask(self, stand: Stand, timeout: float) -> object:
        """Ask."""
        return await stand.store.read("ingress", timeout)

    async def judge(self, stand: Stand, answer: object) -> None:
        """Check that it was found, since it is there."""
        assert answer == Found(RECORD, stand.revision)


class Writing(Request):
    """The record is renewed."""

    async def ask(self, stand: Stand, timeout: float) -> object:
        """Ask."""
        return await stand.store.write("ingress", MINE, stand.revision, timeout)

    async def judge(self, stand: Stand, answer: object) -> None:
        """Check that it was applied: nobody else writes."""
        assert isinstance(answer, Applied)
        assert await current(stand.other, "ingress") == Found(MINE, answer.revision)


class WritingLate(Request):
    """The record is written on a revision that is not the last."""

    async def prepare(self, stand: Stand) -> None:
        """Let somebody else take it."""
        await revision(stand.other, "ingress", THEIRS, stand.revision)

    async def ask(self, stand: Stand, timeout: float) -> object:
        """Ask."""
        return await stand.store.write("ingress", MINE, stand.revision, timeout)

    async def judge(self, stand: Stand, answer: object) -> None:
        """Check that it is a conflict, and the other's record stays."""
        assert answer == Conflict()
        assert (await current(stand.other, "ingress")).record == THEIRS


class WritingMany(WritingLate):
    """Three records in one request.

    The one that somebody else has taken is a conflict, the two others are applied.
    """

    async def ask(self, stand: Stand, timeout: float) -> object:
        """Ask."""
        one, two, late = await asyncio.gather(
            stand.store.write("one", MINE, None, timeout),
            stand.store.write("two", MINE, None, timeout),
            stand.store.write("ingress", MINE, stand.revision, timeout),
        )
        answers = (one, two, late)
        unknown = [answer for answer in answers if isinstance(answer, Unknown)]
        assert len(unknown) in {0, len(answers)}
        return unknown[0] if unknown else answers

    async def judge(self, stand: Stand, answer: object) -> None:
        """Check that each is the truth."""
        assert isinstance(answer, tuple)
        assert [type(one) for one in answer] == [Applied, Applied, Conflict]
        for name, one in zip(("one", "two"), answer, strict=False):
            assert await current(stand.other, name) == Found(MINE, one.revision)
        assert (await current(stand.other, "ingress")).record == THEIRS


class ReadingCandidates(Request):
    """All candidate records are read."""

    async def prepare(self, stand: Stand) -> None:
        """Write one."""
        await stand.other.write_candidate(CANDIDATE, TIMEOUT)

    async def ask(self, stand: Stand, timeout: float) -> object:
        """Ask."""
        return await stand.store.read_candidates(timeout)

    async def judge(self, stand: Stand, answer: object) -> None:
        """Check that it was found."""
        assert answer == [CANDIDATE] == await stand.other.read_candidates(TIMEOUT)


class WritingCandidate(Request):
    """A candidate record is written: a lease of etcd's is granted, then the record put."""

    async def ask(self, stand: Stand, timeout: float) -> object:
        """Ask."""
        return await stand.store.write_candidate(CANDIDATE, timeout)

    async def judge(self, stand: Stand, answer: object) -> None:
        """Check that it is there."""
        assert isinstance(answer, Applied)
        assert await stand.other.read_candidates(TIMEOUT) == [CANDIDATE]


class DeletingCandidate(ReadingCandidates):
    """A candidate record is removed."""

    async def ask(self, stand: Stand, timeout: float) -> object:
        """Ask."""
        return await stand.store.delete_candidate("n", timeout)

    async def judge(self, stand: Stand, answer: object) -> None:
        """Check that it is gone."""
        assert answer == Applied("")
        assert await stand.other.read_candidates(TIMEOUT) == []


REQUESTS = [
    Reading(),
    Writing(),
    WritingLate(),
    WritingMany(),
    ReadingCandidates(),
    WritingCandidate(),
    DeletingCandidate(),
]


async def stand_in(stack: AsyncExitStack, place: EtcdPlace, *, warm: bool) -> Stand:
    """Make the two stores; `warm`: the first has a connection already."""
    proxy = await stack.enter_async_context(WireProxy(place.server.host, place.server.port))
    near = EtcdStore([proxy.url], place.prefix, SHORT)
    stack.push_async_callback(near.close)
    far = EtcdStore([place.server.url], place.prefix)
    stack.push_async_callback(far.close)
    first = await revision(far, "ingress", RECORD)
    # A store writes only on what it has seen, so one without a connection has to be told.
    near._remember("ingress", far._contents["ingress"][first])
    if warm:
        assert found(await near.read("ingress", TIMEOUT)).revision == first
    return Stand(proxy, near, far, first)


async def bytes_of(request: Request, place: EtcdPlace, *, up: bool, warm: bool) -> int:
    """Return how many bytes this request takes in one direction; it is answered."""
    async with AsyncExitStack() as stack:
        stand = await stand_in(stack, place, warm=warm)
        await request.prepare(stand)
        before = stand.way(up).carried
        answer = await request.ask(stand, TIMEOUT)
        assert not isinstance(answer, Unknown)
        await request.judge(stand, answer)
        return stand.way(up).carried - before


async def fail_once(
    request: Request, place: EtcdPlace, fault: Fault, *, up: bool, after: int, warm: bool
) -> bool:
    """Ask while the way fails; return whether there was an answer nevertheless."""
    async with AsyncExitStack() as stack:
        stand = await stand_in(stack, place, warm=warm)
        await request.prepare(stand)
        stand.way(up).fail(fault, after)
        async with asyncio.timeout(LATE):
            answer = await request.ask(stand, SHORT)
        if isinstance(answer, Unknown):
            assert answer.outage in {Outage.SLOW, Outage.UNREACHABLE}, answer
            assert (await current(stand.other, "ingress")).record in {RECORD, MINE, THEIRS}
            return False
        await request.judge(stand, answer)
        return True


def moments(size: int) -> list[int]:
    """Return moments in a request of so many bytes.

    Its begin, within and after the head of its first frame, its middle and end.
    """
    return sorted(
        {0, 1, 9, size // 3, size // 2, 3 * size // 4, max(size - 10, 0), max(size - 1, 0)}
    )


@pytest.mark.parametrize("warm", [True, False], ids=["connected", "connecting"])
@pytest.mark.parametrize("up", [True, False], ids=["asking", "answering"])
@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: type(request).__name__)
def test_an_answer_is_the_truth_or_unknown(
    request_: Request, up: bool, warm: bool, etcd: EtcdServer, tmp_path: Path
) -> None:
    """The request or its answer is held, lost, cut or reset at one moment after the other."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(fault: Fault, after: int) -> bool:
        async with gate:
            return await fail_once(
                request_, EtcdPlace(tmp_path, etcd), fault, up=up, after=after, warm=warm
            )

    async def scenario() -> None:
        size = await bytes_of(request_, EtcdPlace(tmp_path, etcd), up=up, warm=warm)
        cases = list(itertools.product(Fault, moments(size)))
        answered = dict(
            zip(cases, await asyncio.gather(*(one(*case) for case in cases)), strict=True)
        )
        # None of it came from luck: where nothing passes nothing is answered.
        assert not any(answered[fault, 0] for fault in Fault)

    asyncio.run(scenario())


def has_counter(number: int) -> Callable[[WatchEvent], bool]:
    """Return what is true of an event that reports this counter."""

    def seen(event: WatchEvent) -> bool:
        return (
            isinstance(event, ElectionChanged)
            and isinstance(event.content, Found)
            and event.content.record.counter == number
        )

    return seen


@pytest.mark.parametrize("after", [0, 1, 60])
@pytest.mark.parametrize("fault", list(Fault))
def test_a_watch_that_fails_is_lost_within_a_lease(
    fault: Fault, after: int, etcd: EtcdServer, tmp_path: Path
) -> None:
    """However silently; mended, it stands again and has all that it missed."""

    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            stand = await stand_in(stack, EtcdPlace(tmp_path, etcd), warm=True)
            watch = await stack.enter_async_context(watching(stand.store))
            await watch.until(has_counter(1))
            started = asyncio.get_running_loop().time()
            stand.proxy.down.fail(fault, after)
            last = await revision(stand.other, "ingress", MINE, stand.revision)
            lost = await watch.until(lambda event: isinstance(event, WatchLost))
            assert asyncio.get_running_loop().time() - started < LEASE
            assert not any(has_counter(2)(event) for event in watch.seen), lost
            stand.proxy.mend()
            if fault is Fault.SWALLOW:
                # A connection that lost bytes is of no use any more; it takes gRPC seven seconds to
                # find out by itself.
                stand.proxy.end_all(Fault.RESET)
            await watch.each(stands, has_counter(2))
            await revision(stand.other, "ingress", replace(MINE, counter=3), last)
            await watch.until(has_counter(3))

    asyncio.run(scenario())


def test_a_hung_endpoint_costs_one_timeout(etcd: EtcdServer, tmp_path: Path) -> None:
    """Its write is unknown after its timeout.

    All that follows goes elsewhere, without another wait.
    """
    place = EtcdPlace(tmp_path, etcd)

    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            stand = await stand_in(stack, place, warm=True)
            both = EtcdStore([stand.proxy.url, place.server.url], place.prefix, SHORT)
            stack.push_async_callback(both.close)
            assert found(await both.read("ingress", TIMEOUT)).revision == stand.revision
            stand.proxy.fail(Fault.HOLD)
            answer = await both.write("ingress", MINE, stand.revision, SHORT)
            assert isinstance(answer, Unknown)
            assert answer.outage is Outage.SLOW
            accepted = stand.proxy.accepted
            last = found(await both.read("ingress", SHORT))
            assert last.record == RECORD
            await revision(both, "ingress", MINE, last.revision)
            assert stand.proxy.accepted == accepted
            # What was held gets through at last: it comes too late to change anything.
            stand.proxy.mend()
            assert (await current(both, "ingress")).record == MINE

    asyncio.run(scenario())


def test_a_write_that_was_held_is_applied_late_or_not_at_all(
    etcd: EtcdServer, tmp_path: Path
) -> None:
    """Its caller was told that nobody knows; what it reads back afterwards is one of the two."""

    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            stand = await stand_in(stack, EtcdPlace(tmp_path, etcd), warm=True)
            stand.proxy.up.fail(Fault.HOLD)
            assert isinstance(
                await stand.store.write("ingress", MINE, stand.revision, SHORT), Unknown
            )
            stand.proxy.mend()
            async with asyncio.timeout(PATIENCE):
                while isinstance(answer := await stand.store.read("ingress", SHORT), Unknown):
                    pass
            assert found(answer).record in {RECORD, MINE}

    asyncio.run(scenario())


def test_a_slow_way_is_no_outage(etcd: EtcdServer, tmp_path: Path) -> None:
    """Answers take longer, but come in their time; beyond it they are slow, and not unreachable."""

    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            stand = await stand_in(stack, EtcdPlace(tmp_path, etcd), warm=True)
            stand.proxy.down.delay = 0.2
            last = await revision(stand.store, "ingress", MINE, stand.revision)
            stand.proxy.down.delay = 5.0
            answer = await stand.store.write("ingress", replace(MINE, counter=3), last, SHORT)
            assert isinstance(answer, Unknown)
            assert answer.outage is Outage.SLOW

    asyncio.run(scenario())


def test_nothing_behind_the_way_is_unreachable(tmp_path: Path, etcd: EtcdServer) -> None:
    """A load balancer that closes every connection at once."""

    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            stand = await stand_in(stack, EtcdPlace(tmp_path, etcd), warm=False)
            stand.proxy.refusing = True
            answer = await stand.store.read("ingress", SHORT)
            assert isinstance(answer, Unknown)
            assert answer.outage is Outage.UNREACHABLE

    asyncio.run(scenario())


def test_the_other_tests_leave_nothing_behind(etcd_place: EtcdPlace) -> None:
    """Requests that were given up on a way that hangs end with their store: no task is left."""

    async def scenario() -> None:
        async with WireProxy(etcd_place.server.host, etcd_place.server.port) as proxy:
            proxy.fail(Fault.HOLD)
            async with closing(EtcdStore([proxy.url], etcd_place.prefix, SHORT)) as store:
                asked = [
                    asyncio.create_task(store.read(f"e{number}", PATIENCE)) for number in range(3)
                ]
                await asyncio.sleep(0)
                async with asyncio.timeout(PATIENCE):
                    while not proxy.accepted:  # noqa: ASYNC110 - the connection is the event
                        await asyncio.sleep(0.01)
            answers = await asyncio.gather(*asked)
            assert all(isinstance(answer, Unknown) and "let go" in answer.why for answer in answers)
        async with opened(etcd_place):
            pass

    asyncio.run(scenario())
