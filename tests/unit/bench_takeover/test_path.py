"""What the takeover path saves, it saves without doing less.

Lifetimes in many messages, and when a bind is read back.
"""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from announce.kernel.addresses import FOREVER, bind, with_lifetime, with_lifetimes
from announce.kernel.messages import ready_messages
from announce.kernel.netlink import REQUEST_TIMEOUT
from announce.kernel.rtnetlink import BODY_AT, BoundAddress
from tests.unit.vipd.inprocess import MemoryKernel

V4 = ready_messages("lo", ["192.0.2.1", "192.0.2.2/24", "198.51.100.3"])
BOTH = ready_messages("lo", ["192.0.2.1", "2001:db8::1", "192.0.2.2", "2001:db8::2"])
DISGUISED = ready_messages("lo", ["20.0.6.0", "192.0.2.1", "20.0.6.0/24"])
"""An address whose bytes are those of a lifetime's head."""


class Counting(MemoryKernel):
    """Counts how often its addresses are read."""

    reads = 0

    def addresses(
        self, ifindex: int | None = None, timeout: float = REQUEST_TIMEOUT
    ) -> list[BoundAddress]:
        """Return what is bound."""
        self.reads += 1
        return super().addresses(ifindex, timeout)


@given(st.permutations([*V4.bind, *BOTH.bind, *DISGUISED.bind]), st.integers(1, FOREVER))
def test_many_lifetimes_are_as_many_single_ones(messages: list[bytes], seconds: int) -> None:
    """In whatever order families and prefix lengths come."""
    changed = with_lifetimes(messages, seconds)
    assert changed == [with_lifetime(message, seconds) for message in messages]
    assert all(struct.pack("=HHII", 20, 6, 0, seconds) in message for message in changed)
    assert [len(message) for message in changed] == [len(message) for message in messages]
    assert [message[BODY_AT] for message in changed] == [message[BODY_AT] for message in messages]


def test_ipv4_is_read_back_only_where_somebody_may_remove_it_meanwhile() -> None:
    """What the kernel accepted serves.

    A hundred instances of one interface would each read the addresses of all.
    """
    kernel = Counting()
    assert bind(kernel, V4, 5, contested=False) == []
    assert (kernel.reads, len(kernel.bound)) == (0, 3)
    kernel.drop()
    assert bind(kernel, V4, 5) == []
    assert kernel.reads == 1


def test_what_is_there_already_is_looked_at_before_it_is_taken_over() -> None:
    """It may be the host's own."""
    kernel = Counting()
    assert bind(kernel, V4, 5, contested=False) == []
    assert bind(kernel, V4, 5, contested=False) == []
    assert kernel.reads == 1


def test_ipv6_is_always_read_back() -> None:
    """It may be accepted and yet be tentative."""
    kernel = Counting()
    assert bind(kernel, BOTH, 5, contested=False) == []
    assert kernel.reads == 1
