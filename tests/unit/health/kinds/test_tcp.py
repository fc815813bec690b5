from __future__ import annotations

import asyncio
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path

import pytest

from health.kinds.tcp import TcpProbe
from health.model import Result, TcpCheck
from health.names import Names

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Serve = Callable[..., AbstractAsyncContextManager[int]]
FirstResult = Callable[..., Coroutine[None, None, Result]]
ROOT = Path(__file__).parents[4]


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    """Let this process open no further file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_port_that_accepts_is_up(serve: Serve, hang: Handler, first_result: FirstResult) -> None:
    """Also if nothing is ever said on the connection."""

    async def scenario() -> None:
        async with serve(hang) as port:
            assert (await first_result(TcpCheck("127.0.0.1", port))).up is True

    asyncio.run(scenario())


def test_a_closed_port_is_refused(closed_port: int, first_result: FirstResult) -> None:
    """The detail says where and why."""
    result = asyncio.run(first_result(TcpCheck("127.0.0.1", closed_port)))
    assert (result.up, result.refused) == (False, True)
    assert result.detail == f"127.0.0.1:{closed_port}: Connection refused"


def test_one_address_of_several_is_enough(
    serve: Serve, hang: Handler, first_result: FirstResult, tmp_path: Path
) -> None:
    """A server that listens on IPv4 only is found under a name that has both."""

    async def scenario() -> None:
        async with serve(hang) as port:
            (tmp_path / "hosts").write_text("127.0.0.2 web\n127.0.0.1 web\n")
            names = Names(asyncio.get_running_loop().time, tmp_path / "hosts", tmp_path / "none")
            assert (await first_result(TcpCheck("web", port), names=names)).up is True
            assert (await first_result(TcpCheck("localhost", port))).up is True

    asyncio.run(scenario())


def test_if_no_address_accepts_the_first_one_tells_why(
    closed_port: int, first_result: FirstResult
) -> None:
    """The name localhost is 127.0.0.1 and ::1, and ::1 may not even exist."""
    result = asyncio.run(first_result(TcpCheck("localhost", closed_port)))
    assert (result.up, result.refused) == (False, True)
    assert "127.0.0.1" in result.detail


def test_a_name_that_nobody_can_look_up_is_unknown(first_result: FirstResult) -> None:
    """No name server answers here."""
    result = asyncio.run(first_result(TcpCheck("web.example", 80)))
    assert (result.up, result.refused) == (None, False)


def test_a_full_backlog_is_a_timeout(first_result: FirstResult) -> None:
    """The kernel drops the SYN of a server that does not accept: nothing comes back."""

    async def scenario() -> None:
        with socket.socket() as server:
            server.bind(("127.0.0.1", 0))
            server.listen(0)
            port = server.getsockname()[1]
            clients = [socket.socket() for _ in range(4)]
            for client in clients:
                client.settimeout(0)
                client.connect_ex(("127.0.0.1", port))
            result = await first_result(TcpCheck("127.0.0.1", port), timeout=0.1)
            for client in clients:
                client.close()
        assert (result.up, result.refused) == (False, False)
        assert result.detail == "no connection within 100 ms"

    asyncio.run(scenario())


def test_own_trouble_is_unknown(closed_port: int, nameless: Callable[[], Names]) -> None:
    """A daemon without descriptors must not blame the ingress."""

    async def scenario() -> None:
        names = nameless()
        probe = TcpProbe(TcpCheck("127.0.0.1", closed_port), names)
        assert await names.addresses("127.0.0.1")
        with no_descriptor_left():
            result = await probe.run()
        assert (result.up, result.refused) == (None, False)
        await probe.close()

    asyncio.run(scenario())


SELF_CONNECT = """
import asyncio, sys
from health.model import TcpCheck
from health.names import Names
from health.kinds.tcp import TcpProbe
probe = TcpProbe(TcpCheck("127.0.0.1", 40001), Names(lambda: 0.0))
print(asyncio.run(probe.run()))
"""


@pytest.mark.root
def test_a_socket_that_meets_itself_is_no_server() -> None:
    """With one ephemeral port, the kernel gives the socket the very port that it connects to."""
    setup = (
        'ip link set lo up && echo "40001 40001" > /proc/sys/net/ipv4/ip_local_port_range && '
        'exec "$0" -c "$1"'
    )
    command = ["unshare", "--net", "sh", "-c", setup, sys.executable, SELF_CONNECT]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "up=False" in done.stdout
    assert "refused=True" in done.stdout


def test_nothing_is_left_open(
    serve: Serve, nameless: Callable[[], Names], open_files: Callable[[], int]
) -> None:
    """A hundred tries use no descriptor for longer than a try."""

    async def scenario() -> None:
        async def ignore(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()

        async with serve(ignore) as port:
            probe = TcpProbe(TcpCheck("127.0.0.1", port), nameless())
            for _ in range(100):
                assert (await probe.run()).up
            await asyncio.sleep(0.05)
            before = open_files()
            for _ in range(100):
                assert (await probe.run()).up
            await asyncio.sleep(0.05)
            assert abs(open_files() - before) <= 2

    asyncio.run(scenario())
