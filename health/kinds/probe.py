"""What every kind of check can do, and how a socket's error is judged."""

from __future__ import annotations

import errno
import os
import ssl
from typing import Protocol

from health.model import Result

OWN_TROUBLE = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL}
"""This process has no descriptor, memory or port left to ask with: that says nothing about the one
to be asked."""

PROOF = {errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE, errno.ENOENT}
"""Nobody listens, or who did is gone; ENOENT for the path of a unix socket."""


class Probe(Protocol):
    """One check's way to ask. It is never asked again before the last try has ended."""

    stage: str
    """What a try that is under way waits for, to be named if it times out: `connection`, `response`
    and the like."""

    async def prepare(self) -> None:
        """Do beforehand what takes time and says nothing about the one to be asked.

        Bounded by the caller; what it raises, `run` meets.
        """
        ...

    async def run(self) -> Result:
        """Ask once. It needs no time limit of its own, is cancelled when time is up, and whatever
        it raises is a bad result.
        """
        ...

    async def close(self) -> None:
        """Let go of everything. Idempotent; called after the last run."""
        ...


def failure(error: OSError, where: str = "") -> Result:
    """Return what an error says.

    Bad, unknown if the trouble is this process's own, refused if it is proof.
    """
    code = _system_code(error)
    words = os.strerror(code) if code else str(error) or type(error).__name__
    said = f"{where}: {words}" if where else words
    if code in OWN_TROUBLE:
        return Result(up=None, detail=said)
    # aiohttp's errors have the number but not the class; asyncio's, for a handshake that is cut,
    # the class but not the number.
    return Result(
        up=False, detail=said, refused=code in PROOF or isinstance(error, ConnectionError)
    )


def _system_code(error: OSError) -> int:
    """Return the errno, or 0. An ssl.SSLError is an OSError, too, but its number is OpenSSL's."""
    return 0 if isinstance(error, ssl.SSLError) else error.errno or 0
