"""Messages between the guard and its children.

JSON objects over a stream socket, each after its length.

Neither end ever waits for the other here. What does not fit into the socket is kept and sent by
`flush`; what has come is returned by `receive`. The guard must not unpickle anything: JSON is all
that it reads.
"""

from __future__ import annotations

import array
import json
import os
import socket
import struct
from collections import deque
from collections.abc import Mapping, Sequence

from vipd.guard.errors import ChannelError

Message = dict[str, object]

LARGEST_MESSAGE = 64 * 1024 * 1024
"""Bytes: thousands of addresses need a tenth of it. More is a broken stream, not a message."""
MOST_DESCRIPTORS = 64
"""In one message; the kernel allows 253."""
_LENGTH = struct.Struct("=I")
_CHUNK = 65536


class Channel:
    """One end of a connection. `ended`: the other end is closed or its process is gone."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)  # noqa: FBT003 -- the name says it
        self.ended = False
        self._socket = sock
        self._out: deque[tuple[bytes, list[int]]] = deque()
        self._in = bytearray()
        self._descriptors: list[int] = []

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._socket.fileno()

    @property
    def waiting(self) -> bool:
        """Whether something is still to be sent: `flush` when the socket can take more."""
        return bool(self._out) and not self.ended

    def send(self, message: Mapping[str, object], descriptors: Sequence[int] = ()) -> None:
        """Send a message, now or with a later `flush`.

        The caller may close the descriptors at once.
        """
        data = json.dumps(message, separators=(",", ":")).encode()
        self._out.append(
            (_LENGTH.pack(len(data)) + data, [os.dup(number) for number in descriptors])
        )
        self.flush()

    def flush(self) -> None:
        """Send as much as the socket takes.

        After the end of the other side everything is dropped.
        """
        while self._out and not self.ended:
            data, descriptors = self._out.popleft()
            try:
                sent = self._socket.sendmsg([data], _ancillary(descriptors))
            except BlockingIOError:
                self._out.appendleft((data, descriptors))
                return
            except OSError:
                self.ended = True
                sent = len(data)
            for number in descriptors:
                os.close(number)
            if sent < len(data):
                self._out.appendleft((data[sent:], []))

    def receive(self) -> list[Message]:
        """Return the messages that have come; raises ChannelError.

        After the last one `ended` tells if more can come.
        """
        while not self.ended and self._receive_some():
            pass
        messages = []
        while (message := self._next()) is not None:
            messages.append(message)
        return messages

    def take_descriptors(self, count: int) -> list[int]:
        """Return the oldest descriptors that came with messages; the caller closes them.

        Raises ChannelError if some are missing.
        """
        if len(self._descriptors) < count:
            raise ChannelError(f"{count} descriptors were announced, {len(self._descriptors)} came")
        taken, self._descriptors = self._descriptors[:count], self._descriptors[count:]
        return taken

    def close(self) -> None:
        """Close the connection and all descriptors that were not passed on. Idempotent."""
        self.ended = True
        self._socket.close()
        for number in self._descriptors + [
            number for _, numbers in self._out for number in numbers
        ]:
            os.close(number)
        self._descriptors = []
        self._out.clear()

    def _receive_some(self) -> bool:
        # Without CLOEXEC a hook or an exec check would keep the descriptor, and with it the lock on
        # an address.
        space = socket.CMSG_SPACE(MOST_DESCRIPTORS * array.array("i").itemsize)
        try:
            data, ancillary, _, _ = self._socket.recvmsg(_CHUNK, space, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return False
        except OSError:
            data, ancillary = b"", []
        for level, kind, content in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                self._descriptors += array.array("i", content[: len(content) - len(content) % 4])
        self.ended = not data
        self._in += data
        return bool(data)

    def _next(self) -> Message | None:
        if len(self._in) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._in)
        if length > LARGEST_MESSAGE:
            raise ChannelError(f"a message of {length} bytes")
        end = _LENGTH.size + length
        if len(self._in) < end:
            return None
        data = bytes(self._in[_LENGTH.size : end])
        del self._in[:end]
        try:
            message = json.loads(data)
        except ValueError as error:
            raise ChannelError(f"not JSON: {error}") from error
        if not isinstance(message, dict):
            raise ChannelError("not a JSON object")
        return message


def _ancillary(descriptors: list[int]) -> list[tuple[int, int, array.array[int]]]:
    return (
        [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
        if descriptors
        else []
    )
