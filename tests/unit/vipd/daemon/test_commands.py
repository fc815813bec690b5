"""What an operator asks of running nodes: two real ones in this process, with one file store."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from election.model import State
from tests.unit.vipd.inprocess import VIP, WEB, Node, free, node, until
from vipd.control import status
from vipd.control.errors import Refused

Scene = Callable[[Node, Node], Awaitable[None]]


def play(folder: Path, scene: Scene) -> None:
    """Run a scene with two nodes: the first holds the address, and each knows the other as fit."""

    async def run() -> None:
        await free(folder)
        async with contextlib.AsyncExitStack() as stack:
            first = await stack.enter_async_context(node(folder, "n1"))
            await until(lambda: first.state is State.ACTIVE, "n1 to be Active")
            second = await stack.enter_async_context(node(folder, "n2"))
            await until(
                lambda: fit(first) == fit(second) == {"n1", "n2"}, "both to know each other"
            )
            await scene(first, second)

    asyncio.run(run())


def fit(one: Node) -> set[str]:
    """Return whom a node knows as fit."""
    return {
        c.name
        for c in one.view.document(drained=False).instances[0].candidates
        if c.live and c.eligible
    }


def states(one: Node) -> dict[str, str]:
    """Return in which state each node says it is."""
    return {c.name: c.state for c in one.view.document(drained=False).instances[0].candidates}


def test_status_is_a_document_of_the_schema(tmp_path: Path) -> None:
    """Holder and Backup tell the same story, each from its side."""

    async def scene(first: Node, second: Node) -> None:
        said = {"n1": "Active", "n2": "Backup"}
        await until(lambda: states(second) == said, "both to have said in which state they are")
        one, two = [
            status.from_json(await n.commands.handle("status", {})) for n in (first, second)
        ]
        assert (one.node, two.node, one.drained) == ("n1", "n2", False)
        here, there = one.instances[0], two.instances[0]
        assert (here.state, there.state) == ("Active", "Backup")
        assert here.holder == there.holder is not None
        assert here.holder is not None
        assert (here.holder.name, here.holder.session) == ("n1", first.me.session)
        assert here.addresses == (status.Address(f"{VIP}/32", bound=True),)
        assert there.addresses == (status.Address(f"{VIP}/32", bound=False),)
        assert (
            [c.name for c in here.candidates] == [c.name for c in there.candidates] == ["n1", "n2"]
        )
        assert here.lease_remaining is not None
        assert 0 < here.lease_remaining <= 0.9

    play(tmp_path, scene)


@pytest.mark.parametrize("to", ["", "n2"])
def test_a_handover_moves_the_address_and_pins_it(tmp_path: Path, to: str) -> None:
    """The new holder binds before the former one lets go, and the answer says where it is."""

    async def scene(first: Node, second: Node) -> None:
        answer = await first.commands.handle("handover", {"instance": WEB, "to": to})
        assert answer["holder"] == "n2"
        assert (first.state, second.state) == (State.BACKUP, State.ACTIVE)
        assert (first.kernel.bound, second.kernel.bound) == (set(), {VIP})
        assert second.view.document(drained=False).instances[0].pin == "n2"
        with pytest.raises(Refused, match="n2, which holds it"):
            await first.commands.handle("handover", {"instance": WEB, "auto": True})
        await second.commands.handle("handover", {"instance": WEB, "auto": True})
        await until(
            lambda: not second.view.document(drained=False).instances[0].pin, "the pin to go"
        )

    play(tmp_path, scene)


@pytest.mark.parametrize(
    ("where", "arguments", "says"),
    [
        ("n2", {"instance": WEB}, "run it on n1, which holds it"),
        ("n1", {"instance": WEB, "to": "n1"}, "n1 holds web already"),
        ("n1", {"instance": WEB, "to": "n3"}, "no node 'n3' is known in web; there is n2"),
        ("n1", {"instance": "other"}, "there is no instance 'other' here; there is web"),
        ("n1", {}, "there is no instance ''"),
    ],
)
def test_a_handover_that_makes_no_sense_is_refused(
    tmp_path: Path, where: str, arguments: dict[str, object], says: str
) -> None:
    """With a sentence; nothing moves."""

    async def scene(first: Node, second: Node) -> None:
        asked = first if where == "n1" else second
        with pytest.raises(Refused, match=says):
            await asked.commands.handle("handover", arguments)
        assert (first.state, second.state) == (State.ACTIVE, State.BACKUP)

    play(tmp_path, scene)


def test_nobody_is_handed_what_he_cannot_take(tmp_path: Path) -> None:
    """A node that is not fit is refused by name, and so is a handover to
    anybody if nobody is fit.
    """

    async def scene(first: Node, second: Node) -> None:
        second.judge(fit=False)
        await until(lambda: fit(first) == {"n1"}, "n1 to know that n2 is not fit")
        for to, says in (("n2", "n2 is not fit"), ("", "no other node is fit")):
            with pytest.raises(Refused, match=says):
                await first.commands.handle("handover", {"instance": WEB, "to": to})
        assert first.state is State.ACTIVE

    play(tmp_path, scene)


def test_a_drain_moves_what_is_held_and_is_kept(tmp_path: Path) -> None:
    """The flag outlives the daemon.

    The last fit node refuses a drain unless forced; resume ends it.
    """

    async def scene(first: Node, second: Node) -> None:
        await first.commands.handle("drain", {})
        assert (first.state, second.state, first.memory.drained) == (
            State.FAULT,
            State.ACTIVE,
            True,
        )
        assert (await first.commands.handle("status", {}))["drained"] is True
        await until(lambda: fit(second) == {"n2"}, "n2 to know that n1 is drained")

        with pytest.raises(Refused, match="no other node is fit to take web"):
            await second.commands.handle("drain", {})
        assert (second.state, second.memory.drained) == (State.ACTIVE, False)

        await second.commands.handle("drain", {"force": True})
        assert (second.state, second.kernel.bound) == (State.FAULT, set())

        await first.commands.handle("resume", {})
        await until(lambda: first.state is State.ACTIVE, "n1 to take what n2 released")
        assert first.memory.drained is False

    play(tmp_path, scene)


def test_a_drain_that_cannot_be_kept_is_refused(tmp_path: Path) -> None:
    """A node that would come back by itself after a reboot is not drained."""

    async def scene(first: Node, second: Node) -> None:
        first.memory.directory = tmp_path / "gone"
        with pytest.raises(Refused, match="the drain flag cannot be kept"):
            await first.commands.handle("drain", {})
        assert (first.state, second.state) == (State.ACTIVE, State.BACKUP)

    play(tmp_path, scene)


def test_an_unknown_command_is_refused(tmp_path: Path) -> None:
    """An older daemon and a newer command line may meet."""

    async def scene(first: Node, _: Node) -> None:
        with pytest.raises(Refused, match="knows no command 'explain'"):
            await first.commands.handle("explain", {})

    play(tmp_path, scene)
