"""Functions that note when they are come by do what they did before."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from election.model import Identity, Record, Release
from tests.bench.takeover_traced import QUIET, Place, Trace, noting, write_kind
from tests.bench.takeover_wire import spoken_for

PLACE = Place("module", "name", lambda *_, **_named: "work", saves=True)


def test_results_and_errors_pass_through(tmp_path: Path) -> None:
    """Of plain functions and of coroutines; both ends are noted, whatever happened."""

    def divide(a: int, b: int) -> int:
        return a // b

    async def later(a: int, b: int) -> int:
        return divide(a, b)

    async def scenario() -> None:
        trace = Trace(tmp_path / "trace")
        assert noting(divide, PLACE, trace)(7, 2) == 3
        assert await noting(later, PLACE, trace)(7, b=2) == 3
        with pytest.raises(ZeroDivisionError):
            noting(divide, PLACE, trace)(1, 0)
        await asyncio.sleep(2 * QUIET)

    asyncio.run(scenario())
    notes = [json.loads(line) for line in (tmp_path / "trace").read_text().splitlines()]
    assert [what for what, _ in notes] == ["work>", "work<"] * 3
    assert [at for _, at in notes] == sorted(at for _, at in notes)


@pytest.mark.parametrize(
    ("record", "kind"),
    [
        (Record("u", holder="a", successor=Identity("b", "s"), bound=True), "name"),
        (Record("u", release=Release("s", 1)), "release"),
        (Record("u", holder="a"), "take"),
        (Record("u", holder="a", bound=True), "other"),
        (Record("u"), "other"),
    ],
)
def test_the_kind_of_a_write(record: Record, kind: str) -> None:
    """As far as a takeover is concerned."""
    assert write_kind(record) == kind


def test_whom_a_frame_speaks_for() -> None:
    """The sender of an ARP frame, the target of a neighbour advertisement."""
    arp = bytes(12) + b"\x08\x06" + bytes(14) + b"\xc0\x00\x02\x01" + bytes(10)
    assert spoken_for(arp) == b"\xc0\x00\x02\x01"
    target = bytes(range(16))
    assert spoken_for(bytes(12) + b"\x86\xdd" + bytes(48) + target + bytes(8)) == target
