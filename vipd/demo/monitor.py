"""Who has the VIP: the kernel's own news of addresses in every node's network namespace, on one
clock.

It asks no part of vipd, so that it would see two owners even where every daemon believes there is
one.
"""

from __future__ import annotations

import ctypes
import ipaddress
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from vipd.demo.lab import Host, LabError
from vipd.demo.measure import Bound

# linux/rtnetlink.h, linux/if_addr.h
RTM_NEWADDR, RTM_DELADDR = 20, 21
RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR = 0x10, 0x100
IFA_ADDRESS, IFA_LOCAL = 1, 2
MESSAGE = struct.Struct("=IHHII")
ADDRESS = struct.Struct("=BBBBI")
ATTRIBUTE = struct.Struct("=HH")
CLONE_NEWNET = 0x40000000
LARGEST_READ = 1 << 16
RECEIVE_BUFFER = 1 << 20


def socket_in(namespace: str, groups: int) -> socket.socket:
    """Return a netlink socket of another network namespace.

    This thread stays where it is. LabError if that fails.
    """
    made: list[socket.socket] = []
    failed: list[OSError] = []

    def make() -> None:
        # A thread of its own enters the namespace and ends: only the socket remains, and it stays
        # where it was made.
        try:
            with Path("/run/netns", namespace).open("rb") as file:
                if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))  # noqa: TRY301
            sock = socket.socket(
                socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE
            )
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
            sock.bind((0, groups))
            made.append(sock)
        except OSError as error:
            failed.append(error)

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    if failed:
        raise LabError(f"no netlink socket in {namespace}: {failed[0]}")
    return made[0]


def changes(data: bytes) -> Iterator[tuple[str, bool]]:
    """Yield (address, present) for each address message in what a netlink socket gave."""
    at = 0
    while at + MESSAGE.size <= len(data):
        length, kind, *_ = MESSAGE.unpack_from(data, at)
        if length < MESSAGE.size:
            return
        if kind in (RTM_NEWADDR, RTM_DELADDR) and (
            address := _address(data[at + MESSAGE.size : at + length])
        ):
            yield address, kind == RTM_NEWADDR
        at += length + -length % 4


def _address(body: bytes) -> str:
    found: dict[int, bytes] = {}
    at = ADDRESS.size
    while at + ATTRIBUTE.size <= len(body):
        length, kind = ATTRIBUTE.unpack_from(body, at)
        if length < ATTRIBUTE.size:
            break
        found[kind] = body[at + ATTRIBUTE.size : at + length]
        at += length + -length % 4
    raw = found.get(IFA_LOCAL) or found.get(IFA_ADDRESS)
    return str(ipaddress.ip_address(raw)) if raw else ""


class Monitor:
    """Notes when one of `addresses` (without prefix length) appears on one of the hosts or goes
    away.

    To be begun before any of them is bound. Times are stamped when the news are read, within about
    a millisecond.
    """

    def __init__(self, hosts: Iterable[Host], addresses: Iterable[str]) -> None:
        self._addresses = {str(ipaddress.ip_address(address)) for address in addresses}
        self._sockets: dict[socket.socket, str] = {}
        self._news = threading.Condition()
        self._events: list[Bound] = []
        self._present: dict[str, set[str]] = {address: set() for address in self._addresses}
        self._failure = ""
        self._wake, self._wakened = os.pipe()
        for host in hosts:
            self._sockets[socket_in(host.namespace, RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR)] = (
                host.name
            )
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
        for sock in self._sockets:
            sock.close()

    @property
    def events(self) -> list[Bound]:
        """All changes so far. LabError if news were lost: figures would be wrong."""
        with self._news:
            if self._failure:
                raise LabError(self._failure)
            return list(self._events)

    def owners(self, address: str) -> frozenset[str]:
        """Return the nodes that have the address now."""
        with self._news:
            return frozenset(self._present[address])

    def wait_owner(self, address: str, timeout: float, other_than: str = "") -> str:
        """Return the node that alone has the address, once that is another node than that.

        Empty after `timeout` seconds.
        """

        def found() -> str:
            present = self._present[address]
            return next(iter(present)) if len(present) == 1 and other_than not in present else ""

        with self._news:
            self._news.wait_for(found, timeout)
            return found()

    def _watch(self) -> None:
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        by_number = {sock.fileno(): sock for sock in self._sockets}
        for number in by_number:
            poll.register(number, select.POLLIN)
        while True:
            ready = [number for number, _ in poll.poll()]
            now = time.monotonic()
            with self._news:
                if self._wake in ready:
                    return
                for number in ready:
                    self._take(by_number[number], now)
                self._news.notify_all()

    def _take(self, sock: socket.socket, now: float) -> None:
        try:
            data = sock.recv(LARGEST_READ)
        except OSError as error:  # ENOBUFS: the kernel had more news than room for them
            self._failure = f"news of addresses on {self._sockets[sock]} were lost: {error}"
            return
        for address, present in changes(data):
            nodes = self._present.get(address)
            node = self._sockets[sock]
            if nodes is None or present == (node in nodes):
                continue  # a refresh of what was there
            (nodes.add if present else nodes.discard)(node)
            self._events.append(Bound(now, node, address, present))
