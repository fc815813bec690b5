"""The control socket over real sockets: who is answered, and what comes back for which line."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from vipd.control import server as control
from vipd.control.client import request
from vipd.control.errors import ControlError, FailedError, Refused, RefusedError, UnreachableError
from vipd.control.server import ControlServer, Peer, Permit

ROOT = Path(__file__).parents[4]
NOBODY = 65534


@pytest.fixture
def path() -> Iterator[Path]:
    """Where a control socket stands.

    In a directory that every user may enter, and short enough for any TMPDIR.
    """
    directory = Path(tempfile.mkdtemp(prefix="vipd-test-", dir="/tmp"))
    directory.chmod(0o755)
    yield directory / "run" / "vipd.sock"
    shutil.rmtree(directory)


async def handle(command: str, arguments: dict[str, object]) -> dict[str, object]:
    """Answer as a daemon would."""
    match command:
        case "echo":
            return dict(arguments)
        case "refuse":
            raise Refused("the last fit node is not drained")
        case "crash":
            raise ValueError("a bug")
        case _:
            raise Refused(f"there is no command {command}")


def serving(path: Path, scene: Callable[[ControlServer], Awaitable[None]]) -> None:
    """Run a scene while a server answers."""

    async def run() -> None:
        server = ControlServer(path, handle)
        await server.start()
        try:
            await scene(server)
        finally:
            await server.close()

    asyncio.run(run())


async def ask(
    path: Path, command: str, arguments: dict[str, object] | None = None
) -> dict[str, object]:
    """Ask as the command line does, on a thread."""
    return await asyncio.to_thread(request, str(path), command, arguments)


async def raw(path: Path, line: bytes) -> dict[str, object]:
    """Send bytes and return the reply."""
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(line)
    writer.write_eof()
    reply: dict[str, object] = json.loads(await reader.read())
    writer.close()
    await writer.wait_closed()
    return reply


def test_a_command_goes_there_and_its_result_comes_back(path: Path) -> None:
    """With arguments of every kind, and a directory that was not there before."""

    async def scene(_server: ControlServer) -> None:
        arguments: dict[str, object] = {"instance": "ingress", "force": True, "text": "ä\n"}
        assert await ask(path, "echo", arguments) == arguments

    serving(path, scene)


def test_a_refusal_is_not_a_failure(path: Path) -> None:
    """The exit codes 4 and 1 of the command line."""

    async def scene(_server: ControlServer) -> None:
        with pytest.raises(RefusedError, match="the last fit node is not drained"):
            await ask(path, "refuse")
        with pytest.raises(FailedError, match="crash failed inside the daemon: ValueError: a bug"):
            await ask(path, "crash")
        assert await ask(path, "echo") == {}

    serving(path, scene)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"hello\n", "not a line of JSON"),
        (b"[1]\n", "not a JSON object"),
        (b"{}\n", '"command"'),
        (b'{"command": "echo", "arguments": 1}\n', '"arguments"'),
        (b"[" * 60000 + b"\n", "not a line of JSON"),
        (b"9" * 60000 + b"\n", "not a line of JSON"),
        (b'{"command": "echo"}', "before the end of the line"),
        (b"x" * 70000 + b"\n", "longer than 65536"),
        (b"", "before the end of the line"),
        (b"\xff\n", "not a line of JSON"),
    ],
)
def test_a_line_that_is_no_request_gets_a_sentence(path: Path, line: bytes, says: str) -> None:
    """And the server goes on."""

    async def scene(_server: ControlServer) -> None:
        reply = await raw(path, line)
        assert (reply["ok"], reply["refused"]) == (False, False)
        assert says in str(reply["error"])
        assert await ask(path, "echo") == {}

    serving(path, scene)


def test_the_file_is_for_owner_and_group(path: Path) -> None:
    """Mode 0660 from the first moment that anybody can connect."""

    async def scene(_server: ControlServer) -> None:
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o660  # noqa: PTH116 - one way or the other the loop waits

    serving(path, scene)
    assert not path.exists()


def test_a_stale_file_is_replaced_and_a_live_socket_is_not(path: Path) -> None:
    """A crash leaves the file behind; another daemon must not lose its socket."""
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))

    async def scene(_server: ControlServer) -> None:
        with pytest.raises(ControlError, match="another vipd answers"):
            await ControlServer(path, handle).start()
        assert await ask(path, "echo") == {}

    serving(path, scene)


def test_a_file_that_is_no_socket_is_left_alone(path: Path) -> None:
    """A typo in the configuration must not delete anything."""
    path.parent.mkdir()
    path.write_text("precious")
    with pytest.raises(ControlError, match="is not a socket"):
        serving(path, handle_nothing)
    assert path.read_text() == "precious"


def test_a_socket_that_cannot_be_made_is_a_sentence(path: Path) -> None:
    """Its directory is a file, or the path is too long."""
    path.parent.write_text("")
    for wrong in (path, path.parents[1] / ("x" * 120)):
        with pytest.raises(ControlError, match="cannot listen on"):
            serving(wrong, handle_nothing)


async def handle_nothing(_server: ControlServer) -> None:
    """Take part in a scene that must not begin."""
    raise AssertionError


def replace_with_a_file(path: Path) -> None:
    """Put something else in the socket's place."""
    path.unlink()
    path.write_text("somebody else's")


def test_closing_removes_only_the_own_file(path: Path) -> None:
    """After a crash restart the new daemon's socket stands in the place of the old one's."""

    async def scene(_server: ControlServer) -> None:
        replace_with_a_file(path)

    serving(path, scene)
    assert path.exists()


def test_whoever_connects_and_says_nothing_keeps_nobody_out(path: Path) -> None:
    """One who opens connections and sends nothing can use up neither the daemon's descriptors nor
    its places.
    """

    async def scene(_server: ControlServer) -> None:
        idle = [await asyncio.open_unix_connection(path) for _ in range(control.MOST_CONNECTIONS)]
        for _ in range(3):
            assert await ask(path, "echo") == {}
        assert await idle[0][0].read() == b""
        for _, writer in idle:
            writer.close()
            await writer.wait_closed()

    serving(path, scene)


def test_closing_ends_open_connections(path: Path) -> None:
    """A client that waits does not hold up the end of the daemon."""

    async def scene(server: ControlServer) -> None:
        reader, writer = await asyncio.open_unix_connection(path)
        assert await ask(path, "echo") == {}
        await server.close()
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()

    serving(path, scene)


@pytest.mark.parametrize(
    ("peer", "allowed"),
    [
        (Peer(0, frozenset({0})), True),
        (Peer(990, frozenset({1})), True),
        (Peer(1000, frozenset({1000, 991})), True),
        (Peer(1000, frozenset({1000, 0})), False),
    ],
)
def test_root_the_own_user_and_the_group_are_answered(peer: Peer, *, allowed: bool) -> None:
    """The refusal says who is."""
    refusal = Permit(uid=990, group=991).refusal(peer)
    assert (refusal == "") is allowed
    assert (
        allowed
        or refusal
        == "uid 1000 may not control vipd: allowed are root, uid 990 and members of the group 991"
    )


def as_nobody(path: Path, *groups: int) -> str:
    """Ask as an ordinary user with these supplementary groups.

    Return the result or the kind of the error.
    """
    code = (
        "import os, sys\n"
        "from vipd.control.client import request\n"
        f"os.setgroups({groups!r}); os.setgid({NOBODY}); os.setuid({NOBODY})\n"
        "try: print(request(sys.argv[1], 'echo'))\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    argv = [sys.executable, "-c", code, str(path)]
    return subprocess.run(
        argv, cwd=ROOT, capture_output=True, text=True, check=True, timeout=30
    ).stdout


@pytest.mark.root
def test_the_kernel_says_who_is_calling(path: Path) -> None:
    """Others are kept out by the file's mode, and by the daemon if somebody widened it."""

    async def scene(_server: ControlServer) -> None:
        assert "UnreachableError" in await asyncio.to_thread(as_nobody, path)
        os.chmod(path, 0o666)  # noqa: PTH101, S103 - that is the point; and the loop may wait
        assert f"RefusedError uid {NOBODY} may not control vipd" in await asyncio.to_thread(
            as_nobody, path
        )

    serving(path, scene)


@pytest.mark.root
def test_members_of_the_sockets_group_are_answered(path: Path) -> None:
    """By any of their groups, not only the first.

    The directory decides the group, as with a setgid /run/vipd.
    """
    path.parent.mkdir()
    os.chown(path.parent, 0, 4242)
    path.parent.chmod(0o2755)

    async def scene(_server: ControlServer) -> None:
        assert await asyncio.to_thread(as_nobody, path, 7, 4242) == "{}\n"
        assert "permission denied" in await asyncio.to_thread(as_nobody, path, 7)

    serving(path, scene)


def test_a_daemon_that_is_not_there_is_unreachable(path: Path) -> None:
    """No file, a stale one, a path that no socket can have."""
    with pytest.raises(UnreachableError, match="it does not run"):
        request(str(path), "status")
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with pytest.raises(UnreachableError, match="it does not run"):
        request(str(path), "status")
    for wrong in ("/" + "x" * 200, "a\0b"):
        with pytest.raises(UnreachableError):
            request(wrong, "status")


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (b"", UnreachableError),
        (b"HTTP/1.1 400 Bad Request\r\n", FailedError),
        (b"[]\n", FailedError),
        (b'{"ok": true}\n', FailedError),
        (b'{"ok": false, "error": "x"}\n', FailedError),
    ],
)
def test_an_answer_of_something_else_is_no_traceback(
    path: Path, reply: bytes, error: type[Exception]
) -> None:
    """The socket of another program."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(reply)
        writer.close()
        await writer.wait_closed()

    async def scene() -> None:
        path.parent.mkdir()
        async with await asyncio.start_unix_server(answer, path):
            with pytest.raises(error):
                await ask(path, "status")

    asyncio.run(scene())
