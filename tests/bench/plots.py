"""The result of a bench as pictures. The only module here that needs matplotlib.

It is no dependency of this project, so its types are not at hand either: Any stands for them.
"""

from __future__ import annotations

import importlib
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.measured import Outcome
from tests.bench.results import Results
from tests.bench.trials import ROWS

LEAST = 0.5
"""ms: what is less, nothing for instance, is drawn here, since a logarithmic scale has no zero."""
LANE = 0.11
"""Inches of height for each daemon of each scenario."""
WIDTH = 11.0
MARKS = "osD^v<>Ph*X"

Figure = Callable[[Outcome], float]


@dataclass(frozen=True, slots=True)
class Picture:
    """What is drawn: `figure` of each trial in ms.

    `endless` tells those that did not end by themselves while they were watched.
    """

    name: str
    title: str
    figure: Figure
    endless: Callable[[Outcome], bool]


PICTURES = (
    Picture(
        "outage",
        "longest time without an answer",
        lambda one: one.outage,
        lambda one: not one.after,
    ),
    Picture(
        "two_owners",
        "longest time with the VIP bound on two nodes",
        lambda one: one.two,
        lambda one: one.endless,
    ),
    Picture(
        "no_owner",
        "longest time with the VIP bound on no node",
        lambda one: one.none,
        lambda _: False,
    ),
)


def draw(results: Results, folder: Path) -> list[Path]:
    """Write a picture of each figure into the folder; return the files."""
    importlib.import_module("matplotlib").use("Agg")
    plot = importlib.import_module("matplotlib.pyplot")
    folder.mkdir(parents=True, exist_ok=True)
    return [_draw(plot, results, picture, folder / f"{picture.name}.png") for picture in PICTURES]


def _draw(plot: Any, results: Results, picture: Picture, path: Path) -> Path:  # noqa: ANN401 - matplotlib
    peers = list(results.peers)
    rows = [row for row in ROWS if any(row in results.peers[peer].rows for peer in peers)]
    lanes = len(peers) + 1
    sheet, axes = plot.subplots(
        figsize=(WIDTH, 1.6 + LANE * lanes * len(rows)), layout="constrained"
    )
    for number, peer in enumerate(peers):
        found = [results.peers[peer].rows.get(row, []) for row in rows]
        heights = [place * lanes + number for place in range(len(rows))]
        _draw_peer(axes, picture, peer, list(zip(heights, found, strict=True)), number)
    for place in range(1, len(rows)):
        axes.axhline(place * lanes - 1, color="0.85", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_xlim(LEAST * 0.8, None)
    axes.set_ylim(len(rows) * lanes - 1, -1)
    axes.set_yticks(
        [place * lanes + (lanes - 2) / 2 for place in range(len(rows))],
        [ROWS[row].title for row in rows],
    )
    axes.set_xlabel(
        f"{picture.title}, ms (logarithmic; {LEAST:g}: none)\nmark: median; line: minimum to "
        "maximum; hollow: no end of its own"
    )
    axes.grid(axis="x", which="major", color="0.9")
    sheet.legend(
        *axes.get_legend_handles_labels(),
        loc="outside upper center",
        ncols=min(5, len(peers)),
        frameon=False,
    )
    sheet.savefig(path, dpi=120)
    plot.close(sheet)
    return path


def _draw_peer(
    axes: Any,  # noqa: ANN401
    picture: Picture,
    peer: str,
    lanes: Sequence[tuple[int, Sequence[Outcome]]],
    number: int,
) -> None:
    color, mark = f"C{number % 10}", MARKS[number % len(MARKS)]
    # Marks of a scenario may be hollow: the legend gets one of its own.
    axes.plot([], [], marker=mark, color=color, markersize=5, linestyle="", label=peer)
    for height, outcomes in lanes:
        if not outcomes:
            continue
        values = [max(LEAST, picture.figure(one)) for one in outcomes]
        face = "white" if any(map(picture.endless, outcomes)) else color
        axes.plot([min(values), max(values)], [height, height], color=color, linewidth=1.5)
        axes.plot(
            [statistics.median(values)],
            [height],
            marker=mark,
            color=color,
            markerfacecolor=face,
            markersize=5,
            linestyle="",
        )
