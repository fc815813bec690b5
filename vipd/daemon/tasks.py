"""The daemon's background tasks: none may fail unseen."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Coroutine

EXIT_CRASHED = 70

log = logging.getLogger("vipd")


class Tasks:
    """Coroutines that run for as long as the daemon, and what becomes of an error that nobody
    expected.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(on_bug)
        self._running: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[None, None, None]) -> None:
        """Run it in the background until it ends or `cancel` is called."""
        task = self._loop.create_task(work)
        task.add_done_callback(self._on_ended)
        self._running.add(task)

    def cancel(self) -> None:
        """End them all."""
        for task in self._running:
            task.cancel()

    def _on_ended(self, task: asyncio.Task[None]) -> None:
        """Take a failure in a task for what it is.

        Nobody awaits these, and a daemon without its watch or its end looks well.
        """
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            on_bug(self._loop, {"message": "a task failed", "exception": error})


def on_bug(_loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    """End the process at once.

    After an error that nobody expected, its state is not to be trusted. The guard goes on.
    """
    error = context.get("exception")
    trace = error if isinstance(error, BaseException) else None
    log.critical("internal error: %s: %r", context.get("message", ""), error, exc_info=trace)
    sys.stderr.flush()
    os._exit(EXIT_CRASHED)
