"""The trials: what befalls the best node, the owner of the VIP, and how it is played and measured.

The same for every daemon.
"""

from __future__ import annotations

import contextlib
import enum
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tests.bench.measured import Conditions, Outcome, Window, outcome, with_six
from tests.bench.network import NODES, moment, scattered
from tests.bench.peers.base import Node, Peer
from vipd.demo.lab import LabError
from vipd.demo.measure import Probe
from vipd.demo.node import VIP, VIP6
from vipd.demo.prober import Prober

CALM = 0.3
"""Seconds of probes before a deed: they must be answered."""
TAIL = 0.6
"""Seconds of probes after the outcome: a second move or a late loss would show."""
REST = 0.5
"""Seconds between a calm group and the next trial: vipd names no second successor within 510 ms."""
MOVE_LIMIT = 10.0
HEAL_LIMIT = 3.0
"""A node that comes back need not get the VIP back."""
SETTLE = 45.0
ANSWER = 10.0
LOOK_AGAIN = 0.05
HELP_AFTER = 0.5
PLANNED_OVERLAP = 0.050
"""Seconds for which both nodes of vipd's planned move may have the address, so that no probe is
lost."""
RESOLUTION = 0.003
"""News of two hosts are read within so many seconds of one another on a busy machine: less is no
overlap."""
STORE_BRIEF = 1.5

Deed = Callable[[Peer], object]
Seconds = Callable[[Peer], float]


class Until(enum.Enum):
    """What ends the watch.

    Another node than the best answers, the best answers again, or a time is over.
    """

    MOVED = "moved"
    HOME = "home"
    OVER = "over"


def nothing(_: Peer) -> None:
    """Do nothing."""


def noticed(peer: Peer) -> float:
    """Return the time after which others would have taken over, and a little more."""
    return peer.detection + 0.7


@dataclass(frozen=True, slots=True)
class Step:
    """A deed and what is watched after it: one row of the result.

    `watch` seconds if it ends when time is OVER, else the longest wait · `hold` seconds after that
    · `then` is done last and still measured (the undoing of a fault whose end matters) · `overlap`
    seconds for which two nodes may have the VIP.
    """

    row: str
    title: str
    deed: Deed
    until: Until = Until.OVER
    watch: Seconds = noticed
    hold: float = 0.0
    then: Deed | None = None
    overlap: float = 0.0


@dataclass(frozen=True, slots=True)
class Trial:
    """Steps in a row with one client. `heal` prepares the next trial and is not measured."""

    key: str
    steps: Sequence[Step]
    heal: Deed = nothing


def _limit(_: Peer) -> float:
    return MOVE_LIMIT


def _heal_limit(_: Peer) -> float:
    return HEAL_LIMIT


def _brief(_: Peer) -> float:
    return STORE_BRIEF


def _cut(peer: Peer) -> None:
    peer.network.lab.cut_off(peer.best.host)


def _reconnect(peer: Peer) -> None:
    peer.network.lab.reconnect(peer.best.host)


def _split(peer: Peer) -> None:
    peer.network.lab.split(peer.network.nodes)


def _join(peer: Peer) -> None:
    peer.network.lab.join(peer.network.nodes)


def _delete_vip(peer: Peer) -> None:
    peer.network.lab.delete_address(peer.best.host, f"{VIP}/32")


def _put_back(peer: Peer) -> None:
    if not peer.network.monitor.owners(VIP):
        peer.network.lab.add_address(peer.best.host, f"{VIP}/32")


def _add_vip(peer: Peer) -> None:
    peer.network.lab.add_address(peer.nodes[-1].host, f"{VIP}/32")


def _take_away(peer: Peer) -> None:
    if peer.nodes[-1].name in peer.network.monitor.owners(VIP):
        peer.network.lab.delete_address(peer.nodes[-1].host, f"{VIP}/32")


def _freeze_store(peer: Peer) -> None:
    if peer.store:
        peer.store.freeze()


def _thaw_store(peer: Peer) -> None:
    if peer.store:
        peer.store.thaw()


def _cut_store(peer: Peer) -> None:
    peer.network.lab.split([peer.best.host, peer.network.store])


def _join_store(peer: Peer) -> None:
    peer.network.lab.join([peer.best.host, peer.network.store])


MOVED, HOME, OVER = Until

TRIALS = (
    Trial("baseline", [Step("baseline", "nothing happens", nothing, watch=lambda _: 2.0)]),
    Trial(
        "stop",
        [
            Step(
                "stop",
                "graceful stop",
                lambda p: p.best.stop(),
                MOVED,
                _limit,
                0.7,
                lambda p: p.best.wait_end(),
                PLANNED_OVERLAP,
            ),
            Step(
                "return",
                "the better node returns",
                lambda p: p.best.start(),
                HOME,
                _limit,
                0.7,
                overlap=PLANNED_OVERLAP,
            ),
        ],
    ),
    Trial(
        "planned",
        [
            Step(
                "planned",
                "planned move",
                lambda p: p.move(),
                MOVED,
                _limit,
                0.7,
                overlap=PLANNED_OVERLAP,
            )
        ],
        lambda p: p.move_back(),
    ),
    Trial("crash", [Step("crash", "worker killed, the rest goes on", lambda p: p.best.crash())]),
    Trial(
        "stun",
        [
            Step(
                "stun",
                "worker frozen, the rest goes on",
                lambda p: p.best.stun(),
                then=lambda p: p.best.thaw(),
            )
        ],
    ),
    Trial(
        "kill",
        [Step("kill", "all killed at once", lambda p: p.best.kill(), MOVED, _limit, 1.0)],
        lambda p: p.best.start(),
    ),
    Trial(
        "freeze",
        [
            Step(
                "freeze",
                "all frozen, thawed after the move",
                lambda p: p.best.freeze(),
                MOVED,
                _limit,
                1.0,
                lambda p: p.best.thaw(),
            )
        ],
    ),
    Trial(
        "cable",
        [
            Step(
                "cable",
                "cable pulled",
                lambda p: p.network.lab.pull_cable(p.best.host),
                MOVED,
                _limit,
                0.5,
            )
        ],
        lambda p: p.network.lab.plug_cable(p.best.host),
    ),
    Trial(
        "cut",
        [
            Step("cut", "cut off in silence", _cut, MOVED, _limit, 1.0),
            Step(
                "cut_heal",
                "the node cut off comes back",
                _reconnect,
                HOME,
                _heal_limit,
                overlap=PLANNED_OVERLAP,
            ),
        ],
    ),
    Trial(
        "split",
        [
            Step("split", "nodes cannot hear each other", _split),
            Step("split_heal", "nodes hear each other again", _join),
        ],
    ),
    Trial(
        "ingress_gone",
        [Step("ingress_gone", "ingress gone", lambda p: p.best.kill_ingress(), MOVED, _limit, 0.5)],
        lambda p: p.best.start_ingress(),
    ),
    Trial(
        "ingress_broken",
        [
            Step(
                "ingress_broken",
                "ingress answers 503",
                lambda p: p.best.set_ingress_health(healthy=False),
                MOVED,
                _limit,
                0.5,
            )
        ],
        lambda p: p.best.set_ingress_health(healthy=True),
    ),
    Trial("deleted", [Step("deleted", "VIP deleted by hand", _delete_vip)], _put_back),
    Trial(
        "added",
        [
            Step(
                "added",
                "VIP added on a Backup by hand",
                _add_vip,
                watch=lambda _: 2.0,
                then=_take_away,
            )
        ],
    ),
    Trial(
        "store_brief",
        [
            Step(
                "store_brief",
                f"store frozen for {STORE_BRIEF:g} s",
                _freeze_store,
                watch=_brief,
                then=_thaw_store,
            )
        ],
    ),
    Trial(
        "store_long",
        [
            Step(
                "store_long",
                "store frozen for longer than a lease",
                _freeze_store,
                then=_thaw_store,
            )
        ],
    ),
    Trial(
        "store_cut",
        [Step("store_cut", "owner cut off from the store alone", _cut_store, MOVED, _limit, 1.0)],
        _join_store,
    ),
)
ROWS: Mapping[str, Step] = {step.row: step for trial in TRIALS for step in trial.steps}


@dataclass(frozen=True, slots=True)
class Turn:
    """Which of `repeat` plays of each trial this is, 0 the first.

    Faults come at number/repeat of the heartbeat period.
    """

    number: int
    repeat: int
    rng: random.Random


def settle(peer: Peer) -> None:
    """Return once the best node alone has the VIP and all are ready. LabError after 45 s."""
    monitor, begin = peer.network.monitor, time.monotonic()
    while not (monitor.owners(VIP) == {peer.best.name} and peer.ready()):
        waited = time.monotonic() - begin
        if waited > SETTLE:
            last = "".join(f"\n{node.name}: {node.last_words()}" for node in peer.nodes)
            raise LabError(
                f"after {SETTLE:g} s the VIP is on {sorted(monitor.owners(VIP))}, or a node is "
                f"not ready:{last}"
            )
        if waited > HELP_AFTER:
            peer.bring_home()
        time.sleep(LOOK_AGAIN)
    time.sleep(REST)


def play(peer: Peer, trial: Trial, turn: Turn) -> dict[str, Outcome]:
    """Play a trial on a calm group; return the figures of each row."""
    windows: list[tuple[Step, Window, Conditions]] = []
    with contextlib.ExitStack() as stack:
        probers = [
            stack.enter_context(peer.network.probe(vip))
            for vip in ((VIP, VIP6) if peer.six else (VIP,))
        ]
        if not all(prober.wait(ANSWER) for prober in probers):
            raise LabError("the VIP does not answer the client")
        for place, step in enumerate(trial.steps):
            windows.append((step, *_do(peer, probers[0], step, turn, first=place == 0)))
        probes, *probes6 = [prober.stop() for prober in probers]
    found = {}
    for step, window, conditions in windows:
        found[step.row] = with_six(
            _figures(peer, step, probes, window, conditions), window, *probes6
        )
    trial.heal(peer)
    return found


def _do(
    peer: Peer, prober: Prober, step: Step, turn: Turn, *, first: bool
) -> tuple[Window, Conditions]:
    calm = time.monotonic()
    time.sleep(CALM)
    phase, synced = _await_phase(peer, turn, _owner(peer, first=first))
    begin = time.monotonic()
    step.deed(peer)
    command = (time.monotonic() - begin) * 1000
    _watch(peer, prober, step, begin)
    crowded = False
    if step.then:
        crowded = _crowded(peer)
        step.then(peer)
        peer.network.monitor.wait_owner(VIP, MOVE_LIMIT)
    time.sleep(TAIL)
    crowded = crowded or _crowded(peer)
    return Window(calm, begin, time.monotonic()), Conditions(phase, synced, command, crowded)


def _crowded(peer: Peer) -> bool:
    return len(peer.network.monitor.owners(VIP)) > 1


def _owner(peer: Peer, *, first: bool) -> Node:
    """Return the owner of the VIP.

    Of several, the client hears the next best one after the best one was cut off.
    """
    owners = peer.network.monitor.owners(VIP)
    alone = [node for node in peer.nodes if owners == {node.name}]
    return alone[0] if alone else peer.best if first else peer.next_best


def _await_phase(peer: Peer, turn: Turn, owner: Node) -> tuple[float, bool]:
    """Wait for this turn's moment of the heartbeat of the owner.

    Return its phase and whether the heartbeat was seen.
    """
    beat = peer.beat_of(owner)
    phase = (
        scattered(turn.repeat, turn.number, turn.rng) if beat is None else turn.number / turn.repeat
    )
    time.sleep(max(0.0, moment(beat, peer.beat, phase, time.monotonic()) - time.monotonic()))
    return phase, beat is not None


def _watch(peer: Peer, prober: Prober, step: Step, begin: float) -> None:
    if step.until is OVER:
        time.sleep(max(0.0, begin + step.watch(peer) - time.monotonic()))
        if not peer.network.monitor.owners(VIP) and step.then is None:
            # The fault is over, or is none that keeps the VIP away for good: its outage ends by
            # itself.
            peer.network.monitor.wait_owner(VIP, HEAL_LIMIT)
    else:
        others = peer.best.name if step.until is MOVED else peer.next_best.name
        prober.wait(step.watch(peer), since=begin, other_than=others)
        time.sleep(step.hold)


def _figures(
    peer: Peer, step: Step, probes: Sequence[Probe], window: Window, conditions: Conditions
) -> Outcome:
    wanted = {
        MOVED: frozenset(NODES) - {peer.best.name},
        HOME: frozenset({peer.best.name}),
        OVER: frozenset[str](),
    }[step.until]
    return outcome(probes, peer.network.monitor.events, window, conditions, wanted)


def chosen(keys: Sequence[str]) -> list[Trial]:
    """Return the trials of these keys in the order of TRIALS, the baseline first in any case.

    ValueError for one that is unknown.
    """
    if unknown := set(keys) - {trial.key for trial in TRIALS}:
        raise ValueError(
            f"no trial {', '.join(sorted(unknown))}; there is "
            f"{', '.join(trial.key for trial in TRIALS)}"
        )
    return [trial for trial in TRIALS if not keys or trial.key in keys or trial.key == "baseline"]


def able(peer: Peer, trial: Trial) -> bool:
    """Tell whether a daemon can be asked for a trial."""
    return not any(step.row in peer.unable for step in trial.steps)
