"""Processes that die or stand still.

One of them moves nothing, all of them at once move the VIP without a second owner.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.netns.stories.node import VIP, VIP6, VipdNode, wait_for
from tests.netns.stories.pair import STANDARD, Pair, reload
from tests.netns.stories.world import PLANNED_OVERLAP

pytestmark = [pytest.mark.root, pytest.mark.netns]


def renewals(node: VipdNode) -> float:
    """Return how often this daemon has renewed."""
    return node.metric("vipd_store_request_seconds_count", op="renew", result="applied")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_daemon_that_dies_or_hangs_moves_nothing(pair: Pair, number: signal.Signals) -> None:
    """The guard keeps the addresses and starts another, which takes the lease back; the crash is
    counted.
    """
    holder, begin = pair.holder, time.monotonic()
    before, crashes = holder.instance()["epoch"], holder.metric("vipd_crashes_total")
    victim = holder.daemon
    os.kill(victim, number)
    wait_for(
        lambda: (holder.instance().get("reason"), holder.state()) == ("taken_back", "Active"),
        "the lease to be taken back",
    )
    assert holder.daemon != victim
    assert (holder.instance()["epoch"], holder.metric("vipd_crashes_total")) == (
        before + 1,
        crashes + 1,
    )
    assert victim not in holder.tree()
    assert pair.world.events(begin) == []


def test_a_guard_that_hangs_holds_nothing_up(pair: Pair) -> None:
    """The daemon renews without it, and nothing is held against the daemon when
    the guard goes on.
    """
    holder, begin = pair.holder, time.monotonic()
    daemon, since = holder.daemon, renewals(holder)
    holder.guard.send_signal(signal.SIGSTOP)
    try:
        # More than a lease_duration: a guard that had the last word would have fenced by then.
        wait_for(lambda: renewals(holder) >= since + 6, "six renewals")
    finally:
        holder.guard.send_signal(signal.SIGCONT)
    since = renewals(holder)
    wait_for(lambda: renewals(holder) >= since + 2, "two more renewals")
    assert (holder.daemon, holder.state()) == (daemon, "Active")
    assert pair.world.events(begin) == []


def test_a_daemon_without_its_guard_hands_over_and_ends(pair: Pair) -> None:
    """Nothing of it is left, and the next start finds everything free."""
    holder, other, begin = pair.holder, pair.other, time.monotonic()
    family = holder.tree()
    holder.guard.kill()
    assert (
        pair.world.wait_owner(other_than=holder.host.name)
        == pair.world.wait_owner(VIP6, other_than=holder.host.name)
        == other.host.name
    )
    assert other.wait_state("Active")["reason"] == "handed_over"
    wait_for(
        lambda: not any(Path(f"/proc/{pid}").exists() for pid in family if pid != holder.guard.pid),
        "all processes to be gone",
    )
    assert holder.wait_end() == -signal.SIGKILL
    pair.world.assert_never_two(begin, PLANNED_OVERLAP)


def test_a_kill_of_everything_moves_the_vip_without_a_second_owner(pair: Pair) -> None:
    """The kernel ends the addresses by their lifetimes, and only then does the other node take
    them.
    """
    holder, other, begin = pair.holder, pair.other, time.monotonic()
    holder.kill_all()
    assert (
        pair.world.wait_owner(other_than=holder.host.name)
        == pair.world.wait_owner(VIP6, other_than=holder.host.name)
        == other.host.name
    )
    for address in (VIP, VIP6):
        assert pair.world.changes(begin, address) == [
            (holder.host.name, False),
            (other.host.name, True),
        ]
    assert other.wait_state("Active")["reason"] == "lease_expired"
    pair.world.assert_never_two(begin)


def test_a_node_that_stands_still_does_not_come_back_as_an_owner(pair: Pair) -> None:
    """Everything of it stopped.

    The kernel ends the addresses, the other takes over, and the awakened one stays out of it.
    """
    holder, other, begin = pair.holder, pair.other, time.monotonic()
    holder.signal_all(signal.SIGSTOP)
    try:
        owners = [
            pair.world.wait_owner(address, other_than=holder.host.name) for address in (VIP, VIP6)
        ]
    finally:
        holder.signal_all(signal.SIGCONT)
    assert owners == [other.host.name] * 2
    seen = holder.wait_state("Backup")
    assert seen["holder"]["name"] == other.name
    since = renewals(other)
    wait_for(lambda: renewals(other) >= since + 3, "three renewals")
    for address in (VIP, VIP6):
        assert pair.world.changes(begin, address) == [
            (holder.host.name, False),
            (other.host.name, True),
        ]
    pair.world.assert_never_two(begin)


def test_a_restart_after_a_kill_of_everything_takes_the_own_lease_back(pair: Pair) -> None:
    """Within its lease and on the same boot it waits for nobody: the addresses never go away."""
    holder = pair.holder
    holder.configure(STANDARD, timing={"profile": "relaxed"})
    reload(holder)
    epoch = holder.wait_state("Active")["epoch"]
    begin = time.monotonic()
    holder.kill_all()
    holder.start()
    seen = holder.wait_state("Active")
    assert (seen["reason"], seen["epoch"]) == ("taken_back", epoch + 1)
    assert pair.world.events(begin) == []
