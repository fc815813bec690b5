"""`vipd run` whose daemon writes down when it comes by certain places.

The product is the shipped one, and knows nothing of it.

    python -m tests.bench.takeover_traced TRACE CONFIG

TRACE gets one line of JSON for each moment: what, and when in ns of CLOCK_REALTIME, the clock that
the kernel stamps frames with. A note costs a microsecond; the file is written when nothing has been
noted for a while.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import inspect
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from election.model import Record
from vipd.config.values import Config
from vipd.guard.entries import Entries
from vipd.guard.guard import Guard
from vipd.guard.link import GuardLink

QUIET = 0.05
"""Seconds without a note after which the file is written."""


class Trace:
    """Notes of one daemon."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._notes: list[tuple[str, int]] = []
        self._timer: asyncio.TimerHandle | None = None

    def note(self, what: str) -> None:
        """Write down that this happens now. May be called on any thread."""
        self._notes.append((what, time.clock_gettime_ns(time.CLOCK_REALTIME)))

    def save_later(self) -> None:
        """Write the file when it is quiet; on the event loop's thread."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(QUIET, self._save)

    def _save(self) -> None:
        notes, self._notes = self._notes, []
        with self._path.open("a") as file:
            file.writelines(json.dumps(note) + "\n" for note in notes)


def write_kind(record: Record) -> str:
    """Return what a write of this record says, as far as a takeover is concerned."""
    if record.successor is not None:
        return "name"
    if record.release is not None:
        return "release"
    return "take" if record.holder and not record.bound else "other"


def _write(_store: object, _election: str, record: Record, *_others: object) -> str:
    return f"write {write_kind(record)}"


def _event(_peers: object, event: object) -> str:
    return f"event {type(event).__name__}"


@dataclass(frozen=True, slots=True)
class Place:
    """A function of the daemon.

    `label` makes the note's text of its arguments; `>` and `<` are added for its begin and end.
    """

    module: str
    name: str
    label: Callable[..., str]
    saves: bool = False


def _named(text: str) -> Callable[..., str]:
    return lambda *_arguments, **_named_ones: text


COMMON = (
    Place("vipd.daemon.peers", "Peers._on_event", _event),
    Place("vipd.daemon.executor", "Executor.bind", _named("bind")),
    Place("announce.kernel.addresses", "refresh", _named("request")),
    Place("announce.frames.sender", "Sender.send", _named("send"), saves=True),
)
STORES = {
    "FileBackend": (
        Place("election.stores.file.store", "FileStore.write", _write, saves=True),
        Place("election.stores.file.watch", "Doorbell.events", _named("told")),
        Place("election.stores.file.records", "FileRecords.commit", _named("link")),
    ),
    "EtcdBackend": (Place("election.stores.etcd.store", "EtcdStore.write", _write, saves=True),),
}


def follow(place: Place, trace: Trace) -> None:
    """Put a noting function in the place of a function or method."""
    owner: Any = importlib.import_module(place.module)
    *path, name = place.name.split(".")
    for part in path:
        owner = getattr(owner, part)
    setattr(owner, name, noting(getattr(owner, name), place, trace))


def noting(function: Callable[..., Any], place: Place, trace: Trace) -> Callable[..., Any]:
    """Return a function that does the same, and notes its begin and end."""

    def after(label: str) -> None:
        trace.note(f"{label}<")
        if place.saves:
            trace.save_later()

    @functools.wraps(function)
    async def waits(*arguments: object, **named: object) -> object:
        label = place.label(*arguments, **named)
        trace.note(f"{label}>")
        try:
            return await function(*arguments, **named)
        finally:
            after(label)

    @functools.wraps(function)
    def returns(*arguments: object, **named: object) -> object:
        label = place.label(*arguments, **named)
        trace.note(f"{label}>")
        try:
            return function(*arguments, **named)
        finally:
            after(label)

    return waits if inspect.iscoroutinefunction(function) else returns


def main() -> int:
    """Run the guard, with a daemon that is followed."""
    path, config_path = Path(sys.argv[1]), sys.argv[2]
    plain = Entries()

    def daemon(config: Config, link: GuardLink) -> int:
        trace = Trace(path)
        for place in (*COMMON, *STORES.get(type(config.backend).__name__, ())):
            follow(place, trace)
        return plain.daemon(config, link)

    return Guard(config_path, Entries(daemon=daemon)).run()


if __name__ == "__main__":
    sys.exit(main())
