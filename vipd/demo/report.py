"""The table and the JSON of a demo.

The JSON, schema `vipd.demo/1`, is one object:
- `schema`, `version` (of vipd), `backend` (etcd or file), `nodes`, `lease_duration_ms`;
- `ok`: whether every scenario that was played is ok;
- `scenarios`, in the order played, each with `key`, `title`, `played` (false: cannot happen with
  this backend; `why` says so, all figures are null), `ok` (the VIP ended where it should, and no
  two nodes had it longer than the contract allows), `from`, `to` (nodes that had the VIP before and
  after), `probes_sent`, `probes_lost`, `outage_ms` (longest time from one answered probe to the
  next, 0 if none was lost in between), all three over IPv4, and `probes6_sent`, `probes6_lost`,
  `outage6_ms` over IPv6, `no_owner_ms` (longest time with an address bound nowhere), `two_bound_ms`
  (longest time with one bound on two nodes), `two_seen_ms` (longest time in which the client got
  answers from two nodes in turn), `why` (what vipd itself logged).
Times are milliseconds. Fields may be added within a schema version; none changes its meaning.
"""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vipd.version import VERSION

SCHEMA = "vipd.demo/1"
HEADINGS = ("scenario", "outage ms", "lost", "IPv6 ms", "lost", "two bound ms", "two seen ms")
NARROWEST_WHY = 30


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured; seconds.

    `sent6`, `lost6` and `outage6` over IPv6, the other three like them over IPv4.
    """

    sent: int
    lost: int
    outage: float
    no_owner: float
    two_bound: float
    two_seen: float
    sent6: int
    lost6: int
    outage6: float


@dataclass(frozen=True, slots=True)
class Row:
    """One scenario and its outcome; `figures` is None if it could not be played."""

    key: str
    title: str
    ok: bool
    before: str
    after: str
    why: str
    figures: Figures | None


def ms(seconds: float) -> int:
    """Return whole milliseconds."""
    return round(seconds * 1000)


def as_json(rows: Sequence[Row], backend: str, nodes: int, lease_duration: float) -> str:
    """Return the whole result as JSON."""
    head = {
        "schema": SCHEMA,
        "version": VERSION,
        "backend": backend,
        "nodes": nodes,
        "lease_duration_ms": ms(lease_duration),
    }
    return json.dumps(
        {**head, "ok": all(row.ok for row in rows), "scenarios": [_object(row) for row in rows]},
        indent=2,
    )


def _object(row: Row) -> dict[str, Any]:
    f = row.figures
    return {
        "key": row.key,
        "title": row.title,
        "played": f is not None,
        "ok": row.ok,
        "from": row.before,
        "to": row.after,
        "probes_sent": f and f.sent,
        "probes_lost": f and f.lost,
        "outage_ms": f and ms(f.outage),
        "probes6_sent": f and f.sent6,
        "probes6_lost": f and f.lost6,
        "outage6_ms": f and ms(f.outage6),
        "no_owner_ms": f and ms(f.no_owner),
        "two_bound_ms": f and ms(f.two_bound),
        "two_seen_ms": f and ms(f.two_seen),
        "why": row.why,
    }


def table(rows: Sequence[Row], width: int | None = None) -> str:
    """Return the result as a table for people.

    A scenario that did not end as it should begins with `!`.
    """
    width = width or shutil.get_terminal_size((120, 24)).columns
    cells = [HEADINGS, *(_cells(row) for row in rows)]
    columns = [max(len(line[place]) for line in cells) for place in range(len(HEADINGS))]
    left = sum(columns) + 2 * len(columns)
    lines = []
    for line, why in zip(
        cells, ["what happened and why", *(_story(row) for row in rows)], strict=True
    ):
        head = "  ".join(
            [
                line[0].ljust(columns[0]),
                *(cell.rjust(size) for cell, size in zip(line[1:], columns[1:], strict=True)),
            ]
        )
        wrapped = textwrap.wrap(why, max(NARROWEST_WHY, width - left)) or [""]
        lines += [f"{head}  {wrapped[0]}".rstrip(), *(" " * left + more for more in wrapped[1:])]
    rule = "-" * min(width, max(len(line) for line in lines))
    return "\n".join([lines[0], rule, *lines[1:]])


def _cells(row: Row) -> tuple[str, ...]:
    title = row.title if row.ok else f"! {row.title}"
    if row.figures is None:
        return (title, *["-"] * (len(HEADINGS) - 1))
    f = row.figures
    return (
        title,
        str(ms(f.outage)),
        str(f.lost),
        str(ms(f.outage6)),
        str(f.lost6),
        str(ms(f.two_bound)),
        str(ms(f.two_seen)),
    )


def _story(row: Row) -> str:
    if row.figures is None:
        return row.why
    return f"{move(row)}: {row.why}" if row.why else move(row)


def move(row: Row) -> str:
    """Return where the VIP was and is."""
    return (
        f"stayed on {row.after}"
        if row.before == row.after
        else f"{row.before} -> {row.after or 'nobody'}"
    )
