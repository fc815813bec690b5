"""What one seed stands for.

Who takes part, how rough it gets, and of which kind the mishaps are.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from random import Random

from election.timing import HANDOVER_TIMEOUT, PROFILES, Settings, Timing
from tests.sim.clock import LARGEST_DRIFT
from tests.sim.host import Host
from tests.sim.kernel import Kernel
from tests.sim.mishaps import MISHAPS, annotate_for_ever
from tests.sim.timings import any_timing
from tests.sim.weather import Climate
from tests.sim.world import World

ELECTIONS = ("edge", "inner")
HARDSHIP = 2.5
"""Multiplies every theme's rates."""
PRIORITIES = (50, 100, 100, 150, 200)

SWITCHED_OFF: dict[str, str] = {}
"""Mishaps that show what is known to be wrong, each with what that is: they are left out until it
is mended."""


@dataclass(frozen=True, slots=True)
class Theme:
    """A kind of trouble.

    Mishaps in twenty leases by name, the weather's knobs it turns up, what is not left to a
    Scenario's seed.
    """

    rates: dict[str, float]
    climate: dict[str, float] = field(default_factory=dict)
    fixed: dict[str, object] = field(default_factory=dict)


THEMES = {
    "planned": Theme(
        {"ask_handover": 12, "ask_unpin": 4, "drain": 3, "restart": 2, "lose_weight": 4}
    ),
    "rough moves": Theme(
        {"ask_handover": 12, "drain": 3, "restart": 3, "lose_weight": 4},
        {
            "lost_requests": 0.05,
            "lost_replies": 0.05,
            "errors_after": 0.03,
            "spikes": 0.05,
            "stops": 0.01,
            "lost_frames": 0.3,
        },
    ),
    "bad store": Theme(
        {"store_down": 2, "store_stalls": 3, "break_watches": 3, "break_watch": 3},
        {
            "lost_requests": 0.05,
            "lost_replies": 0.08,
            "errors_before": 0.03,
            "errors_after": 0.05,
            "spikes": 0.05,
            "late_answers": 0.5,
            "reordered": 0.2,
            "lag": 0.05,
        },
    ),
    "partitions": Theme(
        {"cut_off": 5, "cut_replies": 4, "cut_link": 2, "break_watch": 2},
        {"refusals": 0.5, "late_answers": 0.3},
    ),
    "pauses": Theme(
        {"stop_daemon": 4, "stop_guard": 3, "stop_both": 4, "cut_off": 2, "ask_handover": 2},
        {"stops": 0.01},
    ),
    "crashes": Theme(
        {
            "kill_daemon": 5,
            "kill_guard": 2,
            "kill_both": 2,
            "power_cut": 1,
            "restart": 2,
            "ask_handover": 3,
        },
        {"kills": 0.0015},
    ),
    "strangers": Theme(
        {
            "annotate": 3,
            "empty_holder": 2,
            "edit_record": 4,
            "delete_record": 2,
            "corrupt_record": 2,
            "remake_record": 2,
            "cut_off": 2,
            "remove_address": 2,
            "rival_on_wire": 2,
        },
    ),
    "deaths": Theme({"die": 3, "cut_off": 2, "ask_handover": 2, "break_watch": 2}),
    "restores": Theme(
        {"restore_backup": 1.5, "kill_daemon": 1, "power_cut": 1, "cut_off": 1, "delete_record": 1}
    ),
    "flapping": Theme({"fall_ill": 8, "lose_weight": 6, "ask_handover": 2}, {"spikes": 0.01}),
    "reloads": Theme(
        {"reload": 4, "kill_daemon": 1, "cut_off": 2, "ask_handover": 2, "break_watch": 1}
    ),
    "kernel": Theme(
        {"remove_address": 6, "ask_handover": 4, "cut_off": 3},
        {"slow_kernel": 0.1, "bind_refused": 0.1, "unbind_refused": 0.2, "stops": 0.01},
    ),
    "interfaces": Theme(
        {
            "rename_interface": 2,
            "remake_interface": 2,
            "move_interface": 2,
            "ask_handover": 3,
            "cut_off": 1,
            "kill_daemon": 1,
        }
    ),
    "refusals": Theme(
        {"refuse_for_long": 1, "ask_handover": 1}, fixed={"seconds": 90.0, "nodes": 3}
    ),
    "state directories": Theme(
        {
            "lose_state": 1,
            "copy_state": 1,
            "spoil_state": 1,
            "kill_daemon": 2,
            "ask_handover": 3,
            "cut_off": 1,
        }
    ),
    "false records": Theme({"false_candidate": 6, "ask_handover": 3, "kill_both": 1, "cut_off": 1}),
    "far stores": Theme(
        {"ask_handover": 3, "kill_daemon": 2, "cut_off": 2, "fall_ill": 1},
        fixed={"farthest": 1.0, "annotated": False},
    ),
    "everything": Theme(
        dict.fromkeys((name for name in MISHAPS if name not in SWITCHED_OFF), 0.4),
        {
            "lost_requests": 0.02,
            "lost_replies": 0.02,
            "errors_before": 0.01,
            "errors_after": 0.01,
            "spikes": 0.02,
            "late_answers": 0.3,
            "refusals": 0.5,
            "reordered": 0.05,
            "lag": 0.01,
            "lost_frames": 0.1,
            "kernel_time": 0.0005,
            "slow_kernel": 0.01,
            "bind_refused": 0.01,
            "stops": 0.003,
            "kills": 0.0005,
        },
    ),
}


GATED: dict[str, object] = {
    "gate": True,
    "latency": 0.0005,
    "jitter": 0.0,
    "namesakes": False,
    "annotated": False,
}
OPEN: dict[str, object] = {**GATED, "gate": False}
FAST, DEFAULT, RELAXED = PROFILES["fast"], PROFILES["default"], PROFILES["relaxed"]
BARE = Timing(1.9, 0.38, 0.45)
"""Below 2 s address lifetimes end after the right does: nothing but the rules of daemon and guard
stands behind it."""

DIRECTED = {
    # Each is rough in the one way that a kind of defect cannot bear: for tests/sim/test_defects.py.
    "slow answers": Theme(
        {"cut_off": 12, "cut_replies": 8, "break_watch": 4},
        {"spikes": 0.3, "spike_length": 0.7, "lost_replies": 0.15},
        GATED | {"timing": DEFAULT},
    ),
    "mixed leases": Theme({"reload": 8, "cut_off": 10, "kill_daemon": 2}, {}, GATED),
    "drift": Theme({"cut_off": 12, "cut_replies": 6}, {}, GATED | {"timing": BARE, "preempt": 0.0}),
    "slow reads": Theme(
        {"slow_requests_and_cut_off": 10}, {}, GATED | {"timing": BARE, "nodes": 5, "elections": 2}
    ),
    "lost requests": Theme(
        {"cut_off": 10, "cut_replies": 8}, {"lost_requests": 0.2, "lost_replies": 0.2}, GATED
    ),
    "absences": Theme(
        {"delete_record": 12, "cut_off": 14, "break_watch": 10}, {}, GATED | {"probe": False}
    ),
    "mixed absences": Theme(
        {"reload": 10, "delete_record": 12, "cut_off": 14}, {}, GATED | {"probe": False}
    ),
    "deleted moves": Theme({"delete_in_move": 3}, {}, GATED),
    "namesakes": Theme({"cut_off": 4, "kill_daemon": 4}, {}, GATED | {"namesakes": True}),
    "emptied": Theme({"empty_holder": 10, "cut_off": 10}, {}, GATED),
    "late answers": Theme(
        {"fall_ill": 12, "cut_off": 10},
        {"spikes": 0.5, "spike_length": 0.6, "late_answers": 1.0},
        GATED | {"timing": FAST, "elections": 2, "nodes": 4},
    ),
    "silent successors": Theme({"cut_in_move": 3}, {}, GATED | {"timing": DEFAULT}),
    "broken moves": Theme(
        {"ask_handover": 25, "stop_both": 10, "cut_off": 8, "cut_replies": 8},
        {
            "spikes": 0.2,
            "spike_length": 0.4,
            "lost_replies": 0.1,
            "stops": 0.01,
            "lost_frames": 0.5,
        },
        GATED,
    ),
    "killed moves": Theme({"kill_in_move": 25}, {}, OPEN | {"timing": DEFAULT}),
    "chained moves": Theme(
        {"ask_handover": 40, "stop_both": 15},
        {"stops": 0.02, "lost_frames": 1.0},
        GATED | {"nodes": 4},
    ),
    "touched for ever": Theme({"die": 6}, {}, GATED | {"annotated": True}),
    "thaws": Theme(
        {"cut_off": 14, "stop_both": 30},
        {"slow_kernel": 0.3},
        OPEN | {"timing": FAST, "sloppy": True},
    ),
    "thaws in a call": Theme(
        {"freeze_in_call": 30}, {"slow_kernel": 1.0}, GATED | {"timing": FAST, "elections": 2}
    ),
    "crashes in the dark": Theme({"kill_daemon": 25, "cut_off": 14}, {}, GATED | {"timing": BARE}),
    "paused calls": Theme(
        {"remove_address": 10, "cut_off": 6, "ask_handover": 6},
        {"stops": 0.04},
        GATED | {"timing": DEFAULT},
    ),
    "crash after crash": Theme({"crash_cut_off": 15}, {}, OPEN | {"timing": FAST, "sloppy": True}),
    "moves after kills": Theme(
        {"move_after_kill": 30}, {}, GATED | {"timing": DEFAULT, "elections": 2}
    ),
    "races after kills": Theme(
        {"kill_both": 25},
        {"lost_requests": 0.1, "stops": 0.01},
        GATED | {"timing": DEFAULT, "preempt": 0.0},
    ),
    "stuck unbinds": Theme(
        {"fall_ill": 10, "restart": 4, "drain": 6}, {"unbind_refused": 0.6}, GATED
    ),
    "planned": THEMES["planned"],
    "frozen moves": Theme({"freeze_in_move": 12}, {}, OPEN | {"timing": RELAXED, "preempt": 0.0}),
    "crashes in deleted moves": Theme(
        {"crash_and_delete_in_move": 8}, {}, GATED | {"timing": DEFAULT}
    ),
    "crashes of successors": Theme(
        {"crash_after_take": 12}, {}, GATED | {"timing": DEFAULT, "nodes": 4, "preempt": 0.0}
    ),
    "touched moves": Theme({"ask_handover": 25}, {}, GATED | {"annotated": True}),
    "overtaken reads": Theme(
        {"ask_handover": 25},
        {},
        GATED | {"timing": FAST, "farthest": 0.16, "annotated": True, "nodes": 3, "elections": 1},
    ),
}


@dataclass(frozen=True, slots=True)
class Scenario:
    """One world to be: all of it follows from the seed, unless a test sets it.

    `farthest`: the largest distance of a node from the store, in halves of its request_timeout one
    way.
    """

    seed: int
    theme: str
    nodes: int
    elections: int
    timing: Timing
    seconds: float
    preempt: float
    preempt_delay: float
    gate: bool
    sloppy: bool
    namesakes: bool
    probe: bool
    latency: float
    jitter: float
    annotated: bool
    farthest: float = 0.0


def theme_named(name: str) -> Theme:
    """Return one of the themes."""
    return THEMES[name] if name in THEMES else DIRECTED[name]


def from_seed(seed: int, theme: str = "") -> Scenario:
    """Return the scenario that belongs to a seed."""
    rng = Random(seed)
    timing = any_timing(rng)
    chosen = theme or rng.choice(list(THEMES))
    scenario = Scenario(
        seed=seed,
        theme=chosen,
        nodes=rng.choice((2, 2, 3, 3, 3, 4, 5)),
        elections=2 if rng.random() < 0.15 else 1,
        timing=timing,
        seconds=rng.uniform(4.0, 12.0) * timing.lease_duration,
        preempt=rng.choice((0.0, 0.5, 1.0)),
        preempt_delay=rng.choice((0.0, 0.0, 1.0, 5.0)),
        gate=rng.random() < 0.75,
        sloppy=rng.random() < 0.3,
        namesakes=rng.random() < 0.08,
        probe=rng.random() < 0.5,
        latency=rng.choice((0.0005, 0.0005, 0.002, 0.005)),
        jitter=rng.choice((0.0, 0.0005, 0.0005, 0.01)),
        annotated=rng.random() < 0.05,
    )
    return replace(scenario, **theme_named(chosen).fixed)  # type: ignore[arg-type] # a table of any fields


def build(scenario: Scenario, world: World) -> None:
    """Put the nodes into the world, start them, and plan what befalls them."""
    rng, theme = world.rng, theme_named(scenario.theme)
    world.weather.climate = Climate(
        latency=scenario.latency, jitter=scenario.jitter, rough=1.0, **theme.climate
    )
    world.faults.longest_lease = scenario.timing.lease_duration
    for number in range(scenario.nodes):
        label = "abcde"[number]
        name = "a" if scenario.namesakes and number == 1 else label
        host = Host(world, label, name, _settings(scenario, rng), rng.choice(PRIORITIES))
        host.clock.rate = 1.0 + rng.uniform(-LARGEST_DRIFT, LARGEST_DRIFT)
        host.distance = (
            rng.uniform(0.5, 0.95) * scenario.farthest * scenario.timing.request_timeout / 2
        )
        host.wall_offset = rng.uniform(-1000.0, 1000.0)
        host.clock.offset = rng.uniform(1.0, 100_000.0)
        host.kernel = Kernel(host, gate=scenario.gate, sloppy=scenario.sloppy)
        world.hosts.append(host)
        world.after(
            rng.uniform(0.0, 1.0) if rng.random() < 0.7 else rng.uniform(0.0, scenario.seconds / 3),
            host.start,
        )
    if scenario.annotated:
        for election in ELECTIONS[: scenario.elections]:
            annotate_for_ever(world, election, scenario.timing.lease_duration / 7)
    # Two nodes of one name keep each other out, for as long as both live. A planned move has 500
    # ms, a restart what is left of the lease: with a store that needs longer for three requests
    # both may cost a part of a lease, as section 4 says.
    world.availability.demanding = not scenario.namesakes and all(
        6 * host.distance < HANDOVER_TIMEOUT for host in world.hosts
    )
    _plan(world, theme, scenario.seconds)


def _settings(scenario: Scenario, rng: Random) -> dict[str, Settings]:
    return {
        election: Settings(
            election=election,
            addresses=(f"192.0.2.{10 + number}/32",),
            timing=scenario.timing,
            preempt=rng.random() < scenario.preempt,
            preempt_delay=scenario.preempt_delay,
            probe=scenario.probe,
        )
        for number, election in enumerate(ELECTIONS[: scenario.elections])
    }


def _plan(world: World, theme: Theme, seconds: float) -> None:
    rng = world.rng
    for name, rate in theme.rates.items():
        if name in SWITCHED_OFF:
            continue
        # A short lease lives faster: what befalls a group is counted in its leases, up to three
        # seconds.
        pace = rate * HARDSHIP / 20.0 / min(3.0, world.faults.longest_lease)
        at = rng.expovariate(pace) + 1.0
        while at < seconds:
            world.at(at, _befall, world, name)
            at += rng.expovariate(pace)


def _befall(world: World, name: str) -> None:
    if world.tracing:
        world.say("", f"*** {name}")
    MISHAPS[name](world)
