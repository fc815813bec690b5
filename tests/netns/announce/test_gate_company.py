"""The gate and what else is on an interface.

Other filters, other daemons, former lives, and what leaves no room for it.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from announce.gate import bpf
from announce.gate.assembler import assemble
from announce.gate.gates import remove_leftovers
from announce.gate.hook import number_of
from announce.gate.program import Direction
from tests.netns.announce.gating import KINDS, LEASE, VIPS, Gate, Stage, now, staged

if TYPE_CHECKING:
    from tests.netns.announce.conftest import Cable

pytestmark = [pytest.mark.root, pytest.mark.netns]

ROOT = Path(__file__).parents[3]
PROG_ATTACH = 8
DROP_ALL = "u32 match u32 0 0 action mirred egress redirect dev lo"
"""As in the fixture: it stands for any filter that ends the matter."""


@pytest.fixture
def gate(cable: Cable) -> Iterator[Gate]:
    """Return a gate on host a that covers nothing yet."""
    with contextlib.closing(Gate()) as made:
        yield made


@pytest.fixture
def stage(cable: Cable) -> Iterator[Stage]:
    """Return an owner with VIPs bound and served behind a closed gate, and a client."""
    with staged(cable) as made:
        yield made


def seats(gate: Gate) -> list[tuple[int, int]]:
    """Return seat and program of every gate filter for what arrives."""
    found = gate.control.filters(gate.ifindex, Direction.ARRIVING)
    return sorted((number_of(item), item.program) for item in found if number_of(item))


# ---------------------------------------------------------------- others' filters


def test_others_hook_and_filters_stay(cable: Cable, gate: Gate) -> None:
    """What was there before is there after."""
    cable.a.run("tc qdisc add dev a0 clsact")
    cable.a.run(f"tc filter add dev a0 ingress protocol ip prio 5 {DROP_ALL}")
    before = cable.a.run("tc filter show dev a0 ingress")
    assert gate.cover() == ""
    assert gate.state.before == ()
    gate.close_word()
    assert gate.gates.close() == []
    assert cable.a.run("tc filter show dev a0 ingress") == before


def test_a_hook_of_its_own_stays_for_those_who_use_it_meanwhile(cable: Cable, gate: Gate) -> None:
    """Somebody found clsact there and put a filter on it."""
    assert gate.cover() == ""
    cable.a.run(f"tc filter add dev a0 egress protocol ip prio 5 {DROP_ALL}")
    assert gate.gates.close() == []
    assert "u32" in cable.a.run("tc filter show dev a0 egress")


def test_others_keep_deciding_about_what_passes(stage: Stage) -> None:
    """An open gate hands frames on to the next filter, which drops ARP."""
    stage.gate.open()
    stage.cable.a.run(f"tc filter add dev a0 egress protocol arp prio 5 {DROP_ALL}")
    stage.client.ask()
    heard = {found.kind for _ in range(3) if (found := stage.client.hear(10.0))}
    assert heard == KINDS - {"arp"}


def test_a_filter_that_is_asked_first_is_named(cable: Cable, gate: Gate) -> None:
    """It holds priority 1 for one protocol, which nobody can share.

    The gate comes second, and says so.
    """
    cable.a.run("tc qdisc add dev a0 clsact")
    cable.a.run(f"tc filter add dev a0 ingress protocol ip prio 1 {DROP_ALL}")
    assert gate.cover() == ""
    (sentence,) = gate.state.before
    assert "arriving" in sentence
    assert "u32" in sentence


def test_a_program_before_traffic_control_is_named(cable: Cable, gate: Gate) -> None:
    """Programs attached by tcx (Linux 6.6) are asked first, and what they accept no filter sees."""
    program = bpf.load(assemble("r0 = 0\nexit", {}, {}), "MIT", "somebody")
    with contextlib.closing(program):
        try:
            bpf._bpf(
                PROG_ATTACH,
                struct.pack("=IIII", gate.ifindex, program.fileno(), bpf.TCX_INGRESS, 0),
            )
        except OSError:
            assert os.uname().release < "6.6"
            return
    assert gate.cover() == ""
    assert any("tcx" in sentence for sentence in gate.state.before)


def test_an_ingress_qdisc_leaves_no_room(cable: Cable, gate: Gate) -> None:
    """Both programs would hang on the way in. The gate says so, and comes when there is room."""
    cable.a.run("tc qdisc add dev a0 ingress")
    assert "ingress qdisc" in gate.cover()
    assert cable.a.run("tc filter show dev a0 ingress") == ""
    cable.a.run("tc qdisc del dev a0 ingress")
    assert gate.gates.tick(now() + LEASE) > now()
    assert gate.state.trouble == ""
    assert len(seats(gate)) == 1


def test_an_interface_without_ethernet_is_refused(cable: Cable) -> None:
    """The program counts from an Ethernet header; the frames of a tunnel have none."""
    cable.a.run("ip tuntap add dev t0 mode tun")
    with contextlib.closing(Gate("t0")) as gate:
        assert "no Ethernet" in gate.cover()
        assert "clsact" not in cable.a.run("tc qdisc show dev t0")


def test_an_interface_that_is_gone(cable: Cable, gate: Gate) -> None:
    """Its gate went with it; the one that comes under its name has none until it is covered."""
    assert gate.cover() == ""
    former = gate.ifindex
    cable.remove()
    assert gate.gates.restore(now()) == []
    assert "gone" in gate.state.trouble
    cable.plug()
    assert gate.ifindex != former
    assert gate.cover() == ""
    assert gate.state.trouble == ""
    assert len(seats(gate)) == 1


def test_several_interfaces_obey_one_word(stage: Stage) -> None:
    """Two interfaces, one election: both programs read the same map."""
    cable = stage.cable
    cable.a.run("ip link add a1 type veth peer name a2")
    places = {stage.gate.ifindex: VIPS, socket.if_nametoindex("a1"): VIPS}
    assert stage.gate.gates.cover(1, places, LEASE, now()) == ""
    programs = [
        gate._supply.loaded.programs[Direction.LEAVING]
        for gate in stage.gate.gates._gates.values()
        if gate._supply.loaded
    ]
    frame = bytes(12) + b"\x08\x00" + bytes(12) + VIPS[0] + bytes(4)
    assert [program.run(frame).verdict for program in programs] == [2, 2]
    stage.gate.open()
    assert [program.run(frame).verdict for program in programs] == [-1, -1]
    assert stage.client.answered() == KINDS


# ---------------------------------------------------------------- other daemons and former lives


def test_two_living_daemons_have_a_seat_each(cable: Cable, gate: Gate) -> None:
    """Unit and DaemonSet, other addresses, one interface: neither touches the other's programs."""
    assert gate.cover() == ""
    with contextlib.closing(Gate()) as other:
        assert other.cover(ips=[bytes([192, 0, 2, 200])]) == ""
        assert [number for number, _ in seats(gate)] == [1, 2]
        assert not other.state.inherited
        assert gate.gates.restore(now()) == []
        assert gate.state.before == other.state.before == ()
    assert [number for number, _ in seats(gate)] == [1]
    assert gate.gates.restore(now()) == []


def test_a_dead_lifes_seat_is_taken_over(cable: Cable, gate: Gate) -> None:
    """Its filters are recognised, and replaced as soon as all elections are known, since no VIP is
    bound.
    """
    former = Gate()
    assert former.cover() == ""
    before = seats(gate)
    former.die()
    assert gate.cover() == ""
    assert (seats(gate), gate.state.inherited) == (before, True)
    gate.gates.settle(now())
    after = seats(gate)
    assert [number for number, _ in after] == [1]
    assert after != before
    assert not gate.state.inherited
    assert gate.gates.close() == []
    # The hook was made by the earlier vipd, as the filters' handle tells.
    assert "clsact" not in cable.a.run("tc qdisc show dev a0")


def test_leftovers_are_removed_and_the_living_left_alone(cable: Cable, gate: Gate) -> None:
    """By `vipd release`, and after the start on interfaces that are configured no more."""
    cable.a.run("ip link add a1 type veth peer name a2")
    assert gate.cover() == ""
    for interface in ("a0", "a1"):
        former = Gate(interface)
        assert former.cover(ips=[bytes([192, 0, 2, 200])]) == ""
        former.die()
    assert [number for number, _ in seats(gate)] == [1, 2]
    assert gate.gates.sweep() == [socket.if_nametoindex("a1")]
    assert "clsact" not in cable.a.run("tc qdisc show dev a1")
    assert remove_leftovers() == ["a0"]
    assert [number for number, _ in seats(gate)] == [1]
    assert remove_leftovers() == []


# ---------------------------------------------------------------- rights

PROBE = """
import contextlib, sys, time
from announce.gate.gates import Deadlines, Gates, TrafficControl, probe_support
print(probe_support())
if len(sys.argv) > 1:
    gates = Gates(Deadlines.create(8), TrafficControl())
    print(gates.cover(1, {int(sys.argv[1]): [bytes(4)]}, 3.0, time.clock_gettime(time.CLOCK_BOOTTIME)) or "covered")
    print("; ".join(gates.close()) or "cleared")
"""


def probed(*prefix: str, ifindex: int | None = None) -> list[str]:
    """Return what a process with other rights says."""
    command = [*prefix, sys.executable, "-c", PROBE, *([] if ifindex is None else [str(ifindex)])]
    return subprocess.run(
        command, check=True, capture_output=True, text=True, cwd=ROOT
    ).stdout.splitlines()


def limited(*names: str) -> list[str]:
    """Return what starts a program with these capabilities only."""
    some = ",".join(["-all", *(f"+{name}" for name in names)])
    return ["setpriv", f"--inh-caps={some}", f"--bounding-set={some}"]


def test_two_capabilities_are_enough(cable: Cable) -> None:
    """Test run, attach and detach with CAP_BPF and CAP_NET_ADMIN, and without CAP_PERFMON or
    CAP_SYS_ADMIN.
    """
    ifindex = socket.if_nametoindex("a0")
    assert probed(*limited("net_admin", "bpf"), ifindex=ifindex) == ["", "covered", "cleared"]


def test_the_missing_capability_is_named() -> None:
    """Each of them, and no other."""
    assert "lacks CAP_BPF" in probed(*limited("net_admin"))[0]
    assert "lacks CAP_NET_ADMIN" in probed(*limited("bpf"))[0]


def test_a_user_namespace_is_named() -> None:
    """All capabilities are there, and count for nothing."""
    assert "user namespace" in probed("unshare", "--user", "--map-root-user")[0]


@pytest.mark.parametrize("seconds", [3600, -60])
def test_another_clock_is_noticed(seconds: int) -> None:
    """In a time namespace deadlines would be taken for others by the kernel.

    An hour late, or a minute early.
    """
    assert "time namespace" in probed("unshare", "--time", f"--boottime={seconds}")[0]
