"""What would make the kernel of this host refuse an address.

Known before it is tried, and seen when it ends.

A better node whose kernel refuses an address would take the VIP from a healthy holder only to give
it up again.
"""

from __future__ import annotations

import fcntl
import socket
import struct
from collections.abc import Iterable
from ipaddress import IPv4Interface, IPv6Interface
from pathlib import Path

from announce.kernel.netlink import ifindex_of

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
            return f"{interface} has an MTU of {mtu}, and IPv6 needs {SMALLEST_MTU}: the kernel would refuse {refused}; raise the MTU"
        if (IPV6 / "conf" / name / "disable_ipv6").read_text(encoding="ascii").strip() == "0":
            return ""
    except OSError:
        return ""
    setting = f"net.ipv6.conf.{name.replace('.', '/')}.disable_ipv6"
    return f"IPv6 is switched off on {interface}: the kernel would refuse {refused}; switch it on: sysctl {setting}=0"


def _mtu(name: str) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        answer = fcntl.ioctl(sock, SIOCGIFMTU, _IFREQ.pack(name.encode(), 0))
    mtu: int = _IFREQ.unpack(answer)[1]
    return mtu
