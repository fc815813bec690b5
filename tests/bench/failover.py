"""Outages of planned moves and of faults.

vipd beside keepalived and ucarp, on the same network, client and faults.

    python -m tests.bench.failover [--repeat 5] [--jobs 2] [--peers vipd-etcd,ucarp] [--trials
    stop,kill] [--json FILE] [--plots DIR] python -m tests.bench.failover --merge FILE... [--json
    FILE] [--plots DIR]

Needs root, and keepalived, ucarp and etcd from the distribution's packages; --plots needs
matplotlib. A round is one play of all trials on a fresh network. In round k of K the faults come at
phase k/K of the owner's heartbeat period. A round begins with a trial in which nothing happens: if
a probe is lost in it, the round is void, and played again at most twice. With --jobs 2 the rounds
of two daemons are played at a time, each on a network of its own: half the time, and somewhat later
figures at worst.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import os
import platform
import random
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.bench import side_by_side
from tests.bench.measured import Outcome
from tests.bench.network import Network, network
from tests.bench.peers.base import Peer
from tests.bench.peers.keepalived import Keepalived
from tests.bench.peers.ucarp import Ucarp
from tests.bench.peers.vipd import Vipd
from tests.bench.results import PeerResult, Results, merged, report, to_json
from tests.bench.trials import Trial, Turn, able, chosen, play, settle
from vipd.demo.lab import LabError

PLAYS_AGAIN = 2
"""A void round is played again so many times."""
MOST_FAILURES = 3
"""After so many failed trials a round ends: something is wrong with the machine or the daemon, and
each costs the settling time."""


def _vipd(backend: str, profile: str) -> Callable[[Network], Peer]:
    return lambda net: Vipd(net, backend, profile)


PEERS: Mapping[str, Callable[[Network], Peer]] = {
    "vipd-file": _vipd("file", "default"),
    "vipd-file-fast": _vipd("file", "fast"),
    "vipd-etcd": _vipd("etcd", "default"),
    "vipd-etcd-fast": _vipd("etcd", "fast"),
    "vipd-kubernetes": _vipd("kubernetes", "default"),
    "vipd-kubernetes-fast": _vipd("kubernetes", "fast"),
    "keepalived-1s": lambda net: Keepalived(net, 1.0),
    "keepalived-0.1s": lambda net: Keepalived(net, 0.1),
    "ucarp": Ucarp,
}
FAILURES = (LabError, OSError, subprocess.SubprocessError, RuntimeError)
"""What the network, a process that was to be ended or found, and a store that was to be started may
raise."""


class VoidError(Exception):
    """A probe was lost while nothing happened."""


def say(text: str) -> None:
    """Tell how far it is."""
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def group(key: str) -> Iterator[Peer]:
    """Build a network with three nodes of this daemon, which are calm when this returns."""
    with network() as net, contextlib.closing(PEERS[key](net)) as peer:
        peer.start()
        settle(peer)
        yield peer


def play_round(
    key: str, trials: Sequence[Trial], turn: Turn, versions: dict[str, str]
) -> PeerResult:
    """Play every trial once, on a fresh group after each that failed.

    VoidError if the machine or the group was not quiet.
    """
    found = PeerResult()
    left = list(trials)
    while left and len(found.failed) < MOST_FAILURES:
        try:
            with group(key) as peer:
                versions.update(peer.version())
                found.settings = peer.settings
                found.unable.update(peer.unable)
                if left[0] is not trials[0]:
                    _take(found, peer, trials[0], turn)
                _play_all(found, peer, left, turn)
        except FAILURES as error:
            failed = left[0].key if left else trials[-1].key
            say(f"    {failed}: FAILED: {error}")
            found.failed.append(f"{failed}: {error}")
            del left[:1]
    found.failed += [f"{trial.key}: too many trials before it failed" for trial in left]
    return found


def _play_all(found: PeerResult, peer: Peer, left: list[Trial], turn: Turn) -> None:
    """Play what is left; the first of it is the one that failed if this raises."""
    while left:
        if able(peer, left[0]):
            _take(found, peer, left[0], turn)
        del left[:1]


def _take(found: PeerResult, peer: Peer, trial: Trial, turn: Turn) -> None:
    started = time.monotonic()
    settle(peer)
    outcomes = play(peer, trial, turn)
    if trial.key == "baseline" and (
        lost := outcomes["baseline"].lost + (outcomes["baseline"].lost6 or 0)
    ):
        raise VoidError(f"{lost} of {outcomes['baseline'].sent} probes lost while nothing happened")
    for row, one in outcomes.items():
        found.rows.setdefault(row, []).append(one)
        say(f"    {row:15} {told(one)}  took {time.monotonic() - started:.1f} s")


def told(one: Outcome) -> str:
    """Return the figures of one step on one line, in ms."""
    alone = "-" if one.alone is None else f"{one.alone:.0f}"
    two = (
        f"two {one.two:5.0f}{'+' if one.endless else ' '} seen {one.seen:4.0f}  none "
        f"{one.none:5.0f}"
    )
    moved = (
        f"alone {alone:>5}  command {one.command:5.0f}  changes {one.changes}  after "
        f"{one.after or 'nobody'}"
    )
    return (
        f"outage {one.outage:5.0f}  lost {one.lost:5}  {two}  {moved}  phase "
        f"{one.phase:.2f}{'' if one.synced else ' by chance'}"
    )


def play_peer(
    key: str,
    trials: Sequence[Trial],
    turns: Sequence[Turn],
    results: Results,
    versions: dict[str, str],
) -> None:
    """Play all rounds of one daemon."""
    into = results.peer(key)
    for turn in turns:
        for _ in range(1 + PLAYS_AGAIN):
            say(f"{key}: round {turn.number + 1} of {turn.repeat}")
            try:
                into.add(play_round(key, trials, turn, versions))
                break
            except VoidError as error:
                say(f"    VOID: {error}")
                into.void.append(str(error))
        else:
            into.missing += 1


@contextlib.contextmanager
def interruptible(results: Results) -> Iterator[None]:
    """Note that a run was interrupted."""
    try:
        yield
    except KeyboardInterrupt:
        say("interrupted")
        results.runs[-1]["interrupted"] = True


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    return {
        "kernel": platform.release(),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "load": os.getloadavg()[0],
    }


def described(args: argparse.Namespace, versions: dict[str, str]) -> dict[str, Any]:
    """Return where the figures come from; `versions` may be filled later."""
    command = shlex.join(["python", "-m", "tests.bench.failover", *sys.argv[1:]])
    date = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")  # noqa: TID251 - for the reader of the figures
    return {
        "date": date,
        "command": command,
        "machine": machine(),
        "seed": args.seed,
        "versions": versions,
    }


def rounds(args: argparse.Namespace) -> Sequence[int]:
    """Return the numbers of the rounds to play."""
    return [int(word) for word in args.rounds.split(",")] if args.rounds else range(args.repeat)


def measure_side_by_side(args: argparse.Namespace, keys: Sequence[str]) -> Results:
    """Play what was asked for, each round of each daemon in a process of its own."""
    run = described(args, {})
    command = [
        sys.executable,
        "-m",
        "tests.bench.failover",
        "--repeat",
        str(args.repeat),
        "--trials",
        args.trials,
        "--seed",
        str(args.seed),
    ]
    with tempfile.TemporaryDirectory(prefix="vipd-bench-") as name:
        # The first round of all before the second of one: whoever interrupts it has whole rounds.
        files = {
            (number, key): Path(name) / f"{key}.{number}.json"
            for number in rounds(args)
            for key in keys
        }
        commands = [
            [*command, "--rounds", str(number), "--peers", key, "--json", str(file)]
            for (number, key), file in files.items()
        ]
        ended = side_by_side.run(commands, args.jobs)
        results = merged((file.read_text() for file in files.values() if file.exists()), keys)
        for (_, key), file in files.items():
            results.peer(key).missing += ended and not file.exists()
    versions = {name: said for one in results.runs for name, said in one["versions"].items()}
    results.runs = [{**run, "versions": versions, "interrupted": not ended}]
    return results


def measure(args: argparse.Namespace, keys: Sequence[str], trials: Sequence[Trial]) -> Results:
    """Play what was asked for.

    If it is interrupted, the rounds that were played to their end count.
    """
    versions: dict[str, str] = {}
    results = Results([described(args, versions)])
    numbers = rounds(args)
    with tempfile.TemporaryDirectory(prefix="vipd-bench-") as compiled, interruptible(results):
        # An installed package has its bytecode; a source tree that may not be written to would be
        # compiled at every start.
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = compiled
        for key in keys:
            turns = [
                Turn(number, args.repeat, random.Random(f"{args.seed} {key} {number}"))
                for number in numbers
            ]
            play_peer(key, trials, turns, results, versions)
    return results


def arguments() -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(description="Outages of vipd, keepalived and ucarp.")
    parser.add_argument("--repeat", type=int, default=5, help="rounds for each daemon")
    parser.add_argument("--rounds", default="", help="play only these of them, 0 the first: 0,1")
    parser.add_argument("--peers", default=",".join(PEERS), help=f"some of {', '.join(PEERS)}")
    parser.add_argument(
        "--trials",
        default="",
        help="by default all; the one in which nothing happens is always played",
    )
    parser.add_argument(
        "--seed", type=int, default=1, help="of the phases of a heartbeat that cannot be seen"
    )
    parser.add_argument("--jobs", type=int, default=1, help="so many daemons at a time")
    parser.add_argument("--json", type=Path, help="write all figures of all trials to this file")
    parser.add_argument("--plots", type=Path, help="draw pictures into this folder")
    parser.add_argument(
        "--merge", type=Path, nargs="+", help="measure nothing, but put these JSON files together"
    )
    return parser.parse_args()


def main() -> int:
    """Measure, or put together what was measured, and print it; 1 if something is missing in it."""
    args = arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if args.merge:
        results = merged((path.read_text() for path in args.merge), tuple(PEERS))
    else:
        keys = args.peers.split(",")
        if unknown := set(keys) - set(PEERS):
            sys.exit(f"no daemon {', '.join(sorted(unknown))}; there is {', '.join(PEERS)}")
        trials = chosen([key for key in args.trials.split(",") if key])
        results = measure_side_by_side(args, keys) if args.jobs > 1 else measure(args, keys, trials)
    if args.json:
        args.json.write_text(to_json(results))
    print(report(results))
    if args.plots:
        from tests.bench.plots import draw  # noqa: PLC0415 - only who wants pictures needs matplotlib

        say(f"pictures: {', '.join(map(str, draw(results, args.plots)))}")
    lacking = any(peer.missing or peer.failed for peer in results.peers.values()) or any(
        run.get("interrupted") for run in results.runs
    )
    return 1 if lacking else 0


if __name__ == "__main__":
    sys.exit(main())
