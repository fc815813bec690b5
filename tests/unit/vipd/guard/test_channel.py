"""Messages between processes: whole, in order, with their descriptors, and never waited for."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator

import pytest

from vipd.guard.channel import LARGEST_MESSAGE, Channel, Message
from vipd.guard.errors import ChannelError


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    """Give both ends of a connection."""
    one, two = socket.socketpair()
    wires = Channel(one), Channel(two)
    yield wires
    for channel in wires:
        channel.close()


@pytest.fixture
def raw() -> Iterator[tuple[socket.socket, Channel]]:
    """Give a bare socket and the channel at its other end."""
    one, two = socket.socketpair()
    channel = Channel(two)
    yield one, channel
    one.close()
    channel.close()


def test_messages_arrive_in_order(ends: tuple[Channel, Channel]) -> None:
    """Several in one go are several messages."""
    one, two = ends
    messages: list[Message] = [{"op": "a", "x": [1, 2.5, "ü"]}, {}, {"op": "b"}]
    for message in messages:
        one.send(message)
    assert two.receive() == messages
    assert two.receive() == []
    assert not two.ended


def test_a_message_may_come_byte_by_byte(raw: tuple[socket.socket, Channel]) -> None:
    """What is not whole yet is kept."""
    sender, channel = raw
    data = struct.pack("=I", 8) + b'{"a": 1}'
    for byte in data[:-1]:
        sender.send(bytes([byte]))
        assert channel.receive() == []
    sender.send(data[-1:])
    assert channel.receive() == [{"a": 1}]


def test_what_does_not_fit_is_sent_later(ends: tuple[Channel, Channel]) -> None:
    """A configuration of a megabyte does not make the guard wait for the daemon."""
    one, two = ends
    one.send({"blob": "x" * 1_000_000})
    one.send({"op": "after"})
    assert one.waiting
    received: list[Message] = []
    while len(received) < 2:
        received += two.receive()
        one.flush()
    assert len(str(received[0]["blob"])) == 1_000_000
    assert received[1] == {"op": "after"}
    assert not one.waiting


def test_descriptors_come_along(ends: tuple[Channel, Channel]) -> None:
    """The receiver has its own copy, and a hook that it starts does not."""
    one, two = ends
    reading, writing = os.pipe()
    one.send({"op": "take"}, [writing])
    os.close(writing)
    assert two.receive() == [{"op": "take"}]
    (copy,) = two.take_descriptors(1)
    assert not os.get_inheritable(copy)
    os.write(copy, b"hello")
    os.close(copy)
    assert os.read(reading, 10) == b"hello"
    os.close(reading)


def test_descriptors_of_a_message_that_waits_are_kept_open(ends: tuple[Channel, Channel]) -> None:
    """The sender may close them at once even if the socket is full."""
    one, two = ends
    one.send({"blob": "x" * 1_000_000})
    reading, writing = os.pipe()
    one.send({"op": "take"}, [writing])
    os.close(writing)
    received: list[Message] = []
    while len(received) < 2:
        received += two.receive()
        one.flush()
    (copy,) = two.take_descriptors(1)
    os.close(copy)
    assert os.read(reading, 1) == b""
    os.close(reading)


def test_descriptors_that_did_not_come_are_missed(ends: tuple[Channel, Channel]) -> None:
    """A message that announces more than it brings is a broken one."""
    with pytest.raises(ChannelError, match="1 descriptors"):
        ends[1].take_descriptors(1)


def test_the_end_is_seen_after_the_last_message(ends: tuple[Channel, Channel]) -> None:
    """What was said before the end counts."""
    one, two = ends
    one.send({"op": "last words"})
    one.close()
    assert two.receive() == [{"op": "last words"}]
    assert two.ended


def test_telling_somebody_who_is_gone_is_no_error(ends: tuple[Channel, Channel]) -> None:
    """The end is found out, and nothing is kept for nobody."""
    one, two = ends
    one.close()
    two.send({"op": "hello"})
    assert two.ended
    assert not two.waiting


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("=I", 3) + b"xyz",
        struct.pack("=I", 2) + b"[]",
        struct.pack("=I", 2) + b"\xff\xff",
        struct.pack("=I", LARGEST_MESSAGE + 1),
    ],
)
def test_anything_else_is_refused(raw: tuple[socket.socket, Channel], data: bytes) -> None:
    """Not JSON, not an object, not text, or a length that cannot be one."""
    sender, channel = raw
    sender.send(data)
    with pytest.raises(ChannelError):
        channel.receive()
