"""Every duration of the election: what follows from it, and which are refused."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from election.timing import (
    DRIFT,
    LIFETIME_RESERVE,
    LONGEST_LEASE,
    PROFILES,
    RANK_STEP,
    SHORT_LEASE,
    SMALLEST_LEASE,
    Timing,
    crash_promise,
    fence_margin,
    lifetime_seconds,
    next_refresh,
    problems,
    right_ends,
    take_delay,
    unbind_lead,
)

LEASES = st.floats(SMALLEST_LEASE, LONGEST_LEASE)


@pytest.mark.parametrize(
    ("profile", "expected"),
    [("fast", (1.0, 0.2, 0.25)), ("default", (3.0, 0.6, 0.8)), ("relaxed", (10.0, 2.0, 2.5))],
)
def test_profiles(profile: str, expected: tuple[float, float, float]) -> None:
    """What the documentation promises; each keeps its promises."""
    timing = PROFILES[profile]
    assert (timing.lease_duration, timing.renew_interval, timing.request_timeout) == expected
    assert problems(timing) == []
    assert crash_promise(timing) == ""


@pytest.mark.parametrize(("lease", "margin"), [(1.0, 0.1), (3.0, 0.3), (10.0, 1.0), (0.2, 0.05)])
def test_the_fence_margin_is_a_tenth_and_at_least_50_ms(lease: float, margin: float) -> None:
    """It is what drift, unbind and a late timer have to fit into."""
    assert fence_margin(lease) == pytest.approx(margin)


@given(LEASES, st.floats(0.0, 1e6), st.floats(-DRIFT, DRIFT))
def test_the_right_ends_before_any_other_clock_says_that_the_lease_does(
    lease: float, sent_at: float, drift: float
) -> None:
    """A Backup saw the write after it was sent, and its clock runs up to 1 % faster."""
    held_for = right_ends(sent_at, lease) - sent_at
    assert held_for < lease / (1 + abs(drift)) + 1e-6


@given(st.integers(0, 20_000).map(lambda ms: ms / 1000), LEASES)
def test_a_lifetime_ends_half_a_second_before_the_deadline(left: float, lease: float) -> None:
    """The kernel is up to half a second late.

    A lease too short for whole seconds has one while its right lasts.
    """
    seconds = lifetime_seconds(100.0 + left, 100.0, lease)
    if left == 0.0:
        assert seconds == 0
    elif lease < SHORT_LEASE:
        assert seconds == 1
    else:
        assert seconds <= max(0.0, left - LIFETIME_RESERVE + 1e-6)
        assert seconds > left - LIFETIME_RESERVE - 1


@given(st.floats(2.0, 60.0), st.floats(0.0, 1.0))
def test_refreshes_reach_to_the_reserve_before_the_deadline(lease: float, fraction: float) -> None:
    """While no renewal succeeds, the lifetimes last nearly as long as the right, in a bounded
    number of calls.
    """
    deadline, now, calls = right_ends(0.0, lease), 0.0, 0
    ends = now + lifetime_seconds(deadline, now, lease)
    while (at := next_refresh(now, deadline, now, lease)) != math.inf:
        assert now < at < deadline
        now, calls = at, calls + 1
        ends = now + lifetime_seconds(deadline, now, lease)
    assert calls <= lease
    if deadline >= 1.0 + LIFETIME_RESERVE:
        assert deadline - LIFETIME_RESERVE - 0.11 <= ends <= deadline - LIFETIME_RESERVE + 1e-6


def test_a_short_lease_is_refreshed_every_half_second() -> None:
    """One second of lifetime, so that one missed refresh drops nothing."""
    assert next_refresh(100.0, 100.9, 100.0, 1.0) == math.inf
    assert next_refresh(100.0, 101.5, 100.0, 1.9) == 100.5


@given(st.floats(4.0, 60.0), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_a_refresh_that_comes_late_never_shortens_a_lifetime(
    lease: float, first: float, late: float
) -> None:
    """A process that was stopped over a turn of the second waits for the next one."""
    deadline, refreshed_at = right_ends(0.0, lease), first
    ends = refreshed_at + lifetime_seconds(deadline, refreshed_at, lease)
    now = refreshed_at + late * (ends - refreshed_at)
    at = next_refresh(now, deadline, refreshed_at, lease)
    if at <= now:
        assert now + lifetime_seconds(deadline, now, lease) >= ends - 1e-6
    elif at != math.inf:
        assert at < ends, "the address would be gone before its next refresh"


def test_the_unbind_begins_earlier_for_more_addresses() -> None:
    """A thousand of them take the kernel up to 160 ms."""
    assert unbind_lead(1) < 0.006
    assert unbind_lead(1000) > 0.162


@pytest.mark.parametrize(("rank", "expected"), [(0, 0.0), (1, RANK_STEP), (3, 3 * RANK_STEP)])
def test_ranks_wait_one_after_the_other(rank: int, expected: float) -> None:
    """The best does not wait at all."""
    assert take_delay(rank, 100, PROFILES["default"]) == pytest.approx(expected)


REFUSED = {
    "too short": (Timing(0.9, 0.2, 0.2), "lease_duration 0.9s is outside 1s..300s"),
    "too long": (Timing(301.0, 1.0, 1.0), "lease_duration 301s is outside 1s..300s"),
    "renewed too often": (Timing(3.0, 0.04, 0.5), "renew_interval 0.04s is shorter than 50ms"),
    "impatient": (Timing(3.0, 0.6, 0.01), "request_timeout 0.01s is shorter than 50ms"),
    "no second try": (
        Timing(3.0, 1.5, 0.8),
        "after one missed renewal 1.20s of the lease are left",
    ),
    "renewed too late": (
        Timing(3.0, 5.0, 0.8),
        "after one missed renewal 0.00s of the lease are left",
    ),
}


@pytest.mark.parametrize(("timing", "sentence"), REFUSED.values(), ids=list(REFUSED))
def test_what_does_not_add_up_is_refused_with_a_sentence(timing: Timing, sentence: str) -> None:
    """One sentence for each problem, with the figures in it."""
    found = problems(timing)
    assert len(found) == 1
    assert found[0].startswith(sentence)


ANY_TIMING = st.builds(Timing, st.floats(0.5, 310.0), st.floats(0.01, 10.0), st.floats(0.01, 10.0))


@given(ANY_TIMING.filter(lambda timing: problems(timing) == []))
def test_what_is_accepted_leaves_room_for_two_requests_after_a_missed_renewal(
    timing: Timing,
) -> None:
    """Otherwise one lost packet would move the VIP."""
    left = right_ends(0.0, timing.lease_duration) - timing.renew_interval
    assert left >= 2 * timing.request_timeout


def test_where_a_crash_may_move_the_vip_it_is_said() -> None:
    """A stuck daemon is noticed after 250 ms and replaced 300 ms later: that has to fit."""
    assert "0.55s" in crash_promise(Timing(1.0, 0.5, 0.1))
    assert crash_promise(Timing(1.0, 0.3, 0.1)) == ""
