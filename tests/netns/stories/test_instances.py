"""Several instances on one node, and many addresses in one instance."""

from __future__ import annotations

import time

import pytest

from tests.netns.stories.node import WEB, VipdNode, instance, wait_for
from tests.netns.stories.world import PLANNED_OVERLAP, Build
from vipd.demo.lab import INTERFACE

pytestmark = [pytest.mark.root, pytest.mark.netns]

ONE, TWO = "192.0.2.101", "192.0.2.102"
MANY = tuple(f"198.51.100.{number}" for number in range(1, 101)) + tuple(
    f"2001:db8:1::{number:x}" for number in range(1, 101)
)
ANNOUNCED_ONCE = {"arp_request": 100, "arp_reply": 100, "na": 100}


def test_two_instances_live_where_each_is_preferred(build: Build) -> None:
    """Each node holds the one it is better for.

    When one ends the other has both, and its own come back to it with it.
    """
    net = build("ab", (ONE, TWO))
    nodes = [net.node("a"), net.node("b")]
    for node, priorities in zip(nodes, ((150, 100), (100, 150)), strict=True):
        node.configure(
            instance("one", [ONE], priority=priorities[0]),
            instance("two", [TWO], priority=priorities[1]),
        )
        node.start()
    wait_for(
        lambda: [net.monitor.owners(address) for address in (ONE, TWO)] == [{"a"}, {"b"}],
        "each on its own node",
    )
    begin = time.monotonic()
    assert nodes[0].stop() == 0
    assert net.wait_owner(ONE, other_than="a") == "b"
    nodes[0].start()
    assert net.wait_owner(ONE, other_than="b") == "a"
    assert nodes[0].wait_state("Active", "one")["reason"] == "preempted"
    assert net.changes(begin, TWO) == []
    net.assert_never_two(0.0, PLANNED_OVERLAP)


def test_two_hundred_addresses_move_in_one_go(build: Build) -> None:
    """Bound and announced together, put back together when somebody flushes them, and handed over
    together.
    """
    net = build("ab", MANY)
    first, second = net.node("a"), net.node("b")
    for node in (first, second):
        node.configure(
            instance(addresses=MANY, preempt=False, announce={"burst": 0, "refresh": "1h"})
        )
    first.start()
    assert {net.wait_owner(address) for address in MANY} == {"a"}
    second.start()
    wait_for(lambda: first.knows_fit("a", "b"), "the other node to be fit")
    wait_for(lambda: announced(first) == ANNOUNCED_ONCE, "all to be announced, once")

    for network in ("198.51.100.0/24", "2001:db8:1::/64"):
        net.lab.run(first.host, "ip", "address", "flush", "dev", INTERFACE, "to", network)
    wait_for(
        lambda: all(net.monitor.owners(address) == {"a"} for address in MANY), "all to be put back"
    )
    assert (first.state(), first.metric("vipd_crashes_total")) == ("Active", 0)

    begin = time.monotonic()
    assert first.ask("handover", instance=WEB)["holder"] == "b"
    assert {net.wait_owner(address, other_than="a") for address in MANY} == {"b"}
    for address in MANY:
        assert sorted(net.changes(begin, address)) == [("a", False), ("b", True)]
    wait_for(lambda: announced(second) == ANNOUNCED_ONCE, "all to be announced, once")
    # Two hundred addresses are not bound, and not removed, in no time.
    net.assert_never_two(0.0, 2 * PLANNED_OVERLAP)


def announced(node: VipdNode) -> dict[str, float]:
    """Return how many frames of each kind a node has sent."""
    return {
        kind: node.metric("vipd_announcements_sent_total", kind=kind) for kind in ANNOUNCED_ONCE
    }
