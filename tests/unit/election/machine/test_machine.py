"""Rules of the machine that a dialogue between nodes does not show well.

The order of actions, late events, odd moments.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest

from election.actions import (
    Action,
    Announce,
    Bind,
    Notice,
    Probe,
    Read,
    Refresh,
    Remember,
    SetDeadline,
    Transition,
    Write,
    WriteKind,
)
from election.events import (
    AddressLost,
    BindDone,
    CandidatesSeen,
    DrainChanged,
    Event,
    FitnessChanged,
    HandoverAsked,
    InterfaceChanged,
    ProbeDone,
    ReadDone,
    RecordSeen,
    Remembered,
    Started,
    StopAsked,
    Tick,
    UnbindDone,
    WriteDone,
)
from election.machine.eligibility import REFUSAL_PATIENCE
from election.machine.lease import LARGEST_COUNT
from election.machine.machine import Machine
from election.machine.situation import VACANT
from election.model import (
    Absent,
    Applied,
    Candidate,
    Conflict,
    Content,
    Found,
    Identity,
    Reason,
    Record,
    Release,
    State,
    Unknown,
)
from election.timing import (
    PROFILES,
    REMEMBER_IN_HANDOVER,
    REMEMBER_PATIENCE,
    SUCCESSOR_HOLDOFF,
    UNBIND_AFTER_TAKEN,
    Settings,
    right_ends,
    unbind_lead,
)

VIP = ("192.0.2.10/32",)
SETTINGS = Settings("web", VIP, PROFILES["default"], probe=False)
ME, OTHER = Identity("a", "a1"), Identity("b", "b1")
FREE = Record("u", session="z1", epoch=4, counter=9, release=Release("z1", 4))
HELD_BY_B = Record("u", holder="b", session="b1", epoch=4, counter=9, priority=100, addresses=VIP)
B = Candidate("b", "b1", 1, eligible=True, priority=100, asks=False, live=True)
UNFIT = replace(B, eligible=False)


def kinds(actions: Sequence[Action]) -> list[str]:
    """Return the actions by name, writes by what they are for."""
    return [
        action.kind.capitalize() if isinstance(action, Write) else type(action).__name__
        for action in actions
    ]


class Node:
    """A machine with a store that it alone writes to.

    `now` moves with `at`; answers come when the test says so.

    `disk`: what is to be remembered is kept at once.
    """

    def __init__(
        self,
        content: Content | Record = FREE,
        settings: Settings = SETTINGS,
        started: Started | None = None,
    ) -> None:
        self.machine = Machine(settings, ME)
        self.disk = True
        self.content: Content = Found(content, "r0") if isinstance(content, Record) else content
        self.now = 100.0
        self.request: Read | Write | None = None
        self.take(FitnessChanged(fit=True, priority=150))
        self.take(started or Started())
        if started is None:
            self.take(UnbindDone(ok=True))

    def take(self, event: Event, at: float | None = None) -> list[Action]:
        """Let an event happen; the last request among its actions is under way from then on."""
        self.now = self.now if at is None else at
        actions = self.machine.step(self.now, event)
        self.request = next(
            (a for a in reversed(actions) if isinstance(a, Read | Write)), self.request
        )
        kept = [action.chosen for action in actions if isinstance(action, Remember)]
        return actions + self.take(Remembered(kept[-1])) if kept and self.disk else actions

    def answer(self, at: float | None = None) -> list[Action]:
        """Let the request under way be carried out and answered."""
        request, self.request = self.request, None
        if isinstance(request, Read):
            return self.take(ReadDone(request.request, self.content), at)
        assert isinstance(request, Write)
        self.content = Found(request.record, f"r{request.request}")
        return self.take(WriteDone(request.request, Applied(self.content.revision)), at)

    def become_active(self) -> list[Action]:
        """Take the free lease at 100.0 and answer what follows.

        Return the actions of the confirmed take.
        """
        self.answer()
        self.take(Tick(), 101.0)
        actions = self.answer()
        self.take(BindDone(5, ok=True))
        self.answer()
        return actions

    def take_free(self) -> list[Action]:
        """Take the free lease at 101.0 and return the actions of the confirmed take.

        The kernel has not answered yet.
        """
        self.answer()
        self.take(Tick(), 101.0)
        return self.answer()

    def wake(self) -> list[Action]:
        """Let time pass until the machine wants to be asked."""
        return self.take(Tick(), self.machine.next_wake(self.now))

    def ask(self) -> Read | Write:
        """Let time pass until a request is under way, and return it."""
        while self.request is None:
            self.wake()
        return self.request

    def renew(self) -> Write:
        """Let time pass until a renewal is under way, and return it."""
        request = self.ask()
        assert isinstance(request, Write)
        return request


def active(*, among: tuple[Candidate, ...] = ()) -> Node:
    """Return a node that is Active since 101.0 and whose record says so, bound."""
    node = Node()
    node.become_active()
    node.take(CandidatesSeen(among))
    assert node.machine.state is State.ACTIVE
    return node


def deadline(node: Node) -> float:
    """Return the deadline."""
    return node.machine.snapshot(node.now).deadline


# ---------------------------------------------------------------- the order of actions


def test_guard_and_gate_know_the_deadline_before_the_bind_and_the_wire_hears_after_it() -> None:
    """If the daemon dies between any two of these, what is bound has somebody who ends it."""
    node = Node()
    actions = node.become_active()
    assert kinds(actions) == ["Remember", "SetDeadline", "Bind", "Announce", "Transition"]
    set_deadline, bind = actions[1], actions[2]
    assert isinstance(set_deadline, SetDeadline)
    assert isinstance(bind, Bind)
    assert set_deadline.deadline == bind.deadline == right_ends(101.0, 3.0)


def test_a_naming_lowers_deadline_and_lifetimes_before_it_is_sent() -> None:
    """If its answer is lost, the successor may act on it all the same."""
    node = active(among=(B,))
    actions = node.take(HandoverAsked())
    assert kinds(actions) == ["SetDeadline", "Refresh", "Name"]
    assert actions[:2] == [SetDeadline(101.5), Refresh(101.5, 3.0, shrink=True)]


def test_a_naming_with_little_left_tells_what_it_gives_when_it_is_confirmed() -> None:
    """Out of touch for long, then back.

    The naming promises more than what was left, and a guard without the new word would kill.
    """
    node = active(among=(B,))
    late = deadline(node) - 0.2
    renewal = node.renew()
    node.take(WriteDone(renewal.request, Unknown("lost")), late - 0.01)
    node.take(HandoverAsked())
    assert "Name" in kinds(node.answer(late))
    assert node.answer(late + 0.01)[:2] == [
        SetDeadline(late + 0.5),
        Refresh(late + 0.5, 3.0, shrink=True),
    ]


def test_an_unbind_is_confirmed_before_anything_is_released() -> None:
    """A release lets others bind at once."""
    node = active()
    assert kinds(node.take(StopAsked())) == ["Unbind", "Transition"]
    assert kinds(node.take(Tick(), node.now + 0.1)) == []
    assert kinds(node.take(UnbindDone(ok=False, why="EBUSY"))) == []
    assert kinds(node.wake()) == ["Unbind"]
    assert kinds(node.take(UnbindDone(ok=True))) == ["SetDeadline", "Release"]
    node.answer()
    assert node.machine.stopped


def answer_all(node: Node) -> None:
    """Answer until no request is under way."""
    while node.request is not None:
        node.answer()


def test_a_node_that_cannot_remove_an_address_is_no_candidate() -> None:
    """It could not give up what it takes.

    It tries ever more rarely, and takes part again once the address is gone.
    """
    node = Node(started=Started())
    waits = []
    for _ in range(200):
        node.take(UnbindDone(ok=False, why="still bound"))
        begun = node.now
        answer_all(node)
        while "Unbind" not in kinds(node.wake()):
            answer_all(node)
        waits.append(node.now - begun)
    assert waits[0] == pytest.approx(0.01)
    assert 0.5 < max(waits) <= 1.0
    said = node.machine.candidacy(node.now)
    assert (said.eligible, node.machine.state, node.machine.snapshot(node.now).reason) == (
        False,
        State.FAULT,
        Reason.UNBIND_FAILED,
    )
    node.take(UnbindDone(ok=True))
    assert node.machine.candidacy(node.now).eligible


def test_a_patient_stop_waits_for_somebody_to_become_fit_and_goes_on_renewing() -> None:
    """All nodes are reloaded at once: those that could succeed are just starting."""
    node = active(among=(UNFIT,))
    begun = node.now
    assert kinds(node.take(StopAsked(1.5))) == []
    while node.now < begun + 1.0:
        node.renew()
        node.answer()
    assert node.machine.state is State.ACTIVE
    assert "Name" in kinds(node.take(CandidatesSeen((B,))))


def test_a_patient_stop_in_vain_leaves_without_a_successor() -> None:
    """At the end of its patience, and at once if a second order has none."""
    for patience in (1.5, 0.0):
        node = active(among=(UNFIT,))
        begun = node.now
        assert kinds(node.take(StopAsked(1.5))) == []
        if patience:
            while node.machine.state is State.ACTIVE:
                actions = node.wake()
                if "Renew" in kinds(actions):
                    node.answer()
            assert node.now == pytest.approx(begun + patience)
        else:
            assert kinds(node.take(StopAsked()))[:1] == ["Unbind"]
            assert node.now == begun


def test_a_patient_stop_waits_for_nobody_where_there_is_nobody() -> None:
    """A single node, or the last one: its reload would only take longer."""
    for others in ((), (replace(UNFIT, live=False),)):
        assert kinds(active(among=others).take(StopAsked(1.5)))[:1] == ["Unbind"]


def test_a_stop_with_a_pause_believes_nobody_at_first() -> None:
    """Reloaded in the same moment, the successor would not answer, and a slow store might not take
    the naming back in time.
    """
    node = active(among=(B,))
    begun = node.now
    assert kinds(node.take(StopAsked(1.5, pause=1.0))) == []
    requests = []
    while "Name" not in requests:
        requests = kinds(node.wake())
        assert node.machine.state is State.ACTIVE
        if "Renew" in requests:
            node.answer()
    assert node.now == pytest.approx(begun + 1.0)


# ---------------------------------------------------------------- the deadline


@pytest.mark.parametrize(
    "event",
    [
        Tick(),
        RecordSeen(Found(replace(FREE, epoch=9), "x")),
        AddressLost(),
        BindDone(5, ok=True),
        HandoverAsked(),
        DrainChanged(drained=True),
    ],
    ids=lambda event: type(event).__name__,
)
def test_every_event_is_handled_only_after_the_deadline_was_looked_at(event: Event) -> None:
    """After a pause of the process queued events come before the timer does."""
    node = active(among=(B,))
    actions = node.take(event, deadline(node))
    assert kinds(actions)[:2] == ["Unbind", "Transition"]
    assert not any(isinstance(action, Bind | Announce | Refresh) for action in actions)
    assert deadline(node) == 0.0


def test_the_unbind_begins_early_enough_to_be_done_by_the_deadline() -> None:
    """And not before: the VIP is up for as long as it may."""
    node = active()
    node.wake()
    due = deadline(node) - unbind_lead(1)
    assert "Unbind" not in kinds(node.take(Tick(), due - 0.001))
    assert "Unbind" in kinds(node.take(Tick(), due))


def test_an_answer_after_the_unbind_brings_nothing_back() -> None:
    """It belongs to a write that was sent before."""
    node = active()
    node.renew()
    node.take(FitnessChanged(fit=False, priority=150))
    assert not {"Bind", "SetDeadline", "Refresh"} & set(kinds(node.answer()))
    assert deadline(node) == 0.0


def test_a_take_that_is_confirmed_too_late_binds_nothing() -> None:
    """Too little is left for the shortest lifetime there is."""
    node = Node()
    node.answer()
    node.take(Tick(), 101.0)
    taken = node.request
    assert isinstance(taken, Write)
    written = Found(taken.record, "r9")
    actions = node.take(RecordSeen(written), right_ends(101.0, 3.0) - 0.1)
    assert "Bind" not in kinds(actions)
    assert node.machine.state is State.BACKUP


# ---------------------------------------------------------------- what answers prove


def test_a_lost_answer_is_read_back_and_gives_the_right_of_the_send() -> None:
    """Not of the read."""
    node = active()
    renewal, sent_at = node.renew(), node.now
    node.content = Found(renewal.record, "r9")
    node.take(Tick(), sent_at + 0.8)
    assert isinstance(node.request, Read)
    assert SetDeadline(right_ends(sent_at, 3.0)) in node.answer(sent_at + 0.9)


def test_a_conflict_is_judged_by_reading() -> None:
    """A foreign annotation is no loss: the holder renews on top of it and keeps it."""
    node = active()
    renewal = node.renew()
    assert isinstance(node.content, Found)
    node.content = Found(replace(node.content.record, extra={"note": "x"}), "r9")
    assert kinds(node.take(WriteDone(renewal.request, Conflict()))) == ["Read"]
    actions = node.answer()
    assert kinds(actions) == ["Renew"]
    assert isinstance(actions[0], Write)
    assert actions[0].record.extra == {"note": "x"}
    assert actions[0].expected == "r9"


def test_the_holder_outbids_a_counter_that_was_raised_by_hand() -> None:
    """Even if that record is gone again.

    Who saw it takes all below it for old, and believes no naming and no release.
    """
    node = active()
    lost = node.renew()
    assert isinstance(node.content, Found)
    node.take(RecordSeen(Found(replace(node.content.record, counter=1007), "x")))
    node.content = Absent()
    node.take(WriteDone(lost.request, Unknown("lost")), node.now + 0.8)
    assert kinds(node.answer(node.now + 0.01)) == ["ForeignEdit", "Renew"]
    assert isinstance(node.request, Write)
    assert node.request.record.counter > 1007


def test_another_session_in_the_record_is_a_loss() -> None:
    """Whoever wrote it: there must not be two."""
    node = active()
    actions = node.take(RecordSeen(Found(replace(HELD_BY_B, epoch=6, counter=99), "r9")))
    assert kinds(actions)[-3:] == ["Unbind", "Transition", "Waits"]
    assert node.machine.snapshot(node.now).reason is Reason.LOST


def test_a_late_answer_to_a_request_that_was_given_up_is_dropped() -> None:
    """Another request may be under way."""
    node = active()
    renewal = node.renew()
    node.take(Tick(), node.now + 0.8)
    before = deadline(node)
    assert node.take(WriteDone(renewal.request, Applied("r9"))) == []
    assert deadline(node) == before


# ---------------------------------------------------------------- taking


def test_an_absent_record_is_first_created_without_a_holder_and_waited_out() -> None:
    """The wait counts from one's own observation of it."""
    node = Node(Absent())
    actions = node.answer()
    assert kinds(actions) == ["Transition", "Create", "Waits"]
    node.take(CandidatesSeen(()))
    node.answer(100.1)
    while not isinstance(request := node.ask(), Write):
        node.answer(node.now + 0.01)
    assert request.kind is WriteKind.TAKE
    assert node.now == pytest.approx(103.1)


def test_before_a_record_that_nobody_held_is_taken_the_wire_is_asked() -> None:
    """keepalived may still be there; whoever answers is named to the operator."""
    node = Node(Record("u"), replace(SETTINGS, probe=True))
    node.answer()
    node.take(CandidatesSeen(()))
    assert kinds(node.take(Tick(), 103.0)) == ["Probe"]
    node.take(ProbeDone("02:00:00:00:00:01"))
    assert "Waits" in kinds(node.answer())
    assert isinstance(node.wake()[0], Read | Probe)
    assert node.machine.state is State.BACKUP


def test_a_named_successor_takes_at_once_and_only_while_the_naming_counts() -> None:
    """500 ms from its own first sight of it."""
    node = Node(HELD_BY_B)
    node.answer()
    named = Found(replace(HELD_BY_B, counter=10, successor=ME), "r1")
    assert "Take" in kinds(node.take(RecordSeen(named), 100.1))
    late = Node(HELD_BY_B)
    late.answer()
    late.take(FitnessChanged(fit=False, priority=150))
    late.take(RecordSeen(named), 100.1)
    assert "Take" not in kinds(late.take(FitnessChanged(fit=True, priority=150), 100.7))


def test_a_restarted_daemon_goes_on_under_the_deadline_it_inherits() -> None:
    """It neither unbinds nor waits, and takes its own lease back with its own session."""
    mine = replace(HELD_BY_B, holder="a", session="a0")
    node = Node(mine, started=Started(frozenset({"a0"}), inherited=102.0))
    assert not node.machine.is_clear
    actions = node.answer(100.1)
    assert kinds(actions) == ["Remember", "Transition", "Remember", "Take"]
    assert kinds(node.answer(100.2))[-3:] == ["Bind", "Announce", "Transition"]
    assert node.machine.snapshot(100.2).reason is Reason.TAKEN_BACK


def test_what_an_earlier_life_left_stays_only_under_its_own_lease() -> None:
    """Somebody else holds it: the address goes, at once."""
    node = Node(HELD_BY_B, started=Started(leftover=True))
    assert "Unbind" in kinds(node.answer())


def test_nobody_takes_what_another_holds_and_renews() -> None:
    """However long it waits, each change begins the wait anew."""
    node = Node(HELD_BY_B)
    node.answer()
    for number in range(1, 8):
        actions = node.take(
            RecordSeen(Found(replace(HELD_BY_B, counter=9 + number), f"r{number}")),
            100.0 + 2.9 * number,
        )
        assert not any(isinstance(action, Write) for action in actions)


# ---------------------------------------------------------------- staying and being asked


def test_renewals_come_on_one_tick_for_all_that_a_node_holds() -> None:
    """The multiples of renew_interval on its own clock, whenever the lease was taken."""
    node = active()
    times = []
    for _ in range(3):
        node.renew()
        times.append(node.now)
        node.answer(node.now + 0.01)
    assert times == pytest.approx([101.4, 102.0, 102.6])


def test_the_last_fit_node_leaves_without_a_successor() -> None:
    """There is nobody to name; the reason says why."""
    node = active()
    transition = node.take(DrainChanged(drained=True))[-1]
    assert transition == Transition(State.ACTIVE, State.FAULT, Reason.DRAINED, 5)


def test_an_address_removed_by_hand_is_put_back_under_the_same_right() -> None:
    """And announced again."""
    node = active()
    assert node.take(AddressLost()) == [Bind(5, deadline(node), 3.0, repair=True), Announce(5)]


def test_a_bind_that_the_kernel_refuses_leaves_the_field_to_others() -> None:
    """Fault, with the kernel's word in the detail."""
    node = active()
    actions = node.take(BindDone(5, ok=False, why="EPERM"))
    assert kinds(actions) == ["Unbind", "Transition"]
    assert (node.machine.state, node.machine.snapshot(node.now).detail) == (State.FAULT, "EPERM")


def refused_node() -> Node:
    """Return a node whose kernel has refused the address, and which has released the lease."""
    node = Node()
    node.take_free()
    node.take(BindDone(5, ok=False, why="EPERM"))
    node.take(UnbindDone(ok=True))
    node.answer()
    assert isinstance(node.content, Found)
    assert node.content.record.released
    return node


HELD_AFTER = replace(HELD_BY_B, epoch=6, counter=20)


def test_who_was_refused_neither_asks_nor_is_fit_until_something_changes() -> None:
    """A healthy holder would be made to give up again and again.

    Nobody names a node that says it is not fit.
    """
    node = refused_node()
    node.take(RecordSeen(Found(HELD_AFTER, "r9")), 102.0)
    for number in range(1, 60):
        record = replace(HELD_AFTER, counter=20 + number)
        node.take(RecordSeen(Found(record, f"r{9 + number}")), 102.0 + number)
        said = node.machine.candidacy(node.now)
        assert (node.machine.state, said.eligible, said.asks) == (State.FAULT, False, False)
    node.take(InterfaceChanged())
    said = node.machine.candidacy(node.now)
    assert (node.machine.state, said.eligible, said.asks) == (State.BACKUP, True, True)


def test_a_lease_that_nobody_takes_is_tried_for_by_who_was_refused() -> None:
    """All nodes may be refused, and the cause may end without a sign.

    The VIP is to come back, and no healthy node is to wait.
    """
    node = refused_node()
    takes = []
    for _ in range(3):
        while node.machine.state is not State.ACTIVE:
            node.ask()
            takes += [node.now] if isinstance(node.request, Write) else []
            assert not node.machine.candidacy(node.now).eligible
            node.answer()
        record = node.machine.snapshot(node.now).record
        assert record is not None
        node.take(BindDone(record.epoch, ok=False, why="EPERM"))
        node.take(UnbindDone(ok=True))
        node.answer()
    assert takes[0] >= 101.0 + REFUSAL_PATIENCE
    assert takes[1] - takes[0] >= 2 * REFUSAL_PATIENCE
    assert takes[2] - takes[1] >= 4 * REFUSAL_PATIENCE


def test_a_sign_that_the_refusal_is_over_brings_a_lease_that_nobody_holds_back() -> None:
    """However often the kernel refused before.

    Who tries while nobody has the VIP costs nobody anything.
    """
    node = refused_node()
    for _ in range(4):
        while node.machine.state is not State.ACTIVE:
            node.ask()
            node.answer()
        record = node.machine.snapshot(node.now).record
        assert record is not None
        node.take(BindDone(record.epoch, ok=False, why="EPERM"))
        refused_at = node.now
        node.take(UnbindDone(ok=True))
        node.answer()
    node.take(InterfaceChanged(), refused_at + 1.0)
    while node.machine.state is not State.ACTIVE:
        node.ask()
        node.answer()
    assert refused_at + REFUSAL_PATIENCE <= node.now < refused_at + REFUSAL_PATIENCE + 1.0


def test_who_was_refused_leaves_a_free_lease_to_the_healthy_for_a_while() -> None:
    """Only after the last rank had its chance."""
    node = refused_node()
    node.take(RecordSeen(Found(HELD_AFTER, "r9")), 120.0)
    released = replace(HELD_AFTER, holder="", counter=21, release=Release("b1", 6))
    node.take(RecordSeen(Found(released, "r10")), 121.0)
    assert node.machine.state is State.FAULT
    assert node.machine.next_wake(121.0) == pytest.approx(121.0 + VACANT)
    assert "Take" in kinds(node.take(Tick(), 121.0 + VACANT))


def test_a_try_that_another_node_was_ahead_of_is_over() -> None:
    """Who took the lease is healthy: the refused node is in Fault again, and does not ask."""
    node = refused_node()
    node.take(
        RecordSeen(
            Found(replace(FREE, epoch=6, counter=20, session="b1", release=Release("b1", 6)), "r9")
        ),
        120.0,
    )
    while not isinstance(node.ask(), Write):
        node.answer()
    node.content = Found(replace(HELD_BY_B, epoch=7, counter=21), "r10")
    [read] = node.take(WriteDone(node.ask().request, Conflict()))
    assert isinstance(read, Read)
    node.answer()
    said = node.machine.candidacy(node.now)
    assert (node.machine.state, said.eligible, said.asks) == (State.FAULT, False, False)


def test_nothing_spins_while_a_read_is_awaited_after_a_try_that_came_to_nothing() -> None:
    """The next try is due by the clock, but has to wait for the answer."""
    node = refused_node()
    node.take(
        RecordSeen(
            Found(replace(FREE, epoch=6, counter=20, session="b1", release=Release("b1", 6)), "r9")
        ),
        120.0,
    )
    while not isinstance(node.ask(), Write):
        node.answer()
    node.content = Found(replace(HELD_BY_B, epoch=7, counter=21), "r10")
    node.take(WriteDone(node.ask().request, Conflict()))
    node.answer()
    node.take(
        RecordSeen(
            Found(replace(FREE, epoch=7, counter=22, session="b1", release=Release("b1", 7)), "r11")
        ),
        140.0,
    )
    [read] = node.take(RecordSeen(node.content), 140.0 + VACANT - 0.1)
    assert isinstance(read, Read)
    node.take(Tick(), 140.0 + VACANT)
    assert node.machine.next_wake(node.now) > node.now


def test_a_bind_that_succeeds_ends_the_refusal() -> None:
    """From then on it is as fit as ever."""
    node = refused_node()
    node.take(InterfaceChanged(), 120.0)
    while node.machine.state is not State.ACTIVE:
        node.ask()
        node.answer()
    node.take(BindDone(6, ok=True))
    assert node.machine.state is State.ACTIVE
    assert node.machine.candidacy(node.now).eligible


# ---------------------------------------------------------------- answers and watches


def test_a_take_sent_on_news_of_the_watch_is_believed_by_its_answer() -> None:
    """It replaced just that content.

    A read between answer and bind would only cost a planned move time.
    """
    node = Node(HELD_BY_B)
    node.answer()
    named = replace(HELD_BY_B, counter=10, successor=ME)
    node.content = Found(named, "r1")
    actions = node.take(RecordSeen(node.content), 101.0)
    assert kinds(actions)[:2] == ["Remember", "Take"]
    actions = node.answer()
    assert "Bind" in kinds(actions)
    assert "Read" not in kinds(actions)


def test_a_take_that_a_watch_has_shown_overtaken_is_not_believed_by_its_answer() -> None:
    """The news came in the instant in which the take was sent, and may be what replaced it."""
    node = Node(HELD_BY_B)
    node.answer()
    node.content = Found(replace(HELD_BY_B, counter=10, successor=ME), "r1")
    node.take(RecordSeen(node.content), 101.0)
    take = node.request
    assert isinstance(take, Write)
    node.take(
        RecordSeen(Found(replace(HELD_BY_B, holder="c", session="c1", epoch=7, counter=12), "r9"))
    )
    actions = node.take(WriteDone(take.request, Applied("r2")), 101.01)
    assert "Bind" not in kinds(actions)
    assert "Read" in kinds(actions)


def test_a_successor_asked_to_stop_before_its_take_is_confirmed_serves_until_it_may_hand_over() -> (
    None
):
    """The former holder lets go on the take, and nothing may be released before 510 ms after it.

    So long nobody would serve.
    """
    node = Node(HELD_BY_B)
    node.answer()
    node.take(CandidatesSeen((B,)))
    node.content = Found(replace(HELD_BY_B, counter=10, successor=ME), "r1")
    node.take(RecordSeen(node.content), 101.0)
    node.take(StopAsked())
    assert "Bind" in kinds(node.answer())
    node.take(BindDone(5, ok=True))
    node.answer()
    while (
        node.machine.state is State.ACTIVE
        and node.machine.snapshot(node.now).record == node.content.record
    ):
        request = node.ask()
        if isinstance(request, Write) and request.kind is WriteKind.NAME:
            break
        node.answer()
    assert isinstance(node.request, Write)
    assert node.request.kind is WriteKind.NAME
    assert node.now >= 101.0 + SUCCESSOR_HOLDOFF


def test_a_successor_that_is_unfit_before_its_take_is_confirmed_binds_nothing() -> None:
    """What is wrong here counts at once."""
    node = Node(HELD_BY_B)
    node.answer()
    node.take(CandidatesSeen((B,)))
    node.content = Found(replace(HELD_BY_B, counter=10, successor=ME), "r1")
    node.take(RecordSeen(node.content), 101.0)
    node.take(StopAsked())
    node.take(FitnessChanged(fit=False, priority=150))
    assert "Bind" not in kinds(node.answer())


def test_a_successor_does_not_wait_for_the_answer_to_an_older_read() -> None:
    """If that was lost it would come to the timeout, long after the holder has struck the successor
    out.
    """
    node = Node(HELD_BY_B)
    node.answer()
    read = node.ask()
    assert isinstance(read, Read)
    named = Found(replace(HELD_BY_B, counter=10, successor=ME), "r1")
    assert "Take" in kinds(node.take(RecordSeen(named)))
    assert kinds(node.take(ReadDone(read.request, Found(HELD_BY_B, "r0")))) == []


# ---------------------------------------------------------------- the order of bind, mark and disk


def test_a_record_is_marked_bound_only_after_the_kernel_has_bound() -> None:
    """In a handover the former holder lets go on that mark.

    0.5 s without the VIP if the bind in the same list had failed.
    """
    node = Node()
    actions = node.take_free()
    assert "Bind" in kinds(actions)
    assert "Renew" not in kinds(actions)
    assert kinds(node.take(BindDone(5, ok=False, why="EPERM"))) == ["Unbind", "Transition"]

    node = Node()
    node.take_free()
    [renewal] = node.take(BindDone(5, ok=True))
    assert isinstance(renewal, Write)
    assert renewal.record.bound


def test_a_kernel_that_does_not_answer_the_bind_holds_up_no_renewal() -> None:
    """The mark waits, the lease does not."""
    node = Node()
    node.take_free()
    renewal = node.renew()
    assert node.now <= 101.0 + 0.6
    assert not renewal.record.bound


def taking_without_disk() -> Node:
    """Return a node whose take is under way and whose disk has kept nothing yet."""
    node = Node()
    node.disk = False
    node.answer()
    node.take(Tick(), 101.0)
    return node


def test_an_epoch_is_remembered_before_anything_is_bound_with_it() -> None:
    """All of vipd may be killed right after the bind, and the record be deleted.

    The next daemon must not take with it again.
    """
    node = taking_without_disk()
    assert kinds(node.answer()) == ["Remember"]
    assert node.machine.state is State.BACKUP
    actions = node.take(Remembered(5), 101.01)
    assert kinds(actions) == ["SetDeadline", "Bind", "Announce", "Transition"]
    assert Machine(SETTINGS, ME, epoch=4, chosen=5).situation.seen.next_epoch == 6


def test_a_disk_that_hangs_costs_a_moment_and_not_the_address() -> None:
    """The bind waits for it, but not for long."""
    node = taking_without_disk()
    node.answer()
    assert node.machine.next_wake(node.now) == 101.0 + REMEMBER_PATIENCE
    assert "Bind" in kinds(node.take(Tick(), 101.0 + REMEMBER_PATIENCE))


def test_a_named_successor_waits_for_the_disk_no_longer_than_the_former_holder_serves() -> None:
    """That one unbinds 40 ms after it saw the take."""
    node = Node(HELD_BY_B)
    node.disk = False
    node.answer()
    named = replace(HELD_BY_B, counter=10, successor=ME)
    node.content = Found(named, "r2")
    assert "Take" in kinds(node.take(RecordSeen(node.content), 101.0))
    take = node.ask()
    assert isinstance(take, Write)
    node.take(RecordSeen(Found(take.record, "r3")), 101.005)
    assert node.machine.state is State.BACKUP
    assert node.machine.next_wake(node.now) == 101.0 + REMEMBER_IN_HANDOVER
    assert REMEMBER_IN_HANDOVER < UNBIND_AFTER_TAKEN
    assert "Bind" in kinds(node.take(Tick(), 101.0 + REMEMBER_IN_HANDOVER))


def test_a_record_that_was_changed_while_the_disk_was_awaited_gives_no_bind() -> None:
    """What was confirmed then is not what the store has now."""
    node = taking_without_disk()
    node.answer()
    node.take(RecordSeen(Found(replace(HELD_BY_B, epoch=7), "r9")), 101.01)
    assert "Bind" not in kinds(node.take(Remembered(5), 101.02))
    assert "Bind" not in kinds(node.wake())


def test_a_take_that_came_to_nothing_does_not_make_the_own_lease_look_old() -> None:
    """A daemon killed before its take reached the store leaves a chosen epoch.

    The lease of the one before it is still its own.
    """
    mine = replace(HELD_BY_B, holder="a", session="a0")
    machine = Machine(SETTINGS, ME, epoch=4, chosen=5)
    machine.step(100.0, FitnessChanged(fit=True, priority=150))
    machine.step(100.0, Started(frozenset({"a0"}), inherited=102.0))
    actions = machine.step(100.1, ReadDone(1, Found(mine, "r1")))
    [take] = [action for action in actions if isinstance(action, Write)]
    assert (take.kind, take.record.epoch) == (WriteKind.TAKE, 6)


# ---------------------------------------------------------------- figures that nobody can continue


@pytest.mark.parametrize(
    "edit",
    [
        {"epoch": LARGEST_COUNT},
        {"counter": LARGEST_COUNT},
        {"epoch": LARGEST_COUNT, "counter": LARGEST_COUNT},
    ],
)
def test_a_holder_goes_on_although_its_record_was_given_impossible_figures(
    edit: dict[str, int],
) -> None:
    """It writes its own again; all that it writes can be continued."""
    node = active()
    assert isinstance(node.content, Found)
    node.content = Found(replace(node.content.record, **edit), "r99")  # type: ignore[arg-type] # a table of two fields
    node.take(RecordSeen(node.content))
    for _ in range(20):
        node.ask()
        node.answer(node.now + 0.01)
        assert node.machine.state is State.ACTIVE
        assert node.content.record.epoch < 10
        assert node.content.record.counter < 1000
    assert deadline(node) > node.now + 1.0


@pytest.mark.parametrize(
    "edit",
    [
        {"epoch": LARGEST_COUNT},
        {"epoch": LARGEST_COUNT - 1},
        {"counter": LARGEST_COUNT},
        {"epoch": 2**60},
    ],
)
def test_a_record_that_cannot_be_continued_is_taken_like_one_that_is_gone(
    edit: dict[str, int],
) -> None:
    """After the longest lease, at an epoch that leaves room."""
    node = Node(replace(HELD_BY_B, **edit))  # type: ignore[arg-type] # a table of two fields
    while node.machine.state is not State.ACTIVE:
        assert node.now < 105.0
        node.ask()
        node.answer()
    node.take(BindDone(node.content.record.epoch, ok=True))  # type: ignore[union-attr]
    for _ in range(10):
        node.ask()
        node.answer(node.now + 0.01)
    assert node.machine.state is State.ACTIVE


def test_a_candidate_record_raises_no_epoch() -> None:
    """Anybody may have written it, and one with the largest epoch would be the
    last there ever is.
    """
    node = Node()
    node.take(CandidatesSeen((replace(B, epoch=LARGEST_COUNT), replace(B, name="c", epoch=1000))))
    node.become_active()
    assert isinstance(node.content, Found)
    assert node.content.record.epoch < 10


def test_a_wish_that_nobody_can_fulfil_is_dropped_with_a_sentence() -> None:
    """The operator gets one notice, and nothing happens later."""
    node = active()
    assert [action for action in node.take(HandoverAsked("b")) if isinstance(action, Notice)]
    assert "Name" not in kinds(node.take(CandidatesSeen((B,))))


def test_a_machine_that_waits_for_nothing_says_so() -> None:
    """While it unbinds, only the kernel's answer matters."""
    node = Node(started=Started())
    node.answer()
    assert node.machine.next_wake(node.now) == math.inf
