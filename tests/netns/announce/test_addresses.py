"""Addresses in a real kernel: bound with all that marks them, extended, expired, removed."""

from __future__ import annotations

import errno
import os
import socket
import time
from typing import TYPE_CHECKING

import pytest

from announce.kernel.addresses import (
    BoundAddress,
    ReadyMessages,
    RouteSocket,
    Unbound,
    bind,
    refresh,
    remove,
    unbind,
)
from announce.kernel.messages import key_of, leftovers, ready_messages
from announce.kernel.netlink import SOL_NETLINK
from announce.kernel.ownership import VIPD_PROTO

if TYPE_CHECKING:
    from tests.netns.announce.conftest import Cable

pytestmark = [pytest.mark.root, pytest.mark.netns]

NODAD, DADFAILED, DEPRECATED, TENTATIVE, PERMANENT, NOPREFIXROUTE = (
    0x02,
    0x08,
    0x20,
    0x40,
    0x80,
    0x200,
)
VIPS = ("192.0.2.10/32", "2001:db8::10/128")
MANY = tuple(f"10.1.0.{i}/32" for i in range(1, 101)) + tuple(
    f"2001:db8::{i:x}/128" for i in range(1, 101)
)


def bound(sock: RouteSocket, ready: ReadyMessages) -> list[BoundAddress]:
    """Return what is bound of these addresses, under whatever prefix length."""
    wanted = {key[:2] for key in ready.keys}
    return [address for address in sock.addresses(ready.ifindex) if address.key[:2] in wanted]


def wait_until_gone(sock: RouteSocket, ready: ReadyMessages) -> None:
    """Wait for the kernel to expire the addresses."""
    deadline = time.monotonic() + 10
    while bound(sock, ready):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_every_address_carries_what_marks_it(sock: RouteSocket) -> None:
    """200 addresses: vipd's number and label, deprecated, no prefix route, no DAD, not permanent,
    the lifetime asked for.
    """
    ready = ready_messages("a0", MANY)
    assert bind(sock, ready, 50, timeout=10) == []
    found = bound(sock, ready)
    assert {address.key for address in found} == set(ready.keys)
    assert {address.proto for address in found} == {VIPD_PROTO}
    assert {(address.family, address.label) for address in found} == {
        (socket.AF_INET, "a0:vipd"),
        (socket.AF_INET6, ""),
    }
    assert {address.flags for address in found} == {
        DEPRECATED | NOPREFIXROUTE,
        DEPRECATED | NOPREFIXROUTE | NODAD,
    }
    assert {address.valid_lft for address in found} <= set(range(40, 51))


def test_binding_twice_and_unbinding_twice_is_as_good_as_once(sock: RouteSocket) -> None:
    """Nothing is refused, nothing remains, and what others bound stays."""
    ready = ready_messages("a0", VIPS)
    others = sock.addresses()
    assert [bind(sock, ready, 5), bind(sock, ready, 5)] == [[], []]
    assert len(bound(sock, ready)) == 2
    assert [unbind(sock, ready), unbind(sock, ready)] == [Unbound(), Unbound()]
    assert [address.key for address in sock.addresses()] == [address.key for address in others]


def test_every_address_is_bound_alone(sock: RouteSocket) -> None:
    """Whatever prefix length is written: /32 and /128."""
    ready = ready_messages("a0", ["192.0.2.10/24", "2001:db8::10/64"])
    assert bind(sock, ready, 5) == []
    assert [address.prefixlen for address in bound(sock, ready)] == [32, 128]
    assert unbind(sock, ready) == Unbound()


def test_no_prefix_route_is_made(sock: RouteSocket, cable: Cable) -> None:
    """A /24 VIP must not draw the whole network to its interface."""
    bind(sock, ready_messages("a0", ["192.0.2.10/24", "2001:db8::10/64"]), 5)
    routes = cable.a.run("ip -4 route show") + cable.a.run("ip -6 route show")
    assert "192.0.2.0/24" not in routes
    assert "2001:db8::/64" not in routes


def test_the_kernel_removes_what_is_not_refreshed(sock: RouteSocket) -> None:
    """After its lifetime.

    A refresh that comes late binds it again, so the caller has to compare.
    """
    ready = ready_messages("a0", VIPS)
    assert bind(sock, ready, 1) == []
    wait_until_gone(sock, ready)
    assert refresh(sock, ready, 5) == []
    assert len(bound(sock, ready)) == 2


def test_a_refresh_extends_and_shortens(sock: RouteSocket) -> None:
    """The last lifetime given is the one that counts."""
    ready = ready_messages("a0", VIPS)
    seen = []
    for seconds in (100, 200, 50):
        assert refresh(sock, ready, seconds) == []
        seen.append({address.valid_lft for address in bound(sock, ready)})
    assert [
        seconds
        for lifetimes in seen
        for seconds in lifetimes
        if seconds not in {99, 100, 199, 200, 49, 50}
    ] == []
    assert max(seen[2]) <= 50 < min(seen[0]) <= 100 < min(seen[1])


def test_an_interface_that_is_gone_counts_as_unbound(sock: RouteSocket, cable: Cable) -> None:
    """Binding says ENODEV for each address.

    The same messages serve the interface that comes after it.
    """
    ready = ready_messages("a0", VIPS)
    bind(sock, ready, 5)
    cable.remove()
    assert refresh(sock, ready, 5) == [(key, errno.ENODEV) for key in ready.keys]
    assert unbind(sock, ready) == Unbound()
    cable.plug()
    again = ready.moved(socket.if_nametoindex("a0"))
    assert again == ready_messages("a0", VIPS)
    assert bind(sock, again, 5) == []


def test_an_unknown_interface_is_an_error(cable: Cable) -> None:
    """There is nothing to build messages for."""
    with pytest.raises(OSError, match="nope0") as raised:
        ready_messages("nope0", VIPS)
    assert raised.value.errno == errno.ENODEV


def test_a_refused_family_does_not_stop_the_other(sock: RouteSocket, cable: Cable) -> None:
    """IPv6 is switched off on the interface.

    The IPv4 address is bound, the other is named with its errno.
    """
    cable.a.run("sysctl -q -w net.ipv6.conf.a0.disable_ipv6=1")
    ready = ready_messages("a0", VIPS)
    assert bind(sock, ready, 5) == [(key_of(VIPS[1]), errno.EACCES)]
    assert [address.key for address in bound(sock, ready)] == [key_of(VIPS[0])]


def test_addresses_serve_at_once_without_a_carrier(sock: RouteSocket, cable: Cable) -> None:
    """Bound while the cable is out.

    When it is in again no address waits for duplicate address detection.
    """
    cable.b.run("ip link set b0 down")
    ready = ready_messages("a0", VIPS)
    assert bind(sock, ready, 5) == []
    cable.b.run("ip link set b0 up")
    assert [address.flags & TENTATIVE for address in bound(sock, ready)] == [0, 0]


def test_leftovers_are_told_from_others(sock: RouteSocket, cable: Cable) -> None:
    """vipd's number tells, or where there is none its label.

    Configured ones and other people's are no leftovers.
    """
    kept, left = (
        ready_messages("a0", VIPS[:1]),
        ready_messages("a0", ["192.0.2.11/32", "2001:db8::11/128"]),
    )
    bind(sock, kept, 5)
    bind(sock, left, 5)
    cable.a.run("ip address add 192.0.2.12/32 dev a0 label a0:vipd")
    cable.a.run("ip address add 192.0.2.13/32 dev a0")
    found = leftovers(sock.addresses(), [kept])
    assert {address.key for address in found} == {*left.keys, key_of("192.0.2.12/32")}
    assert remove(sock, found, sock.addresses()) == [0, 0, 0]
    assert leftovers(sock.addresses(), [kept]) == []
    assert {address.key for address in bound(sock, kept)} == set(kept.keys)


def test_all_interfaces_are_read_if_none_is_named(sock: RouteSocket, cable: Cable) -> None:
    """And of one that does not exist, nothing."""
    bind(sock, ready_messages("a0", VIPS), 5)
    cable.a.run("ip address add 127.0.0.1/8 dev lo")
    assert {address.ifindex for address in sock.addresses()} == {1, socket.if_nametoindex("a0")}
    assert {address.ifindex for address in sock.addresses(1)} == {1}
    assert sock.addresses(999) == []


def test_a_full_receive_buffer_loses_no_answer(sock: RouteSocket) -> None:
    """Room for two or three acknowledgements, 200 messages.

    What was not acknowledged is sent again.
    """
    sock._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    ready = ready_messages("a0", MANY)
    assert refresh(sock, ready, 50, timeout=10) == []
    assert unbind(sock, ready, timeout=10) == Unbound()


def test_answers_of_a_request_given_up_are_not_taken_for_others(sock: RouteSocket) -> None:
    """The old acknowledgement (a refusal) still lies in the buffer when the
    next request is sent.
    """
    ready = ready_messages("a0", VIPS)
    refused = sock._next_sequence()
    message = ready.unbind[0]
    sock._socket.send(message[:6] + b"\x05\x00" + refused.to_bytes(4, "little") + message[12:])
    assert sock.request(ready.bind) == [0, 0]


def test_no_time_means_no_answer_and_the_socket_serves_on(sock: RouteSocket) -> None:
    """TimeoutError, for requests as for dumps, and nothing is left over for the next call."""
    ready = ready_messages("a0", VIPS)
    with pytest.raises(TimeoutError):
        sock.request(ready.bind, timeout=0.0)
    with pytest.raises(TimeoutError):
        sock.addresses(timeout=0.0)
    assert sock.request(ready.bind) == [0, 0]
    assert len(bound(sock, ready)) == 2


class Impatient(RouteSocket):
    """Gives up as soon as it would have to wait."""

    patient = False

    def _receive(self, timeout: float) -> bytes | None:
        if not self.patient:
            raise TimeoutError
        return super()._receive(timeout)


def test_a_dump_given_up_half_way_does_not_block_the_next(sock: RouteSocket) -> None:
    """The kernel refuses a second dump on a socket while the first is not read to its end."""
    ready = ready_messages("a0", MANY)
    assert bind(sock, ready, 50, timeout=10) == []
    impatient = Impatient()
    with pytest.raises(TimeoutError):
        impatient.addresses()
    impatient.patient = True
    assert len(bound(impatient, ready)) == len(MANY)
    impatient.close()


class Held(RouteSocket):
    """Comes back from each send only when the time is over, as from one that waited for the
    kernel's lock.
    """

    def _send(self, data: bytes, deadline: float) -> None:
        super()._send(data, deadline)
        time.sleep(max(0.0, deadline - time.monotonic()) + 0.001)


def test_an_answer_that_is_there_is_taken_however_late(sock: RouteSocket) -> None:
    """The addresses are bound, and a caller who is told of a timeout would not know it."""
    ready = ready_messages("a0", VIPS)
    held = Held()
    assert held.request(ready.bind, timeout=0.01) == [0, 0]
    assert len(held.addresses(ready.ifindex, timeout=0.01)) >= 2
    held.close()


def test_only_the_kernel_is_believed(sock: RouteSocket) -> None:
    """A process with CAP_NET_ADMIN may send to this socket.

    Its acknowledgement counts for nothing.
    """
    port = sock._socket.getsockname()[0]
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as liar:
        lie = (
            (20).to_bytes(4, "little")
            + b"\x02\x00\x00\x00"
            + (sock._sequence + 1).to_bytes(4, "little")
            + bytes(8)
        )
        liar.sendto(lie, (port, 0))
        ready = ready_messages("a0", VIPS)
        assert sock.request([ready.unbind[0]]) == [errno.EADDRNOTAVAIL]


def test_the_socket_does_not_outlive_an_exec(sock: RouteSocket) -> None:
    """Hooks and checks must not inherit it."""
    assert not os.get_inheritable(sock.fileno())
    assert sock._socket.getsockopt(SOL_NETLINK, 10) == 1
