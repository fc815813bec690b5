"""Who else speaks as one of our addresses, heard on a real interface."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import TYPE_CHECKING

import pytest

from announce.frames.build import frames_for, unsolicited_na
from announce.frames.sender import Sender
from announce.rivals.ask import probe
from announce.rivals.rivals import FRAMES_OF_ONE, WINDOW, Rivals, RivalSeen
from announce.rivals.speakers import Kind
from tests.netns.announce.resolving import numbered

if TYPE_CHECKING:
    from tests.netns.announce.conftest import Cable, Host, News

pytestmark = [pytest.mark.root, pytest.mark.netns]

VIP, VIP6 = "192.0.2.10", "2001:db8::10"
OTHER, OTHER6 = "192.0.2.11", "2001:db8:1::10"
ADDRESSES = {VIP: 32, VIP6: 128}
Scene = Callable[[Rivals], Coroutine[None, None, None]]


def play(host: Host, scene: Scene) -> None:
    """Play a scene with the rivals on one host, and close them."""

    async def whole() -> None:
        rivals = Rivals(host.interface, numbered(host.interface))
        try:
            await scene(rivals)
        finally:
            rivals.close()

    with host.inside():
        asyncio.run(whole())


def announcements(host: Host, address: str) -> tuple[bytes, ...]:
    """Return the frames in which a host claims an address."""
    return frames_for(address, host.mac).announce


def mac_of(item: object) -> str:
    """Return the rival's MAC."""
    assert isinstance(item, RivalSeen)
    return item.mac


@pytest.fixture(params=["a", "b"])
def sides(cable: Cable, request: pytest.FixtureRequest) -> tuple[Host, Host]:
    """Return who listens and who claims, in both directions."""
    return (cable.a, cable.b) if request.param == "a" else (cable.b, cable.a)


@pytest.mark.parametrize(("address", "kind", "count"), [(VIP, Kind.ARP, 2), (VIP6, Kind.NA, 1)])
def test_a_claim_is_reported_with_its_mac(
    sides: tuple[Host, Host], news: News, address: str, kind: Kind, count: int
) -> None:
    """ARP request and reply, and NA: each of them once."""
    here, there = sides

    async def scene(rivals: Rivals) -> None:
        rivals.subscribe([VIP, VIP6], news.tell)
        there.send(*announcements(there, address))
        await news.until(lambda items: len(items) >= count)

    play(here, scene)
    assert news.items == [RivalSeen(here.interface, address, there.mac, kind)] * count


def test_a_rival_in_the_kernel_is_heard_when_it_speaks(cable: Cable, news: News) -> None:
    """The other host has the VIP and looks for somebody from it.

    The claims come from its kernel.
    """

    async def scene(rivals: Rivals) -> None:
        rivals.subscribe([VIP, VIP6], news.tell)
        for address, target in ((f"{VIP}/24", "192.0.2.77"), (f"{VIP6}/64", "2001:db8::77")):
            cable.b.run(f"ip address add {address} dev b0 nodad")
            with (
                cable.b.inside(),
                socket.socket(
                    socket.AF_INET6 if ":" in target else socket.AF_INET, socket.SOCK_DGRAM
                ) as sock,
            ):
                sock.sendto(b"anybody?", (target, 9))
        await news.until(
            lambda items: (
                {item.kind for item in items if isinstance(item, RivalSeen)} >= {Kind.ARP, Kind.NS}
            )
        )

    play(cable.a, scene)
    assert {mac_of(item) for item in news.items} == {cable.b.mac}


def test_what_is_no_claim_of_a_watched_address_is_not_reported(cable: Cable, news: News) -> None:
    """Probes, other addresses (one with the same last bytes), own frames, own MAC from afar,
    another VLAN, a routed NA.
    """
    silent = [
        *frames_for(VIP, cable.b.mac).probe,
        *frames_for(VIP6, cable.b.mac).probe,
        *announcements(cable.b, OTHER),
        *announcements(cable.b, OTHER6),
        *announcements(cable.a, VIP),
        *(frame[:12] + b"\x81\x00\x00\x64" + frame[12:] for frame in announcements(cable.b, VIP)),
        (na := unsolicited_na(VIP6, cable.b.mac))[:21] + b"\x40" + na[22:],
        b"\xff" * 14,
    ]

    async def scene(rivals: Rivals) -> None:
        rivals.subscribe([VIP, VIP6], news.tell)
        cable.a.send(*announcements(cable.a, VIP), *announcements(cable.b, VIP6))
        cable.b.send(*silent, *announcements(cable.b, VIP))
        await news.until(bool)

    play(cable.a, scene)
    assert {(item.ip, item.mac) for item in news.items if isinstance(item, RivalSeen)} == {
        (VIP, cable.b.mac)
    }


def test_the_watched_addresses_change_at_run_time(
    cable: Cable, news: News, other_news: News
) -> None:
    """Each subscriber hears of its own only, from the moment it asks until it has enough."""
    both = announcements(cable.b, VIP) + announcements(cable.b, OTHER)

    async def scene(rivals: Rivals) -> None:
        stop = rivals.subscribe([VIP], news.tell)
        cable.b.send(*both)
        await news.until(lambda items: len(items) == 2)
        stop_other = rivals.subscribe([OTHER], other_news.tell)
        cable.b.send(*both)
        await other_news.until(lambda items: len(items) == 2)
        stop()
        cable.b.send(*both)
        await other_news.until(lambda items: len(items) == 4)
        stop_other()
        stop_other()
        assert rivals._socket is None
        rivals.subscribe([OTHER], other_news.tell)
        cable.b.send(*both)
        await other_news.until(lambda items: len(items) == 6)

    play(cable.a, scene)
    assert [item.ip for item in news.items if isinstance(item, RivalSeen)] == [VIP] * 4
    assert [item.ip for item in other_news.items if isinstance(item, RivalSeen)] == [OTHER] * 6


def test_hundreds_of_addresses_are_watched(cable: Cable, news: News) -> None:
    """More than a filter has room for: then the comparison is made here."""
    many = [f"10.2.{i // 250}.{i % 250 + 1}" for i in range(600)] + [
        f"2001:db8::{i:x}" for i in range(1, 601)
    ]

    async def scene(rivals: Rivals) -> None:
        rivals.subscribe(many, news.tell)
        cable.b.send(
            *announcements(cable.b, OTHER),
            *announcements(cable.b, many[599]),
            *announcements(cable.b, many[-1]),
        )
        await news.until(lambda items: len(items) >= 3)

    play(cable.a, scene)
    assert [item.ip for item in news.items if isinstance(item, RivalSeen)] == [
        many[599],
        many[599],
        many[-1],
    ]


def test_a_subscriber_may_leave_while_it_is_told(cable: Cable) -> None:
    """It hears of the first claim only, and the socket is closed under the frames that wait."""

    async def scene(rivals: Rivals) -> None:
        left = asyncio.Event()
        seen: list[RivalSeen] = []

        def once(item: RivalSeen) -> None:
            seen.append(item)
            stop()
            left.set()

        stop = rivals.subscribe([VIP], once)
        cable.b.send(*announcements(cable.b, VIP) * 5)
        async with asyncio.timeout(10):
            await left.wait()
        assert len(seen) == 1

    play(cable.a, scene)


def test_it_hears_again_after_a_link_flap(cable: Cable, news: News) -> None:
    """On the same socket: the kernel says ENETDOWN once, and goes on when the link is up."""

    async def scene(rivals: Rivals) -> None:
        rivals.subscribe([VIP], news.tell)
        kept = rivals._socket
        cable.a.run("ip link set a0 down")
        await asyncio.sleep(0)
        cable.a.run("ip link set a0 up")
        cable.b.send(*announcements(cable.b, VIP))
        await news.until(bool)
        assert rivals._socket is kept

    play(cable.a, scene)


def test_it_hears_again_on_an_interface_made_anew(cable: Cable, news: News) -> None:
    """By itself, without being told; and while there is none it says so."""

    async def scene(rivals: Rivals) -> None:
        rivals.subscribe([VIP], news.tell)
        cable.remove()
        async with asyncio.timeout(10):
            while not rivals.problem:  # noqa: ASYNC110 -- a value for `status`, nothing announces it
                await asyncio.sleep(0.01)
        cable.plug()
        async with asyncio.timeout(10):
            while rivals.problem:  # noqa: ASYNC110 -- likewise
                await asyncio.sleep(0.01)
        cable.b.send(*announcements(cable.b, VIP))
        await news.until(bool)

    play(cable.a, scene)


def test_a_word_from_the_watch_saves_the_wait(cable: Cable, news: News) -> None:
    """The interface came into being: `check` listens at once."""

    async def scene(rivals: Rivals) -> None:
        cable.remove()
        rivals.subscribe([VIP], news.tell)
        assert "a0" in rivals.problem
        cable.plug()
        rivals.check()
        assert rivals.problem == ""
        cable.b.send(*announcements(cable.b, VIP))
        await news.until(bool)

    play(cable.a, scene)


# ---------------------------------------------------------------- probe


def waiting(listener: socket.socket) -> Iterator[bytes]:
    """Yield the frames that have arrived."""
    listener.settimeout(0.0)
    with contextlib.suppress(BlockingIOError):
        while True:
            yield listener.recv(200)


def ask(cable: Cable, address: str, timeout: float) -> str:
    """Probe for an address from host a."""
    answers: list[str] = []
    frames = frames_for(address, cable.a.mac)

    async def scene(rivals: Rivals) -> None:
        sender = Sender(numbered("a0"), past_gate=True)
        answers.append(await probe(sender, rivals, [frames], timeout))
        sender.close()
        assert rivals._subscriptions == []

    play(cable.a, scene)
    return answers[0]


@pytest.mark.parametrize("address", [VIP, VIP6])
def test_a_probe_finds_who_has_the_address(cable: Cable, address: str) -> None:
    """Long before its time is over, and although the gate is closed on the side of who asks."""
    cable.b.run(f"ip address add {address}/{ADDRESSES[address]} dev b0 nodad")
    cable.a.close_gate()
    assert ask(cable, address, 6.0) == cable.b.mac


@pytest.mark.parametrize("address", [VIP, VIP6])
def test_nobody_answers_a_probe(cable: Cable, address: str) -> None:
    """Three questions, then silence means that the address is free."""
    with cable.b.socket(0x0806 if address == VIP else 0x86DD) as listener:
        assert ask(cable, address, 0.15) == ""
        heard = list(waiting(listener))
    assert heard.count(frames_for(address, cable.a.mac).probe[0]) == 3


def test_a_probe_changes_no_neighbour_table(cable: Cable) -> None:
    """The other host had an entry for somebody else under this address: it keeps it."""
    cable.b.run(f"ip neigh add {VIP} lladdr 02:00:00:00:00:99 dev b0 nud reachable")
    cable.a.close_gate()
    assert ask(cable, VIP, 0.15) == ""
    assert "02:00:00:00:00:99" in cable.b.run(f"ip neigh show {VIP}")


def gratuitous(address: str, number: int) -> bytes:
    """Return an ARP reply of somebody whose MAC has this number."""
    mac, ip = b"\x02" + number.to_bytes(5, "big"), socket.inet_aton(address)
    arp = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 2) + mac + ip + bytes(6) + ip
    return b"\xff" * 6 + mac + b"\x08\x06" + arp + bytes(18)


@pytest.mark.parametrize("addresses", [2, 250])
def test_a_storm_costs_little_and_hides_no_other_rival(
    cable: Cable, news: News, other_news: News, addresses: int
) -> None:
    """Ten thousand frames about one address, each from another MAC.

    With 250 addresses the kernel's filter cannot tell them apart.
    """
    more = [f"192.0.3.{number}" for number in range(1, addresses - 1)]

    async def scene(rivals: Rivals) -> None:
        rivals.subscribe([VIP, *more], news.tell)
        rivals.subscribe([OTHER], other_news.tell)
        loop = asyncio.get_running_loop()
        cost, began, number = 0.0, loop.time(), 0
        while loop.time() - began < 2.0:
            used = time.thread_time()
            await asyncio.sleep(0.002)
            cost += time.thread_time() - used
            number += 20
            cable.b.send(*(gratuitous(VIP, number + more) for more in range(20)))
        assert number > 2000
        assert cost < 0.6
        await asyncio.sleep(2 * WINDOW)
        cable.b.send(*announcements(cable.b, OTHER))
        await other_news.until(bool)
        heard = len(news.items)
        cable.b.send(gratuitous(VIP, 1))
        await news.until(lambda items: len(items) > heard)

    play(cable.a, scene)
    windows = 2.0 / WINDOW + 3
    assert len(news.items) <= FRAMES_OF_ONE * windows


def test_a_rival_is_heard_in_the_middle_of_a_storm_about_another_address(
    cable: Cable, news: News, other_news: News
) -> None:
    """The storm is kept away by the kernel, so that there is room for the one frame."""

    async def scene(rivals: Rivals) -> None:
        rivals.subscribe([VIP], news.tell)
        rivals.subscribe([OTHER], other_news.tell)
        for _ in range(20):
            cable.b.send(*(gratuitous(VIP, number) for number in range(50)))
            await asyncio.sleep(0.005)
        cable.b.send(*(gratuitous(VIP, number) for number in range(50)), gratuitous(OTHER, 7))
        await other_news.until(bool)

    play(cable.a, scene)
    assert len(news.items) <= 3 * FRAMES_OF_ONE
