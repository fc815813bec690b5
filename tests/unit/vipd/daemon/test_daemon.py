"""The whole daemon in this process, on an interface that does not exist, with half a guard."""

from __future__ import annotations

import asyncio
import functools
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from election.fencing import EXIT_RELOAD
from tests.unit.vipd.guard.half_guard import HalfGuard
from tests.unit.vipd.inprocess import PATIENCE, configuration, instance
from vipd.config.values import Config
from vipd.daemon.daemon import Daemon, run
from vipd.daemon.ending import EXIT_STOPPED, RELOAD_TIMEOUT
from vipd.guard.link import GuardLink


def idle_configuration(folder: Path) -> Config:
    """Return a configuration of one election that never begins: its interface does not exist."""
    absent = replace(instance(), interface="nowhere0")
    return replace(
        configuration(folder, "n1", [absent]),
        control_socket=str(folder / "vipd.sock"),
        metrics_listen=None,
    )


class Ordered(Daemon):
    """A daemon that is given orders when it has started."""

    orders: Callable[[], None]

    def _listen(self) -> None:
        super()._listen()
        asyncio.get_running_loop().call_soon(self.orders)


async def life(
    config: Config, link: GuardLink, orders: Callable[[Ordered], None]
) -> tuple[int, Ordered]:
    """Run a daemon until it ends; return its exit code, and the daemon."""
    async with asyncio.timeout(PATIENCE):
        daemon = await Ordered.start(config, link)
        daemon.orders = functools.partial(orders, daemon)
        return await daemon.run(), daemon


def test_a_reload_that_comes_while_the_daemon_starts_is_not_forgotten(tmp_path: Path) -> None:
    """It lies before the answers that the daemon waits for, and the socket has nothing more to read
    afterwards.
    """
    config = idle_configuration(tmp_path)
    guard = HalfGuard()

    try:
        with guard.daemon() as (link, wire):
            wire.send({"op": "reload", "blob": pickle.dumps(config).hex()})
            assert asyncio.run(asyncio.wait_for(run(config, link), PATIENCE)) == EXIT_RELOAD
    finally:
        guard.close()


def test_a_reload_does_not_wait_for_a_store_that_does_not_serve(tmp_path: Path) -> None:
    """Nothing is held, no request is answered: there is nothing to wait for."""
    (tmp_path / "store").touch()
    config = idle_configuration(tmp_path)
    guard = HalfGuard()

    asked_at = 0.0

    def orders(daemon: Ordered) -> None:
        nonlocal asked_at
        loop = asyncio.get_running_loop()
        if daemon.observe.store.trouble is None:
            loop.call_later(0.01, orders, daemon)
        else:
            asked_at = loop.time()
            daemon._ending.reload(replace(config, node="another"))

    async def timed(link: GuardLink) -> float:
        code, _ = await life(config, link, orders)
        assert code == EXIT_RELOAD
        return asyncio.get_running_loop().time() - asked_at

    try:
        with guard.daemon() as (link, _):
            assert asyncio.run(timed(link)) < RELOAD_TIMEOUT / 2
    finally:
        guard.close()


@pytest.mark.parametrize("first", ["stop", "reload"])
def test_a_stop_wins_over_a_reload_whichever_came_first(tmp_path: Path, first: str) -> None:
    """Everything is handed over or released, though the reload by itself would have left it all
    bound.
    """
    config = idle_configuration(tmp_path)
    guard = HalfGuard()

    def orders(daemon: Ordered) -> None:
        if first == "stop":
            daemon._ending.stop()
            daemon._ending.reload(config)
        else:
            daemon._ending.reload(config)
            daemon._ending.stop()

    try:
        with guard.daemon() as (link, _):
            code, daemon = asyncio.run(life(config, link, orders))
            assert code == EXIT_STOPPED
            assert [member.has_stopped for member in daemon.members.values()] == [True]
    finally:
        guard.close()
