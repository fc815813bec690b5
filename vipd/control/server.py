"""The control socket: one request line in, one reply line out, both JSON, then the connection ends.

    {"command": "handover", "arguments": {"instance": "ingress", "to": "n2"}}
    {"ok": true, "result": {...}}
    {"ok": false, "refused": true, "error": "a sentence"}

`refused`: the daemon understood and does not want to; otherwise it could not. The socket file has
mode 0660; beyond that the kernel tells who is calling, and only root, the daemon's own user and
members of the socket's group are answered. Sizes, times and the number of connections are bounded:
whoever may write to the socket must not be able to hold up the election.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import logging
import os
import socket
import stat
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from vipd.control.errors import ControlError, Refused
from vipd.control.listener import Listener, finish

log = logging.getLogger(__name__)

Handle = Callable[[str, dict[str, object]], Awaitable[dict[str, object]]]
"""Takes a command and its arguments, returns the result; raises Refused with a sentence."""

SOCKET_MODE = 0o660
MOST_CONNECTIONS = 16
LONGEST_REQUEST = 64 * 1024
READ_SECONDS = 5.0
ANSWER_SECONDS = 30.0
WRITE_SECONDS = 5.0
SO_PEERGROUPS = 59
"""asm-generic/socket.h; Python has no name for it. The supplementary groups of the peer, since
Linux 4.13. Python reads at most 1024 bytes of an option: 256 groups."""
MOST_GROUPS = 256
_CREDENTIALS = struct.Struct("iII")
_GROUP = struct.Struct("I")


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is calling, as the kernel knows it from the moment of connect(2)."""

    uid: int
    groups: frozenset[int]


@dataclass(frozen=True, slots=True)
class Permit:
    """Whom the daemon answers."""

    uid: int
    group: int

    def refusal(self, peer: Peer) -> str:
        """Return why this peer is not answered; empty: it is."""
        if peer.uid in {0, self.uid} or self.group in peer.groups:
            return ""
        return (
            f"uid {peer.uid} may not control vipd: allowed are root, uid {self.uid} and "
            f"members of the group {self.group}"
        )


class ControlServer:
    """Serves the socket at `path`; every request goes to `handle`, each in a task of its own."""

    def __init__(self, path: str | Path, handle: Handle) -> None:
        self._path = Path(path)
        self._handle = handle
        self._listener = Listener(
            "control socket", self._serve, most=MOST_CONNECTIONS, limit=LONGEST_REQUEST
        )
        self._inode = 0
        self._permit = Permit(os.geteuid(), os.getegid())

    async def start(self) -> None:
        """Listen; a stale socket file is replaced.

        Raises ControlError, also if another daemon answers there.
        """
        try:
            listener = self._listen()
        except OSError as error:
            raise ControlError(
                f"cannot listen on {self._path}: {error.strerror or error}"
            ) from error
        self._listener.start([listener])

    async def close(self) -> None:
        """Stop listening, end all connections and remove the socket file, if it is still ours.
        Idempotent.
        """
        await self._listener.close()
        with contextlib.suppress(OSError):
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()

    def _listen(self) -> socket.socket:
        self._path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        _remove_stale(self._path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(str(self._path))
            # Nobody gets in between these two lines: a socket that does not listen yet refuses
            # everybody.
            self._path.chmod(SOCKET_MODE)
            found = self._path.stat()
            self._inode, self._permit = found.st_ino, Permit(os.geteuid(), found.st_gid)
            listener.listen(MOST_CONNECTIONS)
        except BaseException:
            listener.close()
            raise
        return listener

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(json.dumps(await self._reply(reader, writer)).encode() + b"\n")
        await finish(writer, WRITE_SECONDS)

    async def _reply(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> dict[str, object]:
        # Read first, refuse then: a socket that is closed with something unread in it takes its
        # last answer along.
        request = await _request(reader)
        self._listener.asked()
        if refusal := self._permit.refusal(peer_of(writer.get_extra_info("socket"))):
            return _no(refusal, refused=True)
        return request if isinstance(request, dict) else await self._answer(*request)

    async def _answer(self, command: str, arguments: dict[str, object]) -> dict[str, object]:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return {"ok": True, "result": await self._handle(command, arguments)}
        except Refused as refused:
            return _no(str(refused), refused=True)
        except TimeoutError:
            return _no(f"{command} did not end within {ANSWER_SECONDS:g}s; it may still happen")
        except Exception as error:
            # A fault in a command must not end the connection without an answer, and never the
            # daemon.
            log.exception("the command %s failed", command)
            return _no(f"{command} failed inside the daemon: {type(error).__name__}: {error}")


async def _request(
    reader: asyncio.StreamReader,
) -> tuple[str, dict[str, object]] | dict[str, object]:
    try:
        async with asyncio.timeout(READ_SECONDS):
            return parse(await reader.readuntil())
    except TimeoutError:
        return _no(f"no request line within {READ_SECONDS:g}s")
    except asyncio.LimitOverrunError:
        return _no(f"the request line is longer than {LONGEST_REQUEST} bytes")
    except asyncio.IncompleteReadError:
        return _no("the connection ended before the end of the line")


def parse(line: bytes) -> tuple[str, dict[str, object]] | dict[str, object]:
    """Return command and arguments of a request line, or the reply to one that is none."""
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        return _no("the request is not a line of JSON")
    if not isinstance(request, dict):
        return _no("the request is not a JSON object")
    command, arguments = request.get("command"), request.get("arguments", {})
    if not isinstance(command, str) or not isinstance(arguments, dict):
        return _no('the request needs "command" (text) and may have "arguments" (an object)')
    return command, arguments


def peer_of(connection: socket.socket) -> Peer:
    """Return who is at the other end of a unix socket."""
    _, uid, gid = _CREDENTIALS.unpack(
        connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    )
    raw = connection.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, MOST_GROUPS * _GROUP.size)
    return Peer(uid, frozenset({gid, *(group for (group,) in _GROUP.iter_unpack(raw))}))


def _no(error: str, *, refused: bool = False) -> dict[str, object]:
    return {"ok": False, "refused": refused, "error": error}


def _remove_stale(path: Path) -> None:
    """Remove a socket file that nobody listens on.

    Raises ControlError if somebody does, or if it is no socket.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ControlError(f"{path} exists and is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(0.0)  # a listener with a full queue would let connect(2) wait
        code = probe.connect_ex(str(path))
    if code in {0, errno.EAGAIN}:
        raise ControlError(f"another vipd answers on {path}")
    if code != errno.ECONNREFUSED:
        raise ControlError(f"{path} is in the way: {os.strerror(code)}")
    path.unlink()
