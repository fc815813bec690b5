"""vipd and its gate in daily life.

Others meddle with traffic control, interfaces come and go, earlier lives left something behind.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from announce.gate.gates import TrafficControl
from announce.gate.hook import number_of
from announce.gate.program import Direction
from tests.netns.announce.gating import KINDS, Client, bind, dress
from tests.netns.announce.living import Echo, Vipd, limited, until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.netns.announce.conftest import Cable

pytestmark = [pytest.mark.root, pytest.mark.netns]

LEASE = 2.0
WITHOUT_BPF = limited("net_admin", "net_raw")


@pytest.fixture
def vipd(cable: Cable, tmp_path: Path) -> Iterator[Vipd]:
    """Return a vipd that was never started, on a host with an address of its own.

    Whatever is left of it is killed.
    """
    dress(cable)
    made = Vipd(cable.a, tmp_path, LEASE)
    yield made
    made.kill()


@pytest.fixture
def client(cable: Cable, vipd: Vipd) -> Iterator[Client]:
    """Return who asks; something on the owner's host serves on the VIP whenever it is bound."""
    with contextlib.closing(Echo(cable.a)), contextlib.closing(Client(cable)) as made:
        yield made


def active(vipd: Vipd, index: int = 0) -> None:
    """Wait until an instance is Active."""
    until(lambda: vipd.instance(index).get("state") == "Active", "the instance to be Active")


def fence(vipd: Vipd) -> dict[str, Any]:
    """Return what its status says of the fence; nothing while its daemon cannot be reached."""
    return dict(vipd.status().get("fence", {"gate": None, "put_back": None}))


def programs(interface: str = "a0") -> list[int]:
    """Return the kernel's numbers of the gate's programs, in both directions."""
    with contextlib.closing(TrafficControl()) as control:
        ifindex = socket.if_nametoindex(interface)
        return [
            found.program
            for way in Direction
            for found in control.filters(ifindex, way)
            if number_of(found)
        ]


def test_one_program_stands_for_all_instances(cable: Cable, vipd: Vipd, client: Client) -> None:
    """Each direction has one, however many elections share the interface; their
    words are separate.
    """
    vipd.configure(
        "auto",
        {"name": "other", "interface": "a0", "addresses": ["192.0.2.101"], "on_conflict": "take"},
    )
    vipd.start()
    active(vipd, 0)
    active(vipd, 1)
    assert len(programs()) == 2
    assert fence(vipd) == {**fence(vipd), "gate": True, "put_back": 0, "before": []}
    assert client.answered() == KINDS


def test_a_crash_of_the_daemon_does_not_touch_the_gate(
    cable: Cable, vipd: Vipd, client: Client
) -> None:
    """Guard, words and programs stay; the next daemon writes the same word."""
    vipd.start()
    active(vipd)
    before, former = programs(), vipd.daemon
    os.kill(former, signal.SIGKILL)
    until(lambda: vipd.instance().get("reason") == "taken_back", "the lease to be taken back")
    active(vipd)
    assert vipd.daemon != former
    assert programs() == before
    assert client.answered() == KINDS


@pytest.mark.parametrize("command", ["tc qdisc del dev a0 clsact", "tc filter del dev a0 egress"])
def test_what_others_take_away_is_put_back_and_counted(
    cable: Cable, vipd: Vipd, client: Client, command: str
) -> None:
    """At once, with the VIP served all the time; the log and `vipd status` say so."""
    vipd.start()
    active(vipd)
    cable.a.run(command)
    until(lambda: fence(vipd)["put_back"] == 1, "the gate to be put back")
    assert (len(programs()), fence(vipd)["gate"]) == (2, True)
    assert client.answered() == KINDS
    assert "somebody took the gate on a0 away: it is back" in vipd.log.read_text(encoding="utf-8")
    assert vipd.instance()["state"] == "Active"


@pytest.mark.parametrize(
    ("gate", "state", "bound"), [("auto", "Active", True), ("require", "Fault", False)]
)
def test_a_gate_that_cannot_be_put_back(
    cable: Cable, vipd: Vipd, client: Client, gate: str, state: str, *, bound: bool
) -> None:
    """Somebody's ingress qdisc leaves no room.

    `auto` goes on without, who requires it gives the VIP up until there is room again.
    """
    vipd.configure(gate)
    vipd.start()
    active(vipd)
    os.kill(vipd.guard, signal.SIGSTOP)  # or it would be quicker
    cable.a.run("tc qdisc del dev a0 clsact")
    cable.a.run("tc qdisc add dev a0 ingress")
    os.kill(vipd.guard, signal.SIGCONT)
    until(
        lambda: not fence(vipd)["gate"] and vipd.instance()["state"] == state,
        "the lack of a gate to be seen",
    )
    assert "ingress qdisc of somebody else" in fence(vipd)["covers"]
    assert [one["bound"] for one in vipd.instance()["addresses"]] == [bound] * 2
    if not bound:
        assert "no kernel gate, and fence.gate is require: a0" in vipd.instance()["notes"][0]
    cable.a.run("tc qdisc del dev a0 ingress")
    until(
        lambda: fence(vipd)["gate"] and vipd.instance()["state"] == "Active",
        "the gate to come back",
    )
    until(lambda: client.answered() == KINDS, "the VIP to be served")


@pytest.mark.parametrize("way", ["switched off", "without the right"])
def test_the_gate_of_an_earlier_life_does_not_stand_in_the_way(
    cable: Cable, vipd: Vipd, client: Client, way: str
) -> None:
    """Killed with a gate and started again without one.

    What is left of the gate would cut the VIP off for ever.
    """
    vipd.start()
    active(vipd)
    vipd.kill()
    assert len(programs()) == 2
    vipd.configure("off" if way == "switched off" else "auto")
    vipd.start(*(() if way == "switched off" else WITHOUT_BPF))
    active(vipd)
    until(lambda: programs() == [], "the former gate to be gone")
    assert "clsact" not in cable.a.run("tc qdisc show dev a0")
    assert client.answered() == KINDS
    assert ("fence.gate is off" if way == "switched off" else "lacks CAP_BPF") in fence(vipd)[
        "covers"
    ]
    assert not fence(vipd)["gate"]


def test_an_interface_that_is_made_anew_has_a_gate_before_its_address(
    cable: Cable, vipd: Vipd
) -> None:
    """The gate went with the interface, and so did the address."""
    vipd.start()
    active(vipd)
    cable.remove()
    until(lambda: vipd.instance()["state"] == "Fault", "the loss of the interface to be seen")
    cable.plug()
    active(vipd)
    assert len(programs()) == 2
    assert fence(vipd)["gate"]


def test_a_backup_keeps_its_gate_closed(cable: Cable, vipd: Vipd, client: Client) -> None:
    """Drained, with the VIP bound by somebody's script.

    No frame is answered, whatever is in the kernel.
    """
    vipd.start()
    active(vipd)
    assert vipd.ask("drain", force=True)
    until(lambda: vipd.instance()["state"] == "Fault", "the drain")
    # It removes what it sees; in between only the gate stands.
    os.kill(vipd.daemon, signal.SIGSTOP)
    client.answered(())  # what it announced as long as it was Active
    bind(cable.a)
    assert client.answered() == set()


def test_a_reload_that_requires_what_cannot_be_had_changes_nothing(
    cable: Cable, vipd: Vipd, client: Client
) -> None:
    """The daemon that runs goes on without a gate."""
    vipd.start(*WITHOUT_BPF)
    active(vipd)
    former = vipd.daemon
    vipd.configure("require")
    os.kill(vipd.guard, signal.SIGHUP)
    until(
        lambda: "cannot be used, nothing changes" in vipd.log.read_text(encoding="utf-8"),
        "the refusal",
    )
    assert (vipd.daemon, vipd.instance()["state"]) == (former, "Active")
    assert client.answered() == KINDS


def test_a_reload_that_switches_the_gate_on_and_off(
    cable: Cable, vipd: Vipd, client: Client
) -> None:
    """The VIP stays, and is served, with and without."""
    vipd.configure("off")
    vipd.start()
    active(vipd)
    for gate, count in (("require", 2), ("off", 0)):
        vipd.configure(gate)
        former = vipd.daemon
        os.kill(vipd.guard, signal.SIGHUP)
        until(
            lambda former=former: (  # type: ignore[misc]
                vipd.daemon not in {0, former} and vipd.instance().get("state") == "Active"
            ),
            "the reload",
        )
        until(lambda count=count: len(programs()) == count, "the gate to follow")  # type: ignore[misc]
        assert client.answered() == KINDS
        assert fence(vipd)["gate"] is (count > 0)
