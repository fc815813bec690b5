"""One name, one daemon; one address, one daemon of a host: the later one gives way and says why."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator, Sequence

import pytest

from tests.netns.stories.node import VIP, VIP6, VipdNode, instance, wait_for
from tests.netns.stories.pair import STANDARD, Pair
from tests.netns.stories.world import Build, World
from vipd.demo.lab import INTERFACE

pytestmark = [pytest.mark.root, pytest.mark.netns]

REFUSED = 4


def test_of_two_nodes_with_one_name_the_later_gives_way(build: Build) -> None:
    """It says so and stays out for as long as the first one lives.

    Then it takes over, since the name is free.
    """
    net = build("ab")
    first, later = net.node("a", name="twin"), net.node("b", name="twin")
    for node in (first, later):
        node.configure(STANDARD)
    first.start()
    assert net.wait_owner() == net.wait_owner(VIP6) == "a"
    begin = time.monotonic()
    later.start()
    assert later.wait_state("Fault")["reason"] == "namesake"
    wait_for(
        lambda: any("is named twin too" in note for note in later.instance().get("notes", [])),
        "a sentence on the name",
    )
    since = first.metric("vipd_store_request_seconds_count", op="renew")
    wait_for(
        lambda: first.metric("vipd_store_request_seconds_count", op="renew") >= since + 10,
        "ten renewals of the first",
    )
    assert later.state() == "Fault"
    assert (net.events(begin), first.state()) == ([], "Active")

    first.kill_all()
    assert net.wait_owner(other_than="a") == net.wait_owner(VIP6, other_than="a") == "b"
    assert later.wait_state("Active")["reason"] == "lease_expired"


def test_a_second_daemon_for_an_address_of_this_host_is_refused(pair: Pair) -> None:
    """Whatever its name, state directory and control socket are.

    And so is one that shares the state directory only.
    """
    node, begin = pair.holder, time.monotonic()
    name = node.host.name
    elsewhere = pair.world.node(name, name="second", folder="elsewhere")
    elsewhere.configure(STANDARD)
    sharing = pair.world.node(name, name="third", folder="sharing")
    sharing.configure({**STANDARD, "addresses": ["192.0.2.199/32"]}, state_dir=str(node.state_dir))
    for refused in (elsewhere, sharing):
        refused.start()
    assert [refused.wait_end() for refused in (elsewhere, sharing)] == [REFUSED, REFUSED]
    assert (
        f"{VIP} is managed by another vipd (process {node.guard.pid}) on this host already"
        in elsewhere.log
    )
    assert f"state_dir {node.state_dir} is in use by another vipd" in sharing.log
    assert pair.world.events(begin) == []
    assert node.state() == "Active"


def test_a_user_who_binds_the_locks_names_stops_nobody(build: Build) -> None:
    """Neither the start nor the gate.

    The log says who it is, and a second vipd is refused although its name is not to be had.
    """
    net = build("a")
    node = net.node("a")
    index = net.lab.run(node.host, "cat", f"/sys/class/net/{INTERFACE}/ifindex").strip()
    names = [f"vipd/{VIP}", *(f"vipd/gate/{index}/{number}" for number in range(1, 17))]
    with squatter(net, node, names) as pid:
        node.configure(instance(addresses=[f"{VIP}/32"]))
        node.start()
        node.wait_state("Active")
        for name in names[:2]:
            said = [line for line in node.log.splitlines() if f" has the socket @{name}, " in line]
            assert len(said) == 1
            assert f"process {pid}, uid 65534: " in said[0]
        assert node.metric("vipd_gate_in_force") == 1
        second = net.node("a", name="second", folder="second")
        second.configure(instance(addresses=[f"{VIP}/32"]), metrics={"listen": "off"})
        second.start()
        assert second.wait_end() == REFUSED
        assert (
            f"{VIP} is managed by another vipd (process {node.guard.pid}) on this host already"
            in second.log
        )
        assert node.stop() == 0


@contextlib.contextmanager
def squatter(net: World, node: VipdNode, names: Sequence[str]) -> Iterator[int]:
    """Let an ordinary user bind abstract sockets in a node's network namespace; give the process
    id.
    """
    code = "import socket, sys\nkept = [socket.socket(socket.AF_UNIX) for _ in sys.argv[1:]]\n"
    code += (
        "for one, name in zip(kept, sys.argv[1:]): one.bind(chr(0) + name)\nprint('there', "
        "flush=True)\nsys.stdin.read()"
    )
    argv = net.lab.command(
        node.host,
        ["setpriv", "--reuid", "65534", "--clear-groups", "/usr/bin/python3", "-c", code, *names],
    )
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "there\n"
        yield process.pid
        process.stdin.close()
