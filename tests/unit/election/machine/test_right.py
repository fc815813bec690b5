"""Until when this session may hold the VIP."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from election.machine.lease import Right


def held(until: float = 10.0) -> Right:
    """Return a right that one confirmed write gave."""
    right = Right()
    right.attempt(right.next_counter(0), until)
    right.confirm(1)
    return right


def test_an_attempt_gives_nothing_until_it_is_confirmed() -> None:
    """A write that was merely sent may never arrive."""
    right = Right()
    right.attempt(right.next_counter(0), 10.0)
    assert right.deadline == 0.0
    assert right.confirm(1)
    assert right.deadline == 10.0


def test_a_read_back_gives_the_right_of_the_write_that_it_shows() -> None:
    """Not that of a later attempt, and never more for being read again."""
    right = held()
    for until in (11.0, 12.0):
        right.attempt(right.next_counter(0), until)
    assert right.confirm(2)
    assert right.deadline == 11.0
    assert not right.confirm(2)


def test_what_another_wrote_gives_no_right() -> None:
    """A counter that this session never used is somebody else's."""
    right = held()
    assert not right.confirm(7)
    assert right.deadline == 10.0


def test_a_promise_of_less_lowers_the_deadline_before_it_is_sent() -> None:
    """Its answer may be lost while others already act on it."""
    right = held()
    assert right.attempt(right.next_counter(1), 5.0)
    assert right.deadline == 5.0
    assert right.held_down


def test_a_later_write_that_is_confirmed_raises_it_again() -> None:
    """It was applied after the one that promised less, so that one is history."""
    right = held()
    right.attempt(right.next_counter(1), 5.0)
    right.attempt(right.next_counter(1), 12.0)
    assert right.deadline == 5.0
    assert right.confirm(3)
    assert right.deadline == 12.0
    assert not right.held_down


def test_an_earlier_write_that_is_confirmed_late_does_not_raise_it() -> None:
    """The promise of less, sent after it, may be applied yet."""
    right = held()
    right.attempt(right.next_counter(1), 12.0)
    right.attempt(right.next_counter(1), 5.0)
    assert right.confirm(2)
    assert right.deadline == 5.0


def test_no_answer_to_a_write_sent_before_the_unbind_gives_a_right() -> None:
    """The address is gone, and others may have taken the lease by now."""
    right = held()
    right.attempt(right.next_counter(1), 12.0)
    right.forfeit()
    assert not right.confirm(2)
    assert right.deadline == 0.0


def test_a_counter_is_above_the_record_s_and_above_all_that_were_used() -> None:
    """A restored record shows an old counter.

    Using it again would make an old attempt look applied.
    """
    right = Right()
    assert [right.next_counter(seen) for seen in (7, 3, 20)] == [8, 9, 21]
    assert [right.used(counter) for counter in (0, 1, 21, 22)] == [False, True, True, False]


class AgainstTheStore(RuleBasedStateMachine):
    """A store applies each write at once, later or never, in the order sent.

    Whoever reads learns of the last one applied.
    """

    def __init__(self) -> None:
        super().__init__()
        self.right = Right()
        self.now = 0.0
        self.sent: list[tuple[int, float]] = []
        self.applied = (0, 0.0)

    @rule(step=st.floats(0.01, 1.0), lasts=st.sampled_from([0.5, 2.7]))
    def send(self, step: float, lasts: float) -> None:
        """Send a write that promises so much from now on."""
        self.now += step
        counter = self.right.next_counter(self.applied[0])
        self.right.attempt(counter, self.now + lasts)
        self.sent.append((counter, self.now + lasts))

    @precondition(lambda self: self.sent)
    @rule(pick=st.integers(0, 3))
    def apply(self, pick: int) -> None:
        """Apply one of the writes under way; those before it are lost."""
        index = min(pick, len(self.sent) - 1)
        self.applied = self.sent[index]
        self.sent = self.sent[index + 1 :]

    @rule()
    def read(self) -> None:
        """Read the record back."""
        self.right.confirm(self.applied[0])

    @rule()
    def leave(self) -> None:
        """Unbind."""
        self.right.forfeit()

    @invariant()
    def never_beyond_what_the_store_has(self) -> None:
        """Others count on what is applied: the deadline is never later, whatever is under way."""
        assert self.right.deadline <= self.applied[1]

    @invariant()
    def never_beyond_what_it_may_come_to_have(self) -> None:
        """Nor later than a write under way that promises less, unless the right
        was given up since.
        """
        pending = [ends for _, ends in self.sent]
        assert self.right.deadline <= min([self.applied[1], *pending])


TestAgainstTheStore = AgainstTheStore.TestCase
