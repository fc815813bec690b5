"""What `vipd check` computes from a configuration, and how host names are looked up for it."""

from __future__ import annotations

import ipaddress
from dataclasses import replace

import pytest

from election.timing import PROFILES, Timing
from health.model import Check, InterfaceCheck, TcpCheck, Weight
from vipd.config.promises import promises
from vipd.config.resolve import MOST_NAMES, resolve
from vipd.config.values import Announce, Config, EtcdBackend, Fence, FileBackend, Gate, Instance

CHECKS = (
    Check("link", InterfaceCheck("eth0"), fall=1),
    Check("web", TcpCheck("127.0.0.1", 80), interval=1.0, timeout=0.5, fall=3),
    Check("better", TcpCheck("127.0.0.1", 81), on_fail=Weight(20)),
)
INSTANCE = Instance("ingress", "eth0", (ipaddress.ip_interface("192.0.2.10/32"),), checks=CHECKS)


def promised(timing: Timing) -> str:
    """Return everything that is promised with these timings."""
    return "\n".join(promises(Config("n1", FileBackend(), timing, (INSTANCE,))))


@pytest.mark.parametrize(
    ("profile", "takeover", "kernel"),
    [
        (
            "fast",
            "0.80s to 1.05s later",
            "a lease of 1s is not covered, one of 2s and longer is as a rule, one of 8s strictly",
        ),
        (
            "default",
            "2.40s to 3.05s later",
            "a lease of 3s is covered as a rule, one of 8s and longer strictly",
        ),
        ("relaxed", "8.00s to 10.05s later", "a lease of 10s is covered strictly"),
    ],
)
def test_each_profile_says_how_quick_and_how_safe_it_is(
    profile: str, takeover: str, kernel: str
) -> None:
    """From the last renewal before the fault, at the soonest and at the latest."""
    text = promised(PROFILES[profile])
    assert takeover in text
    assert kernel in text
    assert "the kernel's gate stops this node at its deadline" in text
    assert "the address does not move" in text


@pytest.mark.parametrize(
    ("gate", "said", "unsaid"),
    [
        (Gate.OFF, "the kernel lets the addresses expire", "gate"),
        (Gate.REQUIRE, "this node does not take part", "expire"),
    ],
)
def test_the_gate_is_promised_as_it_is_configured(gate: Gate, said: str, unsaid: str) -> None:
    """Who switches it off is told what is left, who requires it that nothing else counts."""
    text = "\n".join(
        promises(Config("n1", FileBackend(), Timing(), (INSTANCE,), fence=Fence(gate)))
    )
    assert said in text
    assert unsaid not in text


@pytest.mark.parametrize(
    ("addresses", "pace", "seconds"),
    [(1, 15, 0), (75, 15, 0), (150, 15, 20), (150, 100, 0), (4, 1, 8)],
)
def test_many_addresses_take_their_time_behind_a_switch(
    addresses: int, pace: int, seconds: int
) -> None:
    """All instances of an interface together; of few nothing is said."""
    block = tuple(
        ipaddress.ip_interface(f"192.0.2.{number}/32") for number in range(1, addresses + 1)
    )
    instances = (
        Instance("one", "eth0", block, announce=Announce(pace=pace)),
        Instance("two", "eth0", block, announce=Announce(pace=pace)),
    )
    text = "\n".join(
        promises(Config("n1", FileBackend(), Timing(), instances[: 2 if seconds else 1]))
    )
    assert ("all addresses of eth0 are announced at once, and behind a switch" in text) is bool(
        seconds
    )
    assert (f"in {seconds}s (announce.pace)" in text) is bool(seconds)


def test_timings_without_room_for_a_crash_say_so() -> None:
    """In the place of the promise, not beside it."""
    assert "the address does not move" not in promised(Timing(1.0, 0.4, 0.25))
    assert "it can lose the VIP" in promised(Timing(1.0, 0.4, 0.25))


def test_each_check_says_what_it_costs_and_how_soon() -> None:
    """`fall` intervals and one timeout; a link tells by itself."""
    lines = [line for line in promised(Timing()).splitlines() if line.startswith("ingress: when")]
    assert lines == [
        "ingress: when eth0 goes down, the address is given up at once",
        "ingress: when the check web begins to fail, the address is given up at most 3.50s later",
        (
            "ingress: when the check better begins to fail, the priority changes by -20 at most "
            "1.40s later"
        ),
    ]


def test_a_group_is_promised_as_a_whole() -> None:
    """Who reads what one instance's check does must not think that it does it to this one alone."""
    grouped = replace(INSTANCE, group="edge")
    text = "\n".join(
        promises(
            Config(
                "n1", FileBackend(), Timing(), (grouped, replace(grouped, name="other", checks=()))
            )
        )
    )
    assert (
        "ingress: 192.0.2.10/32 on eth0, priority 100, elected with the group edge\nother: " in text
    )
    assert (
        "ingress: when eth0 goes down, all addresses of the group edge are given up at once" in text
    )
    assert "the priority of the group edge changes by -20" in text


def test_the_store_is_named() -> None:
    """With what it can and cannot do."""
    etcd = Config(
        "n1",
        EtcdBackend(("http://10.0.0.1:2379", "http://10.0.0.2:2379")),
        Timing(),
        (INSTANCE,),
        "default",
    )
    assert promises(etcd)[0].startswith(
        "node n1, etcd with 2 endpoint(s), profile default: lease 3s"
    )
    assert "one host only" in promised(Timing())


def test_names_are_looked_up_and_failures_are_left_out() -> None:
    """A name that no resolver can even ask for is one that was not found."""
    found = resolve(["localhost", "x" * 80 + ".example", "localhost"], 10.0)
    assert list(found) == ["localhost"]
    assert all(address.is_loopback for address in found["localhost"])


def test_the_number_of_lookups_is_bounded() -> None:
    """Each is a thread."""
    names = [f"{'x' * 80}.{number}" for number in range(MOST_NAMES)] + ["localhost"]
    assert resolve(names, 10.0) == {}
    assert resolve([], 0.0) == {}
