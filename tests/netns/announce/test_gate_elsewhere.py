"""Linux answers for an address on every interface.

The gate stands on all by which the LAN can come in, and on no other.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from announce.gate.gates import AT_A_TIME, LOOK, MOST_OTHERS, Gates
from announce.gate.hook import NAME
from announce.gate.uplinks import Uplinks
from tests.netns.announce.conftest import Cable, Host, new_namespace
from tests.netns.announce.gating import (
    LEASE,
    PATIENCE,
    SLOT,
    VIP_V4,
    VIP_V6,
    VIPS,
    Client,
    Echo,
    Gate,
    bind,
    dress,
    ipv4,
    ipv6,
    now,
    packed,
    udp,
    until,
)

if TYPE_CHECKING:
    from collections.abc import Collection

pytestmark = [pytest.mark.root, pytest.mark.netns]

FAR_V4, FAR_V6 = "198.51.100.2", "2001:db8:1::2"
"""A client behind the second interface, to whom the node is a router."""


@dataclass(frozen=True)
class Host2:
    """Host a with two interfaces, and what follows them; `second` is the cable of the other one."""

    first: Cable
    second: Cable
    gate: Gate
    uplinks: Uplinks

    def run(self, command: str) -> str:
        """Run a command on host a."""
        return self.first.a.run(command)

    def cover(self, ips: Collection[bytes] = VIPS) -> str:
        """Cover the VIPs on a0; return the trouble."""
        return self.gate.cover(ips=ips)

    def follow(self) -> None:
        """Do what the guard does when interfaces have changed."""
        assert select.select([self.uplinks], [], [], PATIENCE)[0]
        came = self.uplinks.follow()
        self.gate.gates.restore(now(), came)
        self.gate.gates.surround(now())
        self.work()

    def work(self) -> None:
        """Tick until nothing is due."""
        while self.gate.gates.tick(now()) <= now():
            pass

    def gated(self, interface: str) -> bool:
        """Whether the gate's programs are on an interface."""
        found = {
            NAME in self.run(f"tc filter show dev {interface} {way}")
            for way in ("ingress", "egress")
        }
        assert len(found) == 1
        return found == {True}


@pytest.fixture
def host(cable: Cable) -> Iterator[Host2]:
    """Return host a with a0 and a1, both to host b, and no gate yet."""
    second = Cable(Host(cable.a.namespace, "a1"), Host(cable.b.namespace, "b1"))
    second.plug()
    dress(cable)
    for name in ("all", "default", "a0", "a1"):
        for key in ("rp_filter", "arp_ignore", "arp_filter"):
            set_sysctl(name, key, 0)
    second.a.run("ip addr add 192.0.2.3/24 dev a1")
    with contextlib.closing(Gate()) as gate, contextlib.closing(Uplinks(gate.control)) as uplinks:
        gate.gates = Gates(gate.deadlines, gate.control, uplinks)
        yield Host2(cable, second, gate, uplinks)


@pytest.fixture
def client(host: Host2) -> Iterator[Client]:
    """Return who asks by way of the second interface."""
    with contextlib.closing(Client(host.second)) as made:
        yield made


@pytest.fixture
def echo(host: Host2) -> Iterator[Echo]:
    """Return what listens on the VIPs, which are bound on a0."""
    bind(host.first.a)
    with contextlib.closing(Echo()) as made:
        yield made


def set_sysctl(interface: str, key: str, value: int) -> None:
    """Set a setting of IPv4 on this thread's host."""
    Path(f"/proc/sys/net/ipv4/conf/{interface}/{key}").write_text(str(value))


def reached(client: Client, echo: Echo, payload: bytes) -> set[str]:
    """Return by which protocols a datagram to a VIP by way of the second interface is received."""
    client.answered(set())
    for kind in ("udp4", "udp6"):
        client.send(client.question(kind, payload))
    client.answered(set())  # what was asked before has been seen to
    end = time.monotonic() + 0.2
    while time.monotonic() < end and len(
        found := {kind for kind, data in echo.received if data == payload}
    ) < len(VIPS):
        time.sleep(0.005)
    return found


def test_without_it_linux_answers_there(host: Host2, client: Client, echo: Echo) -> None:
    """That is what the rest is about: the gate on a0 alone stops nothing on a1."""
    gates = Gates(host.gate.deadlines, host.gate.control)
    assert gates.cover(SLOT, {host.gate.ifindex: VIPS}, LEASE, now()) == ""
    assert client.answered({"arp"}) == {"arp"}
    assert reached(client, echo, b"bypass") == {"udp4", "udp6"}
    gates.close()


def test_an_address_is_silent_on_every_interface(host: Host2, client: Client, echo: Echo) -> None:
    """Closed, open, closed: the other interface obeys the same word."""
    assert host.cover() == ""
    for payload in (b"1 ", b"2 "):
        assert client.answered({"arp"}) == set()
        assert reached(client, echo, b"closed" + payload) == set()
        host.gate.open()
        assert client.answered({"arp"}) == {"arp"}
        assert reached(client, echo, b"opened" + payload) == {"udp4", "udp6"}
        host.gate.close_word()
    assert client.answered({"arp"}) == set()
    host.gate.open(seconds=0.0)
    assert client.answered({"arp"}) == set()


def test_what_leaves_in_its_name_is_stopped_there_too(
    host: Host2, client: Client, echo: Echo
) -> None:
    """A socket bound to the VIP whose route leads out by the other interface."""
    assert host.cover() == ""
    host.run(f"ip route add {FAR_V4}/32 dev a1")
    host.run(f"ip neigh replace {FAR_V4} lladdr {host.second.b.mac} dev a1")
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as speaker:
        speaker.bind((VIP_V4, 0))
        heard = speaking(host, client, speaker)
        assert not heard
        host.gate.open()
        assert speaking(host, client, speaker)
    assert echo.received == []


def speaking(host: Host2, client: Client, speaker: socket.socket) -> bool:
    """Return whether what the VIP says arrives at the other end of a1."""
    assert host.gate.gates.trouble(SLOT) == ""
    with contextlib.suppress(OSError):
        speaker.sendto(b"hello", (FAR_V4, 9))
    return (heard := client.hear(0.1)) is not None and heard.kind == "udp4"


# ---------------------------------------------------------------- who does not have the address


def route(host: Host2) -> None:
    """Make host a a router between both cables; the VIPs are on host b behind a0."""
    set_sysctl("all", "forwarding", 1)
    Path("/proc/sys/net/ipv6/conf/all/forwarding").write_text("1")
    for ip, prefix in ((VIP_V4, 32), (VIP_V6, 128)):
        host.first.b.run(f"ip addr add {ip}/{prefix} dev b0" + (" nodad" if ":" in ip else ""))
        host.run(f"ip neigh replace {ip} lladdr {host.first.b.mac} dev a0")
    for ip, prefix in ((FAR_V4, 32), (FAR_V6, 128)):
        host.run(f"ip route add {ip}/{prefix} dev a1")
        host.run(f"ip neigh replace {ip} lladdr {host.second.b.mac} dev a1")


def passes(host: Host2, source: Host, target: Host, router: str, packet: bytes) -> bool:
    """Send a packet to the router's MAC from one interface of host b.

    Return whether it comes out at the other.
    """
    kind = 0x0800 if packet[0] >> 4 == 4 else 0x86DD
    with contextlib.closing(target.socket(kind)) as ear:
        source.send(mac(router) + mac(source.mac) + struct.pack("!H", kind) + packet)
        ear.settimeout(0.3)
        deadline = time.monotonic() + 0.5
        with contextlib.suppress(TimeoutError):
            while time.monotonic() < deadline:
                if ear.recv(2048)[14:].endswith(packet[-8:]):
                    return True
    assert host.gate.gates.trouble(SLOT) == ""
    return False


def mac(text: str) -> bytes:
    """Return a MAC as it is in a frame."""
    return bytes.fromhex(text.replace(":", ""))


def test_a_backup_passes_on_what_is_for_the_owner(host: Host2) -> None:
    """It may be the way to the VIP for the networks behind it, there and back."""
    route(host)
    assert host.cover() == ""
    assert host.gated("a1")
    router, near, far = host.second.a.mac, host.first.b, host.second.b
    for packet in (
        ipv4(FAR_V4, VIP_V4, udp(FAR_V4, VIP_V4, b"to  vip4")),
        ipv6(FAR_V6, VIP_V6, 17, udp(FAR_V6, VIP_V6, b"to  vip6")),
    ):
        assert passes(host, far, near, router, packet)
    router = host.first.a.mac
    for packet in (
        ipv4(VIP_V4, FAR_V4, udp(VIP_V4, FAR_V4, b"fromvip4")),
        ipv6(VIP_V6, FAR_V6, 17, udp(VIP_V6, FAR_V6, b"fromvip6")),
    ):
        assert passes(host, near, far, router, packet)


@pytest.mark.parametrize("forwarding", [0, 1])
def test_an_address_that_others_have_put_on_each_node_is_silent_too(
    host: Host2, client: Client, forwarding: int
) -> None:
    """As kube-proxy does (kube-ipvs0).

    Only the owner answers, on any interface, whoever bound it.
    """
    set_sysctl("all", "forwarding", forwarding)
    host.run(f"ip addr add {VIP_V4}/32 dev lo")
    assert host.cover() == ""
    assert client.answered({"arp"}) == set()
    host.gate.open()
    assert client.answered({"arp"}) == {"arp"}


def test_clients_on_the_node_itself_go_on(host: Host2) -> None:
    """What is sent to the VIP leaves by the other interface as well."""
    assert host.cover() == ""
    host.run(f"ip route add {VIP_V4}/32 dev a1")
    host.run(f"ip neigh replace {VIP_V4} lladdr {host.second.b.mac} dev a1")
    with (
        contextlib.closing(host.second.b.socket(0x0800)) as ear,
        contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as own,
    ):
        own.sendto(b"question", (VIP_V4, 9))
        assert packed(VIP_V4) in ear.recv(2048)


# ---------------------------------------------------------------- interfaces come and go


def test_an_interface_that_appears_later_gets_one(host: Host2) -> None:
    """Before anybody can learn an address there; one that goes is forgotten."""
    assert host.cover() == ""
    host.run("ip link add link a1 name a2 type macvlan")
    host.follow()
    assert host.gated("a2")
    assert "a2" in {socket.if_indextoname(ifindex) for ifindex in host.gate.gates.on}
    host.run("ip link del a2")
    host.follow()
    assert len(host.gate.gates.on) == 2
    assert host.gate.gates.trouble(SLOT) == ""


def test_a_port_has_none_and_its_bridge_has(host: Host2) -> None:
    """The bridge is the one that answers; a port that becomes free answers again."""
    assert host.cover() == ""
    host.run("ip link add br7 type bridge")
    host.run("ip link set a1 master br7")
    host.run("ip addr add 192.0.2.7/24 dev br7")
    host.follow()
    assert (host.gated("a1"), host.gated("br7")) == (False, True)
    host.run("ip link set a1 nomaster")
    host.follow()
    assert (host.gated("a1"), host.gated("br7")) == (True, True)


def test_the_ends_of_containers_have_none(host: Host2) -> None:
    """A veth without a network, a bridge of such, what has no ARP.

    Those that would answer are named.
    """
    host.run("ip link add cali1 type veth peer name in1")
    host.run("ip link add cni7 type bridge")
    host.run("ip link set in1 master cni7")
    host.run("ip addr add 10.244.1.1/24 dev cni7")
    host.run("ip link add link a1 name quiet7 type macvlan")
    host.run("ip link set quiet7 arp off")
    for name in ("cali1", "cni7"):
        set_sysctl(name, "rp_filter", 0)
    host.follow()
    assert host.cover() == ""
    assert [host.gated(name) for name in ("a1", "cali1", "cni7", "quiet7", "lo")] == [
        True,
        False,
        False,
        False,
        False,
    ]
    assert host.gate.gates.left_alone == "cali1, cni7"
    set_sysctl("cni7", "arp_ignore", 1)
    set_sysctl("cali1", "rp_filter", 2)
    assert host.gate.gates.left_alone == ""


def test_a_network_makes_a_veth_a_card_of_the_node(host: Host2) -> None:
    """Whenever it gets one."""
    host.run("ip link add a2 type veth peer name b2")
    host.follow()
    assert host.cover() == ""
    assert not host.gated("a2")
    host.run("ip addr add 198.51.100.1/24 dev a2")
    host.follow()
    assert host.gated("a2")
    host.run("ip addr del 198.51.100.1/24 dev a2")
    host.follow()
    assert not host.gated("a2")


@pytest.mark.parametrize("interface", ["a0", "a1"])
def test_an_interface_that_came_back_under_its_number_has_it_again(
    host: Host2, interface: str
) -> None:
    """A move to another network namespace and back takes everything in traffic control off, and no
    news of traffic control comes.
    """
    assert host.cover() == ""
    number = socket.if_nametoindex(interface)
    with new_namespace() as elsewhere:
        away = Host(elsewhere, interface)
        host.run(f"ip link set {interface} netns /proc/{os.getpid()}/fd/{elsewhere}")
        away.run(f"ip link set {interface} netns /proc/{os.getpid()}/fd/{host.first.a.namespace}")
    host.run(f"ip link set {interface} up")
    host.run(f"ip addr add 192.0.2.3/24 dev {interface}")
    assert socket.if_nametoindex(interface) == number
    assert not host.gated(interface)
    host.follow()
    assert host.gated(interface)


def test_more_news_than_there_is_room_for(host: Host2) -> None:
    """Then all is read anew."""
    assert host.cover() == ""
    for _ in range(3):
        for number in range(100):
            host.run(f"ip link add x{number} type veth peer name y{number}")
        for number in range(100):
            host.run(f"ip link del x{number}")
    host.run("ip link add link a1 name a2 type macvlan")
    host.follow()
    assert host.gated("a2")


def test_what_somebody_takes_away_there_is_put_back(host: Host2) -> None:
    """At once by the news, or at the next look."""
    assert host.cover() == ""
    host.run("tc qdisc del dev a1 clsact")
    assert host.gate.gates.restore(now(), [socket.if_nametoindex("a1")]) == [
        socket.if_nametoindex("a1")
    ]
    assert host.gated("a1")
    host.run("tc qdisc del dev a1 clsact")
    host.gate.gates.tick(now() + LOOK)
    assert host.gated("a1")


def test_many_interfaces_are_covered_by_and_by(host: Host2) -> None:
    """The guard has deadlines to watch; and at some number it says that it is too many."""
    assert host.cover() == ""
    for number in range(AT_A_TIME + 5):
        host.run(f"ip link add link a1 name m{number} type macvlan")
    assert select.select([host.uplinks], [], [], PATIENCE)[0]
    host.uplinks.follow()
    host.gate.gates.surround(now())
    moment = now()
    assert host.gate.gates.tick(moment) == moment
    assert len(host.gate.gates.on) < 2 + AT_A_TIME + 5 or host.gate.gates.tick(moment) > moment
    host.work()
    assert all(host.gated(f"m{number}") for number in range(AT_A_TIME + 5))
    assert MOST_OTHERS > AT_A_TIME + 5


# ---------------------------------------------------------------- where it cannot stand


def test_where_there_is_no_room_for_it_the_hole_and_its_cure_are_told(host: Host2) -> None:
    """It counts only where the kernel would answer for an address of another interface."""
    host.run("tc qdisc add dev a1 ingress")
    trouble = host.cover()
    assert "a1, where Linux answers for the addresses as well: an ingress qdisc" in trouble
    assert "net.ipv4.conf.a1.arp_ignore=1" in trouble
    set_sysctl("a1", "arp_ignore", 1)
    assert host.gate.gates.trouble(SLOT) == ""
    set_sysctl("a1", "arp_ignore", 0)
    assert host.cover(VIPS[1:]) == ""  # IPv6 is answered for on its own interface only
    assert host.cover() != ""
    host.run("tc qdisc del dev a1 ingress")
    until(lambda: host.gate.gates.tick(now()) > now() and host.gate.gates.trouble(SLOT) == "")
    assert host.gated("a1")


# ---------------------------------------------------------------- lives


def test_nothing_is_left_behind(host: Host2) -> None:
    """Not while nothing is covered, nor at the end, nor by one who was killed."""
    host.gate.gates.surround(now())
    assert not host.gated("a1")
    assert host.cover() == ""
    host.gate.gates.uncover(SLOT, now())
    assert (host.gated("a0"), host.gated("a1")) == (False, False)
    assert "clsact" not in host.run("tc qdisc show")
    assert host.cover() == ""
    assert host.gate.gates.close() == []
    assert "clsact" not in host.run("tc qdisc show")
    assert host.cover() == ""
    host.gate.gates.let_go()
    assert (host.gated("a0"), host.gated("a1")) == (True, True)
    host.gate.gates.sweep()
    assert "clsact" not in host.run("tc qdisc show")


def test_an_address_that_moves_to_the_other_interface_has_no_gap(
    host: Host2, client: Client, echo: Echo
) -> None:
    """The gate that followed leads, and the other way round."""
    assert host.cover() == ""
    one, other = host.gate.ifindex, socket.if_nametoindex("a1")
    for places in ({other: VIPS}, {one: VIPS}, {one: VIPS[:1], other: VIPS[1:]}, {other: VIPS}):
        assert host.gate.gates.cover(SLOT, places, LEASE, now()) == ""
        assert (host.gated("a0"), host.gated("a1")) == (True, True)
        assert client.answered({"arp"}) == set()
        assert reached(client, echo, b"closed") == set()
        assert len(host.run("tc filter show dev a1 ingress").split(NAME)) == 2


def test_after_a_full_kill_the_old_programs_stay_on_both_until_the_lease_is_back(
    host: Host2, client: Client, echo: Echo
) -> None:
    """No gap on either interface for an address that stays.

    Closed by the old deadline if the lease does not come back.
    """
    assert host.cover() == ""
    host.gate.open()
    host.gate.gates.let_go()
    assert client.answered({"arp"}) == {"arp"}
    with contextlib.closing(Gate()) as later, contextlib.closing(Uplinks(later.control)) as uplinks:
        later.gates = Gates(later.deadlines, later.control, uplinks)
        assert later.cover() == ""
        later.gates.settle(now())
        later.gates.tick(now())
        assert client.answered({"arp"}) == {"arp"}
        assert reached(client, echo, b"inherits") == {"udp4", "udp6"}
        later.open()
        later.gates.tick(now())
        assert not later.gates.inherited
        host.gate.close_word()
        assert client.answered({"arp"}) == {"arp"}
        later.close_word()
        assert client.answered({"arp"}) == set()
        assert reached(client, echo, b"closed") == set()
