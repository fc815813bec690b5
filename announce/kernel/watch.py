"""What the kernel says of links and addresses, for as long as the daemon lives.

The news comes from pyroute2's AsyncIPRoute. When it breaks off (the buffer overflowed, a message
was beyond the library), a new one is opened and everything is reported as it is now: nobody has to
know what was missed.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pyroute2 import AsyncIPRoute

from announce.errors import ReportError
from announce.kernel.filters import address_filter, attach
from announce.kernel.interface import Interface, has_arp
from announce.kernel.link_message import IFF_LOWER_UP, IFF_UP
from announce.kernel.ownership import VIPD_PROTO
from announce.kernel.rtnetlink import ATTRIBUTES_AT, IFA_PROTO, RTM_NEWADDR

RESTART_PAUSE = 0.05
"""Seconds between the end of one monitor and the next, so that a lasting fault does not spin."""
GROUPS = 0x001 | 0x010 | 0x100
"""RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR (linux/rtnetlink.h)."""
WORKING = frozenset({"UP", "UNKNOWN"})
"""Operational states (RFC 2863) in which a link passes traffic; drivers that know of none say
UNKNOWN."""


@dataclass(frozen=True, slots=True)
class LinkSeen:
    """An interface as it is now.

    It is new, or something about it has changed, its name included.
    """

    interface: Interface


@dataclass(frozen=True, slots=True)
class LinkGone:
    """There is no interface of this number any more; this is what was last seen of it."""

    interface: Interface


@dataclass(frozen=True, slots=True)
class AddressSeen:
    """Somebody bound this address. What vipd binds itself is reported at a Resync only."""

    ifindex: int
    ip: str
    prefixlen: int


@dataclass(frozen=True, slots=True)
class AddressGone:
    """This address is bound no more, whoever removed it: vipd, somebody else, or its lifetime."""

    ifindex: int
    ip: str
    prefixlen: int


@dataclass(frozen=True, slots=True)
class Resync:
    """Everything was just reported as it is now.

    What is not among these addresses is not bound. Comes first at the start.
    """

    addresses: frozenset[AddressSeen]


KernelEvent = LinkSeen | LinkGone | AddressSeen | AddressGone | Resync

Message = Any
"""A message of pyroute2: its values are known at run time only. They go no further than this
file."""


class Watch:
    """Reports kernel events by calling `report` in the event loop.

    A change that changes nothing is not reported.

    After a break an older event may be reported again before a newer one: the last one said of a
    link or address is right. `problem` says why the last monitor ended; `restarts` and `faults`
    count those and the messages not understood.
    """

    def __init__(self, report: Callable[[KernelEvent], None]) -> None:
        self.problem = ""
        self.restarts = 0
        self.faults = 0
        self._tell = report
        self._links: dict[int, Interface] = {}
        self._addresses: set[AddressSeen] = set()

    async def run(self) -> None:
        """Watch until cancelled; no fault of the monitor ends it.

        What `report` raises does: with it an event would be lost.
        """
        while True:
            try:
                await self._follow()
            except ReportError as error:
                raise error.__cause__ or error from None
            except Exception as error:  # noqa: BLE001 -- whatever the library raises, the next monitor reports all anew
                self.problem = f"{type(error).__name__}: {error}"
                self.restarts += 1
            await asyncio.sleep(RESTART_PAUSE)

    def _report(self, event: KernelEvent) -> None:
        try:
            self._tell(event)
        except Exception as error:
            raise ReportError from error

    async def _follow(self) -> None:
        async with AsyncIPRoute() as monitor:
            # Each renewal of a lease refreshes all addresses, and 1000 of them cost 0.12 s to read
            # about (measured). Where the filter is refused, or does not match (no protocol number
            # before Linux 5.18), they are read and ignored.
            with contextlib.suppress(OSError):
                attach(
                    monitor.socket,
                    address_filter(RTM_NEWADDR, ATTRIBUTES_AT, IFA_PROTO, VIPD_PROTO),
                )
            await monitor.bind(groups=GROUPS)
            # Only now: what changes while all is being read waits in the monitor, and nothing falls
            # between the two.
            await self._resync()
            while True:
                async for message in monitor.get():  # ends after each batch
                    self._take(message)

    async def _resync(self) -> None:
        async with AsyncIPRoute() as reader:
            links = [message async for message in await reader.get_links()]
            addresses = [message async for message in await reader.get_addr()]
        missed_links, self._links = self._links, {}
        missed_addresses, self._addresses = self._addresses, set()
        for message in (*links, *addresses):
            self._take(message)
        for address in missed_addresses - self._addresses:
            self._report(AddressGone(address.ifindex, address.ip, address.prefixlen))
        for ifindex in missed_links.keys() - self._links.keys():
            self._report(LinkGone(missed_links[ifindex]))
        self._report(Resync(frozenset(self._addresses)))

    def _take(self, message: Message) -> None:
        try:
            parsed = self._parsed(message)
        except (KeyError, TypeError, ValueError, AttributeError):
            self.faults += 1
            return
        match parsed:
            case "RTM_NEWLINK", Interface() as link:
                self._link_seen(link)
            case "RTM_DELLINK", Interface() as link:
                self._forget(link.ifindex)
            case "RTM_NEWADDR", AddressSeen() as address:
                self._address_seen(address)
            case "RTM_DELADDR", AddressSeen() as address:
                self._address_gone(address)

    def _parsed(self, message: Message) -> tuple[str, Interface | AddressSeen] | None:
        """Return what a message is about, or None for nothing that is reported."""
        event = message["event"]
        if event in {"RTM_NEWADDR", "RTM_DELADDR"}:
            return event, _address(message)
        # A bridge speaks of its ports in link messages of its own family: the end of a port is not
        # the end of a link.
        if event in {"RTM_NEWLINK", "RTM_DELLINK"} and message["family"] == socket.AF_UNSPEC:
            return event, _link(message)
        return None

    def _link_seen(self, link: Interface) -> None:
        before = self._links.get(link.ifindex)
        self._links[link.ifindex] = link
        if link != before:
            self._report(LinkSeen(link))

    def _forget(self, ifindex: int) -> None:
        for address in [address for address in self._addresses if address.ifindex == ifindex]:
            self._address_gone(address)
        link = self._links.pop(ifindex, None)
        if link is not None:
            self._report(LinkGone(link))

    def _address_seen(self, address: AddressSeen) -> None:
        if address not in self._addresses:
            self._addresses.add(address)
            self._report(address)

    def _address_gone(self, address: AddressSeen) -> None:
        self._addresses.discard(address)
        self._report(AddressGone(address.ifindex, address.ip, address.prefixlen))


def _link(message: Message) -> Interface:
    flags = message["flags"]
    properties = message.get_attr("IFLA_PROP_LIST")
    names = properties.get_attrs("IFLA_ALT_IFNAME") if properties is not None else ()
    info = message.get_attr("IFLA_LINKINFO")
    return Interface(
        ifindex=message["index"],
        name=str(message.get_attr("IFLA_IFNAME")),
        mac=message.get_attr("IFLA_ADDRESS") or "",
        up=bool(flags & IFF_UP),
        carrier=bool(flags & IFF_LOWER_UP)
        and message.get_attr("IFLA_OPERSTATE", "UNKNOWN") in WORKING,
        altnames=frozenset(map(str, names)),
        kind=message["ifi_type"],
        arp=has_arp(flags),
        port_of=str((info and info.get_attr("IFLA_INFO_SLAVE_KIND")) or ""),
    )


def _address(message: Message) -> AddressSeen:
    # Of an IPv4 address IFA_ADDRESS is the peer's, if there is one; IPv6 has IFA_LOCAL only then.
    ip = ipaddress.ip_address(message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS"))
    return AddressSeen(message["index"], str(ip), message["prefixlen"])
