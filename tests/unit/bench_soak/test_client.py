"""What the client of a soak makes of answers: spans of serving, and outages."""

from __future__ import annotations

import socket
import struct

from tests.bench.soak_client import ORDINARY, Gaps, Spans, datagram
from tests.netns.announce.gating import checksum

VIP = "192.0.2.100"


def test_answers_that_follow_one_another_are_one_span() -> None:
    """A pause ends it, and nodes do not disturb each other."""
    spans = Spans(pause=0.1)
    told = [line for at in (1.0, 1.05, 1.1) for line in spans.answered(VIP, "a", at)]
    told += spans.answered(VIP, "b", 1.1)
    told += spans.answered(VIP, "a", 1.3)
    assert told == [["span", VIP, "a", 1.0, 1.1]]
    assert sorted(map(str, spans.rest())) == sorted(
        map(str, [["span", VIP, "b", 1.1, 1.1], ["span", VIP, "a", 1.3, 1.3]])
    )


def test_an_outage_is_between_two_answered_questions_with_lost_ones_between() -> None:
    """As sent; one answer overtaken by a later one does not count."""
    gaps = Gaps(VIP)
    told = [line for number in (1, 2, 5, 4, 6) for line in gaps.answered(number, number * 1.0)]
    assert told == [["outage", VIP, 2.0, 5.0]]


def test_an_outage_that_lasts_is_told_at_the_end() -> None:
    """Also if there never was an answer; but not what is still under way."""
    gaps = Gaps(VIP)
    assert list(gaps.rest(5, 9.0)) == [["outage", VIP, 0.0, 9.0]]
    assert not list(gaps.answered(5, 8.99))
    assert not list(gaps.rest(8, 9.0))
    assert list(gaps.rest(400, 8.99 + 400 * ORDINARY)) == [
        ["outage", VIP, 8.99, 8.99 + 400 * ORDINARY]
    ]


def test_a_question_is_a_correct_packet() -> None:
    """A wrong checksum would be dropped without a word, and nobody would ever seem to own anything
    twice.
    """
    packet = datagram("192.0.2.11", VIP)
    assert checksum(packet[:20]) == 0
    assert struct.unpack_from("!H", packet, 2) == (len(packet),)
    assert packet[12:20] == socket.inet_aton("192.0.2.11") + socket.inet_aton(VIP)
