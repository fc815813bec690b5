"""What the sockets that send and receive whole frames (AF_PACKET) have in common.

A socket is bound to an interface's number, not to its name: it stays with an interface that is
renamed, and is dead once the interface is deleted or moved to another network namespace, also if
one of the same number comes back.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
import threading
from collections.abc import Callable

SOL_PACKET = 263
PACKET_QDISC_BYPASS = 20
PACKET_IGNORE_OUTGOING = 23
PACKET_OUTGOING = 4
ETH_P_ALL = 0x0003
_ADDRESS = struct.Struct("=HHiHBB8s")
"""struct sockaddr_ll (packet(7))."""
_LIBC = ctypes.CDLL(None, use_errno=True)


def open_packet_socket(
    ifindex: int, protocol: int, prepare: Callable[[socket.socket], None]
) -> socket.socket:
    """Return a non-blocking socket on the interface of this number.

    `prepare` sets its options before it hears anything.

    Raises OSError: ENODEV if there is no such interface (also for 0), EPERM without CAP_NET_RAW.
    """
    if not ifindex:  # to the kernel it would mean all of them
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
    # With protocol 0 it receives nothing until it is bound; with any other it would hear all
    # interfaces till then.
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
    try:
        prepare(opened)
        _bind(opened, ifindex, protocol)
    except OSError:
        close_aside(opened)
        raise
    return opened


def _bind(opened: socket.socket, ifindex: int, protocol: int) -> None:
    """Bind by number: Python's own bind takes a name, which may mean another interface a moment
    later.
    """
    address = _ADDRESS.pack(socket.AF_PACKET, socket.htons(protocol), ifindex, 0, 0, 0, b"")
    if _LIBC.bind(opened.fileno(), address, len(address)) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def is_bound(sock: socket.socket) -> bool:
    """Return whether the interface that the socket was bound to still is in
    this network namespace.
    """
    return bool(sock.getsockname()[0])


def bound_mac(sock: socket.socket) -> str:
    """Return the present MAC of the interface that the socket is bound to."""
    return bound_address(sock).hex(":")


def bound_address(sock: socket.socket) -> bytes:
    """Return the present MAC as it stands in a frame; empty if the interface is gone. 1 us."""
    return bytes(sock.getsockname()[4])


def close_aside(sock: socket.socket) -> None:
    """Close the socket in a thread.

    The kernel waits for a grace period, 16 ms as measured, too long for the event loop.
    """
    threading.Thread(target=sock.close, name="close packet socket", daemon=True).start()
