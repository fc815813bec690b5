"""The client's side of the control socket, for the command line.

One call, one answer, only the standard library.
"""

from __future__ import annotations

import errno
import json
import os
import socket
from collections.abc import Mapping

from vipd.control.errors import FailedError, RefusedError, UnreachableError

CONNECT_SECONDS = 3.0
ANSWER_SECONDS = 40.0
"""Longer than the daemon's own limit, so that its sentence arrives."""
LONGEST_REPLY = 16 * 1024 * 1024


def request(
    path: str, command: str, arguments: Mapping[str, object] | None = None
) -> dict[str, object]:
    """Return the result of a command.

    Raises UnreachableError, RefusedError or FailedError, each with a sentence.
    """
    line = json.dumps({"command": command, "arguments": dict(arguments or {})}).encode() + b"\n"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        _connect(connection, path)
        try:
            _send(connection, line)
            reply = _line(connection)
        except TimeoutError as error:
            raise FailedError(
                f"the daemon at {path} did not answer within {ANSWER_SECONDS:g}s"
            ) from error
        except OSError as error:
            raise UnreachableError(f"the connection to {path} broke: {error.strerror}") from error
    return _result(reply)


def _connect(connection: socket.socket, path: str) -> None:
    try:
        connection.settimeout(CONNECT_SECONDS)
        connection.connect(path)
        connection.settimeout(ANSWER_SECONDS)
    except (OSError, ValueError) as error:
        raise UnreachableError(f"cannot reach the daemon at {path}: {_why(error)}") from error


def _why(error: OSError | ValueError) -> str:
    match getattr(error, "errno", None):
        case errno.ENOENT | errno.ECONNREFUSED:
            return "it does not run, or has another control socket"
        case errno.EACCES:
            return (
                "permission denied; allowed are root, the daemon's user and the group of the socket"
            )
        case int(code):
            return os.strerror(code)
        case _:
            return str(error)


def _send(connection: socket.socket, line: bytes) -> None:
    try:
        connection.sendall(line)
    except BrokenPipeError:
        # A daemon that refuses does not read the request; its answer is waiting all the same.
        return


def _line(connection: socket.socket) -> bytes:
    data = bytearray()
    while not data.endswith(b"\n"):
        part = connection.recv(65536)
        if not part:
            raise UnreachableError("the daemon ended before it answered")
        data += part
        if len(data) > LONGEST_REPLY:
            raise FailedError(f"the answer is longer than {LONGEST_REPLY} bytes")
    return bytes(data)


def _result(line: bytes) -> dict[str, object]:
    try:
        reply = json.loads(line)
    except ValueError as error:
        raise FailedError("the answer is not JSON: is this the socket of vipd?") from error
    match reply:
        case {"ok": True, "result": dict(result)}:
            return result
        case {"ok": False, "refused": True, "error": str(sentence)}:
            raise RefusedError(sentence)
        case {"ok": False, "error": str(sentence)}:
            raise FailedError(sentence)
        case _:
            raise FailedError("the answer has an unknown form: is the daemon of another version?")
