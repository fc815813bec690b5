"""What an operator orders on the command line, and what is refused with a sentence."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.netns.stories.node import VIP, VIP6, WEB, instance, wait_for
from tests.netns.stories.pair import Pair, reload
from tests.netns.stories.world import PLANNED_OVERLAP

pytestmark = [pytest.mark.root, pytest.mark.netns]

REFUSED = 4
UNREACHABLE = 3


def test_a_drain_is_kept_over_a_restart_and_ends_with_resume(pair: Pair) -> None:
    """The VIP moves as planned.

    The drained node stays out, also after a restart, until it is told otherwise.
    """
    drained, other, begin = pair.holder, pair.other, time.monotonic()
    assert drained.vipd("drain").code == 0
    assert pair.world.wait_owner() == pair.world.wait_owner(VIP6) == other.host.name
    assert drained.wait_state("Fault")["reason"] == "drained"
    assert drained.stop() == 0
    drained.start()
    assert drained.wait_state("Fault")["reason"] == "drained"
    wait_for(
        lambda: not other.knows_fit(drained.name),
        f"{other.name} to know that {drained.name} is drained",
    )

    refusal = other.vipd("drain")
    assert (refusal.code, refusal.err.startswith("refused: no other node is fit")) == (
        REFUSED,
        True,
    )
    assert pair.world.wait_owner() == other.host.name

    assert other.vipd("drain", "--force").code == 0
    pair.world.wait_nobody()
    pair.world.wait_nobody(VIP6)
    assert drained.vipd("resume").code == 0
    assert pair.world.wait_owner() == pair.world.wait_owner(VIP6) == drained.host.name
    assert drained.instance()["reason"] == "released"
    pair.world.assert_never_two(begin, PLANNED_OVERLAP)


def test_a_handover_is_pinned_until_the_choice_is_given_back(pair: Pair) -> None:
    """A better node that preempts leaves a pinned holder alone, and takes the VIP as soon as it
    may.
    """
    begin = time.monotonic()
    best, usual = pair.a, pair.b
    best.configure(instance(priority=150))
    reload(best)
    wait_for(
        lambda: pair.world.monitor.owners(VIP) == {"a"} and best.knows_fit("a", "b"),
        "the better node to have the VIP",
    )

    done = best.vipd("handover", WEB, "--to", "b")
    assert (done.code, "pinned" in done.out) == (0, True), done
    assert pair.world.wait_owner() == pair.world.wait_owner(VIP6) == "b"
    assert usual.wait_state("Active")["pin"] == "b"
    since = usual.metric("vipd_store_request_seconds_count", op="renew")
    wait_for(
        lambda: usual.metric("vipd_store_request_seconds_count", op="renew") >= since + 10,
        "ten renewals",
    )
    assert pair.world.wait_owner() == "b"

    assert usual.vipd("handover", WEB, "--auto").code == 0
    assert (
        pair.world.wait_owner(other_than="b") == pair.world.wait_owner(VIP6, other_than="b") == "a"
    )
    assert best.wait_state("Active")["reason"] == "preempted"
    assert best.instance()["pin"] == ""
    pair.world.assert_never_two(begin, PLANNED_OVERLAP)


def test_what_cannot_be_handed_over_is_refused_with_a_reason(pair: Pair) -> None:
    """Exit 4, a sentence, and the VIP stays where it is."""
    holder, other, begin = pair.holder, pair.other, time.monotonic()
    cases = [
        (other, [WEB], f"run it on {holder.name}"),
        (other, [WEB, "--auto"], f"run it on {holder.name}"),
        (holder, [WEB, "--to", "nobody"], "no node 'nobody' is known"),
        (holder, [WEB, "--to", holder.name], "already"),
        (holder, ["elsewhere"], "no instance 'elsewhere'"),
    ]
    for node, words, says in cases:
        refusal = node.vipd("handover", *words)
        assert (refusal.code, says in refusal.err) == (REFUSED, True), refusal
    other.ask("drain")
    wait_for(lambda: not holder.knows_fit(other.name), "the drain to be known")
    refusal = holder.vipd("handover", WEB, "--to", other.name)
    assert (refusal.code, f"{other.name} is not fit" in refusal.err) == (REFUSED, True), refusal
    assert pair.world.events(begin) == []


def test_release_is_refused_while_the_daemon_runs_and_frees_the_vip_after_its_death(
    pair: Pair,
) -> None:
    """After a kill of everything.

    Addresses first, then the lease, which the other node takes without waiting it out.
    """
    dead, other = pair.holder, pair.other
    for node in (dead, other):
        refusal = node.vipd("release")
        assert (refusal.code, refusal.err.startswith("refused: ")) == (REFUSED, True), refusal
    begin = time.monotonic()
    dead.kill_all()
    done = dead.vipd("release")
    assert done.code == 0, done
    assert done.out.splitlines() == [
        f"{WEB}: removed {VIP}/32 from eth0",
        f"{WEB}: removed {VIP6}/128 from eth0",
        f"{WEB}: no address of it is bound on eth0",
        "the kernel's gate on eth0 is removed",
        f"{WEB}: lease released",
    ]
    assert other.wait_state("Active")["reason"] == "released"
    for address in (VIP, VIP6):
        assert pair.world.changes(begin, address) == [
            (dead.host.name, False),
            (other.host.name, True),
        ]
    pair.world.assert_never_two(begin)
    again = dead.vipd("release")
    assert (again.code, again.out.splitlines()[1]) == (
        0,
        f"{WEB}: no lease of this node to release",
    )


def test_an_orderly_stop_leaves_nothing_behind(pair: Pair) -> None:
    """The VIP moves as planned; no address, no process, no socket and no candidate record stay."""
    stopped, other, begin = pair.holder, pair.other, time.monotonic()
    family = stopped.tree()
    assert stopped.stop() == 0
    assert pair.world.wait_owner() == pair.world.wait_owner(VIP6) == other.host.name
    assert other.wait_state("Active")["reason"] == "handed_over"
    assert [pid for pid in family if Path(f"/proc/{pid}").exists()] == []
    assert not stopped.socket.exists()
    assert {VIP, VIP6}.isdisjoint(stopped.bound())
    wait_for(
        lambda: [one["name"] for one in other.instance()["candidates"]] == [other.name],
        "the candidate record to be gone",
    )
    pair.world.assert_never_two(begin, PLANNED_OVERLAP)


def test_commands_to_a_daemon_that_is_down_are_exit_3(pair: Pair) -> None:
    """Its socket is gone after an orderly stop, and dead after a kill: the same sentence."""
    node = pair.other
    assert node.stop() == 0
    assert not node.socket.exists()
    orderly = node.vipd("status")
    node.start()
    wait_for(node.status, "the daemon to answer")
    node.kill_all()
    assert node.socket.exists()
    killed = node.vipd("status")
    assert (orderly.code, killed.code, orderly.err) == (UNREACHABLE, UNREACHABLE, killed.err)
    assert "it does not run" in killed.err
