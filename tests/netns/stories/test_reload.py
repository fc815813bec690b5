"""SIGHUP: what the new file leaves alone stays bound, what it drops is released, and a bad file
changes nothing.
"""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from tests.netns.stories.conftest import tmpfs
from tests.netns.stories.node import VIP, VIP6, WEB, instance, wait_for
from tests.netns.stories.pair import EXTRA, STANDARD, Pair, reload
from tests.netns.stories.world import PLANNED_OVERLAP, Build
from vipd.cli.status_view import render
from vipd.control.status import from_json
from vipd.daemon.ending import RELOAD_TIMEOUT

pytestmark = [pytest.mark.root, pytest.mark.netns]
USAGE = 2


def test_a_reload_changes_what_the_file_changes_and_nothing_else(pair: Pair) -> None:
    """A second instance comes to one node and to the other, goes from the first and from both.

    The first one never blinks.
    """
    holder, other, begin = pair.holder, pair.other, time.monotonic()
    epoch = holder.instance()["epoch"]
    more = instance("more", [f"{EXTRA}/32"], preempt=False)
    for node in (holder, other):
        node.configure(STANDARD, more)
        reload(node)
        assert pair.world.wait_owner(EXTRA) == holder.host.name
    wait_for(
        lambda: holder.knows_fit("a", "b", of="more"), "the second instance to have somewhere to go"
    )
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
    """Whoever has the VIP waits until the other one, which is starting again too, is fit to take
    it.
    """
    holder, other, begin = pair.holder, pair.other, time.monotonic()
    more = instance(addresses=[f"{VIP}/32", f"{VIP6}/128", f"{EXTRA}/32"], preempt=False)
    for node in (holder, other):
        node.configure(more)
        node.reload()
    wait_for(
        lambda: all(len(node.instance().get("addresses", ())) == 3 for node in (holder, other)),
        "both to have the new file",
    )
    pair.world.wait_owner(EXTRA)
    owners = {holder.host.name}
    changes = pair.world.changes(begin, VIP)
    assert changes, "it never moved"
    for host, present in changes:
        (owners.add if present else owners.discard)(host)
        assert owners, f"nobody had the VIP after it left {host}"
    pair.world.assert_never_two(begin, PLANNED_OVERLAP)


@pytest.mark.parametrize("content", ["instances: [", "node: a\nbackend: {}\n", ""])
def test_a_bad_file_changes_nothing(pair: Pair, content: str) -> None:
    """The errors are in the log, the daemon is the same, and the VIP does not move."""
    node, begin = pair.holder, time.monotonic()
    good, daemon, logged = node.config_file.read_text(), node.daemon, len(node.log)
    node.config_file.write_text(content)
    checked = node.vipd("check", "--reload", str(node.guard.pid))
    assert (checked.code, bool(checked.out)) == (USAGE, True)
    wait_for(lambda: "nothing changes" in node.log[logged:], "the refusal in the log")
    assert str(node.config_file) in node.log[logged:]
    wait_for(lambda: (node.status() or {})["config"]["refused"], "the refusal in the status")
    assert str(node.config_file) in render(from_json(node.status()))
    assert node.metric("vipd_config_reload_success") == 0
    loaded_at = node.metric("vipd_config_reload_timestamp_seconds")

    node.config_file.write_text(good)
    assert node.vipd("check", "--reload").code == 0
    node.reload()
    wait_for(lambda: node.metric("vipd_config_reload_success") == 1, "the refusal to be over")
    assert node.metric("vipd_config_reload_timestamp_seconds") > loaded_at
    assert (node.status() or {})["config"]["refused"] == ""
    assert (node.daemon, node.state()) == (daemon, "Active")
    assert pair.world.events(begin) == []
    assert node.instance(WEB)["reason"] != "shutdown"


def test_an_unchanged_file_changes_nothing(pair: Pair) -> None:
    """Not even the daemon; a remark in the file is no change either."""
    node, begin = pair.holder, time.monotonic()
    session, daemon, logged = node.session(), node.daemon, len(node.log)
    node.config_file.write_text(node.config_file.read_text() + "# a remark\n")
    node.reload()
    wait_for(
        lambda: "the configuration is unchanged: nothing to do" in node.log[logged:],
        "the sentence in the log",
    )
    assert (node.session(), node.daemon) == (session, daemon)
    assert pair.world.events(begin) == []


def test_a_store_that_does_not_serve_is_not_waited_for(build: Build, tmp_path: Path) -> None:
    """Another one in the file is how it is mended.

    The daemon lets go through the old one at once and starts with the new one.
    """
    with tmpfs(tmp_path / "store") as store:
        net = build("a", store={"file": {"path": str(store / "records")}})
        node = net.node("a", profile="relaxed")
        node.configure(instance())
        node.start()
        node.wait_state("Active")
        session = node.session()
        subprocess.run(["mount", "-o", "remount,ro", str(store)], check=True)
        wait_for(
            lambda: not (node.status() or {"store": {"reachable": True}})["store"]["reachable"],
            "the outage to be known",
        )
        node.configure(instance(), backend={"file": {"path": str(tmp_path / "other")}})
        begin = time.monotonic()
        node.reload()
        wait_for(lambda: node.session() not in {"", session}, "the next daemon")
        assert time.monotonic() - begin < RELOAD_TIMEOUT
        assert node.metric("vipd_crashes_total") == 0
        assert node.stop() == 0
