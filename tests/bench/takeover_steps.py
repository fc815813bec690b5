"""From notes, frames and news of addresses to the steps of a takeover.

Pure; moments are ns of CLOCK_REALTIME, figures ms.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

Note = tuple[str, int]
"""What a daemon came by (see takeover_traced), and when."""
STEPS = (
    "record changed -> successor's daemon has read it",
    "machine decides, write begins",
    "store: write -> known to be applied",
    "machine, deadline's word, bind begins",
    "bind: netlink",
    "bind: read back",
    "first frame on the wire",
    "the other frames, until each address was announced",
)
WHOLES = (
    "record -> first frame",
    "seen -> first frame",
    "record -> all bound",
    "record -> all announced",
    "seen -> all announced",
)

KNOWN_APPLIED = {"write take>", "write take<", "event ElectionChanged>"}
"""The first is the write itself: it stands for none of the others."""


class VoidError(Exception):
    """A takeover that cannot be judged; the text says why."""


@dataclass(frozen=True, slots=True)
class Seen:
    """An address was announced by a node, bound there, or is gone from there."""

    at: int
    node: str
    address: bytes
    what: str


@dataclass(frozen=True, slots=True)
class Takeover:
    """Moments of one takeover, in their order.

    `changed`: the former holder's write has changed the record; `seen`: the successor's daemon has
    it in its hands. `bound_all` is when the kernel told of the last address, some tens of
    microseconds after it was bound.
    """

    changed: int
    seen: int
    write_begins: int
    applied: int
    bind_begins: int
    requested: int
    read_back: int
    first_frame: int
    last_announced: int
    bound_all: int

    def steps(self) -> dict[str, float]:
        """Return how long each of STEPS took, in ms; together they are the whole path."""
        moments = (
            self.changed,
            self.seen,
            self.write_begins,
            self.applied,
            self.bind_begins,
            self.requested,
            self.read_back,
            self.first_frame,
            self.last_announced,
        )
        return {
            name: (after - before) / 1e6
            for name, before, after in zip(STEPS, moments, moments[1:], strict=False)
        }

    def wholes(self) -> dict[str, float]:
        """Return WHOLES in ms."""
        ends = (
            self.first_frame - self.changed,
            self.first_frame - self.seen,
            self.bound_all - self.changed,
            self.last_announced - self.changed,
            self.last_announced - self.seen,
        )
        return {name: end / 1e6 for name, end in zip(WHOLES, ends, strict=True)}


def first(notes: Iterable[Note], wanted: str | Callable[[str], bool], since: int) -> int:
    """Return when this was first noted since then; VoidError if never."""
    for what, at in notes:
        if at >= since and (what == wanted if isinstance(wanted, str) else wanted(what)):
            return at
    raise VoidError(f"nothing was noted of {wanted}")


def last(notes: Iterable[Note], wanted: str, before: int) -> int:
    """Return when this was last noted before then; VoidError if never."""
    found = [at for what, at in notes if at <= before and what == wanted]
    if not found:
        raise VoidError(f"nothing was noted of {wanted}")
    return max(found)


def takeover(
    former: Sequence[Note],
    new: Sequence[Note],
    seen: Sequence[Seen],
    expected: frozenset[bytes],
    kind: str,
) -> Takeover:
    """Return one takeover.

    `seen` is of the successor alone; `kind` is what the former holder wrote: name or release.

    Where the store is a directory the record has changed when the new file is linked; of another
    store it is known no earlier than when the first of both nodes hears of it, the holder by the
    answer or the successor by its watch.
    """
    sent = first(former, f"write {kind}>", 0)
    answered = first(former, f"write {kind}<", sent)
    linked = [at for what, at in former if what == "link>" and sent <= at <= answered]
    begins = first(new, "write take>", sent)
    told = last(new, "event ElectionChanged>", begins)
    if told < sent:
        raise VoidError("the successor knew by other means than its watch")
    bind_begins = first(new, "bind>", begins)
    # The successor's own watch may tell that the take was applied before the answer comes.
    applied = max(at for what, at in new if begins <= at <= bind_begins and what in KNOWN_APPLIED)
    frames = earliest(seen, "announced", bind_begins)
    bound = earliest(seen, "bound", bind_begins)
    for what, there in (("announced", frames), ("bound", bound)):
        if there.keys() != expected:
            raise VoidError(f"{len(there)} of {len(expected)} addresses were seen to be {what}")
    return Takeover(
        changed=linked[0] if linked else min(answered, told),
        seen=told,
        write_begins=begins,
        applied=applied,
        bind_begins=bind_begins,
        requested=first(new, "request<", bind_begins),
        read_back=first(new, "bind<", bind_begins),
        first_frame=min(frames.values()),
        last_announced=max(frames.values()),
        bound_all=max(bound.values()),
    )


def earliest(seen: Iterable[Seen], what: str, since: int) -> dict[bytes, int]:
    """Return when this was first seen of each address since then."""
    found: dict[bytes, int] = {}
    for one in seen:
        if one.what == what and one.at >= since:
            found[one.address] = min(one.at, found.get(one.address, one.at))
    return found


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least this share of all does not exceed (nearest rank)."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def summary(values: Sequence[float]) -> dict[str, float]:
    """Return median, 99th percentile, maximum and number."""
    return {
        "p50": statistics.median(values),
        "p99": percentile(values, 0.99),
        "max": max(values),
        "count": len(values),
    }


def gathered(rows: Iterable[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Return the summary of each figure of all takeovers."""
    columns: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
    return {name: summary(values) for name, values in columns.items()}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def shown(figures: Mapping[str, float]) -> str:
    """Return a summary in a cell: p50 / p99 / max."""
    return " / ".join(f"{figures[key]:.2f}" for key in ("p50", "p99", "max"))
