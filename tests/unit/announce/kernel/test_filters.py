"""The kernel's filters, run here instruction by instruction as linux/filter.h says."""

from __future__ import annotations

import ipaddress
import socket
import struct

import pytest

from announce.frames.build import frames_for
from announce.kernel.filters import LONGEST_MATCH, address_filter, rival_filter
from announce.kernel.messages import ready_messages
from announce.kernel.ownership import VIPD_PROTO

IFINDEX = 7
MAC = "02:11:22:33:44:55"
VIPS = ("192.0.2.10", "192.0.2.11", "2001:db8::10")
EXTENSIONS = 0xFFFFF000
RETURN = 0x06
SIZES = {0x20: 4, 0x28: 2, 0x30: 1, 0x50: 1}


def run(program: bytes, packet: bytes, extensions: dict[int, int]) -> int:
    """Return how many bytes the program lets through.

    A load beyond the packet lets nothing through.
    """
    steps = list(struct.iter_unpack("=HBBI", program))
    a = x = at = 0
    while steps[at][0] != RETURN:
        code, if_true, if_false, k = steps[at]
        at += 1
        match code:
            case 0x05:
                at += k
            case 0x15:
                at += if_true if a == k else if_false
            case 0x00:
                a = k
            case 0x01 | 0x07:
                x = k if code == 0x01 else a
            case 0x20 if k == EXTENSIONS + 12:
                a = attribute(packet, a, x)
            case 0x20 if k >= EXTENSIONS:
                a = extensions.get(k - EXTENSIONS, 0)
            case 0x20 | 0x28 | 0x30 | 0x50:
                start = k + (x if code == 0x50 else 0)
                part = packet[start : start + SIZES[code]]
                if len(part) < SIZES[code]:
                    return 0
                a = int.from_bytes(part, "big")
            case _:
                pytest.fail(f"unknown instruction {code:#x}")
    return int(steps[at][3])


def attribute(packet: bytes, at: int, wanted: int) -> int:
    """Return where the netlink attribute begins, 0 if it is not there (SKF_AD_NLATTR)."""
    while at + 4 <= len(packet):
        size, kind = struct.unpack_from("=HH", packet, at)
        if kind == wanted:
            return at
        at += max(4, (size + 3) // 4 * 4)
    return 0


def packed(*texts: str) -> list[bytes]:
    """Return the addresses as bytes."""
    return [ipaddress.ip_address(text).packed for text in texts]


@pytest.mark.parametrize("many", [0, LONGEST_MATCH - 3, 2 * LONGEST_MATCH])
@pytest.mark.parametrize("vip", VIPS)
def test_claims_pass_and_questions_do_not(vip: str, many: int) -> None:
    """Also with as many other addresses as fit into a program."""
    others = [f"10.0.{i // 250}.{i % 250}" for i in range(many)] + [
        f"2001:db8:1::{i:x}" for i in range(1, many + 1)
    ]
    program = rival_filter(IFINDEX, packed(*others, *VIPS))
    frames = frames_for(vip, MAC)
    assert all(run(program, frame, {8: IFINDEX}) for frame in frames.announce)
    assert not any(
        run(program, frame, {8: IFINDEX}) for frame in frames.probe if many <= LONGEST_MATCH
    )
    assert len(program) // 8 < 4096


@pytest.mark.parametrize(
    "extensions",
    [{8: 8}, {8: IFINDEX, 48: 1}, {8: IFINDEX, 4: 4}],
    ids=["other link", "vlan", "own"],
)
def test_frames_of_another_link_or_our_own_do_not_pass(extensions: dict[int, int]) -> None:
    """A VLAN on top of the interface, a tag that was taken off, a frame on its way out."""
    program = rival_filter(IFINDEX, packed(*VIPS))
    assert {
        run(program, frame, extensions) for vip in VIPS for frame in frames_for(vip, MAC).announce
    } == {0}


def test_other_traffic_does_not_pass() -> None:
    """Other addresses, other protocols, and frames that end too early."""
    program = rival_filter(IFINDEX, packed(*VIPS))
    (na,) = frames_for("2001:db8::10", MAC).announce
    frames = [
        *frames_for("192.0.2.12", MAC).announce,
        *frames_for("2001:db8::11", MAC).announce,
        na[:20] + b"\x06" + na[21:],
        na[:54] + b"\x86" + na[55:],
        na[:12] + b"\x08\x00" + na[14:],
        *(na[:length] for length in range(78)),
    ]
    assert {run(program, frame, {8: IFINDEX}) for frame in frames} == {0}


def test_a_solicitation_sent_from_the_address_passes() -> None:
    """Its sender speaks as the address, whatever it looks for."""
    program = rival_filter(IFINDEX, packed(*VIPS))
    (ns,) = frames_for("2001:db8::99", MAC).probe
    assert run(program, ns[:22] + packed("2001:db8::10")[0] + ns[38:], {8: IFINDEX})


def test_only_vipds_own_new_addresses_are_dropped() -> None:
    """A removal, another number and no number at all pass."""
    program = address_filter(20, 24, 11, VIPD_PROTO)
    for address in ("192.0.2.10", "2001:db8::10"):
        ready = ready_messages("lo", [address])
        (own,) = ready.bind
        number = own.index(struct.pack("=HHB", 5, 11, VIPD_PROTO))
        assert run(program, own, {}) == 0
        assert run(program, own[: number + 4] + b"\x03" + own[number + 5 :], {})
        assert run(program, own[:number], {})
        assert run(program, ready.unbind[0], {})
        assert run(program, own[:4] + struct.pack("=H", 16) + own[6:], {})
    assert socket.htons(20) != 20
