"""Ready-made netlink messages.

Built by the library, read back here by hand, carried to the guard and patched there.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from announce.kernel.addresses import (
    FOREVER,
    BoundAddress,
    ReadyMessages,
    promote_message,
    with_lifetime,
)
from announce.kernel.messages import key_of, label_of, leftovers, ready_messages
from announce.kernel.netlink import allowance, ifindex_of
from announce.kernel.ownership import VIPD_PROTO, is_vipds, written
from announce.kernel.rtnetlink import removal_message

READY = ready_messages("lo", ["192.0.2.10/32", "2001:db8::10/64"])
IP, IP6 = ipaddress.IPv4Address("192.0.2.10").packed, ipaddress.IPv6Address("2001:db8::10").packed


def read(message: bytes) -> tuple[tuple[int, ...], tuple[int, ...], dict[int, bytes]]:
    """Return header (type, flags), address header and attributes of a message.

    It must fill its own length.
    """
    length, kind, flags, _, _ = struct.unpack_from("=IHHII", message)
    assert length == len(message)
    attributes, at = {}, 24
    while at < length:
        size, name = struct.unpack_from("=HH", message, at)
        attributes[name] = message[at + 4 : at + size]
        at += (size + 3) // 4 * 4
    return (kind, flags), struct.unpack_from("=BBBBi", message, 16), attributes


def test_an_ipv4_address_is_asked_for_with_all_that_marks_it() -> None:
    """NEWADDR, create or replace; scope host, local, peer, label, lifetimes, flags, protocol."""
    header, address, attributes = read(READY.bind[0])
    assert header == (20, 0x001 | 0x400 | 0x100)
    assert address == (socket.AF_INET, 32, 0, 254, 1)
    assert attributes == {
        1: IP,
        2: IP,
        3: b"lo:vipd\0",
        6: struct.pack("=IIII", 0, FOREVER, 0, 0),
        8: struct.pack("=I", 0x200),
        11: bytes([VIPD_PROTO]),
    }


def test_an_ipv6_address_skips_duplicate_address_detection() -> None:
    """And carries no label, which IPv6 does not know."""
    _, address, attributes = read(READY.bind[1])
    assert address == (socket.AF_INET6, 128, 0, 0, 1)
    assert attributes == {
        1: IP6,
        2: IP6,
        6: struct.pack("=IIII", 0, FOREVER, 0, 0),
        8: struct.pack("=I", 0x202),
        11: bytes([VIPD_PROTO]),
    }


def test_a_removal_finds_nothing_but_vipds_own() -> None:
    """By the label in IPv4; IPv6 has none, and is looked at first."""
    assert read(READY.unbind[0]) == (
        (21, 0x001),
        (socket.AF_INET, 32, 0, 254, 1),
        {1: IP, 2: IP, 3: b"lo:vipd\0"},
    )
    assert read(READY.unbind[1]) == ((21, 0x001), (socket.AF_INET6, 128, 0, 0, 1), {1: IP6, 2: IP6})


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("192.0.2.10", (socket.AF_INET, IP, 32)),
        ("192.0.2.10/24", (socket.AF_INET, IP, 32)),
        ("2001:db8::10", (socket.AF_INET6, IP6, 128)),
        (ipaddress.ip_interface("2001:db8::10/64"), (socket.AF_INET6, IP6, 128)),
    ],
)
def test_an_address_is_one_host(text: str, key: tuple[int, bytes, int]) -> None:
    """/32 and /128, whatever prefix length is written."""
    assert key_of(text) == key


def test_a_label_fits_into_fifteen_characters() -> None:
    """Whatever the interface is called."""
    assert [label_of(name) for name in ("eth0", "enp0s31f6np", "a" * 15)] == [
        "eth0:vipd",
        "enp0s31f6n:vipd",
        "aaaaaaaaaa:vipd",
    ]


@given(st.integers(1, FOREVER))
def test_a_lifetime_changes_its_four_bytes_and_no_others(seconds: int) -> None:
    """The preferred lifetime stays 0, so that the address is never a source by accident."""
    for message in READY.bind:
        before, after = read(message), read(with_lifetime(message, seconds))
        assert after[2].pop(6) == struct.pack("=IIII", 0, seconds, 0, 0)
        before[2].pop(6)
        assert before == after


@pytest.mark.parametrize("seconds", [0, -1, FOREVER + 1])
def test_what_is_no_lifetime_is_refused(seconds: int) -> None:
    """Zero would be refused by the kernel, and a wrapped number would be a long life."""
    with pytest.raises(ValueError, match="lifetime"):
        with_lifetime(READY.bind[0], seconds)


def test_a_message_without_a_lifetime_is_refused() -> None:
    """It would bind for ever."""
    with pytest.raises(ValueError, match="no lifetime"):
        with_lifetime(READY.unbind[0], 5)


def test_messages_survive_the_way_to_the_guard() -> None:
    """With several addresses, and with none."""
    empty = ready_messages("lo", [])
    assert ReadyMessages.from_bytes(READY.to_bytes()) == READY
    assert ReadyMessages.from_bytes(empty.to_bytes()) == empty


def _spoilt(at: int, byte: int) -> bytes:
    data = bytearray(READY.to_bytes())
    data[at % len(data)] = byte
    return bytes(data)


@given(st.binary(max_size=200) | st.builds(_spoilt, st.integers(0, 400), st.integers(0, 255)))
def test_what_is_no_message_is_refused_with_one_kind_of_error(data: bytes) -> None:
    """Random bytes, or one byte of a good value changed.

    ValueError or a value, never anything else.
    """
    try:
        assert isinstance(ReadyMessages.from_bytes(data), ReadyMessages)
    except ValueError:
        return


@pytest.mark.parametrize("cut", [1, 3, 10, 50])
def test_a_value_cut_short_is_refused(cut: int) -> None:
    """Nothing is guessed."""
    with pytest.raises(ValueError, match=r".+"):
        ReadyMessages.from_bytes(READY.to_bytes()[:-cut])


def test_an_interface_made_anew_needs_no_new_messages() -> None:
    """Only its number changes."""
    moved = READY.moved(77)
    assert [read(message)[1][4] for message in moved.bind + moved.unbind] == [77] * 4
    assert moved.moved(READY.ifindex) == READY


def address(
    key: tuple[int, bytes, int], *, ifindex: int = 1, proto: int = 0, label: str = ""
) -> BoundAddress:
    """Return an address as if the kernel had it."""
    return BoundAddress(ifindex, *key, flags=0, proto=proto, valid_lft=FOREVER, label=label)


def at(ip: bytes, prefixlen: int) -> tuple[int, bytes, int]:
    """Return an address under this prefix length."""
    return (socket.AF_INET if len(ip) == 4 else socket.AF_INET6, ip, prefixlen)


@pytest.mark.parametrize(
    ("flags", "valid_lft", "proto", "vipds"),
    [
        (0x202, 5, 0, True),
        (0x202, FOREVER, 0, False),
        (0x200, 5, 0, False),
        (0x002, 5, 0, False),
        (0x202, 5, 3, False),
    ],
)
def test_without_a_protocol_number_an_ipv6_address_is_told_by_its_shape(
    flags: int, valid_lft: int, proto: int, vipds: bool
) -> None:
    """Linux before 5.18: a lifetime that ends, no prefix route, no duplicate address detection."""
    found = address(at(IP6, 128), proto=proto)._replace(flags=flags, valid_lft=valid_lft)
    assert is_vipds(found) is vipds


def test_an_address_is_removed_as_it_was_read() -> None:
    """With its prefix length, and in IPv4 with the peer, which the kernel compares."""
    peer = bytes([192, 0, 2, 9])
    with_peer = address(at(IP, 32), ifindex=7)._replace(peer=peer)
    assert written(with_peer) == "192.0.2.10 peer 192.0.2.9/32"
    assert read(removal_message(with_peer)) == (
        (21, 0x001),
        (socket.AF_INET, 32, 0, 0, 7),
        {1: peer, 2: IP},
    )
    assert read(removal_message(address(at(IP6, 64)))) == (
        (21, 0x001),
        (socket.AF_INET6, 64, 0, 0, 1),
        {1: IP6, 2: IP6},
    )


def test_the_kernel_is_asked_to_keep_secondary_addresses() -> None:
    """SETLINK with AF_SPEC, AF_INET, CONF, promote_secondaries.

    24 bytes of attributes in one another.
    """
    message = promote_message(5, on=True)
    assert message[16:32] == struct.pack("=BxHiII", 0, 0, 5, 0, 0)
    nested = [struct.unpack_from("=HH", message, at) for at in (32, 36, 40, 44)]
    assert nested == [(20, 0x8000 | 26), (16, 0x8000 | 2), (12, 0x8000 | 1), (8, 20)]
    assert struct.unpack_from("=I", message, 48) == (1,)


@pytest.mark.parametrize(
    ("bound", "left"),
    [
        (address(READY.keys[0], proto=VIPD_PROTO), False),
        (address(READY.keys[0], proto=VIPD_PROTO, ifindex=2), True),
        (address(at(IP, 24), proto=VIPD_PROTO), False),
        (address(key_of("192.0.2.11"), proto=VIPD_PROTO), True),
        (address(key_of("192.0.2.11"), label="eth0:vipd"), True),
        (address(key_of("192.0.2.11"), label="eth0:vipd", proto=16), False),
        (address(key_of("192.0.2.11"), label="eth0"), False),
        (address(key_of("2001:db8::11")), False),
    ],
)
def test_a_leftover_is_vipds_and_not_configured(bound: BoundAddress, left: bool) -> None:
    """By its number, or without one by its label.

    On this interface, under whatever prefix length.
    """
    assert leftovers([bound], [READY]) == ([bound] if left else [])
    assert [read(removal_message(bound))[1][1:]] == [(bound.prefixlen, 0, 0, bound.ifindex)]


def test_an_interface_has_a_number_or_there_is_a_clear_error() -> None:
    """ENODEV, which the caller of netlink knows."""
    assert ifindex_of("lo") == 1
    with pytest.raises(OSError, match="No such device: 'nope0'"):
        ifindex_of("nope0")


def test_a_thousand_messages_may_take_longer_than_one() -> None:
    """A quarter of a second, and 2 ms for each."""
    assert (allowance(0), allowance(1000)) == (0.25, 2.25)


def test_the_guards_part_is_light() -> None:
    """No library, no event loop, no subprocess comes with it."""
    code = "import sys, announce.kernel.addresses; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        cwd=Path(__file__).parents[4],
        capture_output=True,
        text=True,
        check=True,
    )
    heavy = {
        "asyncio",
        "pyroute2",
        "ctypes",
        "dataclasses",
        "inspect",
        "json",
        "logging",
        "subprocess",
        "ssl",
    }
    assert heavy & set(done.stdout.split()) == set()
