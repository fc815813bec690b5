"""The map of deadlines.

Memory that processes share without copies, and that the programs see at once.
"""

from __future__ import annotations

import array
import contextlib
import os
import socket
import time
from collections.abc import Iterator

import pytest

from announce.gate.loaded import SMALLEST, Loaded
from announce.gate.maps import Deadlines
from announce.gate.program import DROP, PASS, Direction
from announce.gate.support import probe_support, self_test
from vipd.guard.shared_words import DEFAULT_SLOTS, Words

pytestmark = pytest.mark.root

VIP = bytes([192, 0, 2, 1])
FRAME = bytes(12) + b"\x08\x00" + bytes(16) + VIP
AHEAD = 3600.0


@pytest.fixture
def deadlines() -> Deadlines:
    """Return a map with vipd's number of words; what looks into its memory ends with the test."""
    return Deadlines.create(DEFAULT_SLOTS + 1)


@pytest.fixture
def loaded(deadlines: Deadlines) -> Iterator[Loaded]:
    """Return programs that know one VIP, on slot 5."""
    with contextlib.closing(Loaded(deadlines, 1)) as kept:
        kept.cover({VIP: 5})
        yield kept


def verdict(loaded: Loaded) -> int:
    """Return what is said of a frame that comes for the VIP."""
    return loaded.programs[Direction.ARRIVING].run(FRAME).verdict


def now() -> float:
    """Return CLOCK_BOOTTIME in seconds."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def test_words_in_the_map_open_and_close_the_gate(deadlines: Deadlines, loaded: Loaded) -> None:
    """The shared words of guard and daemon, with the map as their memory."""
    words = Words(DEFAULT_SLOTS, deadlines.memory)
    seen = [verdict(loaded)]
    words.set_deadline(5, now() + AHEAD)
    seen.append(verdict(loaded))
    assert words.deadline(5) * 1e9 == pytest.approx(deadlines.at(5), abs=1000)
    words.beat(now() + AHEAD)
    words.set_deadline(4, now() + AHEAD)
    words.set_deadline(5, now() - 0.001)
    seen.append(verdict(loaded))
    words.set_deadline(5, 0.0)
    seen.append(verdict(loaded))
    assert seen == [DROP, PASS, DROP, DROP]


def test_there_is_no_slot_outside(deadlines: Deadlines) -> None:
    """Word 0 is the heartbeat; the one after the last is for self-tests."""
    for slot in (0, -1, DEFAULT_SLOTS + 1):
        with pytest.raises(IndexError):
            deadlines.at(slot)
    assert deadlines.at(DEFAULT_SLOTS) == 0


def test_a_forked_process_writes_the_same_words(deadlines: Deadlines, loaded: Loaded) -> None:
    """Also after it has closed every descriptor."""
    pid = os.fork()
    if pid == 0:
        os.closerange(3, 200)
        Words(DEFAULT_SLOTS, deadlines.memory).set_deadline(5, now() + AHEAD)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert verdict(loaded) == PASS


def test_a_process_that_is_handed_the_descriptor_writes_the_same_words(
    deadlines: Deadlines, loaded: Loaded
) -> None:
    """A map passed over a socket (SCM_RIGHTS), as to a process that is no child."""
    mine, others = socket.socketpair()
    with mine, others:
        mine.sendmsg(
            [b"."], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [deadlines.fileno()]))]
        )
        _, [(_, _, number)], _, _ = others.recvmsg(1, socket.CMSG_SPACE(4))
    received = Deadlines.from_descriptor(int.from_bytes(number, "little"), DEFAULT_SLOTS + 1)
    Words(DEFAULT_SLOTS, received.memory).set_deadline(5, now() + AHEAD)
    assert verdict(loaded) == PASS


def test_the_self_test_passes_and_leaves_nothing(deadlines: Deadlines, loaded: Loaded) -> None:
    """It uses neither the slots nor the addresses of elections, which may be open meanwhile."""
    Words(DEFAULT_SLOTS, deadlines.memory).set_deadline(5, now() + AHEAD)
    before = bytes(deadlines.memory)
    assert self_test(loaded, deadlines) == ""
    assert bytes(deadlines.memory) == before
    assert verdict(loaded) == PASS
    assert loaded.dropped() == {VIP: 0}


def test_the_self_test_sees_a_program_that_lets_everything_pass(
    deadlines: Deadlines, loaded: Loaded
) -> None:
    """The ways are mixed up: neither program stops what it should."""
    arriving, leaving = loaded.programs[Direction.ARRIVING], loaded.programs[Direction.LEAVING]
    loaded.programs = {Direction.ARRIVING: leaving, Direction.LEAVING: arriving}
    assert "not dropped" in self_test(loaded, deadlines)


def test_there_is_room_for_all_addresses(deadlines: Deadlines) -> None:
    """Up to the number that was asked for, rounded up.

    One more is refused, with the others in place.
    """
    with contextlib.closing(Loaded(deadlines, SMALLEST + 1)) as loaded:
        assert loaded.room == 2 * SMALLEST
        many = {number.to_bytes(4, "big"): 1 for number in range(loaded.room)}
        loaded.cover(many)
        with pytest.raises(OSError, match=r"\[Errno 7\]"):
            loaded.cover({**many, VIP: 1})
        assert (loaded.has_room(many), loaded.has_room({VIP: 1})) == (True, False)
        loaded.cover({})
        loaded.cover({VIP: 1})
        assert list(loaded.dropped()) == [VIP]


def test_this_machine_can() -> None:
    """As root, in the initial user namespace, on a kernel that the tests ask for."""
    assert probe_support() == ""
