"""What counts as a sign of life besides the heartbeat itself."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

from election.model import Identity
from election.stores.file.store import FileStore
from election.timing import PROFILES
from vipd.clock import now
from vipd.daemon.heartbeat import MOVES, Heartbeat
from vipd.daemon.peers import Peers
from vipd.guard.link import GuardLink, StartInfo
from vipd.guard.shared_words import Words
from vipd.observe.metrics import Metrics


def test_moves_are_life_but_not_for_ever(tmp_path: Path) -> None:
    """Many elections that move in one turn of the loop keep the daemon alive; one that spins does
    not.
    """

    async def scene() -> None:
        words, timing = Words(1), PROFILES["default"]
        mine, others = socket.socketpair()
        counter = os.eventfd(0, os.EFD_NONBLOCK)
        store = FileStore(tmp_path / "store")
        link = GuardLink(others, words, counter, StartInfo(0, {}))
        peers = Peers(Identity("a", "a1"), store, timing, frozenset(), lambda _text: None)
        heartbeat = Heartbeat(link, {}, peers, Metrics(), timing.lease_duration)

        def lives(election: str) -> bool:
            before = words.alive_at()
            while now() <= before:
                pass
            heartbeat.moved(election)
            return words.alive_at() > before

        assert [lives("spins") for _ in range(MOVES + 2)] == [True] * MOVES + [False, False]
        assert lives("another")
        heartbeat.start()
        assert lives("spins")
        await store.close()
        for end in (mine, others):
            end.close()
        os.close(counter)

    asyncio.run(scene())
