"""The end of a watch's connection, as the kernel tells it."""

from __future__ import annotations

import asyncio
import errno
from typing import cast

import pytest

from election.stores.kubernetes.client import ApiClient
from election.stores.kubernetes.connection import Connection
from election.stores.kubernetes.credentials import Credentials
from election.stores.kubernetes.watch import LeaseWatch, UnseenWrites


class Dead:
    """A body on a connection that the kernel has given up: a path that swallows packets."""

    async def part(self) -> bytes:
        """Say so, each time: that is what a StreamReader does."""
        raise TimeoutError(errno.ETIMEDOUT, "Connection timed out")


def test_a_connection_that_the_kernel_gives_up_is_an_end_and_no_silence() -> None:
    """ETIMEDOUT is a TimeoutError to Python.

    Taken for one's own, it would be asked for again at once and for ever.
    """

    async def scenario() -> None:
        http = ApiClient(Credentials(lambda: pytest.fail("not needed")), 1.0)
        watch = LeaseWatch(http, "/leases", 1.0, UnseenWrites())
        reading = asyncio.ensure_future(watch._next(cast("Connection", Dead())))
        for _ in range(10):
            await asyncio.sleep(0)
        assert reading.done()
        with pytest.raises(ConnectionResetError):
            reading.result()

    asyncio.run(scenario())
