"""A second interface in the same LAN.

Linux answers ARP for the VIP there too, and the gate reaches it.
"""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import time

import pytest

from announce.gate.hook import NAME as GATE
from tests.netns.stories.node import VIP, VipdNode, instance, wait_for
from tests.netns.stories.world import Build, World
from vipd.demo.lab import BRIDGE, INTERFACE

pytestmark = [pytest.mark.root, pytest.mark.netns]

SECOND = "eth1"
ANSWER = bytes.fromhex("0806 0001 0800 0604 0002".replace(" ", ""))
ASKED = 20


def add_second(net: World, node: VipdNode, address: str) -> str:
    """Plug a second interface of the node's into the same bridge; return its MAC."""
    lab, host, port = net.lab, node.host, f"2-{node.host.name}"
    lab._batch(
        lab._switch,
        f"link add {port} type veth peer name {SECOND} netns {host.namespace}",
        f"link set {port} master {BRIDGE} up",
    )
    lab._batch(host.namespace, f"link set {SECOND} up", f"addr add {address}/24 dev {SECOND}")
    # As most kernels have it, whatever this one's defaults are: no filter keeps Linux from
    # answering.
    for name in ("all", SECOND, INTERFACE):
        for key in ("rp_filter", "arp_ignore", "arp_filter"):
            lab.run(host, "sh", "-c", f"echo 0 > /proc/sys/net/ipv4/conf/{name}/{key}")
    return lab.run(host, "cat", f"/sys/class/net/{SECOND}/address").strip()


def who_answers(net: World, host: str) -> set[str]:
    """Ask on the wire who has the VIP, again and again; return the MACs that say that they have."""
    found = set[str]()
    mac = bytes.fromhex(
        net.lab.run(net.hosts[host], "cat", f"/sys/class/net/{INTERFACE}/address")
        .strip()
        .replace(":", "")
    )
    own = socket.inet_aton(net.hosts[host].address)
    question = (
        b"\xff" * 6 + mac + ANSWER[:-1] + b"\x01" + mac + own + bytes(6) + socket.inet_aton(VIP)
    )
    with net.frames(host) as wire:
        wire.settimeout(0.005)
        for _ in range(ASKED):
            wire.send(question)
            end = time.monotonic() + 0.02
            while time.monotonic() < end:
                with contextlib.suppress(TimeoutError):
                    frame = wire.recv(2048)
                    if (
                        frame[12:22] == ANSWER
                        and frame[28:32] == socket.inet_aton(VIP)
                        and frame[:6] == mac
                    ):
                        found.add(frame[22:28].hex(":"))
    return found


@pytest.fixture
def net(build: Build) -> World:
    """Give two hosts for nodes, and a client."""
    return build("abc")


def gated(node: VipdNode, interface: str) -> bool:
    """Whether the gate is on an interface, in both directions."""
    shown = [
        node.lab.run(node.host, "tc", "filter", "show", "dev", interface, way)
        for way in ("ingress", "egress")
    ]
    return all(GATE in text for text in shown)


def fence(node: VipdNode) -> dict[str, object]:
    """Return what its status says of the fence."""
    document = node.status()
    return dict(document["fence"]) if document else {}


def test_after_its_deadline_a_frozen_node_is_silent_on_both(net: World) -> None:
    """With all of vipd stopped, and the address still bound for a while."""
    a, b = net.node("a"), net.node("b")
    second = add_second(net, a, "192.0.2.31")
    a.configure(instance(priority=150, preempt=False))
    b.configure(instance(priority=100, preempt=False))
    a.start()
    a.wait_state("Active")
    assert gated(a, INTERFACE)
    assert gated(a, SECOND)
    assert fence(a)["on"] == [INTERFACE, SECOND]
    assert SECOND in a.vipd("status").out
    assert who_answers(net, "c") <= {a.mac, second}
    b.start()
    wait_for(lambda: b.knows_fit("a", "b"), "b to be fit")
    a.signal_all(signal.SIGSTOP)
    try:
        b.wait_state("Active")
        assert who_answers(net, "c") == {b.mac}
    finally:
        a.signal_all(signal.SIGCONT)
    wait_for(lambda: a.state() == "Backup", "a to be back")
    assert a.stop() == b.stop() == 0
    assert "clsact" not in net.lab.run(a.host, "tc", "qdisc", "show")


def test_an_interface_that_appears_while_it_runs(net: World) -> None:
    """It gets its gate, and nothing of it is left by a life that was killed."""
    a = net.node("a")
    a.configure(instance())
    a.start()
    a.wait_state("Active")
    add_second(net, a, "192.0.2.31")
    wait_for(lambda: gated(a, SECOND), "the gate on the second interface")
    wait_for(lambda: fence(a).get("on") == [INTERFACE, SECOND], "status to say so")
    a.kill_all()
    assert gated(a, SECOND)
    a.start()
    a.wait_state("Active")
    wait_for(lambda: fence(a).get("on") == [INTERFACE, SECOND], "the gate on both again")
    assert net.lab.run(a.host, "tc", "filter", "show", "dev", SECOND, "ingress").count(GATE) == 1
    a.kill_all()
    a.configure(instance(), fence={"gate": "off"})
    a.start()
    a.wait_state("Active")
    wait_for(
        lambda: "clsact" not in net.lab.run(a.host, "tc", "qdisc", "show"),
        "the gates of the previous daemon to be gone",
    )
    assert a.stop() == 0


def test_where_the_gate_cannot_stand_on_it_the_hole_is_told(net: World) -> None:
    """In `status` and in `check`, with the sysctl that closes it.

    Who requires the gate takes no part until then.
    """
    a = net.node("a")
    add_second(net, a, "192.0.2.31")
    net.lab.run(a.host, "tc", "qdisc", "add", "dev", SECOND, "ingress")
    a.configure(instance(), fence={"gate": "require"})
    a.start()
    cure = "net.ipv4.conf.eth1.arp_ignore=1"
    wait_for(lambda: cure in json.dumps(a.status()), "the sysctl in status")
    assert a.state() != "Active"
    assert cure in a.vipd("check").out
    net.lab.run(a.host, "sh", "-c", f"echo 1 > /proc/sys/net/ipv4/conf/{SECOND}/arp_ignore")
    a.wait_state("Active")
    assert cure not in a.vipd("check").out
    assert a.stop() == 0


def test_an_address_that_kube_proxy_has_put_on_each_node_keeps_nobody_from_starting(
    net: World,
) -> None:
    """The probe on the wire would find the other nodes, which answered for it by their second
    interfaces.
    """
    nodes = [net.node("a"), net.node("b")]
    for number, node in enumerate(nodes):
        add_second(net, node, f"192.0.2.3{number}")
        net.lab._batch(
            node.host.namespace,
            "link add kube-ipvs0 type bridge",
            "link set kube-ipvs0 arp off",
            f"addr add {VIP}/32 dev kube-ipvs0",
        )
        node.configure(instance(priority=150 - number))
        node.start()
    nodes[0].wait_state("Active")
    wait_for(
        lambda: nodes[1].state() == "Backup" and nodes[1].knows_fit("a", "b"),
        "the other one as Backup",
    )
    wait_for(lambda: nodes[0].mac in who_answers(net, "c"), "an answer")
    assert nodes[1].mac not in who_answers(net, "c")
    for node in nodes:
        assert node.stop() == 0
