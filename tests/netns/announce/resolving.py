"""Interfaces by their names, as a test has them."""

from __future__ import annotations

import contextlib
import socket

from announce.kernel.interface import Where


def numbered(interface: str) -> Where:
    """Return how to ask what number this interface has here and now; 0: there is none."""

    def where() -> int:
        with contextlib.suppress(OSError):
            return socket.if_nametoindex(interface)
        return 0

    return where
