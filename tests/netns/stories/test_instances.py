"""Several instances on one node, and many addresses in one instance."""

from __future__ import annotations

import time

import pytest

from tests.netns.stories.node import instance, wait_for
from tests.netns.stories.world import PLANNED_OVERLAP, Build

pytestmark = [pytest.mark.root, pytest.mark.netns]

ONE, TWO = "192.0.2.101", "192.0.2.102"
MANY = tuple(f"198.51.100.{number}" for number in range(1, 101)) + tuple(f"2001:db8:1::{number:x}" for number in range(1, 101))


def test_two_instances_live_where_each_is_preferred(build: Build) -> None:
    """Each node holds the one it is better for; when one ends the other has both, and its own come back to it with it."""
    net = build("ab", (ONE, TWO))
    nodes = [net.node("a"), net.node("b")]
    for node, priorities in zip(nodes, ((150, 100), (100, 150)), strict=True):
        node.configure(instance("one", [ONE], priority=priorities[0]), instance("two", [TWO], priority=priorities[1]))
        node.start()
    wait_for(lambda: [net.monitor.owners(address) for address in (ONE, TWO)] == [{"a"}, {"b"}], "each on its own node")
    begin = time.monotonic()
    assert nodes[0].stop() == 0
    assert net.wait_owner(ONE, other_than="a") == "b"
    nodes[0].start()
    assert net.wait_owner(ONE, other_than="b") == "a"
    assert nodes[0].wait_state("Active", "one")["reason"] == "preempted"
    assert net.changes(begin, TWO) == []
    net.assert_never_two(0.0, PLANNED_OVERLAP)


def test_two_hundred_addresses_move_in_one_go(build: Build) -> None:
    """Bound and announced together, handed over together; every one is announced by the new holder."""
    net = build("abc", MANY)
    nodes = [net.node("a"), net.node("b")]
    for node in nodes:
        node.configure(instance(addresses=MANY, preempt=False, announce={"burst": 0}))
    nodes[0].start()
    assert {net.wait_owner(address) for address in MANY} == {"a"}
    nodes[1].start()
    wait_for(lambda: nodes[0].knows_fit("a", "b"), "the other node to be fit")
    assert nodes[0].metric("vipd_announcements_sent_total") == 300
    begin = time.monotonic()
    assert nodes[0].ask("handover", instance="web")["holder"] == "b"
    assert {net.wait_owner(address, other_than="a") for address in MANY} == {"b"}
    for address in MANY:
        assert sorted(net.changes(begin, address)) == [("a", False), ("b", True)]
    net.assert_never_two(0.0, PLANNED_OVERLAP)
    for node in nodes:
        assert node.metric("vipd_announcements_sent_total", kind="arp_request") == 100
        assert node.metric("vipd_announcements_sent_total", kind="arp_reply") == 100
        assert node.metric("vipd_announcements_sent_total", kind="na") == 100
