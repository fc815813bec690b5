"""What a running node shows to those who watch it."""

from __future__ import annotations

import os
import stat

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.netns.stories.node import VIP, VIP6, WEB, wait_for
from tests.netns.stories.pair import STANDARD, Pair
from tests.netns.stories.world import Build

pytestmark = [pytest.mark.root, pytest.mark.netns]

PROMISED = {
    "state",
    "priority",
    "effective_priority",
    "address_bound",
    "transitions",
    "holder_info",
    "epoch",
    "lease_remaining_seconds",
    "store_request_seconds",
    "store_last_success_timestamp_seconds",
    "takeover_seconds",
    "announcements_sent",
    "address_repaired",
    "conflicts",
    "fenced",
    "crashes",
    "check_up",
    "check_seconds",
    "loop_lag_seconds",
    "build_info",
    "gate_in_force",
    "gate_put_back",
    "store_outage",
    "store_watch_lost",
    "foreign_edits",
    "config_reload_success",
    "config_reload_timestamp_seconds",
}
"""Design of the metrics, without the prefix and without `_total`, which the format adds."""


def test_the_metrics_tell_who_has_the_vip(pair: Pair) -> None:
    """Every family that is promised is there, and holder and Backup agree on all that concerns
    both.
    """
    holder, other = pair.holder, pair.other
    names = {family.name for family in text_string_to_metric_families(holder.get("/metrics")[1])}
    assert names == {f"vipd_{name}" for name in PROMISED}
    assert (
        holder.metric("vipd_state", vip_instance=WEB),
        other.metric("vipd_state", vip_instance=WEB),
    ) == (2, 1)
    for node, bound in ((holder, 1), (other, 0)):
        for address in (f"{VIP}/32", f"{VIP6}/128"):
            assert node.metric("vipd_address_bound", vip_instance=WEB, address=address) == bound
        assert (
            node.metric("vipd_holder_info", vip_instance=WEB)
            == node.metric("vipd_holder_info", holder=holder.name)
            == 1
        )
        assert 0 < node.metric("vipd_lease_remaining_seconds", vip_instance=WEB) <= 3
        assert node.get("/healthz") == node.get("/readyz") == (200, "ok\n")
        assert node.get("/nothing")[0] == 404
    assert holder.metric("vipd_epoch", vip_instance=WEB) == other.metric(
        "vipd_epoch", vip_instance=WEB
    )


def test_status_shows_the_whole_group_on_every_node(pair: Pair) -> None:
    """Who holds it, who else may, and what the kernel has: for people, and as JSON.

    The socket is for owner and group only.
    """
    holder = pair.holder
    for node in pair.nodes:
        seen = node.instance()
        assert (seen["holder"]["name"], [one["name"] for one in seen["candidates"]]) == (
            holder.name,
            ["a", "b"],
        )
        assert [one["bound"] for one in seen["addresses"]] == [node is holder] * 2
        shown = node.vipd("status")
        assert (shown.code, f"{VIP}/32" in shown.out) == (0, True)
        mode = node.socket.stat()
        assert (stat.S_IMODE(mode.st_mode), mode.st_uid) == (0o660, os.geteuid())


def test_a_node_that_never_reached_its_store_is_alive_and_not_ready(build: Build) -> None:
    """It says what is wrong, binds nothing, stays, and ends in good order when it is told to."""
    net = build("a", store={"etcd": {"endpoints": ["http://192.0.2.11:2379"]}})
    node = net.node("a")
    node.configure(STANDARD)
    node.start()
    wait_for(lambda: (node.status() or {}).get("store", {}).get("outage"), "the outage to be seen")
    seen = (node.status() or {})["store"]
    assert (seen["reachable"], seen["last_success_age"]) == (False, None)
    assert (node.get("/healthz")[0], node.get("/readyz")) == (
        200,
        (503, "the store has not answered yet\n"),
    )
    assert node.state() == "Initialize"
    assert net.monitor.events == []
    assert node.stop() == 0
