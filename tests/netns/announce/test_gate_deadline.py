"""The real vipd killed, frozen and thawed at random moments.

No answer in the VIP's name later than a millisecond after its deadline.

The client asks by UDP, TCP, ARP and neighbour solicitations, all to the owner's own MAC: it never
learns that the VIP has moved, as a host with an old neighbour entry does not.
"""

from __future__ import annotations

import contextlib
import json
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from election.timing import fence_margin
from tests.netns.announce.gating import SLOT, VIP_V4, VIP_V6, Client, boottime, dress
from tests.netns.announce.living import (
    ALL_KINDS,
    MILLISECOND,
    SECOND,
    Echo,
    Vipd,
    Watcher,
    limited,
    served,
    signal_all,
)

if TYPE_CHECKING:
    from tests.netns.announce.conftest import Cable

pytestmark = [pytest.mark.root, pytest.mark.netns]

TOLERANCE = MILLISECOND
"""What the product promises."""
AFTER = 60 * MILLISECOND
FAULTS = ("kill", "freeze", "freeze, then kill", "freeze the daemon, kill the guard")


@dataclass
class Stage:
    """An owner's host with something that serves on the VIP, and the one who asks."""

    cable: Cable
    folder: Path
    watcher: Watcher

    def vipd(self, lease: float, gate: str = "auto") -> Vipd:
        """Return a vipd that was never started."""
        folder = self.folder / f"{lease}-{gate}"
        folder.mkdir()
        return Vipd(self.cable.a, folder, lease, gate)

    def hold(self) -> None:
        """Keep the VIP bound whatever happens, as somebody's script might: only
        the gate is left.
        """
        self.cable.a.run(f"ip addr replace {VIP_V4}/32 dev a0")
        self.cable.a.run(f"ip addr replace {VIP_V6}/128 dev a0 nodad")

    def let_go(self) -> None:
        """Take away what `hold` left: a vipd that starts would take it for the host's own address,
        and refuse.
        """
        self.cable.a.run(f"ip -4 addr flush dev a0 to {VIP_V4}/32")
        self.cable.a.run(f"ip -6 addr flush dev a0 to {VIP_V6}/128")

    def bound(self) -> bool:
        """Whether the VIP is still on the owner's interface."""
        return VIP_V4 in self.cable.a.run("ip -4 addr show dev a0")


@pytest.fixture
def stage(cable: Cable, tmp_path: Path) -> Iterator[Stage]:
    """Return the stage, without vipd so far."""
    dress(cable)
    with contextlib.closing(Echo(cable.a)), contextlib.closing(Client(cable)) as client:
        yield Stage(cable, tmp_path, Watcher(client))


@dataclass(frozen=True)
class Outcome:
    """One trial. `late`: ns between deadline and last answer (negative: before).

    `bound`: the VIP was still bound then.
    """

    fault: str
    late: int
    bound: bool


def trial(
    stage: Stage, vipd: Vipd, rng: random.Random, fault: str, longest_freeze: float
) -> Outcome | None:
    """Let a VIP be served, strike at a random moment, and watch until its right has ended, or until
    a frozen vipd has awoken.

    None: on a machine as busy as this one it had lost its right by itself in the moment before.
    """
    watcher, lease = stage.watcher, int(vipd.lease * SECOND)
    stage.let_go()
    with served(vipd, watcher) as words:
        watcher.until(boottime() + rng.randrange(lease // 2), 3 * MILLISECOND)
        pids = vipd.tree()
        strike(vipd, pids, fault)
        struck = boottime()
        stage.hold()
        deadline = words.at(SLOT)
        if deadline <= struck:
            return None
        # The word itself is no more than what the last write gives that the store knows.
        assert deadline <= vipd.written_at() + lease - int(fence_margin(vipd.lease) * SECOND)
        if fault == "freeze, then kill":
            watcher.until(struck + rng.randrange(lease))
            signal_all(pids, signal.SIGKILL)
        watcher.until(deadline + MILLISECOND)
        bound = stage.bound()
        watcher.until(deadline + AFTER)
        late = max((found.at for found in watcher.heard), default=deadline) - deadline
        watcher.heard.clear()
        if fault == "freeze":
            watcher.until(
                struck + rng.randrange(SECOND // 10, max(lease, int(longest_freeze * SECOND))),
                3 * MILLISECOND,
            )
            assert all(found.at <= deadline + TOLERANCE for found in watcher.heard)
            signal_all(pids, signal.SIGCONT)
            watcher.until(boottime() + rng.randrange(SECOND // 2))
            watcher.heard.clear()
    return Outcome(fault, late, bound)


def strike(vipd: Vipd, pids: list[int], fault: str) -> None:
    """Do what the fault says, the guard first: nobody is left to react."""
    match fault:
        case "kill":
            signal_all(pids, signal.SIGKILL)
        case "freeze the daemon, kill the guard":
            signal_all([vipd.daemon], signal.SIGSTOP)
            signal_all([vipd.guard], signal.SIGKILL)
        case _:
            signal_all(pids, signal.SIGSTOP)


def trials(
    stage: Stage, lease: float, count: int, seed: int, longest_freeze: float = 0.0
) -> list[Outcome]:
    """Do so many trials, the faults in turn; print what came of them."""
    rng, vipd = random.Random(seed), stage.vipd(lease)
    outcomes: list[Outcome] = []
    while len(outcomes) < count:
        outcome = trial(stage, vipd, rng, FAULTS[len(outcomes) % len(FAULTS)], longest_freeze)
        outcomes += [outcome] if outcome else []
    late = sorted(outcome.late / MILLISECOND for outcome in outcomes)
    assert all(outcome.bound for outcome in outcomes)
    print(
        f"lease {lease:g}s, {count} trials (seed {seed}): last answer against the deadline p50 "
        f"{late[count // 2]:+.3f} ms,"
        f" max {late[-1]:+.3f} ms; an awakened one at most "
        f"{stage.watcher.over / MILLISECOND:+.3f} ms"
    )
    return outcomes


@pytest.mark.parametrize(("lease", "count"), [(1.0, 4), (3.0, 1)])
def test_nobody_serves_past_the_deadline(stage: Stage, lease: float, count: int) -> None:
    """Killed or frozen, with and without awakening, at random moments."""
    outcomes = trials(stage, lease, count, seed=17)
    assert max(outcome.late for outcome in outcomes) <= TOLERANCE
    assert stage.watcher.over <= TOLERANCE


@pytest.mark.long
@pytest.mark.parametrize(
    ("lease", "count", "longest_freeze"), [(1.0, 120, 30.0), (3.0, 60, 30.0), (10.0, 20, 30.0)]
)
def test_nobody_serves_past_the_deadline_in_two_hundred_trials(
    stage: Stage, lease: float, count: int, longest_freeze: float
) -> None:
    """The same, with freezes of up to half a minute, and another seed each time."""
    outcomes = trials(stage, lease, count, seed=boottime(), longest_freeze=longest_freeze)
    assert max(outcome.late for outcome in outcomes) <= TOLERANCE
    assert stage.watcher.over <= TOLERANCE


def test_without_the_gate_it_is_served_for_too_long(stage: Stage) -> None:
    """A lease of one second, killed.

    The address lifetime, of whole seconds, ends after the deadline, and the client sees that.
    """
    watcher, vipd = stage.watcher, stage.vipd(1.0, "off")
    with served(vipd, watcher) as words:
        assert "clsact" not in stage.cable.a.run("tc qdisc show dev a0")
        signal_all(vipd.tree(), signal.SIGKILL)
        deadline = words.at(SLOT)
        watcher.until(deadline + 50 * MILLISECOND)
        assert {
            kind for kind, at in watcher.answered_at.items() if at > deadline + 20 * MILLISECOND
        } == ALL_KINDS


def test_an_orderly_end_leaves_no_gate(stage: Stage) -> None:
    """Filters and hook are gone with the addresses, and the exit code is 0."""
    vipd = stage.vipd(1.0)
    with served(vipd, stage.watcher):
        assert "vipd-gate" in stage.cable.a.run("tc filter show dev a0 ingress")
        assert vipd.stop() == 0
    assert not stage.bound()
    assert "clsact" not in stage.cable.a.run("tc qdisc show dev a0")


def test_a_vip_is_never_silent_when_all_of_vipd_is_killed_and_started_again(stage: Stage) -> None:
    """It is served under the old right by the old programs until the new life has the lease back,
    and then under the new one.
    """
    watcher, vipd = stage.watcher, stage.vipd(6.0)
    with served(vipd, watcher) as words:
        former = words.at(SLOT)
        signal_all(vipd.tree(), signal.SIGKILL)
    watcher.heard.clear()
    watcher.asked = 0
    with served(vipd, watcher) as words:
        while words.at(SLOT) <= former:
            assert boottime() < former, "no new right before the old one has ended"
            watcher.until(boottime() + 10 * MILLISECOND)
        watcher.until(former + 100 * MILLISECOND, 20 * MILLISECOND)
        # The last ones may be under way.
        assert len(watcher.heard) >= watcher.asked - len(ALL_KINDS)


def test_who_requires_a_gate_does_not_run_without(stage: Stage) -> None:
    """Exit code 2 and a sentence; with `auto` it goes on, and says what is left."""
    folder = stage.folder / "limited"
    folder.mkdir()
    file = Vipd(stage.cable.a, folder, 3.0, "require").file
    rights = limited("net_admin", "net_raw")
    with stage.cable.a.inside():
        refused = subprocess.run(
            [*rights, sys.executable, "-m", "vipd", "run", "-c", file],
            capture_output=True,
            text=True,
            check=False,
        )
    assert refused.returncode == 2
    assert (
        "fence.gate: is require, and the kernel's gate cannot be had: this process lacks CAP_BPF"
        in refused.stderr
    )
    assert not stage.bound()
    file.write_text(
        json.dumps({**json.loads(file.read_text(encoding="utf-8")), "fence": {"gate": "auto"}}),
        encoding="utf-8",
    )
    with (
        stage.cable.a.inside(),
        subprocess.Popen(
            [*rights, sys.executable, "-m", "vipd", "run", "-c", file],
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        assert process.stderr
        try:
            said = next(line for line in process.stderr if "kernel gate" in line)
        finally:
            process.kill()
    assert "this process lacks CAP_BPF): a lease of 3s is covered as a rule" in said
