"""Instances of one group on running nodes in this process.

One record, one state, one word for all of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from announce.rivals.rivals import RivalSeen
from announce.rivals.speakers import Kind
from election.model import Found, State
from election.stores.contract import WatchEvent, WatchLost
from election.stores.file.store import FileStore
from election.timing import PROFILES
from health.model import Verdict
from tests.unit.vipd.inprocess import PATIENCE, VIP, Node, free, instance, node, until
from vipd.clock import now
from vipd.control.errors import Refused

EDGE, WEB, MAIL = "edge", "web", "mail"
OTHER = "192.0.2.101"
GROUP = (instance(WEB, VIP, EDGE), instance(MAIL, OTHER, EDGE))

Scene = Callable[[Node, Node], Awaitable[None]]


def play(folder: Path, scene: Scene) -> None:
    """Run a scene with two nodes: the first holds the group, and knows the other as fit."""

    async def run() -> None:
        await free(folder, EDGE)
        async with contextlib.AsyncExitStack() as stack:
            first = await stack.enter_async_context(node(folder, "n1", instances=GROUP))
            await until(lambda: first.state is State.ACTIVE, "n1 to be Active")
            second = await stack.enter_async_context(node(folder, "n2", instances=GROUP))
            await until(lambda: first.commands._others_fit(first.member), "n1 to know n2 as fit")
            await scene(first, second)

    asyncio.run(run())


@pytest.mark.parametrize("name", [EDGE, WEB, MAIL])
def test_a_group_moves_as_one_by_whichever_name(tmp_path: Path, name: str) -> None:
    """Bound in one go, in one record with all its addresses."""

    async def scene(first: Node, second: Node) -> None:
        assert first.kernel.bound == {VIP, OTHER}
        answer = await first.commands.handle("handover", {"instance": name})
        assert answer["holder"] == "n2"
        assert str(answer["message"]).startswith("edge is on n2 now")
        assert (first.kernel.bound, second.kernel.bound) == (set(), {VIP, OTHER})
        opened = second.kernel.log.index("open")
        assert second.kernel.log[opened : opened + 3] == ["open", f"bind {VIP}", f"bind {OTHER}"]
        store = FileStore(tmp_path / "store")
        found = await store.read(EDGE, PATIENCE)
        await store.close()
        assert isinstance(found, Found)
        assert found.record.addresses == (f"{VIP}/32", f"{OTHER}/32")
        assert [path.name for path in (tmp_path / "store" / "elections").iterdir()] == [EDGE]

    play(tmp_path, scene)


def test_an_unknown_name_is_told_all_that_there_are(tmp_path: Path) -> None:
    """Instances and groups."""

    async def scene(first: Node, _: Node) -> None:
        with pytest.raises(
            Refused, match="there is no instance 'wep' here; there is web, mail, edge"
        ):
            await first.commands.handle("handover", {"instance": "wep"})

    play(tmp_path, scene)


def test_status_and_metrics_stay_with_the_instances(tmp_path: Path) -> None:
    """Each with its own addresses, and all with the state of their election."""

    async def scene(first: Node, _: Node) -> None:
        shown = first.view.document(drained=False).instances
        assert [(one.name, one.group, one.state, one.epoch) for one in shown] == [
            (WEB, EDGE, "Active", 2),
            (MAIL, EDGE, "Active", 2),
        ]
        assert [[(a.address, a.bound) for a in one.addresses] for one in shown] == [
            [(f"{VIP}/32", True)],
            [(f"{OTHER}/32", True)],
        ]
        for name, address in ((WEB, VIP), (MAIL, OTHER)):
            assert first.metric("state", vip_instance=name) == State.ACTIVE
            assert first.metric("epoch", vip_instance=name) == 2
            assert (
                first.metric("transitions_total", vip_instance=name, to="Active", reason="released")
                == 1
            )
            assert first.metric("address_bound", vip_instance=name, address=f"{address}/32") == 1
        samples = [
            sample for family in first.metrics.registry.collect() for sample in family.samples
        ]
        assert {
            sample.labels["vip_instance"] for sample in samples if "vip_instance" in sample.labels
        } == {WEB, MAIL}

    play(tmp_path, scene)


def test_a_group_is_as_fit_as_all_its_instances_together(tmp_path: Path) -> None:
    """The weights add up.

    A fault of one takes all addresses away, and the others say for whose sake.
    """

    async def scene(first: Node, second: Node) -> None:
        web, mail = first.member.instances
        for part in (web, mail):
            part.look()
        await until(lambda: web.has_frames and mail.has_frames, "the frames")
        for part, weight in ((web, -30), (mail, -20)):
            part.on_verdict(Verdict(fit=True, weight=weight))
        assert (list(first.memory.elections), list(first.memory.verdicts)) == ([EDGE], [WEB, MAIL])
        assert (
            first.metric("effective_priority", vip_instance=WEB)
            == first.metric("effective_priority", vip_instance=MAIL)
            == 50
        )
        assert first.state is State.ACTIVE
        mail.on_verdict(Verdict(fit=False, failing=("smtp",), detail="smtp: refused"))
        assert (first.state, first.kernel.bound) == (State.FAULT, set())
        await until(lambda: second.kernel.bound == {VIP, OTHER}, "n2 to have both")
        here = {one.name: one for one in first.view.document(drained=False).instances}
        assert {one.state for one in here.values()} == {"Fault"}
        assert "mail, of the same group: smtp: refused" in here[WEB].notes
        assert "smtp: refused" in here[MAIL].notes

    play(tmp_path, scene)


def test_a_rival_is_the_affair_of_one_instance(tmp_path: Path) -> None:
    """It is counted where it was seen."""

    async def scene(first: Node, _: Node) -> None:
        mail = first.member.instances[1]
        first.member.rival_seen(mail, RivalSeen("lo", OTHER, "02:00:00:00:00:01", Kind.ARP))
        assert [first.metric("conflicts_total", vip_instance=name) for name in (WEB, MAIL)] == [
            0,
            1,
        ]
        assert first.state is State.ACTIVE
        [shown] = [one for one in first.view.document(drained=False).instances if one.name == MAIL]
        assert [
            note
            for note in shown.notes
            if re.fullmatch(r".*02:00:00:00:00:01.* \(0\.\ds ago\)", note)
        ]

    play(tmp_path, scene)


def test_instances_on_one_interface_share_its_pace_by_whatever_name_they_know_it(
    tmp_path: Path,
) -> None:
    """The switch port has one limit; an interface that was made anew is another one."""

    async def scene(first: Node, _: Node) -> None:
        web, mail = first.member.instances
        assert web.ready is not None
        assert mail.ready is not None
        assert web._pace() is mail._pace()
        mail.interface = "uplink0"
        assert web._pace() is mail._pace()
        mail.ready = mail.ready._replace(ifindex=mail.ready.ifindex + 1)
        assert web._pace() is not mail._pace()

    play(tmp_path, scene)


def test_a_group_stays_out_while_another_election_has_one_of_its_addresses(tmp_path: Path) -> None:
    """Whichever of its instances has it: half a group would be none."""

    async def run() -> None:
        for election in (EDGE, "solo"):
            await free(tmp_path, election)
        async with contextlib.AsyncExitStack() as stack:
            solo = await stack.enter_async_context(
                node(tmp_path, "n1", instances=[instance("solo", OTHER)])
            )
            await until(lambda: solo.state is State.ACTIVE, "the first election to be Active")
            group = await stack.enter_async_context(node(tmp_path, "n2", instances=GROUP))
            await until(lambda: group.state is State.FAULT, "the group to stay out")
            notes = [
                note for one in group.view.document(drained=False).instances for note in one.notes
            ]
            notes = [note for note in notes if not note.startswith("lo is the loopback")]
            assert [note.partition(" holds")[0] for note in notes] == [
                "the election solo",
                "the election solo",
            ]
            assert (solo.kernel.bound, group.kernel.bound) == ({OTHER}, set())

    asyncio.run(run())


@pytest.mark.parametrize("sees", [True, False])
def test_a_node_that_starts_sees_the_claims_before_it_takes_part(
    tmp_path: Path, sees: bool
) -> None:
    """However late the watch is.

    If it fails, it takes part all the same: an address without an owner is the greater evil.
    """

    class Late(FileStore):
        """A store whose watch says nothing until it is told to."""

        begins = asyncio.Event()

        async def watch(self) -> AsyncIterator[WatchEvent]:
            await self.begins.wait()
            if not sees:
                yield WatchLost("forbidden")
                return
            async for event in super().watch():
                yield event

    async def run() -> None:
        for election in (EDGE, "solo"):
            await free(tmp_path, election)
        async with contextlib.AsyncExitStack() as stack:
            solo = await stack.enter_async_context(
                node(tmp_path, "n1", instances=[instance("solo", OTHER)])
            )
            await until(lambda: solo.state is State.ACTIVE, "the first election to be Active")
            group = await stack.enter_async_context(
                node(tmp_path, "n2", instances=GROUP, store_class=Late)
            )
            await until(
                lambda: (
                    group.peers.candidates.may_publish(now())
                    and all(p.has_frames for p in group.member.instances)
                ),
                "it to be ready",
            )
            await asyncio.sleep(2 * PROFILES["fast"].renew_interval)
            assert group.state is State.INITIALIZE
            Late.begins.set()
            await until(
                lambda: group.state is (State.FAULT if sees else State.ACTIVE), "it to decide"
            )
            assert group.kernel.bound == (set() if sees else {VIP, OTHER})

    asyncio.run(run())


def test_what_somebody_removed_is_put_back(tmp_path: Path) -> None:
    """Whichever of them it is: all are bound again."""

    async def scene(first: Node, _: Node) -> None:
        first.kernel.drop()
        first.member.on_resync(frozenset({(1, VIP)}))
        await until(lambda: first.kernel.bound == {VIP, OTHER}, "both to be back")
        assert first.state is State.ACTIVE

    play(tmp_path, scene)
