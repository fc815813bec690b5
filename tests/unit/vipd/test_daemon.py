"""The whole daemon in this process, on an interface that does not exist, with half a guard."""

from __future__ import annotations

import asyncio
import pickle
from dataclasses import replace
from pathlib import Path

from election.fencing import EXIT_RELOAD
from tests.unit.guard.half_guard import HalfGuard
from tests.unit.vipd.inprocess import PATIENCE, configuration, instance
from vipd.daemon import Daemon


def test_a_reload_that_comes_while_the_daemon_starts_is_not_forgotten(tmp_path: Path) -> None:
    """It lies before the answers that the daemon waits for, and the socket has nothing more to read afterwards."""
    absent = replace(instance(), interface="nowhere0")
    config = replace(configuration(tmp_path, "n1", [absent]), control_socket=str(tmp_path / "vipd.sock"), metrics_listen=None)
    guard = HalfGuard()

    async def run() -> int:
        async with asyncio.timeout(PATIENCE):
            return await Daemon(config, link).run()

    try:
        with guard.daemon() as (link, wire):
            wire.send({"op": "reload", "blob": pickle.dumps(config).hex()})
            assert asyncio.run(run()) == EXIT_RELOAD
    finally:
        guard.close()
