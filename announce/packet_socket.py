"""What the sockets that send and receive whole frames (AF_PACKET) have in common.

A socket is bound to an interface's number, not to its name. When the interface is deleted and made again, or another
one gets its name, the socket has to be opened anew.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

SOL_PACKET = 263
PACKET_QDISC_BYPASS = 20
PACKET_IGNORE_OUTGOING = 23
PACKET_OUTGOING = 4
ETH_P_ALL = 0x0003


def open_packet_socket(interface: str, protocol: int, prepare: Callable[[socket.socket], None]) -> socket.socket:
    """Return a non-blocking socket on this interface; `prepare` sets its options before it hears anything.

    Raises OSError: ENODEV if there is no such interface, EPERM without CAP_NET_RAW.
    """
    # With protocol 0 it receives nothing until it is bound; with any other it would hear all interfaces till then.
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
    try:
        prepare(opened)
        opened.bind((interface, protocol))
    except OSError:
        close_aside(opened)
        raise
    return opened


def bound_interface(sock: socket.socket) -> str:
    """Return the present name of the interface that the socket is bound to; empty if that is gone."""
    return str(sock.getsockname()[0])


def bound_mac(sock: socket.socket) -> str:
    """Return the present MAC of the interface that the socket is bound to."""
    return bytes(sock.getsockname()[4]).hex(":")


def close_aside(sock: socket.socket) -> None:
    """Close the socket in a thread: the kernel waits for a grace period, 16 ms as measured, too long for the event loop."""
    threading.Thread(target=sock.close, name="close packet socket", daemon=True).start()
