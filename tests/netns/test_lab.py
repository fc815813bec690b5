"""The demo's stage with real namespaces.

Its faults do what they say, and its instruments measure what happened.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from vipd.demo import measure
from vipd.demo.lab import Host, Lab, LabError, pids_in
from vipd.demo.measure import Probe
from vipd.demo.monitor import Monitor
from vipd.demo.prober import Prober

pytestmark = [pytest.mark.root, pytest.mark.netns]

VIP = "192.0.2.100"
VIP6 = "2001:db8::100"
PATIENCE = 10.0


@dataclass
class Stage:
    """Two nodes with an ingress each, a client, and what to do with them."""

    lab: Lab
    one: Host
    two: Host
    client: Host
    monitor: Monitor

    def probe(self) -> contextlib.closing[_Probing]:
        """Start to probe the VIP, and go on when it answers."""
        prober = Prober(self.lab, self.client, VIP)
        assert prober.wait(PATIENCE)
        return contextlib.closing(_Probing(prober))

    def give(self, host: Host) -> None:
        """Bind the VIP as vipd would, and tell the neighbours."""
        self.lab.add_address(host, f"{VIP}/32")
        self.lab.run(host, sys.executable, "-c", ANNOUNCE)


@dataclass
class _Probing:
    prober: Prober

    def close(self) -> None:
        self.prober.__exit__(None, None, None)

    def result(self) -> list[Probe]:
        return self.prober.stop()


ANNOUNCE = f"""
import socket
mac = bytes.fromhex(open("/sys/class/net/eth0/address").read().strip().replace(":", ""))
vip = socket.inet_aton("{VIP}")
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(("eth0", 0))
s.send(b"\\xff" * 6 + mac + b"\\x08\\x06\\x00\\x01\\x08\\x00\\x06\\x04\\x00\\x01" + mac + vip + bytes(6) + vip)
"""


@pytest.fixture
def stage() -> Iterator[Stage]:
    """Build it all up, and take it all down."""
    with Lab(f"vl{os.getpid()}-") as lab, contextlib.ExitStack() as stack:
        one, two, client = lab.add("one"), lab.add("two"), lab.add("client")
        for host in (one, two):
            process = lab.spawn(
                host,
                [sys.executable, "-m", "vipd.demo.ingress", host.name, VIP],
                subprocess.DEVNULL,
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
        yield Stage(lab, one, two, client, stack.enter_context(Monitor([one, two], [VIP, VIP6])))


KNOCK = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], 9), 0.7)
except ConnectionRefusedError:
    pass
"""


def reaches(stage: Stage, source: Host, target: Host, tries: int = 1) -> bool:
    """Tell whether one host gets an answer from another, a refused connection at least, within
    0.7 s.

    `tries`: what was asked while the way was cut may fail the next question at once.
    """
    for _ in range(tries):
        with contextlib.suppress(LabError):
            stage.lab.run(source, sys.executable, "-c", KNOCK, target.address)
            return True
    return False


def test_nothing_is_lost_while_nothing_happens(stage: Stage) -> None:
    """A second of probes, every one answered by the same node.

    The instruments add no gap of their own.
    """
    stage.give(stage.one)
    with stage.probe() as probing:
        assert not probing.prober.wait(1.0, other_than="one")
        probes = probing.result()
    assert len(measure.served(probes)) >= 900
    assert (measure.lost(probes), measure.outage(probes).length, measure.seen_twice(probes)) == (
        0,
        0.0,
        0.0,
    )


def test_a_move_is_seen_by_client_and_monitor(stage: Stage) -> None:
    """The VIP deleted on one node and added on another 0.3 s later.

    The gap is in the probes and in the kernel's news.
    """
    stage.give(stage.one)
    with stage.probe() as probing:
        stage.lab.delete_address(stage.one, f"{VIP}/32")
        assert not probing.prober.wait(0.3, other_than="one")
        assert stage.monitor.owners(VIP) == frozenset()
        stage.give(stage.two)
        assert stage.monitor.wait_owner(VIP, PATIENCE) == "two"
        assert probing.prober.wait(PATIENCE, other_than="one") == "two"
        probes = probing.result()
    events = stage.monitor.events
    begin, end = events[0].at, events[-1].at
    without = measure.longest_with(events, range(1), begin, end)
    assert [(event.node, event.present) for event in events] == [
        ("one", True),
        ("one", False),
        ("two", True),
    ]
    assert without > 0.3
    assert measure.outage(probes).length >= without - 0.05
    assert measure.longest_with(events, range(2, 9), begin, end) == 0.0
    assert measure.seen_twice(probes) == 0.0


def test_two_owners_are_found_out(stage: Stage) -> None:
    """An address bound on two nodes is reported, IPv6 as well."""
    stage.lab.add_address(stage.one, f"{VIP6}/128")
    stage.lab.add_address(stage.two, f"{VIP6}/128")
    stage.lab.delete_address(stage.one, f"{VIP6}/128")
    assert stage.monitor.wait_owner(VIP6, PATIENCE, other_than="one") == "two"
    first, second, third = stage.monitor.events
    assert measure.longest_with(
        [first, second, third], range(2, 9), first.at, third.at
    ) == pytest.approx(third.at - second.at)


def test_a_pulled_cable_takes_the_carrier(stage: Stage) -> None:
    """The host knows of it, and all is well when it is plugged in again."""
    stage.lab.pull_cable(stage.one)
    assert "NO-CARRIER" in stage.lab.run(stage.one, "ip", "link", "show", "eth0")
    assert not reaches(stage, stage.two, stage.one)
    stage.lab.plug_cable(stage.one)
    assert reaches(stage, stage.two, stage.one, tries=5)


def test_a_host_cut_off_does_not_know(stage: Stage) -> None:
    """Its carrier stays, yet nothing passes in either direction."""
    stage.lab.cut_off(stage.one)
    assert "LOWER_UP" in stage.lab.run(stage.one, "ip", "link", "show", "eth0")
    assert not reaches(stage, stage.two, stage.one)
    assert not reaches(stage, stage.one, stage.client)
    stage.lab.reconnect(stage.one)
    assert reaches(stage, stage.two, stage.one, tries=5)


def test_a_split_leaves_the_way_to_the_others(stage: Stage) -> None:
    """The nodes cannot reach each other, both reach the client."""
    stage.lab.split([stage.one, stage.two])
    assert not reaches(stage, stage.one, stage.two)
    assert reaches(stage, stage.one, stage.client, tries=5)
    assert reaches(stage, stage.two, stage.client, tries=5)
    stage.lab.join([stage.one, stage.two])
    assert reaches(stage, stage.one, stage.two, tries=5)


def test_the_end_of_a_lab_ends_what_runs_in_it() -> None:
    """A process that nobody waited for is gone with its namespace."""
    with Lab(f"vl{os.getpid()}-") as lab:
        host = lab.add("one")
        process = lab.spawn(host, ["sleep", "600"], subprocess.DEVNULL)
        assert process.poll() is None
    assert process.wait(timeout=PATIENCE) < 0
    assert list(pids_in(host.namespace)) == []


def test_a_lab_that_cannot_be_built_leaves_nothing() -> None:
    """A second lab of one name fails with the command and its complaint, and the first one stays
    whole.
    """
    with Lab(f"vl{os.getpid()}-") as lab:
        host = lab.add("one")
        with pytest.raises(LabError, match="netns add"):
            lab.add("one")
        assert lab.run(host, "cat", "/sys/class/net/eth0/operstate").strip() == "up"
