"""One name, one daemon; one address, one daemon of a host: the later one gives way and says why."""

from __future__ import annotations

import time

import pytest

from tests.netns.stories.node import VIP, VIP6, wait_for
from tests.netns.stories.pair import STANDARD, Pair
from tests.netns.stories.world import Build

pytestmark = [pytest.mark.root, pytest.mark.netns]

REFUSED = 4


def test_of_two_nodes_with_one_name_the_later_gives_way(build: Build) -> None:
    """It says so and stays out for as long as the first one lives; then it takes over, since the name is free."""
    net = build("ab")
    first, later = net.node("a", name="twin"), net.node("b", name="twin")
    for node in (first, later):
        node.configure(STANDARD)
    first.start()
    assert net.wait_owner() == net.wait_owner(VIP6) == "a"
    begin = time.monotonic()
    later.start()
    assert later.wait_state("Fault")["reason"] == "namesake"
    wait_for(lambda: any("is named twin too" in note for note in later.instance().get("notes", [])), "a sentence on the name")
    since = first.metric("vipd_store_request_seconds_count", op="renew")
    wait_for(lambda: first.metric("vipd_store_request_seconds_count", op="renew") >= since + 10, "ten renewals of the first")
    assert later.state() == "Fault"
    assert (net.events(begin), first.state()) == ([], "Active")

    first.kill_all()
    assert net.wait_owner(other_than="a") == net.wait_owner(VIP6, other_than="a") == "b"
    assert later.wait_state("Active")["reason"] == "lease_expired"


def test_a_second_daemon_for_an_address_of_this_host_is_refused(pair: Pair) -> None:
    """Whatever its name, state directory and control socket are; and so is one that shares the state directory only."""
    node, begin = pair.holder, time.monotonic()
    name = node.host.name
    elsewhere = pair.world.node(name, name="second", folder="elsewhere")
    elsewhere.configure(STANDARD)
    sharing = pair.world.node(name, name="third", folder="sharing")
    sharing.configure({**STANDARD, "addresses": ["192.0.2.199/32"]}, state_dir=str(node.state_dir))
    for refused in (elsewhere, sharing):
        refused.start()
    assert [refused.wait_end() for refused in (elsewhere, sharing)] == [REFUSED, REFUSED]
    assert f"{VIP} is managed by another vipd (process {node.guard.pid}) on this host already" in elsewhere.log
    assert f"state_dir {node.state_dir} is in use by another vipd" in sharing.log
    assert pair.world.events(begin) == []
    assert node.state() == "Active"
