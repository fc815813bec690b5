"""Files whose content outlives the process.

Written whole, on the disk, and then put in place; or not at all.

A file that is written where it stands exists before its content does: a full disk leaves it empty,
and who looks at the next start whether it exists takes what was refused for done.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

SUFFIX = ".new"


def write(path: Path, data: bytes, mode: int = 0o640, *, sync: bool = True) -> None:
    """Replace a file; after a crash or a loss of power it has the old content or the new.

    Raises OSError, and then nothing changed.

    Blocks on the disk. Only one writer at a time may write a file. Without `sync` it is quicker,
    and outlives the process and whatever kills it, but not a loss of power.
    """
    temporary = path.with_name(path.name + SUFFIX)
    try:
        # Without O_NONBLOCK a named pipe in its place would wait for a reader.
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = os.open(temporary, flags, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            # Before the rename: a name on the disk must not stand for content that never got there.
            if sync:
                os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    if sync:
        _sync(path.parent)


def remove(path: Path) -> None:
    """Remove a file for good; raises OSError. One that is not there is as good."""
    path.unlink(missing_ok=True)
    _sync(path.parent)


def _sync(directory: Path) -> None:
    """Bring a change of names to the disk. Where that fails, the change stands all the same."""
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
