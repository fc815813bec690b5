"""What vipd takes from VRRP version 3.

One test for each sentence of RFC 9568 that it follows, by section.

Not followed, since the election runs through a store: advertisements and their timer (section 5 and
7), Accept_Mode, the virtual router MAC address (7.3), priority 255 of an address owner and 0 of one
that stops (a release says that here), and preemption by whoever sends first (the holder hands over
instead).
"""

from __future__ import annotations

import pytest

from election.machine.eligibility import Field, Fitness, Preemption
from election.model import Candidate, Reason, Record, State
from election.timing import PROFILES, skew_time, take_delay


def candidate(name: str, priority: int) -> Candidate:
    """Return a fit node."""
    return Candidate(name, f"{name}1", 1, eligible=True, priority=priority, asks=False, live=True)


def test_6_3_states() -> None:
    """The diagram has Initialize, Backup and Active; Fault is vipd's own.

    The values are those of the metric `vipd_state`.
    """
    assert {state.name.capitalize(): state.value for state in State} == {
        "Initialize": 0,
        "Backup": 1,
        "Active": 2,
        "Fault": 3,
    }


@pytest.mark.parametrize(
    ("priority", "expected"), [(254, 2 / 256), (200, 56 / 256), (100, 156 / 256), (1, 255 / 256)]
)
def test_6_1_skew_time(priority: int, expected: float) -> None:
    """'Skew_Time: (((256 - Priority) * Active_Adver_Interval) / 256)'.

    The renew interval stands for the latter.
    """
    assert skew_time(priority, 1.0) == pytest.approx(expected)
    assert skew_time(priority, 0.6) == pytest.approx(0.6 * expected)


def test_6_1_skew_time_is_used_as_long_as_ranks_are_unknown() -> None:
    """'Time to skew Active_Down_Interval'.

    A node that knows nobody waits the less the better it is.
    """
    timing = PROFILES["default"]
    assert take_delay(None, 200, timing) == skew_time(200, timing.renew_interval)
    assert take_delay(None, 200, timing) < take_delay(None, 100, timing) < timing.renew_interval


def test_6_1_a_higher_priority_comes_first() -> None:
    """'Priority: higher values indicate higher priority for Active Router selection'."""
    field = Field("b")
    field.set_candidates((candidate("a", 100), candidate("b", 150), candidate("c", 200)))
    assert field.rank(None, 150) == 1


def test_6_4_3_ties_have_one_winner() -> None:
    """Equal priorities go by 'the primary IPvX Address'.

    A store has no sender's address, so by node name.
    """
    ranks = {}
    for name in "ab":
        field = Field(name)
        field.set_candidates((candidate("a", 100), candidate("b", 100)))
        ranks[name] = field.rank(None, 100)
    assert ranks == {"a": 0, "b": 1}


@pytest.mark.parametrize(
    ("preempt", "priority", "asks"), [(True, 150, True), (True, 100, False), (False, 150, False)]
)
def test_6_1_preempt_mode(preempt: bool, priority: int, asks: bool) -> None:
    """'Controls whether a (starting or restarting) higher-priority Backup Router preempts a
    lower-priority Active Router'.
    """
    preemption = Preemption(preempt, 0.0)
    held = Record("u", holder="a", session="a1", epoch=1, counter=1, priority=100)
    preemption.update(10.0, held, eligible=True, priority=priority, in_touch=True)
    assert preemption.asks(10.0) == asks


def test_6_4_1_initialize_is_left_on_startup() -> None:
    """'If a Startup event is received, then'.

    Here that is the first verdict and the first sight of the record.
    """
    fitness = Fitness()
    assert fitness.resting_state(10.0, State.INITIALIZE, seen=True)[0] is State.INITIALIZE
    fitness.set_verdict(fit=True, priority=100, why=Reason.CHECK_FAILED)
    assert fitness.resting_state(10.0, State.INITIALIZE, seen=True)[0] is State.BACKUP


def test_6_4_2_and_6_4_3_shutdown_leads_to_initialize() -> None:
    """'If a Shutdown event is received, then.

    Transition to the {Initialize} state', from Backup as from Active.
    """
    fitness = Fitness()
    fitness.set_verdict(fit=True, priority=100, why=Reason.CHECK_FAILED)
    fitness.stopping = True
    assert {fitness.resting_state(10.0, state, seen=True)[0] for state in State} == {
        State.INITIALIZE
    }
