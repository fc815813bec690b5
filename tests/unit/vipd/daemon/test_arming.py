"""Addresses are bound only where the guard has taken note of them.

It may be silent, refuse, or answer late.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from announce.kernel.addresses import ReadyMessages
from announce.kernel.interface import find
from election.model import State
from health.model import Check, InterfaceCheck
from tests.unit.vipd.inprocess import INTERFACE, Node, free, instance, node, until
from vipd.config.values import LINK_CHECK
from vipd.daemon import arming
from vipd.daemon.instance import Instance

WITH_LINK_CHECK = replace(
    instance(), checks=(Check(LINK_CHECK, InterfaceCheck(INTERFACE), rise=1, fall=1),)
)


@dataclass
class SilentGuard:
    """Answers at once as long as it is not `stopped`, and with `trouble` if there is some."""

    trouble: str = ""
    stopped: bool = False
    asked: int = 0
    unanswered: list[Callable[[str], None]] = field(default_factory=list)

    def arm(self, _name: str, _ready: Sequence[ReadyMessages], done: Callable[[str], None]) -> None:
        """Take note."""
        self.asked += 1
        if self.stopped:
            self.unanswered.append(done)
        else:
            done(self.trouble)


def part_of(one: Node) -> Instance:
    """Return the only instance."""
    (part,) = one.member.instances
    return part


def appear(one: Node) -> None:
    """Let the kernel report the interface."""
    one.member.on_links(one.links.see(find(INTERFACE)))


def vanish(one: Node) -> None:
    """Let the kernel report that the interface is gone."""
    one.member.on_links(one.links.forget(find(INTERFACE).ifindex))


def come_and_go(one: Node) -> None:
    """Take the interface away and bring it back under its old number, as a move to another
    namespace and back does.
    """
    vanish(one)
    one.kernel.drop()
    appear(one)


def test_an_interface_that_comes_back_under_its_number_is_armed_anew(tmp_path: Path) -> None:
    """Its gate went with it, though the messages are the same."""
    guard = SilentGuard()

    async def scene() -> None:
        await free(tmp_path)
        async with node(tmp_path, "a", arm=guard.arm) as one:
            await until(lambda: one.state is State.ACTIVE, "Active")
            assert guard.asked == 1
            appear(one)
            assert guard.asked == 1
            come_and_go(one)
            assert guard.asked == 2
            assert part_of(one).armed

    asyncio.run(scene())


def test_while_the_guard_is_silent_the_interface_counts_as_down(tmp_path: Path) -> None:
    """Nothing is bound on it.

    Once the guard has answered all goes on, without another event of the kernel's.
    """
    guard = SilentGuard()

    async def scene() -> None:
        await free(tmp_path)
        async with node(tmp_path, "a", instances=[WITH_LINK_CHECK], arm=guard.arm) as one:
            part_of(one).checks.start()
            await until(lambda: one.state is State.ACTIVE, "Active")
            guard.stopped = True
            come_and_go(one)
            part = part_of(one)
            await until(lambda: part.checks.verdict.fit is False, "the link to count as down")
            assert not part.is_usable()
            for _ in range(3):
                appear(one)
            assert guard.asked == 2
            await until(
                lambda: one.state is State.FAULT and not one.kernel.bound,
                "Fault with nothing bound",
            )
            guard.unanswered.pop()("")
            assert part.is_usable()
            assert "guard" not in part.problem
            await until(lambda: one.state is State.ACTIVE and one.kernel.bound, "Active again")

    asyncio.run(scene())


def test_a_refusal_is_reported_once_and_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until it stands."""
    monkeypatch.setattr(arming, "ARM_AGAIN", 0.01)
    guard = SilentGuard(trouble="there is no room")

    async def scene() -> None:
        await free(tmp_path)
        async with node(tmp_path, "a", arm=guard.arm) as one:
            await until(lambda: guard.asked > 3, "several tries")
            part = part_of(one)
            assert not one.member.executor.ready
            assert "there is no room" in part.problem
            assert one.kernel.bound == set()
            guard.trouble = ""
            await until(lambda: part.armed, "armed")
            assert "guard" not in part.problem
            assert one.member.executor.ready == (part.ready,)

    asyncio.run(scene())


def test_an_answer_for_an_interface_that_has_changed_since_counts_for_nothing(
    tmp_path: Path,
) -> None:
    """The guard may answer two armings late, and for the first of them the gate is on an interface
    that is gone.
    """
    guard = SilentGuard()

    async def scene() -> None:
        await free(tmp_path)
        async with node(tmp_path, "a", arm=guard.arm) as one:
            await until(lambda: one.state is State.ACTIVE, "Active")
            guard.stopped = True
            come_and_go(one)
            come_and_go(one)
            first, second = guard.unanswered
            first("")
            assert not part_of(one).armed
            second("")
            assert part_of(one).armed

    asyncio.run(scene())


def test_an_answer_that_comes_after_the_interface_went_arms_nothing(tmp_path: Path) -> None:
    """It has to be armed once more when it is back."""
    guard = SilentGuard()

    async def scene() -> None:
        await free(tmp_path)
        async with node(tmp_path, "a", arm=guard.arm) as one:
            await until(lambda: one.state is State.ACTIVE, "Active")
            guard.stopped = True
            come_and_go(one)
            vanish(one)
            guard.unanswered.pop()("")
            assert not part_of(one).armed
            guard.stopped = False
            appear(one)
            assert part_of(one).armed

    asyncio.run(scene())


def test_the_operator_is_informed_of_a_guard_that_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In `status`, and once in the log."""
    monkeypatch.setattr(arming, "SILENCE", 0.01)
    guard = SilentGuard(stopped=True)

    async def scene() -> None:
        async with node(tmp_path, "a", arm=guard.arm) as one:
            await until(lambda: "has not answered" in part_of(one).problem, "a sentence")

    asyncio.run(scene())
