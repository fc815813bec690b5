"""What a node says of itself to the others, on running nodes in this process."""

from __future__ import annotations

import asyncio
from pathlib import Path

from election import events
from election.model import CandidateRecord, State, Unknown
from election.store import Store
from election.store_file import FileStore
from tests.unit.vipd.inprocess import PATIENCE, WEB, free, node, until


async def said(store: Store, name: str) -> CandidateRecord:
    """Return the candidate record of a node."""
    found = await store.read_candidates(PATIENCE)
    assert not isinstance(found, Unknown)
    return next(record for record in found if record.name == name)


def test_who_ends_for_a_reload_has_said_so_before(tmp_path: Path) -> None:
    """A holder that is reloaded in the same moment would name it as its successor, and wait for an answer in vain."""

    async def run() -> None:
        await free(tmp_path)
        store = FileStore(tmp_path / "store")
        async with node(tmp_path, "n1") as first, node(tmp_path, "n2") as second:
            await until(lambda: {first.state, second.state} == {State.ACTIVE, State.BACKUP}, "an owner")
            backup = first if first.state is State.BACKUP else second
            await until(lambda: backup.peers._own(0.0) == backup.peers._published, "the Backup to have said all")
            assert (await said(store, backup.me.name)).elections[WEB].eligible
            backup.member.instance.post(events.StopAsked())
            await backup.peers.last_word()
            assert not (await said(store, backup.me.name)).elections[WEB].eligible
        await store.close()

    asyncio.run(run())
