"""TLS contexts of https checks.

Made on a thread, shared by all checks, and kept until the certificates on disk change.

Reading the system's authorities takes 50 to 200 ms of CPU. OpenSSL reads a file without holding the
interpreter's lock, which it does hold for certificates that are passed as text: so files are given
by name.
"""

from __future__ import annotations

import asyncio
import ssl
import stat
from dataclasses import dataclass
from pathlib import Path

Key = tuple[str, bool]
"""The CA file (empty: the system's authorities), and whether certificates are verified at all."""
Signature = tuple[tuple[int, int, int, int] | None, ...]


@dataclass(frozen=True, slots=True)
class Made:
    """A context and the state of the files that it was made from."""

    context: ssl.SSLContext
    signature: Signature


class Trust:
    """The contexts of one process. Used from one event loop only."""

    def __init__(self) -> None:
        self._made: dict[Key, Made] = {}
        self._doubted: set[Key] = set()
        self._making: dict[Key, asyncio.Task[Made]] = {}

    async def context(self, ca_file: str, *, verify: bool) -> ssl.SSLContext:
        """Return the context; raises OSError, with the reason, for an unusable ca_file."""
        key = (ca_file, verify)
        made = self._made.get(key)
        if made is not None and key not in self._doubted:
            return made.context
        making = self._making.get(key)
        if making is None:
            making = self._making[key] = asyncio.create_task(
                self._make(key, made), name=f"CA certificates {ca_file}"
            )
            making.add_done_callback(_retrieve)
        # It goes on if this try times out: the next one must neither begin anew nor take a second
        # thread while a file system hangs.
        await asyncio.wait({making})
        return making.result().context

    def doubt(self, ca_file: str, *, verify: bool) -> None:
        """Note that a certificate was refused.

        The CA may have been rotated, and the next `context` looks at its file again.
        """
        self._doubted.add((ca_file, verify))

    async def close(self) -> None:
        """Wait for nothing that is still being made. Idempotent."""
        making = list(self._making.values())
        for task in making:
            task.cancel()
        await asyncio.gather(*making, return_exceptions=True)

    async def _make(self, key: Key, before: Made | None) -> Made:
        try:
            made = await asyncio.to_thread(_made, *key, before)
        finally:
            del self._making[key]
        self._made[key] = made
        self._doubted.discard(key)
        return made


def _retrieve(making: asyncio.Task[Made]) -> None:
    """Look at the exception.

    Unread, when all who waited have given up, asyncio would report it as lost.
    """
    if not making.cancelled():
        making.exception()


def _made(ca_file: str, verify: bool, before: Made | None) -> Made:
    """Return what was made before if its files are the same, else a new one; blocks. Raises
    OSError.
    """
    if ca_file and not stat.S_ISREG(Path(ca_file).stat().st_mode):
        raise OSError(0, "is not a regular file")
    signature = _signature(ca_file) if verify else ()
    if before is not None and before.signature == signature:
        return before
    context = _verifying(ca_file) if verify else _trusting()
    context.set_alpn_protocols(["http/1.1"])
    return Made(context, signature)


def _signature(ca_file: str) -> Signature:
    paths = ssl.get_default_verify_paths()
    return tuple(
        _stat(name)
        for name in ((ca_file,) if ca_file else (paths.openssl_cafile, paths.openssl_capath))
    )


def _stat(name: str) -> tuple[int, int, int, int] | None:
    try:
        # Through symbolic links: a mounted Secret is replaced by turning one of them.
        found = Path(name).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


def _verifying(ca_file: str) -> ssl.SSLContext:
    """Return a context that trusts the CAs of a file, or the system's. Raises OSError."""
    context = ssl.create_default_context(cafile=ca_file or None)
    # From Python 3.13 on, homemade CAs without key usage or key identifiers would be refused, which
    # curl and HAProxy accept: a check must not turn bad because vipd's image got a newer Python.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def _trusting() -> ssl.SSLContext:
    """Return a context that takes any certificate.

    The connection is still encrypted and the name still sent.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
