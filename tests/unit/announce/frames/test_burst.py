"""When announcements are due."""

from __future__ import annotations

from itertools import islice

from announce.frames.burst import INTERVAL, delays


def test_at_once_then_the_burst_then_the_refresh_for_ever() -> None:
    """The first one never waits."""
    assert list(islice(delays(3, INTERVAL, 60.0), 8)) == [
        0.0,
        1.1,
        1.1,
        1.1,
        60.0,
        60.0,
        60.0,
        60.0,
    ]


def test_no_refresh_ends_after_the_burst() -> None:
    """And no burst leaves the first one."""
    assert list(delays(2, 0.5, 0.0)) == [0.0, 0.5, 0.5]
    assert list(delays(0, 0.5, 0.0)) == [0.0]


def test_a_burst_is_slower_than_locktime() -> None:
    """Linux drops what follows a change within one second."""
    assert INTERVAL > 1.0
