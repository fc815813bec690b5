"""What the kernel says of links and addresses, through flaps, renames, overflows and a library that
stumbles.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING

import pytest

from announce.kernel.addresses import ReadyMessages, RouteSocket, Unbound, bind, refresh, unbind
from announce.kernel.interface import Interface, Links, find
from announce.kernel.messages import ready_messages
from announce.kernel.ownership import VIPD_PROTO
from announce.kernel.watch import AddressGone, AddressSeen, LinkGone, LinkSeen, Resync, Watch

if TYPE_CHECKING:
    from tests.netns.announce.conftest import Cable, News

pytestmark = [pytest.mark.root, pytest.mark.netns]

VIP, VIP6 = "192.0.2.10", "2001:db8::10"


def play(watch: Watch, scene: Callable[[], Coroutine[None, None, None]]) -> None:
    """Play a scene while the watch runs."""

    async def whole() -> None:
        task = asyncio.create_task(watch.run())
        try:
            await scene()
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            await asyncio.sleep(0)  # the library closes its transport in the next round of the loop

    asyncio.run(whole())


def number() -> int:
    """Return that of the interface under test."""
    return find("a0").ifindex


def synced(items: list[object]) -> bool:
    """Tell whether everything was reported."""
    return any(isinstance(item, Resync) for item in items)


def last_link(items: list[object], interface: str = "a0") -> Interface | None:
    """Return what an interface's name means after all that was said."""
    links = Links()
    for item in items:
        if isinstance(item, LinkSeen):
            links.see(item.interface)
        elif isinstance(item, LinkGone):
            links.forget(item.interface.ifindex)
    return links.named(interface)


def link_is(wanted: tuple[bool, bool], items: list[object]) -> bool:
    """Tell whether the last that was said of the interface is this: up, carrier."""
    link = last_link(items)
    return link is not None and (link.up, link.carrier) == wanted


def strange(ready: ReadyMessages) -> ReadyMessages:
    """Return the messages as somebody else would send them: with another protocol number."""
    end = VIPD_PROTO.to_bytes(4, "little")
    assert all(message.endswith(end) for message in ready.bind)
    return ready._replace(
        bind=tuple(message[: -len(end)] + b"\x55\0\0\0" for message in ready.bind)
    )


def test_all_is_reported_at_the_start(cable: Cable, news: News, sock: RouteSocket) -> None:
    """Links with number, state and MAC, and addresses; then that this was all."""
    assert bind(sock, ready_messages("a0", [VIP, VIP6]), 100) == []
    ifindex = ready_messages("a0", []).ifindex

    async def scene() -> None:
        await news.until(synced)

    play(Watch(news.tell), scene)
    assert last_link(news.items) == Interface(ifindex, "a0", cable.a.mac, up=True, carrier=True)
    assert {AddressSeen(ifindex, VIP, 32), AddressSeen(ifindex, VIP6, 128)} <= set(news.items)
    assert isinstance(news.items[-1], Resync)
    assert news.items[-1].addresses == {
        item for item in news.items if isinstance(item, AddressSeen)
    }


def test_carrier_and_administrator_are_told_apart(cable: Cable, news: News) -> None:
    """A cable that is out takes the carrier, a link that is set down takes both; each change is
    said once.
    """

    async def scene() -> None:
        await news.until(synced)
        news.items.clear()
        states = []
        for host, change, wanted in (
            (cable.b, "down", (True, False)),
            (cable.b, "up", (True, True)),
            (cable.a, "down", (False, False)),
            (cable.a, "up", (True, True)),
        ):
            host.run(f"ip link set {host.interface} {change}")
            await news.until(partial(link_is, wanted))
            link = last_link(news.items)
            assert link is not None
            states.append(link.usable)
        assert states == [False, True, False, True]
        links = [item.interface for item in news.items if isinstance(item, LinkSeen)]
        assert all(one != other for one, other in itertools.pairwise(links))

    play(Watch(news.tell), scene)


def test_a_new_mac_is_reported(cable: Cable, news: News) -> None:
    """Frames have to be made anew."""

    async def scene() -> None:
        await news.until(synced)
        cable.a.run("ip link set a0 address 02:00:00:00:00:77")
        await news.until(
            lambda items: (link := last_link(items)) and link.mac == "02:00:00:00:00:77"
        )

    play(Watch(news.tell), scene)


def test_an_interface_that_goes_takes_its_addresses_along(cable: Cable, news: News) -> None:
    """And comes back under another number."""

    async def scene() -> None:
        await news.until(synced)
        before = last_link(news.items)
        assert before is not None
        cable.a.run(f"ip address add {VIP}/24 dev a0")
        await news.until(lambda items: AddressSeen(before.ifindex, VIP, 24) in items)
        cable.remove()
        await news.until(lambda items: not last_link(items))
        [gone] = [item for item in news.items if isinstance(item, LinkGone)]
        assert news.items.index(AddressGone(before.ifindex, VIP, 24)) < news.items.index(gone)
        cable.plug()
        await news.until(lambda items: (link := last_link(items)) and link.usable)
        after = last_link(news.items)
        assert after is not None
        assert before.ifindex != after.ifindex

    play(Watch(news.tell), scene)


def test_a_renamed_interface_is_the_same_under_another_name(cable: Cable, news: News) -> None:
    """Nothing has its old name, its addresses are where they were, and another one may get the old
    name.
    """
    cable.a.run(f"ip address add {VIP}/24 dev a0")
    number = find("a0").ifindex

    async def scene() -> None:
        await news.until(synced)
        for command in ("set a0 down", "set a0 name new0", "add a0 type veth peer name c0"):
            cable.a.run(f"ip link {command}")
        await news.until(lambda items: last_link(items, "a0") and last_link(items, "new0"))
        renamed, other = last_link(news.items, "new0"), last_link(news.items)
        assert renamed is not None
        assert other is not None
        assert (renamed.ifindex, other.ifindex) == (number, find("a0").ifindex)
        assert AddressGone(number, VIP, 24) not in news.items
        cable.a.run("ip address flush dev new0")
        await news.until(lambda items: AddressGone(number, VIP, 24) in items)

    play(Watch(news.tell), scene)


def test_alternative_names_are_reported_with_the_interface(cable: Cable, news: News) -> None:
    """Those that it had at the start, and those that come and go.

    By each of them the same interface is meant.
    """
    long = "a-name-that-is-longer-than-any-first-name-may-be"
    cable.a.run("ip link property add dev a0 altname uplink0")

    async def scene() -> None:
        await news.until(synced)
        link = last_link(news.items)
        assert link is not None
        assert link.names == {"a0", "uplink0"}
        cable.a.run(f"ip link property add dev a0 altname {long}")
        cable.a.run("ip link property del dev a0 altname uplink0")
        await news.until(lambda items: last_link(items, long) and not last_link(items, "uplink0"))
        assert last_link(news.items, long) == last_link(news.items) == find("a0") == find(long)

    play(Watch(news.tell), scene)


def test_what_the_watch_reports_is_what_the_kernel_is_asked_for(cable: Cable, news: News) -> None:
    """Two readers of one message, pyroute2's and that of the standard library, agree on every
    interface.
    """
    for command in (
        "link add br0 type bridge",
        "link add p0 type veth peer name p1",
        "link set p0 master br0",
    ):
        cable.a.run(f"ip {command}")
    for command in (
        "tuntap add t0 mode tun",
        "link property add dev a0 altname uplink0",
        "link set b0 down",
        "link set a0 arp off",
    ):
        (cable.b if "b0" in command else cable.a).run(f"ip {command}")

    async def scene() -> None:
        await news.until(synced)

    play(Watch(news.tell), scene)
    seen = [item.interface for item in news.items if isinstance(item, LinkSeen)]
    assert [find(link.name) for link in seen] == seen
    assert {link.name: link.kind for link in seen} == {
        "lo": 772,
        "a0": 1,
        "t0": 65534,
        "br0": 1,
        "p0": 1,
        "p1": 1,
    }
    assert {link.name for link in seen if not link.arp} == {"a0", "t0"}
    assert {link.name: link.port_of for link in seen if link.port_of} == {"p0": "bridge"}


def test_leaving_a_bridge_is_not_the_end(cable: Cable, news: News) -> None:
    """The bridge sends a link's deletion in its own family for a port that leaves."""
    cable.a.run("ip link add br0 type bridge")

    async def scene() -> None:
        await news.until(synced)
        for command in ("set a0 master br0", "set a0 nomaster", "set a0 address 02:00:00:00:00:78"):
            cable.a.run(f"ip link {command}")
        await news.until(
            lambda items: (link := last_link(items)) and link.mac == "02:00:00:00:00:78"
        )
        assert not any(isinstance(item, LinkGone) for item in news.items)

    play(Watch(news.tell), scene)


@pytest.mark.parametrize(("address", "prefixlen"), [(VIP, 32), (VIP6, 128)])
def test_a_vip_that_somebody_removes_or_adds_is_reported(
    cable: Cable, news: News, sock: RouteSocket, address: str, prefixlen: int
) -> None:
    """While Active it has to be put back, while Backup to be removed."""
    assert bind(sock, ready_messages("a0", [address]), 100) == []

    async def scene() -> None:
        await news.until(synced)
        cable.a.run(f"ip address del {address}/{prefixlen} dev a0")
        await news.until(lambda items: AddressGone(number(), address, prefixlen) in items)
        news.items.clear()
        cable.a.run(f"ip address add {address}/{prefixlen} dev a0")
        await news.until(lambda items: AddressSeen(number(), address, prefixlen) in items)

    play(Watch(news.tell), scene)


def test_own_refreshes_are_not_reported_and_own_expiry_is(
    cable: Cable, news: News, sock: RouteSocket
) -> None:
    """A thousand of them with every renewal would keep the daemon busy with itself."""
    ready = ready_messages("a0", [VIP, VIP6])

    async def scene() -> None:
        await news.until(synced)
        news.items.clear()
        for _ in range(50):
            assert refresh(sock, ready, 100) == []
        assert unbind(sock, ready) == Unbound()
        await news.until(
            lambda items: (
                {AddressGone(number(), VIP, 32), AddressGone(number(), VIP6, 128)} <= set(items)
            )
        )

    play(Watch(news.tell), scene)
    assert [item for item in news.items if isinstance(item, AddressSeen)] == []


def test_after_an_overflow_all_is_reported_as_it_is(
    cable: Cable, news: News, sock: RouteSocket
) -> None:
    """Thousands of changes while the loop stands still.

    One address went unseen, one came, a link lost its carrier.
    """
    many = strange(ready_messages("a0", [f"10.3.0.{i}/32" for i in range(1, 201)]))
    watch = Watch(news.tell)
    cable.a.run(f"ip address add {VIP}/32 dev a0")

    async def scene() -> None:
        await news.until(synced)
        news.items.clear()
        for _ in range(40):
            assert refresh(sock, many, 100, timeout=10) == []
        cable.a.run(f"ip address del {VIP}/32 dev a0")
        cable.a.run(f"ip address add {VIP6}/128 dev a0")
        cable.b.run("ip link set b0 down")
        await news.until(synced)
        assert watch.restarts == 1
        assert "105" in watch.problem
        assert AddressGone(number(), VIP, 32) in news.items
        assert AddressSeen(number(), VIP6, 128) in news.items
        assert unbind(sock, many, timeout=10) == Unbound()
        await news.until(lambda items: AddressGone(number(), "10.3.0.200", 32) in items)
        await news.until(lambda items: (link := last_link(items)) and not link.usable)

    play(watch, scene)


def test_a_message_that_nobody_understands_ends_nothing(cable: Cable, news: News) -> None:
    """It is counted, and the next one is reported."""
    watch = Watch(news.tell)
    nonsense: tuple[object, ...] = (
        {},
        {"event": "RTM_NEWLINK", "index": 7},
        {"event": "RTM_NEWLINK", "index": 7, "family": 0, "flags": 0},
        None,
    )

    async def scene() -> None:
        await news.until(synced)
        for message in nonsense:
            watch._take(message)
        cable.a.run(f"ip address add {VIP}/32 dev a0")
        await news.until(lambda items: AddressSeen(number(), VIP, 32) in items)

    play(watch, scene)
    assert watch.faults == len(nonsense)
    assert watch.restarts == 0


def test_a_consumer_that_fails_is_seen(cable: Cable, news: News) -> None:
    """An event that was lost on the way is a fault of the daemon, not of the monitor.

    The task fails, and so the daemon starts anew.
    """

    def report(item: object) -> None:
        news.tell(item)
        if isinstance(item, AddressSeen) and item.ip == VIP:
            raise ValueError("a bug")

    async def scene() -> None:
        watching = asyncio.ensure_future(Watch(report).run())
        await news.until(synced)
        cable.a.run(f"ip address add {VIP}/32 dev a0")
        with pytest.raises(ValueError, match="a bug"):
            await asyncio.wait_for(watching, 10.0)

    asyncio.run(scene())
