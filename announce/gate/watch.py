"""Notices when somebody changes traffic control.

A gate that is removed is put back at once, not at the next look.
"""

from __future__ import annotations

import errno
import socket

from announce.gate.traffic_control import RTMGRP_TC, interface_of, messages
from announce.kernel.netlink import LARGEST_DATAGRAM

EVERYTHING = None
"""Instead of interfaces: the kernel has more news than there was room for."""


class GateWatch:
    """A socket that becomes readable when qdiscs or filters change, in the network namespace in
    which it was opened.

    It speaks of one's own changes too, and of everybody's; whoever reads looks at what is there
    (`Gates.look`), whatever the message says: the last of several may have been overtaken already.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE
        )
        self._socket.bind((0, RTMGRP_TC))

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._socket.fileno()

    def changed(self) -> frozenset[int] | None:
        """Return the numbers of the interfaces on which something changed since the last call.

        EVERYTHING if some are missing.
        """
        found = set[int]()
        missing = False
        while True:
            try:
                data, sender = self._socket.recvfrom(LARGEST_DATAGRAM)
            except BlockingIOError:
                return EVERYTHING if missing else frozenset(found)
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                missing = True
                continue
            if sender[0] == 0:  # the kernel
                found |= {interface_of(payload) for _, _, _, payload in messages(data)}

    def close(self) -> None:
        """Close the socket. Idempotent."""
        self._socket.close()
