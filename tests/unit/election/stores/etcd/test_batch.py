"""What is asked in one turn of the loop goes out together, and everybody gets the answer that is
their own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from election.outage import Outage
from election.stores.errors import NothingDone, StoreFault
from election.stores.etcd.batch import Gatherer


class Server:
    """Doubles numbers. Refuses requests with `bad` in them, fails at 13, and answers nobody while
    `open` is not set.
    """

    def __init__(self, most: int = 100) -> None:
        self.requests: list[list[int]] = []
        self.ended: list[list[int]] = []
        self.bad: set[int] = set()
        self.open = asyncio.Event()
        self.open.set()
        self.gatherer: Gatherer[int, int] = Gatherer(
            self.send, lambda numbers: min(most, len(numbers))
        )

    async def send(self, numbers: Sequence[int]) -> Sequence[int]:
        """Take a request."""
        self.requests.append(list(numbers))
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.ended.append(list(numbers))
            raise
        if self.bad & set(numbers):
            raise NothingDone("denied", Outage.REFUSING)
        if 13 in numbers:
            raise StoreFault("lost", Outage.SLOW)
        return [2 * number for number in numbers]


async def answers(server: Server, *numbers: int) -> list[int | BaseException]:
    """Ask all of these in one turn."""
    return await asyncio.gather(*map(server.gatherer.ask, numbers), return_exceptions=True)


def test_one_turn_is_one_request() -> None:
    """Also when the callers come in two turns that follow each other, and the next ones are a
    request of their own.
    """

    async def scenario() -> None:
        server = Server()
        assert await answers(server, 1, 2, 3) == [2, 4, 6]
        first = asyncio.create_task(server.gatherer.ask(4))
        await asyncio.sleep(0)
        assert [*await asyncio.gather(first, server.gatherer.ask(5))] == [8, 10]
        assert server.requests == [[1, 2, 3], [4, 5]]

    asyncio.run(scenario())


def test_a_request_has_its_limit() -> None:
    """What is beyond goes beside it."""

    async def scenario() -> None:
        server = Server(most=2)
        assert await answers(server, 1, 2, 3) == [2, 4, 6]
        assert server.requests == [[1, 2], [3]]

    asyncio.run(scenario())


def test_a_lost_answer_is_lost_for_all() -> None:
    """Each raises a fault of its own, and nothing is sent again."""

    async def scenario() -> None:
        server = Server()
        faults = await answers(server, 1, 13, 3)
        assert [
            (str(fault), fault.outage) for fault in faults if isinstance(fault, StoreFault)
        ] == [("lost", Outage.SLOW)] * 3
        assert len(set(map(id, faults))) == 3
        assert server.requests == [[1, 13, 3]]

    asyncio.run(scenario())


def test_a_refusal_hits_only_whom_it_is_for() -> None:
    """The request is halved until it is found; all others are answered."""

    async def scenario() -> None:
        server = Server()
        server.bad = {5}
        got = await answers(server, *range(8))
        assert isinstance(got[5], NothingDone)
        assert got[:5] + got[6:] == [0, 2, 4, 6, 8, 12, 14]
        assert len(server.requests) == 7

    asyncio.run(scenario())


def test_who_gives_up_before_the_turn_is_not_sent() -> None:
    """Nor asked again after a refusal.

    A write must not go out after its caller was told that nobody knows.
    """

    async def scenario() -> None:
        server = Server()
        early = asyncio.create_task(server.gatherer.ask(1))
        other = asyncio.create_task(server.gatherer.ask(2))
        await asyncio.sleep(0)
        early.cancel()
        assert await other == 4
        assert server.requests == [[2]]

        server.open.clear()
        server.bad = {4}
        asked = [asyncio.create_task(server.gatherer.ask(number)) for number in (3, 4)]
        async with asyncio.timeout(5):
            while len(server.requests) < 2:  # noqa: ASYNC110 - the request is the event
                await asyncio.sleep(0)
        asked[0].cancel()
        await asyncio.sleep(0)
        server.open.set()
        with pytest.raises(NothingDone):
            await asked[1]
        assert server.requests == [[2], [3, 4], [4]]

    asyncio.run(scenario())


def test_a_request_that_nobody_waits_for_is_cancelled() -> None:
    """One caller's timeout costs the others nothing; the last one's ends the request."""

    async def scenario() -> None:
        server = Server()
        server.open.clear()
        asked = [asyncio.create_task(server.gatherer.ask(number)) for number in (1, 2)]
        async with asyncio.timeout(5):
            while not server.requests:  # noqa: ASYNC110 - the request is the event
                await asyncio.sleep(0)
        asked[0].cancel()
        for _ in range(5):
            await asyncio.sleep(0)
        assert server.ended == []
        asked[1].cancel()
        for _ in range(5):
            await asyncio.sleep(0)
        assert server.ended == [[1, 2]]

    asyncio.run(scenario())
