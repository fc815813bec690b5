"""Addresses equal to the VIP that vipd did not bind, or bound otherwise, in a real kernel: what
goes and what stays.
"""

from __future__ import annotations

import errno
import socket
import struct
import time
from typing import TYPE_CHECKING

import pytest

from announce.kernel.addresses import (
    BoundAddress,
    ReadyMessages,
    RouteSocket,
    Unbound,
    bind,
    look,
    refresh,
    reshape,
    unbind,
    with_lifetime,
)
from announce.kernel.messages import ready_messages
from announce.kernel.ownership import written
from announce.kernel.rtnetlink import patched

if TYPE_CHECKING:
    from tests.netns.announce.conftest import Cable

pytestmark = [pytest.mark.root, pytest.mark.netns]

OWN, OWN6 = "192.0.2.1/24", "2001:db8::1/64"
VIPS = ("192.0.2.10", "2001:db8::10")
PREFIXLEN_AT, SCOPE_AT = 17, 19


@pytest.fixture
def ready(cable: Cable) -> ReadyMessages:
    """Return the VIPs' messages for a host that has addresses of its own."""
    own(cable)
    return ready_messages("a0", VIPS)


def own(cable: Cable) -> None:
    """Give the host its own addresses."""
    cable.a.run(f"ip address add {OWN} dev a0")
    cable.a.run(f"ip address add {OWN6} dev a0 nodad")


def bound(sock: RouteSocket, ready: ReadyMessages) -> list[str]:
    """Return what is bound of these addresses, as an operator writes it."""
    wanted = {key[:2] for key in ready.keys}
    return [
        written(address) for address in sock.addresses(ready.ifindex) if address.key[:2] in wanted
    ]


def as_before(ready: ReadyMessages, index: int, prefixlen: int) -> bytes:
    """Return the message with which an earlier version bound this address.

    Under this prefix length, IPv4 with scope global.
    """
    return patched(patched(ready.bind[index], PREFIXLEN_AT, bytes([prefixlen])), SCOPE_AT, b"\0")


@pytest.mark.parametrize(
    "added",
    [
        "192.0.2.10/24",
        "192.0.2.10/32",
        "192.0.2.10 peer 192.0.2.9/32",
        "192.0.2.10/32 valid_lft 50 preferred_lft 50",
        "2001:db8::10/64",
        "2001:db8::10/128",
        "2001:db8::10 peer 2001:db8::9/128",
    ],
)
def test_what_nothing_depends_on_is_removed_as_it_is_bound(
    sock: RouteSocket, cable: Cable, ready: ReadyMessages, added: str
) -> None:
    """Added by hand beside the host's own addresses.

    Whatever prefix length or peer, and it is named.
    """
    cable.a.run(f"ip address add {added} dev a0")
    done = unbind(sock, ready)
    assert (done.remaining, done.kept, len(done.others)) == ((), (), 1)
    assert bound(sock, ready) == []
    left = cable.a.run("ip address show dev a0 scope global")
    assert OWN in left
    assert OWN6 in left


@pytest.mark.parametrize(
    ("own", "route", "why"),
    [
        ("192.0.2.10/24", "", "192.0.2.0/24"),
        ("192.0.2.10/24 valid_lft 3600 preferred_lft 3600", "", "192.0.2.0/24"),
        ("192.0.2.10/24 noprefixroute", "", "no other IPv4"),
        ("192.0.2.10/32", "", "no other IPv4"),
        ("192.0.2.10/32 valid_lft 3600 preferred_lft 3600", "", "no other IPv4"),
        ("192.0.2.10 peer 192.0.2.9/32", "", "no other IPv4"),
        ("2001:db8::10/64", "", "2001:db8::/64"),
        ("2001:db8::10/128", "", "no other IPv6"),
        ("2001:db8::10/128 valid_lft 3600 preferred_lft 3600", "", "no other IPv6"),
    ],
)
def test_an_address_by_which_the_host_is_reached_stays(
    sock: RouteSocket, cable: Cable, own: str, route: str, why: str
) -> None:
    """Static or leased, with a connected route or the only one of its interface.

    Neither unbind nor bind touches it.
    """
    ready = ready_messages("a0", VIPS)
    cable.a.run(f"ip address add {own} dev a0{' nodad' if ':' in own else ''}")
    before = (
        cable.a.run("ip address show dev a0"),
        cable.a.run(f"ip -{6 if ':' in own else 4} route show"),
        route,
    )
    done = unbind(sock, ready)
    assert (done.remaining, done.others) == ((), ())
    assert [why in one.needed for one in done.kept] == [True]
    assert (
        cable.a.run("ip address show dev a0"),
        cable.a.run(f"ip -{6 if ':' in own else 4} route show"),
        route,
    ) == before


@pytest.mark.parametrize("added", ["192.0.2.10/32", "192.0.2.10/24", "198.51.100.10/24"])
def test_the_source_of_a_route_stays(sock: RouteSocket, cable: Cable, added: str) -> None:
    """Beside other addresses.

    The default route says that packets leave as this one, or the route to a network of its own.
    """
    own(cable)
    cable.a.run(f"ip address add {added} dev a0")
    ip = added.partition("/")[0]
    if ip.startswith("192"):
        cable.a.run(f"ip route add default via 192.0.2.254 dev a0 src {ip}")
    done = unbind(sock, ready_messages("a0", [ip]))
    assert [written(one.address) for one in done.kept] == [added]
    assert added in cable.a.run("ip address show dev a0")


@pytest.mark.parametrize("own", ["192.0.2.10/32", "2001:db8::10/64", "2001:db8::10/128"])
def test_a_bind_does_not_take_over_what_the_host_depends_on(
    sock: RouteSocket, cable: Cable, own: str
) -> None:
    """Its only address: a replace would mark it as vipd's and let it expire."""
    cable.a.run(f"ip address add {own} dev a0{' nodad' if ':' in own else ''}")
    before = cable.a.run("ip address show dev a0")
    ready = ready_messages("a0", [own])
    assert [bind(sock, ready, 5), bind(sock, ready, 5, contested=False)] == [
        [(ready.keys[0], errno.EADDRINUSE)]
    ] * 2
    assert cable.a.run("ip address show dev a0") == before


def test_an_address_added_by_hand_is_made_to_serve(
    sock: RouteSocket, cable: Cable, ready: ReadyMessages
) -> None:
    """Under another prefix length and with duplicate address detection.

    A replace alone would leave it so.
    """
    cable.a.run("ip address add 2001:db8::10/64 dev a0")
    cable.a.run("ip address add 192.0.2.10/32 dev a0")
    assert bind(sock, ready, 5) == []
    assert bound(sock, ready) == ["192.0.2.10/32", "2001:db8::10/128"]
    assert unbind(sock, ready) == Unbound()


@pytest.mark.parametrize("prefixlen", [24, 32])
def test_what_an_older_version_bound_is_taken_over(
    sock: RouteSocket, ready: ReadyMessages, prefixlen: int
) -> None:
    """Under the prefix length of the file, with scope global.

    Bound anew as it is today, with what is left of its lifetime.
    """
    old = [as_before(ready, 0, prefixlen), as_before(ready, 1, 64 if prefixlen == 24 else 128)]
    assert sock.request([with_lifetime(message, 50) for message in old]) == [0, 0]
    assert len(reshape(sock, ready)) == (2 if prefixlen == 24 else 1)
    mine, foreign = look(sock, ready)
    assert (foreign, {one.key for one in mine}) == ([], set(ready.keys))
    assert {one.scope for one in mine if one.family == socket.AF_INET} == {254}
    assert all(40 <= one.valid_lft <= 50 for one in mine)
    assert reshape(sock, ready) == []


@pytest.mark.parametrize("how", ["unbind", "reshape"])
def test_the_hosts_own_address_survives_the_end_of_an_older_primary(
    sock: RouteSocket, cable: Cable, how: str
) -> None:
    """An older version's /24 came first, so the kernel calls the host's own address secondary.

    promote_secondaries is off.
    """
    cable.a.run(
        "sysctl -q -w net.ipv4.conf.all.promote_secondaries=0 "
        "net.ipv4.conf.a0.promote_secondaries=0"
    )
    ready = ready_messages("a0", VIPS[:1])
    sock.request([with_lifetime(as_before(ready, 0, 24), 50)])
    cable.a.run(f"ip address add {OWN} dev a0")
    assert "secondary" in cable.a.run("ip address show dev a0")
    if how == "unbind":
        assert unbind(sock, ready) == Unbound()
    else:
        assert len(reshape(sock, ready)) == 1
    assert OWN in cable.a.run("ip address show dev a0")
    assert "192.0.2.0/24 dev a0" in cable.a.run("ip route show")
    assert cable.a.run("sysctl -n net.ipv4.conf.a0.promote_secondaries").strip() == "0"


def source(cable: Cable, to: str) -> str:
    """Return the source address that the kernel chooses."""
    return cable.a.run(f"ip route get {to}").split(" src ")[1].split()[0]


def test_the_vip_is_never_a_source_by_accident(sock: RouteSocket, cable: Cable) -> None:
    """The host's own address is a /32 that came after the VIP, and its routes name no source; IPv6
    prefers others too.
    """
    ready = ready_messages("a0", VIPS)
    assert bind(sock, ready, 50) == []
    cable.a.run("ip address add 192.0.2.1/32 dev a0")
    cable.a.run(f"ip address add {OWN6} dev a0 nodad")
    cable.a.run("ip route add 192.0.2.2 dev a0")
    cable.a.run("ip route add default via 192.0.2.2 dev a0 onlink")
    cable.a.run("ip -6 route add default via 2001:db8::2 dev a0")
    assert [source(cable, to) for to in ("198.51.100.9", "192.0.2.2")] == ["192.0.2.1"] * 2
    assert source(cable, "2001:db8:1::9") == "2001:db8::1"
    assert source(cable, "192.0.2.10") == "192.0.2.10"


def test_the_vip_serves_with_the_scope_of_a_host(
    sock: RouteSocket, cable: Cable, ready: ReadyMessages
) -> None:
    """It answers ARP, a socket on it can speak from it, and what it says leaves from it."""
    assert bind(sock, ready, 50) == []
    cable.b.run("ip address add 192.0.2.2/24 dev b0")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("", 5000))
        server.settimeout(5)
        with cable.b.inside():
            client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with client:
            client.settimeout(5)
            client.sendto(b"?", ("192.0.2.10", 5000))
            assert server.recvfrom(10) == (b"?", ("192.0.2.2", client.getsockname()[1]))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as vip:
        vip.bind(("192.0.2.10", 0))
        with cable.b.inside():
            other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with other:
            other.bind(("192.0.2.2", 5001))
            other.settimeout(5)
            vip.sendto(b"!", ("192.0.2.2", 5001))
            assert other.recvfrom(10)[1][0] == "192.0.2.10"


def test_an_ipv6_address_serves_after_it_was_accepted(
    sock: RouteSocket, ready: ReadyMessages
) -> None:
    """The kernel accepts it first and finishes it in a work queue.

    The local route tells, and it comes.
    """
    ip = ready.keys[1][1]
    for _ in range(20):
        assert not sock.is_served(ready.ifindex, ip)
        assert refresh(sock, ready, 50) == []
        end = time.monotonic() + 5
        while not sock.is_served(ready.ifindex, ip):
            assert time.monotonic() < end
        assert unbind(sock, ready) == Unbound()


def test_single_ipv6_addresses_are_asked_for(sock: RouteSocket, ready: ReadyMessages) -> None:
    """Those that are bound on this interface, with what marks them."""
    assert bind(sock, ready, 50) == []
    asked = [ready.keys[1][1], struct.pack("!QQ", 1, 1)]
    found: list[BoundAddress] = sock.ipv6_addresses(ready.ifindex, asked)
    assert [(one.ip, one.prefixlen, one.proto, one.valid_lft) for one in found] == [
        (asked[0], 128, 118, 50)
    ]
    assert sock.ipv6_addresses(999, asked) == []
