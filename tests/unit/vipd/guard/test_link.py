"""The daemon's questions and the guard's answers, over a real connection, with the guard's half in
a thread.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict

import pytest

from announce.kernel.messages import ready_messages
from tests.unit.vipd.guard.half_guard import HalfGuard
from vipd.clock import now
from vipd.guard.channel import Channel
from vipd.guard.errors import ChannelError, GuardError, LockedError
from vipd.guard.link import GateReport, GuardLink, StartInfo
from vipd.guard.locks import Locks
from vipd.guard.shared_words import Words

ADDRESS = f"192.0.2.1-test-{os.getpid()}"
READY = [ready_messages("lo", ["192.0.2.1/32"]).to_bytes()]
LEASE = 3.0


def take(locks: Locks, name: str) -> None:
    """Take a lock as soon as it is free.

    The guard's thread closes its last copy when it gets round to it.
    """
    end = time.monotonic() + 10
    while True:
        try:
            locks.lock([name])
        except LockedError:
            assert time.monotonic() < end
            time.sleep(0.005)
        else:
            return


@pytest.fixture
def guard() -> Iterator[HalfGuard]:
    """Give a guard without a daemon."""
    half = HalfGuard()
    yield half
    half.close()


def test_a_slot_belongs_to_a_name_over_restarts(guard: HalfGuard) -> None:
    """The next daemon finds the deadline that the former one left."""
    with guard.daemon() as (link, _):
        assert (link.arm("one", READY, LEASE).slot, link.arm("two", READY, LEASE).slot) == (1, 2)
        link.word(link.arm("two", READY, LEASE)).set(5.5)
    guard.slots.daemon_ended()
    with guard.daemon() as (link, _):
        armed = link.arm("two", READY, LEASE)
        assert (armed.slot, armed.deadline) == (2, 5.5)
        assert link.arm("three", READY, LEASE).slot == 3


def test_a_freed_slot_is_closed_before_it_is_used_again(guard: HalfGuard) -> None:
    """Another election must not inherit a right."""
    with guard.daemon() as (link, _):
        link.arm("one", READY, LEASE)
        link.disarm("one")
        guard.words.set_deadline(1, 99.0)
        assert link.arm("other", READY, LEASE).deadline == 0.0


def test_an_open_election_is_not_forgotten(guard: HalfGuard) -> None:
    """Its addresses may be bound."""
    with guard.daemon() as (link, _):
        armed = link.arm("one", READY, LEASE)
        link.word(armed).set(now() + 1)
        with pytest.raises(GuardError, match="still has a right"):
            link.disarm("one")
        link.word(armed).set(0.0)
        link.disarm("one")
        link.disarm("never heard of")
    assert guard.slots.view() == ()


def test_elections_that_a_new_configuration_lacks_are_kept_while_open(guard: HalfGuard) -> None:
    """After `ready` only what is armed or still open stands in the book."""
    with guard.daemon() as (link, _):
        for name in ("one", "two"):
            link.arm(name, READY, LEASE)
        link.words.set_deadline(2, 7.0)
    guard.slots.daemon_ended()
    with guard.daemon() as (link, _):
        link.arm("three", READY, LEASE)
        link.ready()
        link.disarm("three")
    assert guard.heard == ["ready"]
    assert [(slot.number, slot.deadline, slot.armed) for slot in guard.slots.view()] == [
        (2, 7.0, False)
    ]


def test_addresses_that_a_later_arming_lacks_are_not_forgotten_while_open(guard: HalfGuard) -> None:
    """They are removed with the others when the right ends."""
    both = ready_messages("lo", ["192.0.2.1/32", "192.0.2.2/32"]).to_bytes()
    with guard.daemon() as (link, _):
        armed = link.arm("one", [both], LEASE)
        link.words.set_deadline(armed.slot, 7.0)
        link.arm("one", READY, LEASE)
        (entry,) = guard.slots._entries.values()
        assert [messages.to_bytes() for messages in entry.former] == [both]
        link.words.set_deadline(armed.slot, 0.0)
        link.arm("one", [both], LEASE)
        assert entry.former == ()


def test_arming_with_nothing_keeps_what_was_armed_while_open(guard: HalfGuard) -> None:
    """A new daemon arms before it has seen its interface, and may die before it does.

    The guard still knows what to refresh.
    """
    with guard.daemon() as (link, _):
        armed = link.arm("one", READY, LEASE)
        link.words.set_deadline(armed.slot, 7.0)
        link.arm("one", [], LEASE)
        (entry,) = guard.slots._entries.values()
        assert [messages.to_bytes() for messages in entry.ready] == READY
        assert entry.former == ()
        link.words.set_deadline(armed.slot, 0.0)
        link.arm("one", [], LEASE)
        assert entry.ready == ()


def test_there_is_room_for_so_many_elections(guard: HalfGuard) -> None:
    """One more is refused with a sentence.

    The daemon cannot go on without the guard's protection.
    """
    with guard.daemon() as (link, _):
        for number in range(4):
            link.arm(f"e{number}", READY, LEASE)
        with pytest.raises(GuardError, match="room for 4 elections"):
            link.arm("e4", READY, LEASE)


def test_an_arming_that_is_asked_for_counts_from_its_answer_on(guard: HalfGuard) -> None:
    """At run time nobody waits for the guard; a refusal comes with its sentence."""
    answers: list[str] = []
    with guard.daemon() as (link, _):
        for name in ("one", "two", "three", "four", "five"):
            link.ask_to_arm(name, READY, LEASE, answers.append)
        assert answers == []
        end = time.monotonic() + 10
        while len(answers) < 5:
            assert time.monotonic() < end
            link.receive()
    assert answers == ["", "", "", "", "there is room for 4 elections only"]


def test_a_late_answer_is_not_taken_for_the_next_one() -> None:
    """Else an election would take another one's slot.

    1. the daemon asks, the guard is stopped for longer than it waits
    2. the guard goes on, and answers
    3. the daemon asks something else: the first answer to come is the old one
    """
    mine, others = socket.socketpair()
    counter = os.eventfd(0, os.EFD_NONBLOCK)
    with contextlib.closing(Channel(mine)) as channel:
        link = GuardLink(others, Words(4), counter, StartInfo())
        with pytest.raises(GuardError, match="did not answer"):
            link.arm("one", READY, LEASE)
        channel.send({"answer": "done", "slot": 1, "deadline": 0.0})
        channel.send({"answer": "done", "slot": 2, "deadline": 7.0})
        armed = link.arm("two", READY, LEASE)
        assert (armed.slot, armed.deadline) == (2, 7.0)
    link._channel.close()
    os.close(counter)


def test_an_answer_to_nothing_is_an_error() -> None:
    """It would be taken for that of the next question."""
    mine, others = socket.socketpair()
    counter = os.eventfd(0, os.EFD_NONBLOCK)
    with contextlib.closing(Channel(mine)) as channel:
        link = GuardLink(others, Words(4), counter, StartInfo())
        channel.send({"answer": "done"})
        with pytest.raises(ChannelError, match="not asked"):
            link.receive()
    link._channel.close()
    os.close(counter)


def test_a_locked_address_stays_locked_when_the_guard_lets_go(guard: HalfGuard) -> None:
    """The daemon has its own copy.

    It hands over when the guard is dead, and holds the address until then.
    """
    other = Locks()
    with guard.daemon() as (link, _):
        assert link.lock([ADDRESS]) == ""
        assert link.lock([ADDRESS]) == ""
        guard.locks.close()
        with pytest.raises(LockedError, match="managed by another vipd"):
            other.lock([ADDRESS])
        link.unlock([ADDRESS])
        take(other, ADDRESS)
        assert "managed by another vipd" in link.lock([ADDRESS])
        other.close()
        assert link.lock([ADDRESS]) == ""
        link.unlock([ADDRESS])


def test_a_lock_that_is_about_to_be_free_can_be_waited_for(guard: HalfGuard) -> None:
    """A guard that was killed leaves a daemon that hands over.

    The next one does not refuse for its sake.
    """
    other = Locks()
    other.lock([ADDRESS])
    timer = threading.Timer(0.1, other.close)
    timer.start()
    with guard.daemon() as (link, _):
        assert link.lock([ADDRESS], wait=5.0) == ""
        link.unlock([ADDRESS])
    timer.join()


def test_hundreds_of_addresses_are_locked(guard: HalfGuard) -> None:
    """More descriptors than one message carries."""
    names = [f"{ADDRESS}-{number}" for number in range(150)]
    with guard.daemon() as (link, _):
        assert link.lock(names) == ""
        link.unlock(names)


def woken(guard: HalfGuard) -> bool:
    """Whether the guard was woken since it was last asked."""
    try:
        return os.eventfd_read(guard.counter) > 0
    except BlockingIOError:
        return False


def test_a_lowered_deadline_wakes_the_guard(guard: HalfGuard) -> None:
    """A raised or a closed one need not: the guard only wakes up too early."""
    with guard.daemon() as (link, _):
        word = link.word(link.arm("one", READY, LEASE))
        for deadline, told in ((10.0, False), (12.0, False), (11.0, True), (0.0, False)):
            word.set(deadline)
            assert guard.words.deadline(1) == word.deadline == deadline
            assert woken(guard) is told


def test_an_opened_word_wakes_the_guard_only_if_an_earlier_lifes_gate_stands(
    guard: HalfGuard,
) -> None:
    """Its programs do not know this word: they have to give way before anything is announced."""
    with guard.daemon() as (link, channel):
        word = link.word(link.arm("one", READY, LEASE))
        for inherited in (False, True):
            channel.send({"op": "gate", **asdict(GateReport(inherited=inherited))})
            link.arm("one", READY, LEASE)
            word.set(10.0)
            assert woken(guard) is inherited
            word.set(0.0)


def test_a_report_on_the_gate_is_known_with_the_answer_before_which_it_came(
    guard: HalfGuard,
) -> None:
    """Whoever arms asks next whether the gate is in force.

    The last report counts, and none is taken for a configuration.
    """
    with guard.daemon() as (link, channel):
        assert link.gate == GateReport()
        report = GateReport({"one": "a0: no room"}, ("a0: somebody is first",), 2, inherited=True)
        for sent in (GateReport(put_back=1), report):
            channel.send({"op": "gate", **asdict(sent)})
        link.arm("one", READY, LEASE)
        assert link.gate == report
        assert link.receive() == []


def test_a_new_configuration_is_heard_even_in_the_middle_of_a_question(guard: HalfGuard) -> None:
    """What is not an answer waits for `receive`."""
    with guard.daemon() as (link, channel):
        channel.send({"op": "reload", "blob": b"\x80new".hex()})
        link.arm("one", READY, LEASE)
        assert link.receive() == [b"\x80new"]
        assert link.receive() == []


def test_the_guards_end_is_seen(guard: HalfGuard) -> None:
    """By a question, and by listening."""
    with guard.daemon() as (link, channel):
        channel._socket.shutdown(socket.SHUT_RDWR)
        with pytest.raises(GuardError, match="the guard is gone"):
            link.arm("one", READY, LEASE)
        assert link.receive() == []
        assert link.ended


def test_a_daemon_knows_of_its_former_lives(guard: HalfGuard) -> None:
    """For its metrics."""
    with guard.daemon() as (link, _):
        assert (link.start_info.crashes, link.start_info.fenced) == (2, {"ingress": 1})
        link.beat(4.5)
        assert guard.words.alive_at() == 4.5
        link.status("all is well")
        link.disarm("nothing: an answer shows that the line before was heard")
    assert guard.heard == ["all is well"]


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"op": "dance"},
        {"op": "arm"},
        {"op": "arm", "name": "one", "ready": ["zz"], "lease": 3.0},
        {"op": "arm", "name": "one", "ready": ["00"], "lease": 3.0},
        {"op": "arm", "name": "one", "ready": "00", "lease": 3.0},
        {"op": "arm", "name": "one", "ready": [], "lease": "long"},
        {"op": "lock", "names": "all"},
    ],
)
def test_nonsense_ends_the_connection(guard: HalfGuard, message: dict[str, object]) -> None:
    """And nothing is believed of it."""
    with guard.daemon() as (link, _):
        link._channel.send(message)
        with pytest.raises(GuardError, match="the guard is gone"):
            link.disarm("one")
    assert len(guard.trouble) == 1
    assert guard.slots.view() == ()
