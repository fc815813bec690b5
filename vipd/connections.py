"""The connections of one server: bounded, and whoever connects and then says nothing makes room for who does."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator


class Connections:
    """At most `most` at a time. One more ends another: the one that has been silent longest, or else the oldest of all."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._silent: dict[asyncio.Task[None], None] = {}
        self._answered: dict[asyncio.Task[None], None] = {}

    def __len__(self) -> int:
        return len(self._silent) + len(self._answered)

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Count the task that calls as one connection, on which nothing has been asked yet."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - for the type checker: a server calls in a task
        self._silent[task] = None
        if len(self) > self._most:
            self._make_room()
        try:
            yield
        finally:
            self._silent.pop(task, None)
            self._answered.pop(task, None)

    def asked(self) -> None:
        """Note that the task that calls has its request."""
        task = asyncio.current_task()
        if task is not None and task in self._silent:
            del self._silent[task]
            self._answered[task] = None

    def _make_room(self) -> None:
        for group in (self._silent, self._answered):
            oldest = next(iter(group), None)
            if oldest is not None and oldest is not asyncio.current_task():
                del group[oldest]
                oldest.cancel()
                return

    async def close(self) -> None:
        """End all."""
        tasks = [*self._silent, *self._answered]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
