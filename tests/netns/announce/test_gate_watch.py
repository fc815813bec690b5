"""A gate that somebody takes away is put back at once, and counted.

One's own changes and others' are no alarm.
"""

from __future__ import annotations

import contextlib
import select
import subprocess
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from announce.gate.gates import LOOK
from announce.gate.traffic_control import EVERYTHING, GateWatch
from tests.netns.announce.gating import KINDS, PATIENCE, Stage, now, staged

if TYPE_CHECKING:
    from tests.netns.announce.conftest import Cable

pytestmark = [pytest.mark.root, pytest.mark.netns]


@pytest.fixture
def watch(cable: Cable) -> Iterator[GateWatch]:
    """Return a watch on host a."""
    with contextlib.closing(GateWatch()) as opened:
        yield opened


@pytest.fixture
def stage(cable: Cable, watch: GateWatch) -> Iterator[Stage]:
    """Return an owner with VIPs bound and served behind a closed gate, and a client."""
    with staged(cable) as made:
        yield made


def followed(stage: Stage, watch: GateWatch) -> list[int]:
    """Wait for news, do what the guard does with them until there are none.

    Return where a gate was put back.
    """
    assert select.select([watch], [], [], PATIENCE)[0]
    put_back = []
    while (changed := watch.changed()) != frozenset():
        put_back += stage.gate.gates.restore(now(), changed)
    return put_back


def test_ones_own_changes_are_no_alarm(stage: Stage, watch: GateWatch) -> None:
    """They are seen, and all is as it should be."""
    assert followed(stage, watch) == []
    assert stage.gate.state.put_back == 0


@pytest.mark.parametrize(
    "command",
    [
        "tc qdisc del dev a0 clsact",
        "tc filter del dev a0 ingress",
        "tc filter del dev a0 egress",
        "tc filter del dev a0 ingress protocol all prio 1",
    ],
)
def test_what_is_taken_away_is_put_back(stage: Stage, watch: GateWatch, command: str) -> None:
    """The hook, all filters of a direction, or the priority.

    Closed again at once, with the same word.
    """
    watch.changed()
    stage.cable.a.run(command)
    assert followed(stage, watch) == [stage.gate.ifindex]
    assert stage.gate.state.put_back == 1
    assert stage.gate.state.trouble == ""
    assert stage.client.answered() == set()
    stage.gate.open()
    assert stage.client.answered() == KINDS


def test_a_filter_in_its_place_is_replaced(stage: Stage, watch: GateWatch) -> None:
    """Somebody cleared the interface and put a qdisc of the other kind there.

    The gate says so, and comes back after.
    """
    watch.changed()
    stage.cable.a.run("tc qdisc del dev a0 clsact")
    stage.cable.a.run("tc qdisc add dev a0 ingress")
    assert followed(stage, watch) == []
    assert "ingress qdisc" in stage.gate.state.trouble
    stage.cable.a.run("tc qdisc del dev a0 ingress")
    assert followed(stage, watch) == [stage.gate.ifindex]
    assert (stage.gate.state.trouble, stage.gate.state.put_back) == ("", 1)


def test_another_interface_is_none_of_its_business(stage: Stage, watch: GateWatch) -> None:
    """On a busy node every container that starts makes such news."""
    watch.changed()
    stage.cable.a.run("tc qdisc add dev lo clsact")
    assert followed(stage, watch) == []


def test_more_news_than_there_is_room_for(stage: Stage, watch: GateWatch) -> None:
    """Then everything is looked at."""
    stage.cable.a.run("tc qdisc del dev a0 clsact")
    news = "qdisc add dev lo clsact\nqdisc del dev lo clsact\n" * 500
    subprocess.run(["tc", "-batch", "-"], input=news, text=True, check=True, capture_output=True)
    assert watch.changed() is EVERYTHING
    assert stage.gate.gates.restore(now(), EVERYTHING) == [stage.gate.ifindex]


def test_a_look_from_time_to_time_needs_no_news(stage: Stage) -> None:
    """Whatever becomes of the watch."""
    stage.cable.a.run("tc qdisc del dev a0 clsact")
    gates = stage.gate.gates
    moment = now()
    assert moment < gates.tick(moment) <= moment + LOOK
    assert stage.gate.state.put_back == 0
    gates.tick(moment + LOOK)
    assert stage.gate.state.put_back == 1
    assert stage.client.answered() == set()
