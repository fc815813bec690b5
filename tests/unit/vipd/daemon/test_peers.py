"""What a node says of itself to the others, on running nodes in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from election import events
from election.model import CandidateRecord, State, Unknown
from election.outage import Outage
from election.stores.contract import Store, WatchEvent, WatchLost, WatchStands
from election.stores.file.store import FileStore
from tests.unit.vipd.inprocess import PATIENCE, WEB, free, node, until


async def said(store: Store, name: str) -> CandidateRecord:
    """Return the candidate record of a node."""
    found = await store.read_candidates(PATIENCE)
    assert not isinstance(found, Unknown)
    return next(record for record in found if record.name == name)


def test_who_ends_for_a_reload_has_said_so_before(tmp_path: Path) -> None:
    """A holder that is reloaded in the same moment would name it as its successor, and wait for an
    answer in vain.
    """

    async def run() -> None:
        await free(tmp_path)
        store = FileStore(tmp_path / "store")
        async with node(tmp_path, "n1") as first, node(tmp_path, "n2") as second:
            await until(
                lambda: {first.state, second.state} == {State.ACTIVE, State.BACKUP}, "an owner"
            )
            backup = first if first.state is State.BACKUP else second
            await until(
                lambda: backup.peers._own() == backup.peers._published,
                "the Backup to have said all",
            )
            assert (await said(store, backup.me.name)).elections[WEB].eligible
            backup.member.driver.post(events.StopAsked())
            await backup.peers.last_word()
            assert not (await said(store, backup.me.name)).elections[WEB].eligible
        await store.close()

    asyncio.run(run())


def test_a_lost_watch_is_shown_with_its_reason_of_now(tmp_path: Path) -> None:
    """In the status document and the metrics; the log says that it is lost, and that it is back."""

    class Steered(FileStore):
        """A store whose watch says what it is told to."""

        said: asyncio.Queue[WatchEvent] = asyncio.Queue()

        async def watch(self) -> AsyncIterator[WatchEvent]:
            while True:
                yield await self.said.get()

    async def run() -> None:
        said: list[str] = []
        async with node(tmp_path, "n1", notices=said, store_class=Steered) as one:
            store, metrics = Steered.said, one.observe.metrics

            def lost() -> str:
                kinds = [
                    kind
                    for kind in Outage
                    if metrics.registry.get_sample_value("vipd_store_watch_lost", {"kind": kind})
                ]
                return ",".join(kinds)

            for event in (
                WatchStands(),
                WatchLost("away", Outage.UNREACHABLE),
                WatchLost("no lists (403)", Outage.REFUSING),
            ):
                store.put_nowait(event)
            await until(lambda: lost() == "refusing", "the metric to show the reason")
            shown = one.view.document(drained=False).store
            assert (shown.watch, shown.watch_kind) == ("no lists (403)", "refusing")
            assert shown.watch_since is not None
            store.put_nowait(WatchStands())
            await until(lambda: not lost(), "the metric to show that it is back")
            shown = one.view.document(drained=False).store
            assert (shown.watch, shown.watch_kind, shown.watch_since) == ("", "", None)
            assert [line for line in said if "watch" in line] == [
                "the store's watch is lost: away; records are re-read until it is back",
                "the store's watch is back",
            ]

    asyncio.run(run())
