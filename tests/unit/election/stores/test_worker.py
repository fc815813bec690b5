"""The thread for what may block: order, errors, calls that hang, and the end."""

from __future__ import annotations

import asyncio
import threading
from functools import partial

import pytest

from election.stores.errors import NoWorker
from election.stores.worker import LONGEST_QUEUE, Worker

SOON = 0.02
PATIENCE = 10.0


def threads() -> int:
    """Return how many threads of the tests' workers there are."""
    return sum(thread.name == "test-worker" for thread in threading.enumerate())


def where(number: int) -> tuple[int, int]:
    """Return the number and the thread that this ran on."""
    return number, threading.get_ident()


def test_calls_are_done_in_order_and_on_one_other_thread() -> None:
    """Their results come back to who called."""

    async def scenario() -> None:
        worker = Worker("test-worker")
        calls = [worker.call(partial(where, number), PATIENCE) for number in range(20)]
        results = await asyncio.gather(*calls)
        assert [number for number, _ in results] == list(range(20))
        assert len({thread for _, thread in results} - {threading.get_ident()}) == 1
        await worker.close()
        assert threads() == 0

    asyncio.run(scenario())


def test_an_error_goes_to_who_called() -> None:
    """The thread survives it."""

    async def scenario() -> None:
        worker = Worker("test-worker")
        with pytest.raises(ZeroDivisionError):
            await worker.call(lambda: 1 // 0, PATIENCE)
        assert await worker.call(lambda: 1, PATIENCE) == 1
        await worker.close()

    asyncio.run(scenario())


def test_a_call_that_hangs_is_given_up_and_those_behind_it_are_not_done() -> None:
    """Its late result is dropped.

    What was given up before its turn never happens; later calls are served.
    """

    async def scenario() -> None:
        worker, release, done = Worker("test-worker"), threading.Event(), list[str]()
        for work in (
            release.wait,
            lambda: done.append("given up"),
            lambda: done.append("given up too"),
        ):
            with pytest.raises(TimeoutError):
                await worker.call(work, SOON)
        release.set()
        await worker.call(lambda: done.append("later"), PATIENCE)
        assert done == ["later"]
        await worker.close()
        assert threads() == 0

    asyncio.run(scenario())


def test_calls_behind_one_that_hangs_do_not_pile_up() -> None:
    """The queue has an end, and says so at once."""

    async def scenario() -> None:
        worker, release = Worker("test-worker"), threading.Event()
        calls = [
            asyncio.create_task(worker.call(release.wait, PATIENCE))
            for _ in range(LONGEST_QUEUE + 1)
        ]
        await asyncio.sleep(0)
        while worker._calls.qsize() < LONGEST_QUEUE:
            calls.append(asyncio.create_task(worker.call(release.wait, PATIENCE)))
            await asyncio.sleep(0)
        with pytest.raises(NoWorker):
            await worker.call(release.wait, PATIENCE)
        release.set()
        await asyncio.gather(*calls, return_exceptions=True)
        assert await worker.call(lambda: 1, PATIENCE) == 1
        await worker.close()

    asyncio.run(scenario())


def test_close_waits_for_a_hanging_call_only_so_long() -> None:
    """The end of the daemon does not depend on a disk.

    The thread ends by itself if the disk ever comes back.
    """

    async def scenario() -> None:
        worker, release = Worker("test-worker"), threading.Event()
        with pytest.raises(TimeoutError):
            await worker.call(release.wait, SOON)
        await worker.close()
        assert threads() == 1
        release.set()

    asyncio.run(scenario())
    for thread in threading.enumerate():
        if thread.name == "test-worker":
            thread.join(PATIENCE)
    assert threads() == 0


def test_a_result_after_the_end_of_the_loop_is_dropped() -> None:
    """asyncio.run has returned while a call was still in hand."""
    worker, release = Worker("test-worker"), threading.Event()

    async def scenario() -> None:
        with pytest.raises(TimeoutError):
            await worker.call(release.wait, SOON)

    asyncio.run(scenario())
    release.set()
    asyncio.run(worker.close())
    assert threads() == 0


def test_after_close_there_are_no_calls() -> None:
    """Closing twice, or what never started, is nothing."""

    async def scenario() -> None:
        worker = Worker("test-worker")
        await worker.close()
        await worker.close()
        with pytest.raises(NoWorker):
            await worker.call(lambda: 1, PATIENCE)
        assert threads() == 0

    asyncio.run(scenario())
