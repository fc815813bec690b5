"""What the fixture that watches the event loop charges a callback with."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Callable

import pytest

from tests.loop_watch import Moment, charged, watched_loops

ENDLESS = "(a|a){22}b"


def compute() -> None:
    """Work for a while."""
    end = time.thread_time() + 0.1
    while time.thread_time() < end:
        pass


def held_by_another_thread() -> None:
    """Wait for the interpreter's lock, which a search holds on another thread."""
    searching = threading.Thread(target=lambda: re.search(ENDLESS, "a" * 23))
    searching.start()
    searching.join()


@pytest.mark.blocks
@pytest.mark.parametrize("hold_up", [lambda: time.sleep(0.1), compute, held_by_another_thread])
def test_what_holds_up_the_loop_is_found(hold_up: Callable[[], None]) -> None:
    """Sleeping, computing, and the lock."""

    async def scenario() -> None:
        asyncio.get_running_loop().call_soon(hold_up)
        await asyncio.sleep(0.01)

    with watched_loops() as slow:
        asyncio.run(scenario())
    assert len(slow) == 1


@pytest.mark.parametrize(
    ("clock", "cpu", "others_cpu", "waited", "seconds"),
    [
        (1.0, 1.0, 0.0, {}, 1.0),
        (1.0, 0.25, 0.0, {}, 1.0),
        (1.0, 0.0, 0.0, {1: 1.0}, 0.0),
        (1.0, 0.25, 0.0, {1: 0.5}, 0.5),
        (1.0, 0.25, 0.0, {1: 0.25, 2: 0.125}, 0.625),
        (1.0, 0.25, 0.0, {2: 5.0}, 0.25),
        (1.0, 0.25, 0.125, {1: 0.25, 2: 5.0}, 0.375),
        (1.0, 0.25, 5.0, {1: 0.5, 2: 5.0}, 0.5),
        (1.0, 0.0, 0.0, {0: 0.5}, 0.5),
    ],
)
def test_a_crowded_machine_is_not_charged(
    clock: float, cpu: float, others_cpu: float, waited: dict[int, float], seconds: float
) -> None:
    """Thread 1 ran the callback, 2 is another, or a child; 0 is the host.

    What was computed counts whoever waited meanwhile.
    """
    begin = Moment(1, 10.0, 20.0, 30.0, dict.fromkeys([0, 1], 7.0))
    end = {0: 7.0, 1: 7.0} | {
        one: begin.waited.get(one, 0.0) + more for one, more in waited.items()
    }
    assert charged(begin, Moment(1, 10.0 + clock, 20.0 + cpu, 30.0 + others_cpu, end)) == seconds
