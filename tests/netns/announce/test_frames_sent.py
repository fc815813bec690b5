"""Frames that leave a real interface.

Through link flaps, deletions and renames, and never without the right.
"""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from announce.frames.build import Frames, frames_for
from announce.frames.sender import Sender
from tests.netns.announce.resolving import numbered

if TYPE_CHECKING:
    from tests.netns.announce.conftest import Cable

pytestmark = [pytest.mark.root, pytest.mark.netns]

ARP = 0x0806
IPV6 = 0x86DD


@pytest.fixture
def sender(cable: Cable) -> Iterator[Sender]:
    """Return a sender on host a."""
    opened = Sender(numbered("a0"))
    yield opened
    opened.close()


@pytest.fixture
def frames(cable: Cable) -> Frames:
    """Return the frames of an IPv4 address on host a."""
    return frames_for("192.0.2.10", cable.a.mac)


def always() -> bool:
    """Have the right to send."""
    return True


def test_every_frame_arrives_in_order(cable: Cable, sender: Sender, frames: Frames) -> None:
    """A request, then a reply; and an advertisement, byte for byte."""
    with cable.b.socket(ARP) as arp, cable.b.socket(IPV6) as ipv6:
        assert sender.open()
        assert sender.send(frames.announce, always) == 2
        assert (arp.recv(100), arp.recv(100)) == frames.announce
        (advertisement,) = frames_for("2001:db8::10", cable.a.mac).announce
        assert sender.send([advertisement], always) == 1
        while ipv6.recv(200) != advertisement:
            pass  # the kernels of both hosts speak IPv6 as well
    assert sender.refused == {}


def test_the_right_is_asked_for_before_every_frame(
    cable: Cable, sender: Sender, frames: Frames
) -> None:
    """It ends after the first frame: the second stays here."""
    answers = iter([True, False])
    with cable.b.socket(ARP) as arp:
        assert sender.send(frames.announce * 3, lambda: next(answers)) == 1
        assert list(answers) == []
        assert sender.send([frames.probe[0]], always) == 1
        assert (arp.recv(100), arp.recv(100)) == (frames.announce[0], frames.probe[0])


def test_a_link_that_is_down_refuses_and_then_sends_again(
    cable: Cable, sender: Sender, frames: Frames
) -> None:
    """Counted, not raised; no new socket is needed."""
    assert sender.send(frames.announce, always) == 2
    kept = sender._socket
    cable.a.run("ip link set a0 down")
    assert sender.send(frames.announce, always) == 0
    assert sender.refused == {errno.ENETDOWN: 2}
    cable.a.run("ip link set a0 up")
    assert sender.send(frames.announce, always) == 2
    assert sender._socket is kept


def current(cable: Cable, frames: Frames) -> tuple[bytes, ...]:
    """Return the announcements as they are right with the MAC that host a has now."""
    return frames_for(frames.address, cable.a.mac).announce


def test_a_frame_leaves_with_the_mac_of_the_moment(
    cable: Cable, sender: Sender, frames: Frames
) -> None:
    """It was changed after the frames were made, and between two frames of one announcement."""
    advertisement = frames_for("2001:db8::10", cable.a.mac).announce
    with cable.b.socket(ARP) as arp, cable.b.socket(IPV6) as ipv6:
        assert sender.send(frames.announce, always) == 2
        assert (arp.recv(100), arp.recv(100)) == frames.announce

        def change() -> bool:
            cable.a.run(f"ip link set a0 address 02:00:00:00:00:{next(macs)}")
            return True

        macs = iter(("71", "72", "73"))
        assert sender.send((*frames.announce, *advertisement), change) == 3
        found = [arp.recv(100), arp.recv(100)]
        assert found == [
            frames_for(frames.address, f"02:00:00:00:00:{mac}").announce[at]
            for at, mac in enumerate(("71", "72"))
        ]
        while ipv6.recv(200) != frames_for("2001:db8::10", "02:00:00:00:00:73").announce[0]:
            pass  # the kernels of both hosts speak IPv6 as well


def test_an_interface_made_anew_is_found_by_its_number(
    cable: Cable, sender: Sender, frames: Frames
) -> None:
    """The very send that finds the old socket dead goes out of a new one."""
    assert sender.open()
    cable.remove()
    assert sender.send(frames.announce, always) == 0
    cable.plug()
    with cable.b.socket(ARP) as arp:
        assert sender.send(frames.announce, always) == 2
        assert (arp.recv(100), arp.recv(100)) == current(cable, frames)
    assert set(sender.refused) <= {errno.ENODEV, errno.ENXIO}


def test_an_interface_made_anew_between_two_sends_costs_no_frame(
    cable: Cable, sender: Sender, frames: Frames
) -> None:
    """Nobody tried to send while it was away."""
    assert sender.send(frames.announce, always) == 2
    cable.remove()
    cable.plug()
    assert sender.send(frames.announce, always) == 2


def test_another_interface_that_got_the_name_is_the_one(
    cable: Cable, sender: Sender, frames: Frames
) -> None:
    """udev renames at boot: the kept socket would go on sending out of the wrong one."""
    assert sender.open()
    for command in (
        "set a0 down",
        "set a0 name old",
        "add a0 type veth peer name c0",
        "set a0 up",
        "set c0 up",
        "set old up",
    ):
        cable.a.run(f"ip link {command}")
    with cable.b.socket(ARP) as wrong:
        assert sender.send(frames.announce, always) == 2
        wrong.settimeout(0.05)
        with pytest.raises(TimeoutError):
            wrong.recv(100)


def test_an_interface_renamed_is_the_same(cable: Cable, sender: Sender, frames: Frames) -> None:
    """The kept socket goes on where it was bound, while that is where the addresses are."""
    number = socket.if_nametoindex("a0")
    sender = Sender(lambda: number)
    assert sender.open()
    kept = sender._socket
    for command in ("set a0 down", "set a0 name old", "set old up"):
        cable.a.run(f"ip link {command}")
    assert sender.send(frames.announce, always) == 2
    assert sender._socket is kept
    sender.close()


def test_the_same_number_again_is_another_interface(cable: Cable, frames: Frames) -> None:
    """It was deleted, and one of its number made.

    The kept socket is dead, the next send takes a new one.
    """
    number = socket.if_nametoindex("a0")
    sender = Sender(lambda: number)
    assert sender.open()
    cable.remove()
    cable.a.run(f"ip link add a0 index {number} type veth peer name c0")
    for name in ("a0", "c0"):
        cable.a.run(f"ip link set {name} up")
    assert sender.send(frames.announce, always) == 2
    sender.close()


def test_an_interface_that_never_was_is_counted(cable: Cable, frames: Frames) -> None:
    """Neither open nor send raises."""
    sender = Sender(numbered("nope0"))
    assert not sender.open()
    assert sender.send(frames.announce, always) == 0
    assert sender.refused == {errno.ENODEV: 3}
    sender.close()


def test_a_gate_stops_announcements_and_lets_probes_pass(
    cable: Cable, sender: Sender, frames: Frames
) -> None:
    """A filter that drops all on the way out stands for the kernel gate."""
    cable.a.close_gate()
    prober = Sender(numbered("a0"), past_gate=True)
    with cable.b.socket(ARP) as arp:
        assert sender.send(frames.announce, always) == 0
        assert prober.send(frames.probe, always) == 1
        assert arp.recv(100) == frames.probe[0]
    prober.close()


def test_closing_does_not_hold_up_the_caller(cable: Cable, frames: Frames) -> None:
    """A close waits for the kernel, 16 ms as measured; a hundred of them would take seconds."""
    sender = Sender(numbered("a0"))
    began = time.monotonic()
    for _ in range(100):
        assert sender.send(frames.probe, always) == 1
        sender.close()
    assert time.monotonic() - began < 1.0
