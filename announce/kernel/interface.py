"""What an interface is.

One object with number, names and MAC, and the one place where a configured name is resolved.

An interface has a number that stays its own for as long as it exists, a name that may be changed,
and any number of alternative names (`ip link property add dev eth0 altname uplink0`; udev gives
them to most hosts). The kernel takes each of them, and reports the first only. So nothing compares
names but `Links`, and all else goes by the number.

Numbers are those of linux/if_arp.h. Standard library only.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import struct
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface
from pathlib import Path

from announce.kernel.link_message import (
    IFF_LOWER_UP,
    IFF_NOARP,
    IFF_POINTOPOINT,
    IFF_RUNNING,
    IFF_UP,
    IFLA_ADDRESS,
    IFLA_ALT_IFNAME,
    IFLA_IFNAME,
    IFLA_INFO_SLAVE_KIND,
    IFLA_OPERSTATE,
    QUESTION,
    RTM_GETLINK,
    RTM_NEWLINK,
    LinkMessage,
    read_link,
)
from announce.kernel.netlink import REQUEST_TIMEOUT, RouteSocket, ifindex_of
from announce.kernel.rtnetlink import attribute

SIOCGIFFLAGS = 0x8913
ETHERNET, LOOPBACK = 1, 772
"""ARPHRD_ETHER and ARPHRD_LOOPBACK: what the frames of an interface begin with."""
LONGEST_NAME = 15
"""Bytes of a name; alternative names may have 127."""
PORTS = frozenset({"bridge", "bond", "team", "openvswitch"})
"""What an interface may be a part of, so that frames that it receives arrive there; a VRF is none
of these."""
WORKING = frozenset({0, 6})
"""IF_OPER_UNKNOWN and IF_OPER_UP (RFC 2863): a link passes traffic. Drivers that know of no states
say unknown."""

_REQUEST = struct.Struct("16s24x")

Where = Callable[[], int]
"""Returns the present number of an interface; 0: there is none."""


@dataclass(frozen=True, slots=True)
class Interface:
    """An interface as it is now.

    `up` is what the administrator set, `carrier` whether the link beneath it works.

    `mac` is empty where there is none; `kind` is its ARPHRD number; `arp` is False where neighbours
    are not looked for; `port_of` is the kind of interface that it is a part of, as the kernel calls
    it ("bridge", "bond", "vrf"), or empty.
    """

    ifindex: int
    name: str
    mac: str
    up: bool
    carrier: bool
    altnames: frozenset[str] = frozenset()
    kind: int = ETHERNET
    arp: bool = True
    port_of: str = ""

    @property
    def usable(self) -> bool:
        """Whether frames can pass."""
        return self.up and self.carrier

    @property
    def names(self) -> frozenset[str]:
        """All names that it can be configured by."""
        return self.altnames | {self.name}


def unsuitable(interface: Interface) -> str:
    """Return why a virtual address on this interface cannot be announced to anybody, a sentence;
    empty: it can.
    """
    name = interface.name
    if interface.kind == LOOPBACK:
        return (
            f"{name} is the loopback interface: nothing is announced to the network from there, "
            "and the"
            " kernel's gate on it sees none of the network's frames; name the interface that "
            "leads to the clients"
        )
    if interface.kind != ETHERNET:
        return (
            f"{name} is not an Ethernet interface (its type is {interface.kind}): the address "
            "cannot be"
            " announced on it by ARP or neighbour discovery; name an Ethernet interface"
        )
    if not interface.arp:
        return (
            f"{name} does not use ARP (it is NOARP or point-to-point): neighbours do not learn on "
            "it where the"
            " address is; name the interface that leads to the clients"
        )
    if interface.port_of in PORTS:
        return (
            f"{name} is a port of a {interface.port_of}: what is sent to the address arrives at the"
            f" {interface.port_of}; name that interface"
        )
    return ""


# ---------------------------------------------------------------- what is known


class Links:
    """The interfaces of one network namespace as last seen.

    A name belongs to the interface last seen with it.
    """

    def __init__(self) -> None:
        self._links: dict[int, Interface] = {}
        self._named: dict[str, int] = {}

    def named(self, name: str) -> Interface | None:
        """Return the interface that has this name, as its first or as an alternative one."""
        return self._links.get(self._named.get(name, 0))

    def see(self, interface: Interface) -> frozenset[str]:
        """Take in an interface as it is now; return the names that it has or had.

        What they mean may have changed.
        """
        former = self.forget(interface.ifindex)
        self._links[interface.ifindex] = interface
        self._named |= dict.fromkeys(interface.names, interface.ifindex)
        return former | interface.names

    def forget(self, ifindex: int) -> frozenset[str]:
        """Take in that there is no interface of this number; return the names that it had."""
        known = self._links.pop(ifindex, None)
        names = known.names if known else frozenset[str]()
        for name in names:
            if self._named.get(name) == ifindex:
                del self._named[name]
        return names

    def look(self, name: str) -> None:
        """Ask the kernel what has this name now. Where it cannot be asked, what is known stays."""
        try:
            self.see(find(name))
        except TimeoutError:
            return
        except OSError as error:
            if error.errno == errno.ENODEV:
                self._named.pop(name, None)


# ---------------------------------------------------------------- the kernel


def find(name: str) -> Interface:
    """Return the interface that has this name, be it an alternative one.

    Raises OSError: ENODEV if there is none.
    """
    with contextlib.closing(RouteSocket()) as kernel:
        kind, payload = kernel.ask(RTM_GETLINK, _question(name), time.monotonic() + REQUEST_TIMEOUT)
    if kind == RTM_NEWLINK and (link := read_link(payload)):
        return interface_of(link)
    failure = -struct.unpack_from("=i", payload)[0]
    raise OSError(failure, os.strerror(failure), name)


def is_running(ifindex: int) -> bool:
    """Return whether the interface of this number exists and is up and running (netdevice(7)),
    without netlink's lock.
    """
    try:
        name = socket.if_indextoname(ifindex)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
            answer = fcntl.ioctl(asker, SIOCGIFFLAGS, _REQUEST.pack(name.encode()))
    except OSError:
        return False
    flags: int = struct.unpack_from("=H", answer, 16)[0]
    return flags & (IFF_UP | IFF_RUNNING) == IFF_UP | IFF_RUNNING


def _question(name: str) -> bytes:
    kind = IFLA_IFNAME if len(name.encode()) <= LONGEST_NAME else IFLA_ALT_IFNAME
    return QUESTION + attribute(kind, name.encode() + b"\0")


def interface_of(link: LinkMessage) -> Interface:
    """Return the interface that an RTM_NEWLINK message is about."""
    working = (link.values.get(IFLA_OPERSTATE) or b"\0")[0] in WORKING
    return Interface(
        ifindex=link.ifindex,
        name=link.text(IFLA_IFNAME),
        mac=link.values.get(IFLA_ADDRESS, b"").hex(":"),
        up=bool(link.flags & IFF_UP),
        carrier=bool(link.flags & IFF_LOWER_UP) and working,
        altnames=link.altnames,
        kind=link.kind,
        arp=has_arp(link.flags),
        port_of=link.info(IFLA_INFO_SLAVE_KIND),
    )


def has_arp(flags: int) -> bool:
    """Return whether neighbours are looked for on an interface with these flags."""
    return not flags & (IFF_NOARP | IFF_POINTOPOINT)


# ---------------------------------------------------------------- what the kernel would refuse


IPV6 = Path("/proc/sys/net/ipv6")
SMALLEST_MTU = 1280
"""RFC 8200 section 5: below this Linux has no IPv6 on an interface."""
SIOCGIFMTU = 0x8921
_IFREQ = struct.Struct("16si20x")


def obstacle(interface: str, addresses: Iterable[IPv4Interface | IPv6Interface]) -> str:
    """Return why the kernel would refuse one of these addresses on this interface, and what to do;
    empty: nothing is known.
    """
    refused = next(
        (str(address.ip) for address in addresses if isinstance(address, IPv6Interface)), ""
    )
    if not refused:
        return ""
    if not IPV6.is_dir():
        return f"this kernel has no IPv6 (started with ipv6.disable=1?): it would refuse {refused}"
    try:
        # The settings go by the first name of an interface, the configuration may have an
        # alternative one.
        name = socket.if_indextoname(ifindex_of(interface))
        mtu = _mtu(name)
        if mtu < SMALLEST_MTU:
            return (
                f"{interface} has an MTU of {mtu}, and IPv6 needs {SMALLEST_MTU}: the kernel "
                f"would refuse {refused}; raise the MTU"
            )
        if (IPV6 / "conf" / name / "disable_ipv6").read_text(encoding="ascii").strip() == "0":
            return ""
    except OSError:
        return ""
    setting = f"net.ipv6.conf.{name.replace('.', '/')}.disable_ipv6"
    return (
        f"IPv6 is switched off on {interface}: the kernel would refuse {refused}; switch it "
        f"on: sysctl {setting}=0"
    )


def _mtu(name: str) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        answer = fcntl.ioctl(sock, SIOCGIFMTU, _IFREQ.pack(name.encode(), 0))
    mtu: int = _IFREQ.unpack(answer)[1]
    return mtu
