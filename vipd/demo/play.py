"""Plays every scenario, measures it and prints the result."""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from collections.abc import Callable, Sequence

from election.timing import PROFILES
from vipd.demo import measure, report
from vipd.demo.lab import SYSTEM_PATH, Lab, LabError
from vipd.demo.node import VIP, VIP6, Node
from vipd.demo.scenarios import SCENARIOS, Expect, Scenario
from vipd.demo.stage import FOLDER, Stage
from vipd.demo.story import Story

LEASE = PROFILES["default"].lease_duration
CALM = 0.3
"""Seconds of probes before the fault: they must all be answered."""
TAIL = 0.7
"""Seconds of probes after the outcome: a second move or a late loss would show."""
MOVE_LIMIT = 5 * LEASE
ANSWER_LIMIT = 10.0
TWO_OR_MORE = range(2, 1000)
RESOLUTION = 0.003
"""News of two nodes are read within so many seconds of one another on a busy machine: less is no
overlap."""
CANNOT_BE_CUT = (
    "cannot happen: with `file` all nodes share one host, which cannot be cut off "
    "from its own store"
)

Say = Callable[[str], None]


def run_demo(nodes: int, backend: str, until: str, *, as_json: bool) -> int:
    """Play all scenarios, or those up to the one with the key `until` if that is not empty.

    Return 0 if each ended as the contract says, 1 if not or if the stage could not be built.
    """
    started = time.monotonic()

    def say(text: str) -> None:
        print(
            f"{time.monotonic() - started:6.1f}  {text}",
            file=sys.stderr if as_json else sys.stdout,
            flush=True,
        )

    keys = [scenario.key for scenario in SCENARIOS]
    chosen = SCENARIOS[: keys.index(until) + 1] if until else SCENARIOS
    try:
        backend = _choose_backend(backend, say)
        say(f"building {nodes} nodes, a client and a switch; store: {backend}")
        with Lab("") as lab:
            rows = _play(Stage(lab, nodes, backend, FOLDER), chosen, say)
    except LabError as error:
        print(f"vipd demo: {error}", file=sys.stderr)
        return 1
    print(report.as_json(rows, backend, nodes, LEASE) if as_json else f"\n{report.table(rows)}")
    return 0 if all(row.ok for row in rows) else 1


def _choose_backend(wanted: str, say: Say) -> str:
    installed = shutil.which("etcd", path=SYSTEM_PATH) is not None
    if wanted == "etcd" and not installed:
        raise LabError(
            "the program etcd is missing: apt-get install etcd-server, or choose --backend file"
        )
    if wanted == "auto" and not installed:
        say("etcd is not installed (apt-get install etcd-server): the nodes share a file instead")
    return ("etcd" if installed else "file") if wanted == "auto" else wanted


def _play(stage: Stage, scenarios: Sequence[Scenario], say: Say) -> list[report.Row]:
    with contextlib.closing(stage):
        stage.start()
        say(
            f"all started; the first owner may come after one lease_duration ({LEASE:g} s), in "
            "case somebody else has the VIP"
        )
        say(f"behind each guard: {stage.settle().fence()}")
        rows = []
        for scenario in scenarios:
            if scenario.cuts_off_store and stage.backend == "file":
                rows.append(
                    report.Row(
                        scenario.key,
                        scenario.title,
                        ok=True,
                        before="",
                        after="",
                        why=CANNOT_BE_CUT,
                        figures=None,
                    )
                )
                continue
            rows.append(play_one(stage, scenario, say))
        return rows


def play_one(stage: Stage, scenario: Scenario, say: Say) -> report.Row:
    """Wait until all is calm, do the fault, see the outcome and measure everything from the calm to
    the tail.
    """
    holder = stage.settle()
    say(f"{scenario.title}: {holder.name} has the VIP")
    story = Story(stage.nodes)
    with stage.probe() as prober, stage.probe(VIP6) as prober6:
        if not (prober.wait(ANSWER_LIMIT) and prober6.wait(ANSWER_LIMIT)):
            raise LabError(f"the VIP does not answer, though {holder.name} has it")
        stage.pause(CALM)
        begin = time.monotonic()
        scenario.fault(stage, holder)
        if scenario.expect is Expect.MOVES:
            after = stage.monitor.wait_owner(VIP, MOVE_LIMIT, other_than=holder.name)
            for family in (prober, prober6):
                family.wait(ANSWER_LIMIT, since=begin, other_than=holder.name)
        else:
            stage.pause(scenario.watch)
            after = stage.monitor.wait_owner(VIP, MOVE_LIMIT)
        scenario.then(stage, holder)
        stage.pause(TAIL)
        end = time.monotonic()
        figures = _figures(stage, prober.stop(), prober6.stop(), begin - CALM, end)
    row = _judge(scenario, holder, after, figures, story.told())
    lost = f"{figures.lost} of {figures.sent} probes lost, IPv6 {figures.lost6} of {figures.sent6}"
    say(
        f"    {report.move(row)}; {lost}, longest outage "
        f"{report.ms(max(figures.outage, figures.outage6))} ms"
    )
    scenario.heal(stage, holder)
    return row


def _figures(
    stage: Stage,
    probes: list[measure.Probe],
    probes6: list[measure.Probe],
    begin: float,
    end: float,
) -> report.Figures:
    events = stage.monitor.events
    return report.Figures(
        sent=len(measure.served(probes)),
        lost=measure.lost(probes),
        outage=measure.outage(probes).length,
        no_owner=measure.longest_with(events, range(1), begin, end),
        two_bound=measure.longest_with(events, TWO_OR_MORE, begin, end),
        two_seen=max(measure.seen_twice(probes), measure.seen_twice(probes6)),
        sent6=len(measure.served(probes6)),
        lost6=measure.lost(probes6),
        outage6=measure.outage(probes6).length,
    )


def _judge(
    scenario: Scenario, holder: Node, after: str, figures: report.Figures, why: str
) -> report.Row:
    outcome = Expect.STAYS if after == holder.name else Expect.MOVES
    right_place = bool(after) and scenario.expect in (outcome, Expect.EITHER)
    alone = (
        figures.two_bound <= scenario.overlap + RESOLUTION
        and figures.two_seen <= scenario.overlap + RESOLUTION
    )
    return report.Row(
        scenario.key, scenario.title, right_place and alone, holder.name, after, why, figures
    )
