"""The gate on a real interface.

Closed nothing passes for the VIP or in its name, and everything else always does.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from announce.frames.build import frames_for
from announce.frames.sender import Sender
from announce.gate.loaded import SMALLEST
from announce.gate.program import Direction
from tests.netns.announce.conftest import Host, new_namespace
from tests.netns.announce.gating import (
    CLIENT_PORT,
    CLIENT_V4,
    CLIENT_V6,
    KINDS,
    OWNER_V4,
    PATIENCE,
    PORT,
    SLOT,
    VIP_V4,
    VIP_V6,
    Client,
    Gate,
    Stage,
    bind,
    bound,
    dress,
    now,
    packed,
    staged,
    until,
)
from tests.netns.announce.resolving import numbered

if TYPE_CHECKING:
    from tests.netns.announce.conftest import Cable

pytestmark = [pytest.mark.root, pytest.mark.netns]


@pytest.fixture
def stage(cable: Cable) -> Iterator[Stage]:
    """Return an owner with VIPs bound and served behind a closed gate, and a client."""
    with staged(cable) as made:
        yield made


@pytest.fixture
def gate(cable: Cable) -> Iterator[Gate]:
    """Return a gate on host a that covers nothing yet; both hosts have addresses of their own."""
    dress(cable)
    with contextlib.closing(Gate()) as made:
        yield made


def program_of(stage: Stage) -> int:
    """Return the kernel's number of the program for what arrives."""
    (found,) = stage.gate.control.filters(stage.gate.ifindex, Direction.ARRIVING)
    return found.program


def always() -> bool:
    """Have the right to send."""
    return True


def test_closed_open_closed(stage: Stage) -> None:
    """Bound addresses are served only while the word lies ahead, by UDP, ARP and ND; each drop is
    counted.
    """
    assert stage.client.answered() == set()
    assert stage.echo.received == []
    assert stage.gate.dropped == len(KINDS)
    stage.gate.open()
    assert stage.client.answered() == KINDS
    stage.gate.close_word()
    assert stage.client.answered() == set()
    assert len(stage.echo.received) == 2


def test_each_family_has_its_own_word(stage: Stage) -> None:
    """Two elections on one interface: one open, the other closed, and the other way round."""
    assert stage.gate.cover(1, [packed(VIP_V4)]) == ""
    assert stage.gate.cover(2, [packed(VIP_V6)]) == ""
    stage.gate.open(1)
    assert stage.client.answered() == {"udp4", "arp"}
    stage.gate.open(2)
    stage.gate.close_word(1)
    assert stage.client.answered() == {"udp6", "nd"}


def test_nothing_leaves_in_the_name_of_a_closed_vip(stage: Stage) -> None:
    """Neither what a program sends from it, nor an announcement."""
    announcements = [
        frame for ip in (VIP_V4, VIP_V6) for frame in frames_for(ip, stage.cable.a.mac).announce
    ]
    with contextlib.ExitStack() as stack:
        sender = stack.enter_context(contextlib.closing(Sender(numbered("a0"))))
        v4 = stack.enter_context(contextlib.closing(bound(socket.AF_INET, VIP_V4, 0)))
        v6 = stack.enter_context(contextlib.closing(bound(socket.AF_INET6, VIP_V6, 0)))

        def send() -> int:
            v4.sendto(b"", (CLIENT_V4, CLIENT_PORT))
            v6.sendto(b"", (CLIENT_V6, CLIENT_PORT))
            return sender.send(announcements, always)

        assert send() == 0
        assert sender.refused == {errno.ENOBUFS: 3}
        assert stage.client.answered(()) == set()
        assert stage.gate.dropped == 5
        stage.gate.open()
        assert send() == 3
        heard = {found.kind for _ in range(5) if (found := stage.client.hear(PATIENCE))}
        assert heard == KINDS


def test_a_backup_is_a_client_like_anybody_else(cable: Cable, gate: Gate) -> None:
    """The VIP is on the other host.

    From here it is asked for, found, and served, though the gate here is closed.
    """
    bind(cable.b)
    assert gate.cover() == ""
    for family, ip in ((socket.AF_INET, VIP_V4), (socket.AF_INET6, VIP_V6)):
        with cable.b.inside():
            server = socket.socket(family, socket.SOCK_STREAM)
            server.bind((ip, PORT))
            server.listen()
        with server, socket.create_connection((ip, PORT), timeout=10) as connection:
            accepted, _ = server.accept()
            with accepted:
                accepted.sendall(b"served")
                assert connection.recv(10) == b"served"
    assert gate.dropped == 0


def test_a_backup_hears_who_the_new_owner_is(cable: Cable, gate: Gate) -> None:
    """Its neighbour cache follows announcements, or it would talk to the former owner for as long
    as that one answers.
    """
    assert gate.cover() == ""
    for ip in (VIP_V4, VIP_V6):
        cable.a.run(f"ip neigh replace {ip} lladdr 02:00:00:00:00:99 dev a0 nud stale")
        cable.b.send(*frames_for(ip, cable.b.mac).announce)
        until(lambda ip=ip: cable.b.mac in cable.a.run(f"ip neigh show {ip} dev a0"))  # type: ignore[misc]
    assert gate.dropped == 0


def test_another_host_may_take_the_address_while_it_is_still_bound_here(stage: Stage) -> None:
    """Probes and duplicate address detection get no answer through a closed gate."""
    for ip in (VIP_V4, VIP_V6):
        stage.cable.b.send(*frames_for(ip, stage.cable.b.mac).probe)
    assert stage.client.answered(()) == set()
    assert stage.gate.dropped == 2


def test_it_goes_away_without_a_trace(stage: Stage) -> None:
    """Hook and filters are gone, and the addresses are free again."""
    assert stage.gate.gates.close() == []
    assert "clsact" not in stage.cable.a.run("tc qdisc show dev a0")
    assert stage.client.answered() == KINDS


def test_it_goes_with_the_last_election(stage: Stage) -> None:
    """The gate stays as long as one election has addresses on the interface."""
    assert stage.gate.cover(2, [bytes([192, 0, 2, 77])]) == ""
    stage.gate.gates.uncover(1, now())
    assert stage.client.answered() == KINDS
    assert len(stage.gate.gates.states()) == 1
    stage.gate.gates.uncover(2, now())
    assert stage.gate.gates.states() == []
    assert "clsact" not in stage.cable.a.run("tc qdisc show dev a0")


def test_more_addresses_than_there_was_room_for(stage: Stage) -> None:
    """Other programs take over, at once and closed for all.

    Those that were open stay open, and drops are counted on.
    """
    stage.gate.open()
    assert stage.client.answered() == KINDS
    stage.gate.close_word()
    assert stage.client.answered() == set()
    first = program_of(stage)
    more = [bytes([198, 51, 100, number]) for number in range(2 * SMALLEST)]
    assert stage.gate.cover(2, more) == ""
    assert stage.gate.dropped == len(KINDS)
    assert stage.client.answered() == set()
    stage.gate.open()
    assert stage.client.answered() == KINDS
    assert program_of(stage) != first
    assert stage.gate.state.put_back == 0


def test_what_the_kernel_acknowledged_is_in_force(stage: Stage) -> None:
    """No frame that is sent after `cover` has returned, or after a word was stored, is judged by
    what was before.
    """
    gate, client = stage.gate, stage.client
    for _ in range(20):
        gate.gates.uncover(SLOT, now())
        assert gate.cover() == ""
        assert client.answered() == set()
        gate.open()
        assert client.answered() == KINDS
        gate.close_word()
        client.ask()
        assert client.answered() == set()


def test_a_macvlan_lies_behind_the_gate_of_its_parent(cable: Cable, gate: Gate) -> None:
    """A container on one does not get what is sent to a VIP that the parent carries, nor speak in
    its name, while the gate is closed.
    """
    with new_namespace() as container, contextlib.closing(Client(cable)) as client:
        inside = Host(container, "m0")
        cable.a.run("ip link add link a0 name m0 type macvlan mode bridge")
        cable.a.run(f"ip link set m0 netns /proc/{os.getpid()}/fd/{container}")
        inside.run("ip link set m0 up")
        for address in (VIP_V4, OWNER_V4):
            inside.run(f"ip addr add {address}/24 dev m0")
        client.owner = bytes.fromhex(inside.mac.replace(":", ""))
        assert client.answered({"arp"}) == {"arp"}
        assert gate.cover() == ""
        assert client.answered({"arp"}) == set()
        gate.open()
        assert client.answered({"arp"}) == {"arp"}
