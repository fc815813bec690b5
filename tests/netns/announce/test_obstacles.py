"""What would make the kernel refuse an address is known before it is tried.

The prediction and the kernel itself agree.
"""

from __future__ import annotations

from ipaddress import ip_interface

import pytest

from announce.kernel.interface import obstacle
from tests.netns.announce.conftest import Cable

pytestmark = pytest.mark.root

FOUR, SIX = ip_interface("192.0.2.10/32"), ip_interface("2001:db8::10/128")
ALL_IS_WELL: tuple[str, ...] = ()
OBSTACLES = {
    "nothing": (ALL_IS_WELL, ""),
    "switched off": (
        ("sysctl -qw net.ipv6.conf.a0.disable_ipv6=1",),
        "IPv6 is switched off on a0: the kernel would refuse 2001:db8::10",
    ),
    "MTU": (
        ("ip link set a0 mtu 1279",),
        "a0 has an MTU of 1279, and IPv6 needs 1280: the kernel would refuse 2001:db8::10",
    ),
    "switched off everywhere": (
        ("sysctl -qw net.ipv6.conf.all.disable_ipv6=1",),
        "IPv6 is switched off on a0",
    ),
    "smallest MTU": (("ip link set a0 mtu 1280",), ""),
}


@pytest.mark.parametrize(("commands", "why"), OBSTACLES.values(), ids=list(OBSTACLES))
def test_what_is_foreseen_is_what_the_kernel_does(
    cable: Cable, commands: tuple[str, ...], why: str
) -> None:
    """For IPv6; an IPv4 address alone meets none of these."""
    for command in commands:
        cable.a.run(command)
    with cable.a.inside():
        foreseen = obstacle("a0", [FOUR, SIX])
        assert obstacle("a0", [FOUR]) == ""
    assert foreseen.startswith(why)
    assert bool(foreseen) == bool(why)
    if why:
        with pytest.raises(Exception, match="returned non-zero"):
            cable.a.run(f"ip address add {SIX} dev a0 nodad")
    else:
        cable.a.run(f"ip address add {SIX} dev a0 nodad")


def test_an_alternative_name_is_the_same_interface(cable: Cable) -> None:
    """The settings go by the first name."""
    cable.a.run("ip link property add dev a0 altname uplink0")
    cable.a.run("sysctl -qw net.ipv6.conf.a0.disable_ipv6=1")
    with cable.a.inside():
        assert "switched off on uplink0" in obstacle("uplink0", [SIX])
        assert "net.ipv6.conf.a0.disable_ipv6=0" in obstacle("uplink0", [SIX])


def test_an_interface_that_is_not_there_is_no_obstacle(cable: Cable) -> None:
    """Others say so."""
    with cable.a.inside():
        assert obstacle("none0", [SIX]) == ""
