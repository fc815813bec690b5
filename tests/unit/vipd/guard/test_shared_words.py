"""The shared words: what is stored is what is read, whole, by every process that has them."""

from __future__ import annotations

import mmap
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vipd.guard.shared_words import Words

ROOT = Path(__file__).parents[4]


def test_a_fresh_word_is_closed_and_nobody_alive() -> None:
    """Memory starts as zeros, and zero gives no right."""
    words = Words(3)
    assert [words.deadline(slot) for slot in (1, 2, 3)] == [0.0, 0.0, 0.0]
    assert words.alive_at() == 0.0


@given(st.floats(0.001, 1e9))
def test_a_deadline_keeps_its_nanoseconds(seconds: float) -> None:
    """What comes back differs by no more than the rounding of the clock's own float."""
    words = Words(1)
    words.set_deadline(1, seconds)
    assert abs(words.deadline(1) - seconds) <= 1e-9 + seconds * 1e-15


@pytest.mark.parametrize("seconds", [0.0, -1.0])
def test_no_right_closes_the_word(seconds: float) -> None:
    """A moment before the clock began is no right either."""
    words = Words(1)
    words.set_deadline(1, 5.0)
    words.set_deadline(1, seconds)
    assert words.deadline(1) == 0.0


@pytest.mark.parametrize("slot", [0, 3, -1])
def test_there_is_no_other_slot(slot: int) -> None:
    """Word 0 is the heartbeat: a slot 0 would be a deadline that the beats raise."""
    words = Words(2)
    with pytest.raises(IndexError):
        words.deadline(slot)
    with pytest.raises(IndexError):
        words.set_deadline(slot, 1.0)


def test_beats_and_deadlines_do_not_touch_each_other() -> None:
    """Each word stands alone."""
    words = Words(2)
    words.set_deadline(1, 11.0)
    words.beat(22.0)
    words.set_deadline(2, 33.0)
    assert (words.deadline(1), words.alive_at(), words.deadline(2)) == (11.0, 22.0, 33.0)


def test_the_memory_may_be_somebody_elses() -> None:
    """The gate's map is one: native 8-byte words, deadlines from the second on."""
    with mmap.mmap(-1, 4096) as memory:
        words = Words(2, memory)
        words.set_deadline(2, 1.5)
        assert int.from_bytes(memory[16:24], sys.byteorder) == 1_500_000_000
        del words


def test_too_little_memory_is_refused() -> None:
    """Better at start than at the first renewal."""
    with pytest.raises(ValueError, match="too few"):
        Words(2, bytearray(16))


FORKED = """
import os
from vipd.guard.shared_words import Words
words = Words(2)
if os.fork() == 0:
    words.set_deadline(2, 12.5)
    words.beat(7.25)
    os._exit(0)
os.wait()
print(words.deadline(2), words.alive_at())
"""

TORN = """
import os, signal
from vipd.guard.shared_words import Words
words = Words(1)
low, high = 0x0000_0001_0000_0001, 0x0FFF_FFFF_FFFF_FFFF
child = os.fork()
if child == 0:
    while True:
        words._words[1] = low
        words._words[1] = high
seen = {words._words[1] for _ in range(1_000_000)}
os.kill(child, signal.SIGKILL)
os.wait()
print(sorted(seen - {0}) in ([low], [high], [low, high]), len(seen - {0}))
"""


def output(program: str) -> str:
    """Return what a program prints."""
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout.strip()


def test_a_forked_process_shares_them() -> None:
    """Guard and daemon need no descriptor and no message for it."""
    assert output(FORKED) == "12.5 7.25"


def test_nobody_sees_half_a_store() -> None:
    """One process changes all 8 bytes back and forth while another reads a million times."""
    assert output(TORN).split()[0] == "True"
