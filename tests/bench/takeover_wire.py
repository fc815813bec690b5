"""What a takeover looks like from outside.

Frames on the switch's ports and the kernels' news of addresses, on one clock.

Frames carry the kernel's own time (SO_TIMESTAMPNS); news of addresses are stamped when they are
read, some tens of microseconds later. All times are ns of CLOCK_REALTIME.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from functools import partial
from types import TracebackType
from typing import Self

from announce.frames.packet_socket import ETH_P_ALL, PACKET_IGNORE_OUTGOING, SOL_PACKET
from announce.kernel.filters import attach, rival_filter
from tests.bench.takeover_steps import Seen
from tests.netns.stories.node import inside
from vipd.demo.lab import Host
from vipd.demo.monitor import (
    LARGEST_READ,
    RTMGRP_IPV4_IFADDR,
    RTMGRP_IPV6_IFADDR,
    changes,
    socket_in,
)

SO_RCVBUFFORCE = 33
SO_TIMESTAMPNS = 35
PACKET_STATISTICS = 6
BUFFER = 64 << 20
"""Bytes: the frames of a thousand addresses, each of which the kernel counts as about 1 kB."""
TIMESPEC = struct.Struct("=qq")
STATISTICS = struct.Struct("=II")
ETHERTYPE_ARP = b"\x08\x06"


def spoken_for(frame: bytes) -> bytes:
    """Return the packed address that an ARP frame or a neighbour advertisement claims."""
    return frame[28:32] if frame[12:14] == ETHERTYPE_ARP else frame[62:78]


class Wire:
    """Sees every announcement and every address of these hosts.

    To be begun before any of them is bound.
    """

    def __init__(self, switch: str, hosts: Sequence[Host], addresses: Sequence[str]) -> None:
        packed = [
            socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
            for address in addresses
        ]
        self.expected = frozenset(packed)
        self.trouble = ""
        self._seen: list[Seen] = []
        self._lock = threading.Lock()
        self._taps = {inside(switch, partial(_tap, host.port, packed)): host.name for host in hosts}
        self._news = {_news(host): host.name for host in hosts}
        self._wake, self._wakened = os.pipe()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        """Nothing to do: it runs already."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the thread and close the sockets."""
        os.close(self._wakened)
        self._thread.join()
        os.close(self._wake)
        for sock in (*self._taps, *self._news):
            sock.close()

    def since(self, moment: int) -> list[Seen]:
        """Return all that was seen since then."""
        with self._lock:
            return [seen for seen in self._seen if seen.at >= moment]

    def forget(self) -> None:
        """Drop what was seen so far."""
        with self._lock:
            self._seen.clear()

    def lost(self) -> str:
        """Return what was not seen for want of room; empty: nothing."""
        dropped = sum(
            STATISTICS.unpack(tap.getsockopt(SOL_PACKET, PACKET_STATISTICS, STATISTICS.size))[1]
            for tap in self._taps
        )
        return self.trouble or (
            f"{dropped} frames were dropped before they were seen" if dropped else ""
        )

    def _watch(self) -> None:
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        by_number = {sock.fileno(): sock for sock in (*self._taps, *self._news)}
        for number in by_number:
            poll.register(number, select.POLLIN)
        while True:
            ready = [number for number, _ in poll.poll()]
            now = time.clock_gettime_ns(time.CLOCK_REALTIME)
            if self._wake in ready:
                return
            found: list[Seen] = []
            for number in ready:
                sock = by_number[number]
                found += self._frames(sock) if sock in self._taps else self._changes(sock, now)
            with self._lock:
                self._seen += found

    def _frames(self, tap: socket.socket) -> Iterator[Seen]:
        with contextlib.suppress(BlockingIOError):
            while True:
                frame, ancillary, _, _ = tap.recvmsg(256, 64)
                address = spoken_for(frame)
                if address in self.expected and ancillary:
                    seconds, nanoseconds = TIMESPEC.unpack(ancillary[0][2][: TIMESPEC.size])
                    yield Seen(
                        seconds * 1_000_000_000 + nanoseconds, self._taps[tap], address, "announced"
                    )

    def _changes(self, news: socket.socket, now: int) -> Iterator[Seen]:
        try:
            while True:
                for text, present in changes(news.recv(LARGEST_READ)):
                    address = socket.inet_pton(
                        socket.AF_INET6 if ":" in text else socket.AF_INET, text
                    )
                    if address in self.expected:
                        yield Seen(now, self._news[news], address, "bound" if present else "gone")
        except BlockingIOError:
            return
        except OSError as error:
            self.trouble = f"news of addresses were lost: {error.strerror}"


def _tap(port: str, packed: Sequence[bytes]) -> socket.socket:
    """Return a socket that gets the announcements which come in by this port of the switch."""
    tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
    tap.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    tap.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    tap.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
    attach(tap, rival_filter(socket.if_nametoindex(port), packed))
    tap.bind((port, ETH_P_ALL))
    return tap


def _news(host: Host) -> socket.socket:
    news = socket_in(host.namespace, RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR)
    news.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
    return news
