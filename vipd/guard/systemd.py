"""Notifications to systemd (sd_notify(3)); none where systemd did not ask for them."""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from collections.abc import MutableMapping

_WATCHDOG = b"WATCHDOG=1"
WATCHDOG_FRACTION = 3
"""The watchdog is fed this often within its time: two of three may get lost in a busy host."""


class Notifier:
    """A connection to the service manager.

    Never waits: what the manager does not take now is sent with a later `flush`.
    """

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        """Take the manager's variables out of the environment.

        A hook that inherits them could speak for the daemon.
        """
        self._address = environment.pop("NOTIFY_SOCKET", "")
        watched = environment.pop("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        period = environment.pop("WATCHDOG_USEC", "")
        self.watchdog_interval = (
            int(period) / 1e6 / WATCHDOG_FRACTION if watched and period.isdecimal() else 0.0
        )
        """Seconds between two calls of `watchdog`; 0.0: none are wanted."""
        self._waiting: deque[bytes] = deque()
        self._socket = (
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            if self._address
            else None
        )

    @property
    def waiting(self) -> bool:
        """Whether something is still to be sent."""
        return bool(self._waiting)

    def ready(self, *, again: bool = True) -> None:
        """Notify that the daemon is up, for the first time or after a reload.

        Not `again`: it has not been up yet.
        """
        if again:
            self._send(b"READY=1")

    def reloading(self) -> None:
        """Notify that a new configuration is being tried, and when.

        Systemd matches that time with its own request.
        """
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}".encode())

    def stopping(self) -> None:
        """Notify that the service is about to end."""
        self._send(b"STOPPING=1")

    def status(self, text: str) -> None:
        """Set the line that `systemctl status` shows."""
        self._send(f"STATUS={' '.join(text.split())}".encode())

    def watchdog(self) -> None:
        """Notify that all is well."""
        self._send(_WATCHDOG)
        if self._waiting and self._waiting[-1] == _WATCHDOG:
            self._waiting.pop()  # sent later, it would vouch for a time that is past

    def flush(self) -> None:
        """Send what waits, as far as the manager takes it."""
        while self._waiting and self._socket is not None:
            try:
                self._socket.sendto(self._waiting[0], self._target())
            except BlockingIOError:
                return
            except OSError:
                self._waiting.clear()  # there is no manager (any more)
                return
            self._waiting.popleft()

    def close(self) -> None:
        """Close the connection."""
        if self._socket is not None:
            self._socket.close()

    def _target(self) -> str:
        return "\0" + self._address[1:] if self._address.startswith("@") else self._address

    def _send(self, text: bytes) -> None:
        if self._socket is not None:
            self._waiting.append(text)
            self.flush()
