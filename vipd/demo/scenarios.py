"""What happens to the holder of the VIP, one fault a scenario, and what is expected to follow.

They are played in this order on one group. Only the first node preempts, and only until it has
shown it once: afterwards a node that comes back leaves the next experiment alone (and `vipd` damps
a VIP that moves this often). A restart after a full kill is in time on a machine that starts Python
in less than a second; on a slower one the VIP moves.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

from election.timing import HANDOVER_TIMEOUT, PROFILES
from vipd.demo.node import VIP, Node
from vipd.demo.stage import Stage

PLANNED_OVERLAP = HANDOVER_TIMEOUT
"""In a planned handover both nodes have the VIP bound for a moment, so that no probe is lost: up to
50 ms, and up to this long if a second fault comes in between. Nine nodes that share two cores are
one."""
BRIEF = 1.5
WHOLE_LEASE = PROFILES["default"].lease_duration + 0.5
"""A holder that fails to renew shows no earlier than that."""
RESTART_SEC = 0.100
"""As in the systemd unit."""


class Expect(enum.StrEnum):
    """Where the VIP is to be afterwards."""

    MOVES = "moves"
    STAYS = "stays"
    EITHER = "either"


Deed = Callable[[Stage, Node], None]


def nothing(_stage: Stage, _holder: Node) -> None:
    """Do nothing."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A fault, done to the present holder.

    `then` is done once the outcome is seen and is still measured; `heal` prepares the next scenario
    and is not. `watch` is for how many seconds a VIP that need not move is watched. `overlap` is
    the longest time in seconds with the address bound on two nodes that vipd's contract allows.
    """

    key: str
    title: str
    expect: Expect
    fault: Deed
    then: Deed = nothing
    heal: Deed = nothing
    overlap: float = 0.0
    watch: float = BRIEF
    cuts_off_store: bool = False


def _handover(stage: Stage, holder: Node) -> None:
    holder.handover(to=stage.other(holder).name)


def _stop(_: Stage, holder: Node) -> None:
    holder.stop()


def _await_end(_: Stage, holder: Node) -> None:
    holder.wait_end()


def _return_best(stage: Stage, _: Node) -> None:
    stage.best.start()


def _full_kill(_: Stage, holder: Node) -> None:
    holder.kill_all()


def _start_again(stage: Stage, holder: Node) -> None:
    stage.configure(holder, preempt=False)
    holder.start()


def _kill_and_restart(stage: Stage, holder: Node) -> None:
    holder.kill_all()
    stage.pause(RESTART_SEC)
    holder.start()


def _kill_ingress(_: Stage, holder: Node) -> None:
    holder.kill_ingress()


def _start_ingress(_: Stage, holder: Node) -> None:
    holder.start_ingress()


def _sick(_: Stage, holder: Node) -> None:
    holder.set_ingress_health(healthy=False)


def _well(_: Stage, holder: Node) -> None:
    holder.set_ingress_health(healthy=True)


def _kill_daemon(_: Stage, holder: Node) -> None:
    holder.kill_daemon()


def _freeze(_: Stage, holder: Node) -> None:
    holder.freeze()


def _thaw(stage: Stage, holder: Node) -> None:
    holder.thaw()
    stage.pause(1.0)  # late news, timers and writes of the frozen process all run now


def _pull_cable(stage: Stage, holder: Node) -> None:
    stage.lab.pull_cable(holder.host)


def _plug_cable(stage: Stage, holder: Node) -> None:
    stage.lab.plug_cable(holder.host)


def _cut_off(stage: Stage, holder: Node) -> None:
    stage.lab.cut_off(holder.host)
    stage.absent = holder


def _reconnect(stage: Stage, _: Node) -> None:
    if stage.absent:
        stage.lab.reconnect(stage.absent.host)
        stage.absent = None


def _split(stage: Stage, _: Node) -> None:
    stage.lab.split(node.host for node in stage.nodes)


def _join(stage: Stage, _: Node) -> None:
    stage.lab.join(node.host for node in stage.nodes)


def _delete_vip(stage: Stage, holder: Node) -> None:
    stage.lab.delete_address(holder.host, f"{VIP}/32")


MOVES, STAYS, EITHER = Expect

SCENARIOS = (
    Scenario("baseline", "nothing happens", STAYS, nothing),
    Scenario(
        "graceful_stop",
        "graceful stop (SIGTERM)",
        MOVES,
        _stop,
        then=_await_end,
        overlap=PLANNED_OVERLAP,
    ),
    Scenario(
        "better_node_returns",
        "the better node returns and preempts",
        MOVES,
        _return_best,
        overlap=PLANNED_OVERLAP,
    ),
    Scenario(
        "full_kill",
        "guard, daemon and children killed at once",
        MOVES,
        _full_kill,
        heal=_start_again,
    ),
    Scenario(
        "planned_handover",
        "planned handover (vipd handover)",
        MOVES,
        _handover,
        overlap=PLANNED_OVERLAP,
    ),
    Scenario("ingress_gone", "ingress process gone", MOVES, _kill_ingress, heal=_start_ingress),
    Scenario("ingress_sick", "ingress answers 503", MOVES, _sick, heal=_well),
    Scenario(
        "daemon_crash",
        "daemon killed (kill -9), guard stays",
        STAYS,
        _kill_daemon,
        watch=WHOLE_LEASE,
    ),
    Scenario(
        "full_kill_restarted",
        "all killed at once, started again after 100 ms",
        EITHER,
        _kill_and_restart,
        watch=WHOLE_LEASE,
    ),
    Scenario("freeze", "all of vipd frozen, thawed after the move", MOVES, _freeze, then=_thaw),
    Scenario("cable_pulled", "cable pulled", MOVES, _pull_cable, heal=_plug_cable),
    Scenario(
        "cut_off", "cut off without a sign, carrier stays", MOVES, _cut_off, cuts_off_store=True
    ),
    Scenario(
        "comes_back",
        "the node cut off comes back",
        STAYS,
        _reconnect,
        watch=WHOLE_LEASE,
        cuts_off_store=True,
    ),
    Scenario(
        "split", "nodes cannot reach each other", STAYS, _split, heal=_join, watch=WHOLE_LEASE
    ),
    Scenario("address_deleted", "VIP deleted by hand", STAYS, _delete_vip),
)
