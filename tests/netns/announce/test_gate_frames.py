"""Frames as a real interface has them, and no test run can make them.

Tags beside the frame, headers beside its head.
"""

from __future__ import annotations

import contextlib
import mmap
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.netns.announce.gating import (
    CLIENT_V6,
    FENCE,
    KINDS,
    PATIENCE,
    SOL_PACKET,
    VIP_V6,
    Stage,
    ipv6,
    solicitation,
    staged,
)

if TYPE_CHECKING:
    from tests.netns.announce.conftest import Cable, Host

pytestmark = [pytest.mark.root, pytest.mark.netns]

PACKET_VERSION = 10
PACKET_TX_RING = 13
TPACKET_V2 = 1
TP_STATUS_SEND_REQUEST = 1
HEADER = 32
SIZE = 4096


@pytest.fixture
def stage(cable: Cable) -> Iterator[Stage]:
    """Return an owner with VIPs bound and served behind a closed gate, and a client."""
    with staged(cable) as made:
        yield made


def tagged(frame: bytes, *tags: int) -> bytes:
    """Return a frame with these tags (priority and VLAN), the outermost first."""
    return frame[:12] + b"".join(b"\x81\x00" + tag.to_bytes(2, "big") for tag in tags) + frame[12:]


@pytest.mark.parametrize("tag", [0, 0xE000], ids=["plain", "urgent"])
def test_a_priority_tag_is_no_way_around(stage: Stage, tag: int) -> None:
    """The kernel takes the tag off before the gate sees the frame, and hands the frame to the
    interface all the same.
    """
    frames = [tagged(stage.client.question(kind), tag) for kind in sorted(KINDS)]
    for frame in frames:
        stage.client.send(frame)
    assert stage.client.answered(()) == set()
    assert (stage.gate.dropped, stage.echo.received) == (len(KINDS), [])
    stage.gate.open()
    for frame in frames:
        stage.client.send(frame)
    heard = set[str]()
    while heard < KINDS:
        found = stage.client.hear(PATIENCE)
        assert found
        heard |= {found.kind} - {FENCE}
    assert heard == KINDS


@pytest.mark.parametrize("tags", [(5,), (0, 5), (5, 0)], ids=["one", "inner", "outer"])
def test_another_vlan_is_left_alone(stage: Stage, tags: tuple[int, ...]) -> None:
    """It is for another interface, and the address in it somebody else's."""
    for kind in KINDS:
        stage.client.send(tagged(stage.client.question(kind), *tags))
    assert stage.client.answered(()) == set()
    assert stage.gate.dropped == 0


class Ring:
    """A socket that sends frames out of memory that it shares with the kernel.

    Only the Ethernet header is in the frame's head.
    """

    def __init__(self, host: Host) -> None:
        self._socket = host.socket(0)
        self._socket.setsockopt(SOL_PACKET, PACKET_VERSION, TPACKET_V2)
        self._socket.setsockopt(SOL_PACKET, PACKET_TX_RING, struct.pack("=IIII", SIZE, 1, SIZE, 1))
        self._ring = mmap.mmap(self._socket.fileno(), SIZE)

    def send(self, frame: bytes) -> None:
        """Send a frame, and wait until it is on its way."""
        self._ring[HEADER : HEADER + len(frame)] = frame
        self._ring[:12] = struct.pack("=III", TP_STATUS_SEND_REQUEST, len(frame), len(frame))
        self._socket.send(b"")

    def close(self) -> None:
        """Close it."""
        self._ring.close()
        self._socket.close()


@pytest.mark.parametrize("tags", [(), (0,), (0, 0)], ids=["untagged", "tagged", "tagged twice"])
def test_headers_beside_the_head_are_no_way_around(stage: Stage, tags: tuple[int, ...]) -> None:
    """Some drivers leave all but the first 14 bytes in pages of their own."""
    with contextlib.closing(Ring(stage.cable.b)) as ring:
        for kind in KINDS:
            ring.send(tagged(stage.client.question(kind), *tags))
        assert stage.client.answered(()) == set()
        assert (stage.gate.dropped, stage.echo.received) == (len(KINDS), [])
        stage.gate.open()
        for kind in KINDS:
            ring.send(stage.client.question(kind))
        assert stage.client.answered(KINDS) == KINDS
        assert stage.gate.dropped == len(KINDS)


def test_a_solicitation_behind_an_extension_header_gets_no_answer(stage: Stage) -> None:
    """The gate does not look for it there; its answer has no extension header, and stays here."""
    group = "ff02::1"
    hop_by_hop = bytes([58, 0, 1, 4, 0, 0, 0, 0])
    message = solicitation(CLIENT_V6, VIP_V6, stage.client.mac, group)
    frame = stage.client.wrapped(b"\x86\xdd", ipv6(CLIENT_V6, group, 0, hop_by_hop + message))
    stage.client.send(frame)
    assert stage.client.answered(()) == set()
    assert stage.gate.dropped == 1
    stage.gate.open()
    stage.client.send(frame)
    found = stage.client.hear(PATIENCE)
    assert found
    assert found.kind == "nd"
