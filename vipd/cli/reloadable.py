"""What `vipd check --reload` looks at besides the file, before a reload."""

from __future__ import annotations

import os
import signal
import sys

from vipd.control import client
from vipd.guard import installed


def outdated(socket_path: str) -> str:
    """Return why the vipd behind this control socket would refuse to be reloaded: another version is installed by now.

    Empty: it would not, or nobody answers there.
    """
    try:
        running = client.request(socket_path, "status")
    except (client.UnreachableError, client.RefusedError, client.FailedError):
        return ""
    return installed.difference(str(running.get("code", "")), str(running.get("version", "?")))


def let_guard_look(pid: int) -> None:
    """Have a guard read the file that it will refuse: then status and metrics say why."""
    try:
        os.kill(pid, signal.SIGHUP)
    except OSError as error:
        sys.stderr.write(f"process {pid} cannot be made to look at it: {error.strerror}\n")
