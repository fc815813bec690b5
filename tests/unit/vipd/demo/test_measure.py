"""The demo's figures, on made-up probes and events."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vipd.demo import measure
from vipd.demo.measure import Bound, Outage, Probe

TWO = range(2, 9)
NONE = range(1)


def probes(answers: str) -> list[Probe]:
    """Make one probe a millisecond.

    A letter is the node that answered, a dot a lost one, a comma one answered too late.
    """
    late = {",": measure.ANSWER_LIMIT + 0.001}
    return [
        Probe(n / 1000)
        if who == "."
        else Probe(n / 1000, n / 1000 + late.get(who, 0.0002), "a" if who == "," else who)
        for n, who in enumerate(answers)
    ]


@pytest.mark.parametrize(
    ("answers", "lost", "outage"),
    [
        ("aaaa", 0, Outage()),
        ("", 0, Outage()),
        ("....", 0, Outage()),
        ("..aaa", 0, Outage()),
        ("aa..bb", 2, Outage(0.001, 0.003)),
        ("a.a...b.b", 5, Outage(0.002, 0.004)),
        ("aa,,bb", 2, Outage(0.001, 0.003)),
        ("aa....", 4, Outage(0.001, 0.004)),
    ],
)
def test_an_outage_lasts_from_answer_to_answer(answers: str, lost: int, outage: Outage) -> None:
    """Probes before the first answer do not count; one answered late is lost.

    An open end counts to the last probe.
    """
    found = measure.outage(probes(answers))
    assert measure.lost(probes(answers)) == lost
    assert [found.begin, found.length] == pytest.approx([outage.begin, outage.length])


@pytest.mark.parametrize(
    ("answers", "seconds"),
    [
        ("aaaa", 0),
        ("aabb", 0),
        ("aa..bb", 0),
        ("aabab", 0.001),
        ("abbba", 0.002),
        ("abcabc", 0.002),
        ("....", 0),
    ],
)
def test_two_owners_are_seen_where_answers_alternate(answers: str, seconds: float) -> None:
    """From the new owner's first answer to the former one's last."""
    assert measure.seen_twice(probes(answers)) == pytest.approx(seconds)


def changes(*rows: tuple[float, str, bool]) -> list[Bound]:
    """Make the news of one address."""
    return [Bound(at, node, "192.0.2.100", present) for at, node, present in rows]


def test_a_handover_has_two_owners_for_a_moment() -> None:
    """The new owner binds before the former one unbinds."""
    events = changes((1.0, "a", True), (5.0, "b", True), (5.02, "a", False))
    assert measure.longest_with(events, TWO, 2.0, 9.0) == pytest.approx(0.02)
    assert measure.longest_with(events, NONE, 2.0, 9.0) == 0.0


def test_a_failover_has_no_owner_for_a_while() -> None:
    """The former owner's address is gone before the new one's comes."""
    events = changes((1.0, "a", True), (5.0, "a", False), (5.5, "b", True))
    assert measure.longest_with(events, NONE, 2.0, 9.0) == pytest.approx(0.5)
    assert measure.longest_with(events, TWO, 2.0, 9.0) == 0.0


def test_only_the_window_counts() -> None:
    """What was before it and after it belongs to other scenarios."""
    events = changes((1.0, "a", True), (2.0, "b", True), (8.0, "b", False))
    assert measure.longest_with(events, TWO, 3.0, 4.0) == pytest.approx(1.0)
    assert measure.longest_with(events, TWO, 8.5, 9.0) == 0.0
    assert measure.longest_with(events, NONE, 0.0, 0.5) == pytest.approx(0.5)


def test_news_of_one_moment_make_no_overlap() -> None:
    """In whichever order two nodes' news of one reading come, neither two owners nor none are
    reported.
    """
    for order in (((5.0, "b", True), (5.0, "a", False)), ((5.0, "a", False), (5.0, "b", True))):
        events = changes((1.0, "a", True), *order)
        assert measure.longest_with(events, TWO, 2.0, 9.0) == 0.0
        assert measure.longest_with(events, NONE, 2.0, 9.0) == 0.0


def test_each_address_counts_by_itself() -> None:
    """Two addresses on two nodes are no double owner."""
    events = [Bound(1.0, "a", "192.0.2.100", True), Bound(1.0, "b", "2001:db8::100", True)]
    assert measure.longest_with(events, TWO, 0.0, 9.0) == 0.0


@given(
    st.lists(st.tuples(st.integers(0, 40), st.sampled_from("abc"), st.booleans()), max_size=12),
    st.integers(0, 20),
    st.integers(0, 20),
)
def test_intervals_agree_with_a_sample_of_every_moment(
    rows: list[tuple[int, str, bool]], begin: int, length: int
) -> None:
    """A dumb twin looks half-way between all whole moments and counts owners there."""
    events = changes(*((float(at), node, present) for at, node, present in rows))
    ordered = sorted(events, key=lambda event: event.at)
    longest = run = 0
    for moment in range(begin, begin + length):
        present: set[str] = set()
        for event in ordered:
            if event.at < moment + 0.5:
                (present.add if event.present else present.discard)(event.node)
        run = run + 1 if len(present) >= 2 else 0
        longest = max(longest, run)
    assert measure.longest_with(events, TWO, float(begin), float(begin + length)) == pytest.approx(
        longest
    )
