"""What an interface's names mean, and on which interfaces an address cannot be announced."""

from __future__ import annotations

import errno
from dataclasses import replace

import pytest

from announce.kernel.interface import (
    ETHERNET,
    LOOPBACK,
    Interface,
    Links,
    find,
    is_running,
    unsuitable,
)

ETH0 = Interface(
    2, "eth0", "02:00:00:00:00:01", up=True, carrier=True, altnames=frozenset({"uplink0", "enp1s0"})
)


def test_every_name_means_the_interface() -> None:
    """The first one and the alternative ones; nothing else does."""
    links = Links()
    assert links.see(ETH0) == {"eth0", "uplink0", "enp1s0"}
    assert [links.named(name) for name in ("eth0", "uplink0", "enp1s0", "eth1", "")] == [
        ETH0,
        ETH0,
        ETH0,
        None,
        None,
    ]


def test_a_name_that_is_given_up_means_nothing() -> None:
    """The caller is told of the old names as well as of the new ones."""
    links = Links()
    links.see(ETH0)
    renamed = replace(ETH0, name="old0", altnames=frozenset({"uplink0"}))
    assert links.see(renamed) == {"eth0", "old0", "uplink0", "enp1s0"}
    assert [links.named(name) for name in ("eth0", "old0", "uplink0", "enp1s0")] == [
        None,
        renamed,
        renamed,
        None,
    ]


@pytest.mark.parametrize("late", [False, True])
def test_a_name_belongs_to_who_was_last_seen_with_it(late: bool) -> None:
    """Also if the news that the other one has it no more come afterwards."""
    links, other = Links(), replace(ETH0, ifindex=5, altnames=frozenset())
    links.see(ETH0)
    if late:
        assert links.see(other) == {"eth0"}
        links.see(replace(ETH0, name="old0"))
    else:
        links.forget(ETH0.ifindex)
        links.see(other)
    assert links.named("eth0") == other
    assert links.forget(2) == (ETH0.altnames | {"old0"} if late else frozenset())
    assert links.named("eth0") == other
    assert links.forget(5) == {"eth0"}
    assert links.named("eth0") is None


def test_the_kernel_is_asked_by_name() -> None:
    """What it says is known from then on; a name that nothing has means nothing any more."""
    links = Links()
    links.see(replace(ETH0, name="nowhere0"))
    for name in ("lo", "nowhere0", "a-name-that-is-longer-than-any-first-name-is"):
        links.look(name)
    found = links.named("lo")
    assert found is not None
    assert (found.ifindex, found.kind, found.mac) == (1, LOOPBACK, "00:00:00:00:00:00")
    assert links.named("nowhere0") is None
    with pytest.raises(OSError, match="nowhere0") as raised:
        find("nowhere0")
    assert raised.value.errno == errno.ENODEV
    assert not is_running(0)
    assert not is_running(2**31 - 1)


@pytest.mark.parametrize(
    ("interface", "words"),
    [
        (ETH0, ""),
        (replace(ETH0, kind=LOOPBACK, name="lo"), "lo is the loopback interface"),
        (
            replace(ETH0, kind=65534, name="tun0"),
            "tun0 is not an Ethernet interface (its type is 65534)",
        ),
        (replace(ETH0, arp=False, name="dummy0"), "dummy0 does not use ARP"),
        (replace(ETH0, port_of="bridge"), "eth0 is a port of a bridge"),
        (replace(ETH0, port_of="bond"), "eth0 is a port of a bond"),
        (replace(ETH0, port_of="vrf"), ""),
        (replace(ETH0, up=False, carrier=False), ""),
        (replace(ETH0, kind=ETHERNET, mac=""), ""),
    ],
)
def test_where_nothing_can_be_announced_a_sentence_says_why(
    interface: Interface, words: str
) -> None:
    """It names the interface; one that is down is all right."""
    said = unsuitable(interface)
    assert said.startswith(words)
    assert bool(said) is bool(words)
