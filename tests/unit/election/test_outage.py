"""The kinds of outages, and which of them is shown."""

from __future__ import annotations

import errno

import pytest

from election.outage import Outage, of_system_error


@pytest.mark.parametrize(
    ("error", "outage"),
    [
        (OSError(errno.EROFS, "x"), Outage.READ_ONLY),
        (OSError(errno.ENOSPC, "x"), Outage.FULL),
        (OSError(errno.EDQUOT, "x"), Outage.FULL),
        (PermissionError(errno.EACCES, "x"), Outage.REFUSING),
        (FileNotFoundError(errno.ENOENT, "x"), Outage.UNREACHABLE),
        (TimeoutError(), Outage.SLOW),
        (OSError(errno.EIO, "x"), Outage.FAILING),
        (OSError("no number"), Outage.FAILING),
    ],
)
def test_errors_of_a_file_system(error: OSError, outage: Outage) -> None:
    """A disk that is full, read-only, forbidden, gone, hung or broken."""
    assert of_system_error(error) is outage


def test_an_answer_tells_more_than_silence() -> None:
    """Two of three servers are dead.

    The third one's word that there is no quorum is what an operator must read.
    """
    assert Outage.NO_QUORUM.tells_more_than(Outage.UNREACHABLE)
    assert not Outage.SLOW.tells_more_than(Outage.FULL)
    assert not Outage.SLOW.tells_more_than(Outage.SLOW)
