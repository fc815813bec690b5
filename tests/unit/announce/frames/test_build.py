"""Frames against expectations packed by hand from the RFCs."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from announce.errors import ForgeError
from announce.frames.build import Frames, frames_for, with_mac
from announce.frames.forge import answer, forge
from announce.rivals.speakers import Claim, Kind, claim_of

MAC = "02:11:22:33:44:55"
RAW = bytes.fromhex("021122334455")
VIP, VIP6 = "192.0.2.10", "2001:db8::12:3456"
IP, IP6 = ipaddress.IPv4Address(VIP).packed, ipaddress.IPv6Address(VIP6).packed
PATIENCE = 60.0
"""Seconds for a child that takes half a second on an idle machine."""
ALL_NODES = ipaddress.IPv6Address("ff02::1").packed
SOLICITED = ipaddress.IPv6Address("ff02::1:ff12:3456").packed


def arp(operation: int, sender: bytes, target_mac: bytes, target: bytes) -> bytes:
    """Return a broadcast ARP frame from MAC (RFC 826)."""
    return (
        b"\xff" * 6
        + RAW
        + struct.pack(
            "!HHHBBH6s4s6s4s", 0x0806, 1, 0x0800, 6, 4, operation, RAW, sender, target_mac, target
        )
    )


def checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071) of an even number of bytes."""
    total = sum(int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def nd(destination_mac: str, source: bytes, destination: bytes, head: bytes, rest: bytes) -> bytes:
    """Return an ICMPv6 frame (RFC 4443, 4861) from MAC; `head` is type and code."""
    length = len(head) + 2 + len(rest)
    value = checksum(source + destination + struct.pack("!II", length, 58) + head + bytes(2) + rest)
    icmp = head + struct.pack("!H", value) + rest
    return (
        bytes.fromhex(destination_mac)
        + RAW
        + struct.pack("!HIHBB", 0x86DD, 6 << 28, length, 58, 255)
        + source
        + destination
        + icmp
    )


NA = nd("333300000001", IP6, ALL_NODES, b"\x88\x00", b"\x20\0\0\0" + IP6 + b"\x02\x01" + RAW)
NS = nd("3333ff123456", bytes(16), SOLICITED, b"\x87\x00", bytes(4) + IP6)
EXPECTED = [
    Frames(VIP, (arp(1, IP, bytes(6), IP), arp(2, IP, RAW, IP)), (arp(1, bytes(4), bytes(6), IP),)),
    Frames(VIP6, (NA,), (NS,)),
]


@pytest.mark.parametrize("expected", EXPECTED, ids=["ipv4", "ipv6"])
def test_frames_are_those_of_the_rfcs_byte_for_byte(expected: Frames) -> None:
    """A gratuitous request and reply and a probe.

    An advertisement with override and a solicitation from nowhere.
    """
    assert frames_for(expected.address, MAC) == expected


@pytest.mark.parametrize(
    "mac",
    [
        "02:11:22:33:44:66",
        "00:00:00:00:00:00",
        "ff:ff:ff:ff:ff:fe",
        "fe:ff:ff:ff:ff:ff",
        "de:ad:be:ef:00:01",
    ],
)
@pytest.mark.parametrize(
    "address", [VIP, VIP6, "2001:db8::ffff:ffff:ffff:ffff", "fe80::1", "255.255.255.254"]
)
def test_another_mac_in_ready_frames_is_as_if_they_had_been_built_with_it(
    address: str, mac: str
) -> None:
    """Ethernet source, ARP sender and target, link-layer option and checksum.

    Byte for byte what scapy builds, and back.
    """
    there, here = frames_for(address, mac), frames_for(address, MAC)
    new = bytes.fromhex(mac.replace(":", ""))
    for mine, theirs in zip(
        (*here.announce, *here.probe), (*there.announce, *there.probe), strict=True
    ):
        assert with_mac(mine, new) == theirs
        assert with_mac(theirs, RAW) == mine


def test_the_checksum_is_right_for_many_macs() -> None:
    """Also where the sum comes out as one of the two zeros of its arithmetic."""
    for number in range(0, 2**16, 13):
        mac = b"\x02\0\0\0" + number.to_bytes(2, "big")
        assert (
            with_mac(NA, mac)[56:58]
            == nd(
                "333300000001", IP6, ALL_NODES, b"\x88\x00", b"\x20\0\0\0" + IP6 + b"\x02\x01" + mac
            )[56:58]
        )


@pytest.mark.parametrize("mac", [b"", RAW, bytes(20)])
def test_no_mac_and_the_same_mac_change_nothing(mac: bytes) -> None:
    """An interface that is gone has none; that of InfiniBand does not fit."""
    assert with_mac(NA, mac) is NA


def test_the_target_of_a_probe_is_in_its_own_group() -> None:
    """The last three bytes decide, also when they begin with a zero or a high bit."""
    (frame,) = frames_for("2001:db8::ff00:0ab", MAC).probe
    assert frame[:6].hex() == "3333ff0000ab"
    assert frame[38:54] == ipaddress.IPv6Address("ff02::1:ff00:ab").packed


@pytest.mark.parametrize(
    ("address", "mac"),
    [
        ("nowhere", MAC),
        (VIP, "02:11"),
        (VIP, "02:11:22:33:44:zz"),
        (VIP, ""),
        ("192.0.2.10/32", MAC),
    ],
)
def test_what_cannot_be_put_into_a_frame_is_refused(address: str, mac: str) -> None:
    """ValueError, before anything is built."""
    with pytest.raises(ValueError, match=r".+"):
        frames_for(address, mac)


def test_the_child_builds_the_same_frames() -> None:
    """Through its input and output, by the address as it was asked for."""
    built = asyncio.run(forge([(VIP, MAC), ("2001:DB8:0::12:3456", MAC)], PATIENCE))
    assert built == {VIP: EXPECTED[0], "2001:DB8:0::12:3456": EXPECTED[1]}


def test_no_child_for_no_question() -> None:
    """Nothing to build takes no process."""
    assert asyncio.run(forge([])) == {}


def test_what_is_wrong_with_a_request_comes_back_as_a_sentence() -> None:
    """The last line of the child's complaint, not its traceback."""
    with pytest.raises(ForgeError, match=r"^ValueError: .*nowhere.*$"):
        asyncio.run(forge([("nowhere", MAC)], PATIENCE))


def test_a_child_that_takes_too_long_is_ended() -> None:
    """It does not outlive the call."""
    with pytest.raises(ForgeError, match="within"):
        asyncio.run(forge([(VIP, MAC)], timeout=0.001))
    children = [
        child
        for task in Path("/proc/self/task").iterdir()
        for child in (task / "children").read_text().split()
    ]
    assert [
        child
        for child in children
        if "announce.frames.forge" in Path(f"/proc/{child}/cmdline").read_text()
    ] == []


def test_the_child_leaves_no_cache_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scapy keeps pickles in the user's home if it is let."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    asyncio.run(forge([(VIP, MAC)], PATIENCE))
    assert list(tmp_path.iterdir()) == []


def test_question_and_answer_are_json() -> None:
    """What the module prints when it is run."""
    (item,) = json.loads(answer(json.dumps([{"address": VIP, "mac": MAC}])))
    assert item == {
        "address": VIP,
        "announce": [frame.hex() for frame in EXPECTED[0].announce],
        "probe": [EXPECTED[0].probe[0].hex()],
    }


def test_scapy_is_not_imported_before_it_is_needed() -> None:
    """It costs the daemon 20 MB."""
    code = (
        "import sys; from announce.frames import build, forge, sender; from announce.rivals "
        "import ask, rivals; "
    )
    code += "print('scapy' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[4],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "False\n"


# ---------------------------------------------------------------- claims


@pytest.mark.parametrize(
    ("frame", "claim"),
    [
        (EXPECTED[0].announce[0], Claim(IP, MAC, Kind.ARP)),
        (EXPECTED[0].announce[1], Claim(IP, MAC, Kind.ARP)),
        (EXPECTED[0].announce[0] + bytes(18), Claim(IP, MAC, Kind.ARP)),
        (EXPECTED[0].probe[0], None),
        (NA, Claim(IP6, MAC, Kind.NA)),
        (NA[:78], Claim(IP6, MAC, Kind.NA)),
        (
            NA[:78] + b"\x0e\x01" + bytes(6) + b"\x02\x01" + bytes.fromhex("0a0b0c0d0e0f"),
            Claim(IP6, "0a:0b:0c:0d:0e:0f", Kind.NA),
        ),
        (NA[:78] + b"\x0e\x00" + bytes(6), Claim(IP6, MAC, Kind.NA)),
        (NA[:21] + b"\x40" + NA[22:], None),
        (NS, None),
        (
            nd("3333ff000077", IP6, SOLICITED, b"\x87\x00", bytes(20) + b"\x01\x01" + RAW),
            Claim(IP6, MAC, Kind.NS),
        ),
        (nd("333300000001", IP6, ALL_NODES, b"\x86\x00", bytes(28)), None),
        (NA[:12] + b"\x81\x00\x00\x64" + NA[12:], None),
        (b"", None),
    ],
)
def test_only_who_speaks_as_an_address_claims_it(frame: bytes, claim: Claim | None) -> None:
    """Requests, replies, advertisements and solicitations from it do.

    Probes, routed and foreign packets do not.
    """
    assert claim_of(frame) == claim


@pytest.mark.parametrize("frame", [EXPECTED[0].announce[0], NA, NS])
def test_a_frame_cut_short_anywhere_is_no_claim_and_no_error(frame: bytes) -> None:
    """Whatever arrives is read to its end and no further."""
    whole = 42 if frame[12:14] == b"\x08\x06" else 78
    assert {claim_of(frame[:length]) for length in range(whole)} == {None}
