"""SIGHUP: what the new file leaves alone stays bound, what it drops is released, and a bad file changes nothing."""

from __future__ import annotations

import time

import pytest

from tests.netns.stories.node import VIP, VIP6, WEB, instance, wait_for
from tests.netns.stories.pair import EXTRA, STANDARD, Pair, reload
from tests.netns.stories.world import PLANNED_OVERLAP

pytestmark = [pytest.mark.root, pytest.mark.netns]


def test_a_reload_changes_what_the_file_changes_and_nothing_else(pair: Pair) -> None:
    """A second instance comes to one node and to the other, goes from the first and from both; the first one never blinks."""
    holder, other, begin = pair.holder, pair.other, time.monotonic()
    epoch = holder.instance()["epoch"]
    more = instance("more", [f"{EXTRA}/32"], preempt=False)
    for node in (holder, other):
        node.configure(STANDARD, more)
        reload(node)
        assert pair.world.wait_owner(EXTRA) == holder.host.name
    wait_for(lambda: holder.knows_fit("a", "b", of="more"), "the second instance to have somewhere to go")
    holder.configure(STANDARD)
    reload(holder)
    assert pair.world.wait_owner(EXTRA, other_than=holder.host.name) == other.host.name
    assert other.wait_state("Active", "more")["reason"] == "handed_over"
    other.configure(STANDARD)
    reload(other)
    pair.world.wait_nobody(EXTRA)

    seen = holder.wait_state("Active")
    assert (seen["reason"], seen["epoch"]) == ("taken_back", epoch + 2)
    assert pair.world.changes(begin, VIP) == pair.world.changes(begin, VIP6) == []
    assert holder.metric("vipd_crashes_total") == 0
    pair.world.assert_never_two(begin, PLANNED_OVERLAP)


def test_changed_addresses_on_all_nodes_at_once_lose_nothing(pair: Pair) -> None:
    """Whoever has the VIP waits until the other one, which is starting again too, is fit to take it."""
    holder, other, begin = pair.holder, pair.other, time.monotonic()
    more = instance(addresses=[f"{VIP}/32", f"{VIP6}/128", f"{EXTRA}/32"], preempt=False)
    for node in (holder, other):
        node.configure(more)
        node.reload()
    wait_for(lambda: all(len(node.instance().get("addresses", ())) == 3 for node in (holder, other)), "both to have the new file")
    pair.world.wait_owner(EXTRA)
    owners = {holder.host.name}
    for host, present in pair.world.changes(begin, VIP):
        (owners.add if present else owners.discard)(host)
        assert owners, f"nobody had the VIP after it left {host}"
    pair.world.assert_never_two(begin, PLANNED_OVERLAP)


@pytest.mark.parametrize("content", ["instances: [", "node: a\nbackend: {}\n", ""])
def test_a_bad_file_changes_nothing(pair: Pair, content: str) -> None:
    """The errors are in the log, the daemon is the same, and the VIP does not move."""
    node, begin = pair.holder, time.monotonic()
    good, daemon, logged = node.config_file.read_text(), node.daemon, len(node.log)
    node.config_file.write_text(content)
    node.reload()
    wait_for(lambda: "nothing changes" in node.log[logged:], "the refusal in the log")
    assert str(node.config_file) in node.log[logged:]
    node.config_file.write_text(good)
    assert (node.daemon, node.state()) == (daemon, "Active")
    assert pair.world.events(begin) == []
    assert node.instance(WEB)["reason"] != "shutdown"
