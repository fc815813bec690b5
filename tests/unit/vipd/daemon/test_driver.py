"""In which order an election's machine hears of things, and what it hears of what the previous
daemon left.
"""

from __future__ import annotations

import asyncio
import errno
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from announce.kernel.rtnetlink import FOREVER
from election.actions import Action, Bind
from election.events import AddressClaimed, AddressLost, BindDone, Event
from election.machine.machine import Machine
from election.machine.situation import Kernel
from election.model import Identity
from election.timing import PROFILES, Settings
from tests.unit.vipd.inprocess import VIP, WEB, LocalWord, MemoryKernel, Node, instance, node
from vipd.clock import now
from vipd.daemon.driver import Driver
from vipd.daemon.member import Member
from vipd.state_dir import Election

OTHER = "192.0.2.101"
TRIGGER = AddressLost()


class OneBind(Machine):
    """Wants one bind when it is told of a lost address, and keeps in mind what it is told."""

    def __init__(self) -> None:
        super().__init__(Settings(WEB, (f"{VIP}/32",), PROFILES["fast"]), Identity("n1", "s1"))
        self.heard: list[Event] = []

    def step(self, now: float, event: Event) -> list[Action]:
        """Decide."""
        del now
        self.heard.append(event)
        return [Bind(1, 1e9, 3.0)] if event == TRIGGER else []


class Crowded(MemoryKernel):
    """A kernel whose every bind is met by news for the election."""

    news: Driver | None = None

    def request(self, messages: list[bytes], timeout: float | None = None) -> list[int]:  # type: ignore[override]
        """Do what the messages say, after something else was reported."""
        if self.news is not None:
            self.news.post(AddressClaimed("mail"))
        return super().request(messages, timeout)


@pytest.mark.parametrize("refuses", [0, errno.EPERM])
def test_the_kernels_answer_to_a_bind_is_heard_before_anything_that_came_in_meanwhile(
    tmp_path: Path, refuses: int
) -> None:
    """Else the machine goes on, and writes a record, as if it had the address."""

    async def scenario() -> None:
        async with node(tmp_path, "n1") as made:
            made.member.driver.cancel()
            kernel = Crowded()
            made.member.executor._kernel = kernel
            made.member.executor.word.set(now() + 100.0)
            machine = OneBind()
            election = Driver(WEB, machine, made.member.driver.deps)
            kernel.refuses, kernel.news = refuses, election
            election.post(TRIGGER)
            kernel.news = None
            election.cancel()
            kinds = [type(event) for event in machine.heard]
            assert kinds[:2] == [AddressLost, BindDone]
            assert AddressClaimed in kinds[2:]
            assert [event.ok for event in machine.heard if isinstance(event, BindDone)] == [
                not refuses
            ]

    asyncio.run(scenario())


async def started_over(made: Node, lifetimes: dict[str, int]) -> tuple[Kernel, set[str]]:
    """Let the previous daemon have bound these with so many seconds to live.

    Return what the next one's machine makes of that.
    """
    kernel = made.kernel
    word = LocalWord()
    member = Member(
        (
            replace(
                instance(), addresses=(*instance().addresses, *instance(address=OTHER).addresses)
            ),
        ),
        made.member._deps,
        word,
        Election(),
    )
    member.look()
    word.set(now() + 100.0)
    assert member.executor.bind(Bind(1, word.deadline, 3.0)).ok
    word.set(0.0)
    kept = {key: one for key, one in kernel._bound.items() if str(ip_address(one.ip)) in lifetimes}
    kernel._bound = {
        key: one._replace(valid_lft=lifetimes[str(ip_address(one.ip))]) for key, one in kept.items()
    }
    member.start(frozenset({"previous"}), {}, drained=False)
    try:
        return member.driver.machine.situation.kernel, kernel.bound
    finally:
        await member.close()


@pytest.mark.parametrize(
    ("lifetimes", "left"),
    [
        ({VIP: 2, OTHER: 2}, True),
        ({VIP: FOREVER, OTHER: 2}, False),
        ({VIP: 2, OTHER: FOREVER}, False),
        ({VIP: 2}, True),
    ],
)
def test_what_the_previous_daemon_left_stays_only_if_the_kernel_removes_all_of_it(
    tmp_path: Path, lifetimes: dict[str, int], left: bool
) -> None:
    """One address that never expires would be served for ever by a node that does not hold the
    lease.
    """

    async def scenario() -> None:
        async with node(tmp_path, "n1") as made:
            made.member.driver.cancel()
            state, bound = await started_over(made, lifetimes)
            assert (state is Kernel.LEFTOVER) is left
            assert bound == (set(lifetimes) if left else set())

    asyncio.run(scenario())
