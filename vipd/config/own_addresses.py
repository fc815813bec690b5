"""What this host has to say of a configuration that is valid by itself.

Addresses that are its own, and how it answers ARP.
"""

from __future__ import annotations

import fcntl
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

from announce.kernel.addresses import BoundAddress, RouteSocket
from announce.kernel.interface import find
from announce.kernel.netlink import interface_name
from announce.kernel.ownership import is_vipds, written
from vipd.config.findings import NOWHERE, Finding
from vipd.config.values import Config, Instance

ANOTHER = "an address that no host has of its own; if another program has bound it, stop that first"
SILENT_ARP = {
    2: "answers ARP only for addresses of the asker's network, and a single address has none",
    3: "does not answer ARP for addresses of the scope `host`, which vipd's are",
    8: "answers ARP for no address at all",
}
"""Values of net.ipv4.conf.*.arp_ignore with which the VIP is not found
(Documentation/networking/ip-sysctl.rst)."""
_SIOCGIFFLAGS = 0x8913
_IFF_LOOPBACK, _IFF_NOARP = 0x08, 0x80
_INTERFACE = struct.Struct("16sH14x")


def findings_here(path: str, config: Config) -> list[Finding]:
    """Return what is wrong with this configuration on this host.

    Nothing where the kernel cannot be asked.
    """
    try:
        kernel = RouteSocket()
    except OSError:
        return []
    try:
        bound = [address for address in kernel.addresses() if not is_vipds(address)]
    except OSError:
        bound = []
    finally:
        kernel.close()
    found = list[Finding]()
    for index, instance in enumerate(config.instances):
        found += _own(path, index, instance, bound)
        found += _silent(path, index, instance)
    return found


def _own(path: str, index: int, instance: Instance, bound: list[BoundAddress]) -> Iterator[Finding]:
    """Refuse the host's own addresses.

    Bound and unbound as a VIP they would take the host off the network.
    """
    for number, address in enumerate(instance.addresses):
        own = [one for one in bound if one.ip == address.ip.packed and _answers(one.ifindex)]
        for one in own:
            problem = (
                f"{written(one)} on {interface_name(one.ifindex)} is this host's own "
                "address, not bound by vipd"
            )
            yield Finding(
                path, NOWHERE, ("instances", index, "addresses", number), problem, ANOTHER
            )


def _answers(ifindex: int) -> bool:
    """Whether the interface speaks to a network.

    What is on lo, or on one without ARP as kube-ipvs0, is not how the host is reached.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        try:
            answer = fcntl.ioctl(
                asked, _SIOCGIFFLAGS, _INTERFACE.pack(interface_name(ifindex).encode(), 0)
            )
        except OSError:
            return False
    return not _INTERFACE.unpack(answer)[1] & (_IFF_LOOPBACK | _IFF_NOARP)


def _silent(path: str, index: int, instance: Instance) -> Iterator[Finding]:
    if all(address.version != 4 for address in instance.addresses):  # noqa: PLR2004 -- an IP version
        return
    # The kernel takes the greater of the two.
    try:
        value = max(_arp_ignore("all"), _arp_ignore(find(instance.interface).name))
    except OSError:
        return
    if value in SILENT_ARP:
        problem = (
            f"net.ipv4.conf.{instance.interface}.arp_ignore (or conf.all) is {value}: this "
            f"host {SILENT_ARP[value]}"
        )
        yield Finding(
            path, NOWHERE, ("instances", index, "interface"), problem, "0 or 1", warning=True
        )


def _arp_ignore(name: str) -> int:
    try:
        return int(Path(f"/proc/sys/net/ipv4/conf/{name}/arp_ignore").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0
