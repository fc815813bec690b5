"""Notice, within a millisecond, who else speaks as one of our addresses.

One tap (AF_PACKET, ETH_P_ALL) for each interface that is being watched, with a filter in the
kernel. It is a tap, and not a socket for ARP alone, because the kernel gate drops what speaks of a
VIP while this node has no right to it: only taps see frames before the gate does. While nobody
watches there is no socket, so a Backup pays nothing.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from announce.frames.packet_socket import (
    ETH_P_ALL,
    PACKET_IGNORE_OUTGOING,
    PACKET_OUTGOING,
    SOL_PACKET,
    bound_mac,
    close_aside,
    is_bound,
    open_packet_socket,
)
from announce.kernel.filters import attach, rival_filter
from announce.kernel.interface import Where
from announce.rivals.speakers import Kind, claim_of

CHECK_INTERVAL = 0.25
"""Seconds between two looks whether the socket is still bound to the right interface: 2 us each."""
FRAMES_AT_ONCE = 64
"""Frames taken in one go, so that a storm cannot hold up the loop."""
WINDOW = 0.25
"""Seconds for which the two numbers below are counted."""
FRAMES_OF_ONE = 8
"""Frames of one address in a window; more are dropped by the filter in the kernel, so that a storm
about one address neither costs a core nor hides a rival of another one."""
FRAMES_OF_ALL = 256
"""Frames read in a window: where the filter does not tell addresses apart, because there are too
many, a storm costs no more."""
LONGEST_FRAME = 256


@dataclass(frozen=True, slots=True)
class RivalSeen:
    """Somebody with this MAC, which is not the interface's own, speaks as `ip`."""

    interface: str
    ip: str
    mac: str
    kind: Kind


Report = Callable[[RivalSeen], None]


@dataclass(frozen=True, slots=True, eq=False)
class _Subscription:
    ips: frozenset[bytes]
    report: Report


class Rivals:
    """The rivals on one interface, called `interface`, whose number `where` tells.

    Used from one event loop only.

    It survives that the link goes down, that the interface is deleted and made again, and that it
    does not exist yet. `problem` says in words why it hears nothing; empty while all is well or
    nobody watches.
    """

    def __init__(self, interface: str, where: Where) -> None:
        self.interface = interface
        self._where = where
        self._ifindex = 0
        self.problem = ""
        self._subscriptions: list[_Subscription] = []
        self._socket: socket.socket | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._window: asyncio.TimerHandle | None = None
        self._read = 0
        self._of: Counter[bytes] = Counter()
        self._muted: set[bytes] = set()
        self._resting = False

    def subscribe(self, ips: Iterable[str], report: Report) -> Callable[[], None]:
        """Call `report` for each rival of these addresses, until the returned function is called
        (idempotent).
        """
        subscription = _Subscription(
            frozenset(ipaddress.ip_address(ip).packed for ip in ips), report
        )
        self._subscriptions.append(subscription)
        self._refilter()
        self.check()

        def unsubscribe() -> None:
            if subscription in self._subscriptions:
                self._subscriptions.remove(subscription)
                self._refilter()
                self.check()

        return unsubscribe

    def check(self) -> None:
        """Open the socket if it is needed and not bound to the right interface.

        Called by itself, and on link events.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._socket is not None and (
            not self._subscriptions or not self._is_right(self._socket)
        ):
            self._close_socket()
        if not self._subscriptions:
            self.problem = ""
            self._end_window()
            return
        loop = asyncio.get_running_loop()
        if self._socket is None:
            self._open(loop)
        self._timer = loop.call_later(CHECK_INTERVAL, self.check)

    def _is_right(self, sock: socket.socket) -> bool:
        return self._where() == self._ifindex and is_bound(sock)

    def close(self) -> None:
        """End all subscriptions. Idempotent."""
        self._subscriptions.clear()
        self.check()

    def _open(self, loop: asyncio.AbstractEventLoop) -> None:
        self._ifindex = self._where()
        try:
            self._socket = open_packet_socket(self._ifindex, ETH_P_ALL, self._prepare)
        except OSError as error:
            self.problem = f"cannot listen for rivals on {self.interface}: {error.strerror}"
            return
        self.problem = ""
        self._resting = False
        loop.add_reader(self._socket, self._readable, self._socket)

    def _prepare(self, opened: socket.socket) -> None:
        opened.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        attach(opened, self._filter())

    def _filter(self) -> bytes:
        ips = (
            frozenset[bytes]().union(*(subscription.ips for subscription in self._subscriptions))
            - self._muted
        )
        return rival_filter(self._ifindex, ips)

    def _refilter(self) -> None:
        if self._socket is not None and self._subscriptions:
            try:
                attach(self._socket, self._filter())
            except OSError:
                self._close_socket()  # `check` opens a new one

    def _close_socket(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            close_aside(self._socket)
            self._socket = None

    def _readable(self, sock: socket.socket) -> None:
        for _ in range(FRAMES_AT_ONCE):
            # a subscriber, called in this loop, ended the last subscription
            if sock is not self._socket:
                return
            try:
                frame, address = sock.recvfrom(LONGEST_FRAME)
            except BlockingIOError:
                return
            except OSError:
                # ENETDOWN, said once: the link is down and the socket works again when it is up, or
                # the interface is being deleted and the next `check` finds the socket bound to
                # nothing.
                return
            if address[2] != PACKET_OUTGOING:
                self._heard(frame, bound_mac(sock))
            if not self._may_read_on(sock):
                return

    def _heard(self, frame: bytes, own_mac: str) -> None:
        claim = claim_of(frame)
        if claim is None or claim.mac == own_mac:
            return
        concerned = [
            subscription for subscription in self._subscriptions if claim.ip in subscription.ips
        ]
        if not concerned or self._is_too_much(claim.ip):
            return
        seen = RivalSeen(self.interface, str(ipaddress.ip_address(claim.ip)), claim.mac, claim.kind)
        for subscription in concerned:
            subscription.report(seen)

    # ------------------------------------------------------------------ storms

    def _is_too_much(self, ip: bytes) -> bool:
        """Count a frame about an address.

        From one too many on the kernel keeps them from us until the window ends.
        """
        self._of[ip] += 1
        if self._of[ip] == FRAMES_OF_ONE:
            self._muted.add(ip)
            self._refilter()
        return self._of[ip] > FRAMES_OF_ONE

    def _may_read_on(self, sock: socket.socket) -> bool:
        """Count a frame that was read.

        After one too many the others wait in the socket, and the kernel drops what has no room
        there.
        """
        loop = asyncio.get_running_loop()
        if self._window is None:
            self._window = loop.call_later(WINDOW, self._end_window)
        self._read += 1
        if self._read >= FRAMES_OF_ALL and sock is self._socket:
            self._resting = True
            loop.remove_reader(sock)
        return not self._resting

    def _end_window(self) -> None:
        if self._window is not None:
            self._window.cancel()
            self._window = None
        self._read = 0
        self._of.clear()
        if self._muted:
            self._muted.clear()
            self._refilter()
        if self._resting and self._socket is not None:
            asyncio.get_running_loop().add_reader(self._socket, self._readable, self._socket)
        self._resting = False


class Listeners:
    """The interfaces that are listened on: one tap each, however many instances are there.

    Each tap costs every frame a filter.
    """

    def __init__(self) -> None:
        self._rivals: dict[str, Rivals] = {}

    def on(self, interface: str, where: Where) -> Rivals:
        """Return the rivals on the interface of this name, whose number `where` tells."""
        if interface not in self._rivals:
            self._rivals[interface] = Rivals(interface, where)
        return self._rivals[interface]


# ---------------------------------------------------------------- what to say and to send


RIVALS_KEPT = 16
LINE_PAUSE = 10.0
"""Seconds between two log lines about one address."""
SAME_PAUSE = 60.0
"""Seconds between two log lines that have no other MAC address to tell of."""
ANSWER_PAUSE = 1.0
"""Seconds between two announcements against others: both sides answering each frame would be a
storm."""
NAMED = 3
"""MAC addresses in one line."""


@dataclass(slots=True)
class Dispute:
    """One address that others answer for.

    `said_at` and `answered_at` are of the last line and of the last announcement.
    """

    address: str
    said_at: float = float("-inf")
    answered_at: float = float("-inf")
    frames: int = 0
    macs: dict[str, None] = field(default_factory=dict)
    said: dict[str, None] = field(default_factory=dict)

    def add_frame(self, mac: str) -> None:
        """Take in a frame of somebody with this MAC address."""
        self.frames += 1
        if len(self.macs) < RIVALS_KEPT:
            self.macs[mac] = None

    def line(self, moment: float) -> str:
        """Return the line to be logged now, which counts what came since the
        last one; empty: none.
        """
        news = any(mac not in self.said for mac in self.macs)
        if not self.frames or moment - self.said_at < (LINE_PAUSE if news else SAME_PAUSE):
            return ""
        text = self._text(moment)
        self.said_at, self.frames, self.said, self.macs = moment, 0, self.macs, {}
        return text

    def _text(self, moment: float) -> str:
        first, *others = self.macs
        if not others:
            return f"{first} answers for {self.address} as well; announcing against it"
        named = ", ".join((first, *others[: NAMED - 1]))
        many = len(self.macs) >= RIVALS_KEPT
        count = (
            f"{RIVALS_KEPT} MAC addresses or more" if many else f"{len(self.macs)} MAC addresses"
        )
        since = f" in {moment - self.said_at:.0f}s" if self.said else ""
        more = ", ..." if len(self.macs) > NAMED else ""
        return (
            f"{count} ({named}{more}) answer for {self.address} as well, at least "
            f"{self.frames} frames{since}; announcing against them"
        )

    def answers(self, moment: float) -> bool:
        """Return whether to announce against them now, and note it."""
        if moment - self.answered_at < ANSWER_PAUSE:
            return False
        self.answered_at = moment
        return True
