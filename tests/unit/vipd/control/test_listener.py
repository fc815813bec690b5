"""Connections while descriptors run out."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import socket
import time
from collections.abc import Iterator

import pytest

from vipd.control.listener import Listener, bound, finish
from vipd.daemon.tasks import Tasks


@pytest.fixture
def few_descriptors() -> Iterator[None]:
    """Let this process have few descriptors."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(before[0], 256), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def use_up() -> list[int]:
    """Take all descriptors that are left."""
    taken = []
    try:
        while True:
            taken.append(os.dup(0))
    except OSError:
        return taken


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer with what was said."""
    writer.write(await reader.readuntil(b"\n"))
    await finish(writer, 1.0)


def test_no_descriptor_left_is_waited_out(
    few_descriptors: None, caplog: pytest.LogCaptureFixture
) -> None:
    """The daemon lives on, in peace, says so once, and serves who has waited as soon as there is
    one.
    """

    async def scene() -> None:
        Tasks()  # what asyncio itself calls an error ends the daemon
        listener = Listener("metrics", echo, most=64, limit=1024)
        listener.start(await bound("127.0.0.1", 0))
        clients = [socket.socket() for _ in range(40)]
        taken = use_up()
        for client in clients:
            client.setblocking(False)
            client.connect_ex(listener.sockets[0].getsockname())
            client.send(b"hello\n")
        used, began = time.process_time(), time.monotonic()
        await asyncio.sleep(1.0)
        assert time.process_time() - used < 0.3 * (time.monotonic() - began)
        for descriptor in taken:
            os.close(descriptor)
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(5):
            for client in clients:
                assert await loop.sock_recv(client, 100) == b"hello\n"
        for client in clients:
            client.close()
        await listener.close()

    asyncio.run(scene())
    assert [
        record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING
    ] == ["metrics: connections have to wait: Too many open files"]
