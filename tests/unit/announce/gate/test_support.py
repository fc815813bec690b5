"""Why the gate cannot work here: each cause has its own sentence."""

from __future__ import annotations

import errno
import os

import pytest

from announce.gate.support import missing_rights, why_not


@pytest.mark.parametrize(
    ("capabilities", "missing"),
    [
        ("0000000000000000", ["CAP_BPF", "CAP_NET_ADMIN"]),
        ("0000000000001000", ["CAP_BPF"]),
        ("0000008000000000", ["CAP_NET_ADMIN"]),
        ("0000008000003000", []),
        ("000001ffffffffff", []),
        ("0000000000200000", []),  # CAP_SYS_ADMIN includes what came out of it
    ],
)
def test_missing_rights_are_named(capabilities: str, missing: list[str]) -> None:
    """As /proc/PID/status shows the effective ones."""
    assert (
        missing_rights(
            f"Name:\tvipd\nCapPrm:\t000001ffffffffff\nCapEff:\t{capabilities}\nCapBnd:\t000001ffffffffff\n"
        )
        == missing
    )


@pytest.mark.parametrize(
    ("number", "release", "words"),
    [
        (errno.ENOSYS, "6.1.0", "no bpf"),
        (errno.EINVAL, "5.4.0-42-generic", "Linux 5.8 or newer, and this is 5.4.0-42-generic"),
        (errno.EINVAL, "5.10.0", os.strerror(errno.EINVAL)),
        (errno.E2BIG, "", os.strerror(errno.E2BIG)),
    ],
)
def test_an_error_becomes_a_sentence(number: int, release: str, words: str) -> None:
    """With the kernel's own words where nothing is known about it."""
    assert words in why_not(OSError(number, os.strerror(number)), release)
