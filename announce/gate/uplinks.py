"""The interfaces of this network namespace as they come and go, and which of them can answer the
LAN (announce.gate.links).

A node with pods has hundreds of interfaces: each message is taken in by itself, and only of the
kinds for which it matters the addresses are read. The standard library only: this is the guard's.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Collection, Mapping

from announce.gate.links import (
    BRIDGE,
    CONTAINER_KINDS,
    Link,
    Network,
    hole,
    leads_to_lan,
    parsed,
    speaks_arp,
)
from announce.gate.support import probe_interface
from announce.gate.traffic_control import TrafficControl, interface_of_address
from announce.kernel.filters import address_filter, attach
from announce.kernel.link_message import QUESTION, RTM_GETLINK
from announce.kernel.netlink import NewsSocket
from announce.kernel.ownership import VIPD_PROTO
from announce.kernel.rtnetlink import ATTRIBUTES_AT, IFA_PROTO, RTM_DELADDR, RTM_NEWADDR

RTMGRP_LINK, RTMGRP_IPV4_IFADDR = 0x1, 0x10
MOST_NAMED = 3
"""Interfaces of containers that are named one by one."""
V4_LENGTH = 4
"""Bytes of an IPv4 address; only for one of these does Linux answer on other interfaces."""
_SYSCTL = "/proc/sys/net/ipv4/conf"


class Uplinks:
    """Follows links and IPv4 addresses, in the network namespace in which it was made.

    Raises OSError if the kernel does not tell.
    """

    def __init__(self, control: TrafficControl) -> None:
        self._control = control
        self._links: dict[int, Link] = {}
        self._networks: dict[int, list[Network]] = {}
        self._news = NewsSocket(RTMGRP_LINK | RTMGRP_IPV4_IFADDR, _leave_out_refreshes)
        self._read_all()

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when something changes."""
        return self._news.fileno()

    def close(self) -> None:
        """Close the socket. Idempotent."""
        self._news.close()

    # ------------------------------------------------------------ what happens

    def follow(self) -> set[int]:
        """Take in what has changed; return the interfaces that are new, or have come back.

        A gate that they had is gone.
        """
        found, missing = self._news.read()
        if missing:
            self._read_all()
            return set(self._links)
        came = set[int]().union(*(self._take(kind, payload) for kind, payload in found))
        readdressed = {
            interface_of_address(payload)
            for kind, payload in found
            if kind in {RTM_NEWADDR, RTM_DELADDR}
        }
        for ifindex in readdressed | came:
            self._read_networks(ifindex)
        return came

    def _take(self, kind: int, payload: bytes) -> set[int]:
        seen = parsed(kind, payload)
        if seen is None:
            return set()
        if seen.link is None:
            self._links.pop(seen.ifindex, None)
            self._networks.pop(seen.ifindex, None)
            return set()
        before = self._links.get(seen.ifindex)
        self._links[seen.ifindex] = seen.link
        return set() if before is not None else {seen.ifindex}

    def _read_all(self) -> None:
        found = [
            parsed(kind, payload) for kind, payload in self._control.dump(RTM_GETLINK, QUESTION)
        ]
        self._links = {
            seen.ifindex: seen.link for seen in found if seen is not None and seen.link is not None
        }
        self._networks = {}
        for address in self._control.addresses():
            if address.family == socket.AF_INET:
                self._networks.setdefault(address.ifindex, []).append(
                    (address.ip, address.prefixlen)
                )

    def _read_networks(self, ifindex: int) -> None:
        addresses = self._control.addresses(ifindex) if ifindex in self._links else []
        self._networks[ifindex] = [
            (address.ip, address.prefixlen)
            for address in addresses
            if address.family == socket.AF_INET
        ]

    # ------------------------------------------------------------ who can answer

    def others(self, carriers: Collection[int], vips: Collection[bytes]) -> Mapping[int, str]:
        """Return number and name of the interfaces that can answer the LAN for addresses which
        these carriers have.
        """
        near = self._near(carriers, vips)
        return {
            link.ifindex: link.name for link in self._speaking(carriers) if self._leads(link, near)
        }

    def left_alone(self, carriers: Collection[int], vips: Collection[bytes]) -> str:
        """Return the interfaces taken for those of containers on which the kernel would answer ARP
        for the addresses, for people.
        """
        near = self._near(carriers, vips)
        names = [
            link.name
            for link in self._speaking(carriers)
            if not self._leads(link, near) and self._would_answer(link)
        ]
        more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
        return ", ".join(names[:MOST_NAMED]) + more

    def closed_by_sysctl(self, ifindex: int) -> bool:
        """Whether the kernel answers ARP on an interface only for the addresses of that very
        interface.
        """
        link = self._links.get(ifindex)
        return link is None or _sysctl(link.name, "arp_ignore") > 0

    def _speaking(self, carriers: Collection[int]) -> list[Link]:
        return [
            link
            for ifindex, link in self._links.items()
            if ifindex not in carriers and speaks_arp(link)
        ]

    def _near(self, carriers: Collection[int], vips: Collection[bytes]) -> set[Network]:
        own = {network for ifindex in carriers for network in self._networks.get(ifindex, ())}
        return own | {(ip, 32) for ip in vips if len(ip) == V4_LENGTH}

    def _leads(self, link: Link, near: Collection[Network]) -> bool:
        if link.kind != BRIDGE and link.kind not in CONTAINER_KINDS:
            return True
        ports = [port for port in self._links.values() if port.master == link.ifindex]
        return leads_to_lan(link, ports, self._networks.get(link.ifindex, ()), near)

    def _would_answer(self, link: Link) -> bool:
        """Whether the kernel answers ARP there for any address: it does not where a sysctl says so.

        Without an address of its own a strict or loose reverse path filter refuses every question.
        """
        if _sysctl(link.name, "arp_ignore"):
            return False
        return bool(self._networks.get(link.ifindex)) or not _sysctl(link.name, "rp_filter")


def _leave_out_refreshes(opened: socket.socket) -> None:
    """Leave out the refreshes of vipd's own addresses.

    Where there is no protocol number (before Linux 5.18) they are read.
    """
    with contextlib.suppress(OSError):
        attach(opened, address_filter(RTM_NEWADDR, ATTRIBUTES_AT, IFA_PROTO, VIPD_PROTO))


def second_ways(carriers: Collection[int], vips: Collection[bytes]) -> list[str]:
    """Return what there is to say of other interfaces that answer the LAN for the addresses of
    these, sentences; for `vipd check`.

    Changes nothing, and needs no rights. Raises OSError.
    """
    control = TrafficControl()
    with contextlib.closing(control), contextlib.closing(Uplinks(control)) as uplinks:
        others = uplinks.others(carriers, vips)
        refusals = {ifindex: probe_interface(control, ifindex) for ifindex in others}
        bad = [
            ifindex
            for ifindex, why in refusals.items()
            if why and not uplinks.closed_by_sysctl(ifindex)
        ]
        good = [name for ifindex, name in others.items() if not refusals[ifindex]]
        said = [
            f"no gate on {hole(others[ifindex], refusals[ifindex])}"
            for ifindex in bad
            if any(len(ip) == V4_LENGTH for ip in vips)
        ]
        if good:
            said.append(
                f"the gate stands on {', '.join(good)} too: Linux answers there for the addresses "
                "as well"
            )
        if alone := uplinks.left_alone(carriers, vips):
            said.append(
                f"not on {alone}, taken for containers': if one leads to the LAN, set its "
                "net.ipv4.conf.*.arp_ignore to 1"
            )
        return said


def _sysctl(name: str, key: str) -> int:
    """Return a setting that counts as the greater of the interface's and that of all; 0 if it
    cannot be read.
    """
    return max(_number(f"{_SYSCTL}/{where}/{key}") for where in ("all", name))


def _number(path: str) -> int:
    try:
        with open(path, encoding="ascii") as file:  # noqa: PTH123 -- pathlib would cost the guard 0.4 MB
            return int(file.read())
    except (OSError, ValueError):
        return 0
