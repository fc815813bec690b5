from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from health import dns

ASKED = dns.query(0x1234, "Web.example.org", dns.TYPE_A)


def response(flags: int, *records: bytes, asked: bytes = ASKED) -> bytes:
    """Return an answer to a question with these records."""
    return asked[:2] + struct.pack("!HHHHH", flags, 1, len(records), 0, 0) + asked[12:] + b"".join(records)


def record(rtype: int, content: bytes, ttl: int = 30, owner: bytes = b"\xc0\x0c") -> bytes:
    """Return one resource record; its owner is a pointer to the question's name."""
    return owner + struct.pack("!HHIH", rtype, 1, ttl, len(content)) + content


def test_a_question_is_what_the_rfc_draws() -> None:
    """Header, labels, type, class."""
    assert dns.query(1, "a.bc", dns.TYPE_AAAA) == bytes.fromhex("0001 0100 0001 0000 0000 0000 0161 026263 00 001c 0001")


@pytest.mark.parametrize("name", ["", ".", "a..b", "a" * 64, "bücher", ".".join(["a" * 60] * 5)])
def test_what_is_no_host_name_is_refused(name: str) -> None:
    """It must not become a malformed packet."""
    with pytest.raises(ValueError, match="not a host name"):
        dns.query(1, name, dns.TYPE_A)


def test_addresses_are_found_behind_an_alias() -> None:
    """The alias' record is passed over, the shortest TTL counts."""
    alias = record(5, b"\x03lbx\xc0\x10")
    data = response(0x8180, alias, record(1, bytes([192, 0, 2, 1]), ttl=60), record(1, bytes([192, 0, 2, 2]), ttl=5))
    assert dns.answer_to(ASKED, data) == dns.Answer(dns.NOERROR, ("192.0.2.1", "192.0.2.2"), 5)


def test_ipv6_addresses_are_found() -> None:
    """Type AAAA."""
    asked = dns.query(7, "a", dns.TYPE_AAAA)
    data = response(0x8180, record(28, bytes(15) + b"\x01", owner=b"\x01a\x00"), asked=asked)
    assert dns.answer_to(asked, data) == dns.Answer(dns.NOERROR, ("::1",), 30)


@pytest.mark.parametrize(("flags", "decides"), [(0x8180, True), (0x8183, True), (0x8182, False), (0x8185, False)])
def test_only_yes_and_no_decide(flags: int, decides: bool) -> None:
    """SERVFAIL and REFUSED are the server's trouble, not an answer."""
    answer = dns.answer_to(ASKED, response(flags))
    assert answer is not None
    assert answer.decides is decides


@pytest.mark.parametrize(
    "data",
    [
        b"",
        response(0x0100),  # a question, not an answer
        b"\x12\x35" + response(0x8180)[2:],  # another id
        response(0x8180, asked=dns.query(0x1234, "web.example.net", dns.TYPE_A)),
        response(0x8180, asked=dns.query(0x1234, "web.example.org", dns.TYPE_AAAA)),
        response(0x8380),  # cut short before the first address
        response(0x8180, record(1, b"\x01\x02\x03")),
        response(0x8180, record(1, bytes(4)))[:-2],
    ],
)
def test_what_is_no_answer_to_this_question_is_dropped(data: bytes) -> None:
    """Late, foreign and broken packets are as good as none."""
    assert dns.answer_to(ASKED, data) is None


def test_the_case_of_a_name_does_not_matter() -> None:
    """Some servers send the name back in their own letters."""
    assert dns.answer_to(ASKED, response(0x8180).replace(b"Web", b"wEB")) is not None


@given(st.binary(max_size=80))
def test_no_packet_raises(tail: bytes) -> None:
    """Nor does any make it turn in a circle."""
    for data in (tail, ASKED[:2] + tail, response(0x8180) + tail, response(0x8180, tail), response(0x8180, *[tail] * 3)):
        dns.answer_to(ASKED, data)
