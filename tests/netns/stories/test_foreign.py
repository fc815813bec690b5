"""A VIP that is the host's own address.

Refused before anything is bound, left alone when it comes later.
"""

from __future__ import annotations

import pytest

from tests.netns.stories.node import VIP, VIP6, instance, wait_for
from tests.netns.stories.world import Build, World
from vipd.demo.lab import INTERFACE

pytestmark = [pytest.mark.root, pytest.mark.netns]

OWN = "own address"


def ip(net: World, host: str, words: str) -> str:
    """Run `ip` on a host."""
    return net.lab.run(net.hosts[host], "ip", *words.split())


def addresses(net: World) -> list[str]:
    """Return the addresses of host a's interface, without what changes by itself."""
    lines = ip(net, "a", f"-o address show dev {INTERFACE} scope global").splitlines()
    return [line.partition(" scope")[0] for line in lines]


@pytest.mark.parametrize(
    ("added", "vip"),
    [
        ("", ""),
        (f"{VIP}/32", VIP),
        (f"{VIP} peer 192.0.2.99/32", VIP),
        (f"{VIP}/24 valid_lft 3600 preferred_lft 3600", VIP),
        (f"{VIP6}/64", VIP6),
    ],
)
def test_the_hosts_own_address_is_refused(build: Build, added: str, vip: str) -> None:
    """Its only one, a second one, a peer's, a leased one: by check and run.

    Reload goes on with what it has, release leaves it alone.
    """
    net = build("a")
    node = net.node("a")
    if added:
        ip(net, "a", f"address add {added} dev {INTERFACE}")
    own = vip or net.hosts["a"].address
    node.configure(instance(addresses=[own]))
    before = addresses(net)
    checked = node.vipd("check")
    assert (checked.code, own in checked.out, OWN in checked.out) == (2, True, True)
    node.start()
    assert node.wait_end() == 2
    assert OWN in node.log
    assert OWN not in node.vipd("version").out
    node.vipd("release")
    assert addresses(net) == before


def test_a_reload_into_the_hosts_own_address_changes_nothing(build: Build) -> None:
    """The daemon goes on with what it has, and the host keeps its address."""
    net = build("a")
    node = net.node("a")
    node.configure(instance(addresses=[VIP]))
    node.start()
    node.wait_state("Active")
    session = node.session()
    node.configure(instance(addresses=[net.hosts["a"].address]))
    node.reload()
    wait_for(lambda: OWN in node.log, "the refusal")
    assert (node.state(), node.session()) == ("Active", session)
    assert net.hosts["a"].address in node.bound()


def test_an_own_address_that_comes_later_stays_and_keeps_the_node_out(build: Build) -> None:
    """Boot order, or a lease by DHCP: the VIP moves on, the address stays.

    Once it is gone the node takes part again.
    """
    net = build("ab")
    nodes = net.node("a"), net.node("b")
    for node, priority in zip(nodes, (150, 100), strict=True):
        node.configure(instance(addresses=[VIP], priority=priority))
        node.start()
    a, b = nodes
    a.wait_state("Active")
    wait_for(lambda: a.knows_fit("a", "b"), "both to be fit")
    own = net.hosts["a"].address
    ip(net, "a", f"address delete {own}/24 dev {INTERFACE}")
    ip(net, "a", f"address add {VIP}/24 dev {INTERFACE}")
    b.wait_state("Active")
    shown = a.wait_state("Fault")
    assert shown["reason"] == "address_in_use"
    assert any(OWN in note for note in shown["notes"])
    assert f"{VIP}/24" in ip(net, "a", f"-o address show dev {INTERFACE}")
    assert b.knows_fit("b")
    wait_for(lambda: not b.knows_fit("a"), "b to know that a is not fit")
    ip(net, "a", f"address add {own}/24 dev {INTERFACE}")
    ip(net, "a", f"address delete {VIP}/24 dev {INTERFACE}")
    a.wait_state("Active")
    assert [a.stop(), b.stop()] == [0, 0]


def test_the_hosts_own_address_survives_a_vip_written_with_its_network(build: Build) -> None:
    """As keepalived's users write it.

    The own address is taken off and put back while the VIP is there, and vipd stops.
    """
    net = build("ab")
    node = net.node("a")
    net.lab.run(net.hosts["a"], "sysctl", "-qw", f"net.ipv4.conf.{INTERFACE}.promote_secondaries=0")
    node.configure(instance(addresses=[f"{VIP}/24"]))
    assert f"is bound as {VIP}/32" in node.vipd("check").out
    node.start()
    node.wait_state("Active")
    own = net.hosts["a"].address
    ip(net, "a", f"address delete {own}/24 dev {INTERFACE}")
    ip(net, "a", f"address add {own}/24 dev {INTERFACE}")
    assert net.reaches("b", own)
    assert net.reaches("b", VIP)
    assert f"{VIP}/32 scope host" in ip(net, "a", f"-o address show dev {INTERFACE}")
    assert node.stop() == 0
    assert net.reaches("b", own)
