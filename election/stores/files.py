"""Files that an operator names.

Read whole, up to a limit, and only if they are files. Standard library only.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

WORDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def read_file(path: str | Path, largest: int) -> bytes:
    """Return the content, and one byte more than `largest` of a longer one.

    Raises OSError, also for what is no regular file.

    Opening a named pipe would wait for somebody to write, and a device may have no end.
    """
    if what := no_file(path):
        raise OSError(errno.EINVAL, what, str(path))
    # It may have become a pipe in between.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a file", str(path))
        return file.read(largest + 1)


def no_file(path: str | Path) -> str:
    """Return what stands there instead of a regular file (`a named pipe, not a file`), or nothing.
    Raises OSError.
    """
    mode = Path(path).stat().st_mode
    return (
        ""
        if stat.S_ISREG(mode)
        else f"{WORDS.get(stat.S_IFMT(mode), 'something else')}, not a file"
    )
