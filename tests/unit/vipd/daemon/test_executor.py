"""One deadline for addresses on several interfaces.

All are bound or none, and one that refuses costs the others nothing.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from ipaddress import IPv4Interface

import pytest

from announce.kernel.addresses import ReadyMessages
from announce.kernel.messages import ready_messages
from announce.kernel.ownership import VIPD_PROTO
from announce.kernel.rtnetlink import BODY_AT
from election.actions import Bind, Refresh
from tests.unit.vipd.inprocess import _BODY, LocalWord, MemoryKernel
from vipd.daemon.executor import LATE, Executor

FIRST, SECOND = "192.0.2.1", "192.0.2.2"
READY = tuple(
    ready_messages("lo", [IPv4Interface(f"{ip}/32")]).moved(index)
    for index, ip in ((7, FIRST), (8, SECOND))
)
BOTH = [f"bind {FIRST}", f"bind {SECOND}"]
DEADLINE = 100.0
BIND = Bind(1, DEADLINE, 3.0)


class Kernel(MemoryKernel):
    """A kernel whose interface 7 or 8 does not answer at all."""

    silent = 0

    def request(self, messages: Sequence[bytes], timeout: float | None = None) -> list[int]:
        """Do what the messages say, or hang."""
        if any(_BODY.unpack_from(message, BODY_AT)[4] == self.silent for message in messages):
            raise TimeoutError("no answer")
        return super().request(messages, timeout)


def executor(kernel: MemoryKernel, clock: Callable[[], float] = lambda: DEADLINE - 2.5) -> Executor:
    """Return one with an open word and two interfaces that have been seen."""
    made = Executor(LocalWord(deadline=DEADLINE), kernel, clock, parts=2)
    made.ready = READY
    return made


def test_all_interfaces_are_bound_and_unbound_together() -> None:
    """In the order of the configuration; each address counts on its own interface only."""
    kernel = Kernel()
    hands = executor(kernel)
    assert hands.bind(BIND).ok
    assert kernel.log == BOTH
    assert hands.bound() == {FIRST: 1, SECOND: 1}
    hands.ready = (READY[0], READY[1].moved(9))
    assert hands.bound() == {FIRST: 1}
    hands.ready = READY
    assert hands.unbind().ok
    assert kernel.bound == set()


def test_nothing_is_bound_while_an_interface_is_missing() -> None:
    """Half a group would answer for addresses whose other half is nowhere."""
    kernel = Kernel()
    hands = executor(kernel)
    hands.ready = READY[:1]
    done = hands.bind(BIND)
    assert (done.ok, done.why, kernel.log) == (False, "the interface does not exist", [])
    hands.word.set(0.0)
    assert hands.bind(BIND).why == LATE


@pytest.mark.parametrize("silent", [7, 8])
def test_a_bind_ends_at_the_interface_that_fails_and_the_unbind_takes_the_rest_along(
    silent: int,
) -> None:
    """The outcome says why; what can be removed is removed, and what cannot is not called gone."""
    kernel = Kernel()
    kernel.silent = silent
    hands = executor(kernel)
    done = hands.bind(BIND)
    assert (done.ok, done.why) == (False, "netlink: no answer")
    assert kernel.bound == ({FIRST} if silent == 8 else set())
    undone = hands.unbind()
    assert (undone.ok, undone.why, kernel.bound) == (False, "netlink: no answer", set())
    kernel.silent = 0
    assert hands.unbind().ok


@pytest.mark.parametrize("calls", [2, 3, 4])
def test_a_bind_that_comes_late_leaves_nothing_on_any_interface(calls: int) -> None:
    """The process was stopped after the first interface, or while the second one was bound."""
    times = iter([DEADLINE - 2.5] * (calls - 1) + [DEADLINE] * 9)
    kernel = Kernel()
    done = executor(kernel, lambda: next(times)).bind(BIND)
    assert (done.ok, done.why) == (False, LATE)
    # Between the two kernel calls it is the machine, told that it was late, that removes the first
    # one's.
    assert kernel.bound == ({FIRST} if calls == 3 else set())


@pytest.mark.parametrize("silent", [7, 8])
def test_a_refresh_reaches_whom_it_can(silent: int) -> None:
    """An interface that hangs must not cost the others their addresses; the
    trouble is told once.
    """
    kernel = Kernel()
    hands = executor(kernel)
    hands.bind(BIND)
    kernel.log.clear()
    kernel.silent = silent
    assert hands.refresh(Refresh(DEADLINE, 3.0)) == "netlink: no answer"
    assert kernel.log == [BOTH[15 - silent - 7]]


def test_a_refresh_that_comes_late_removes_everything() -> None:
    """It may have brought back what the kernel had ended."""
    times = iter([DEADLINE - 2.5] * 5 + [DEADLINE] * 9)
    kernel = Kernel()
    hands = executor(kernel, lambda: next(times))
    hands.bind(BIND)
    hands.refresh(Refresh(DEADLINE, 3.0))
    assert kernel.bound == set()


# ---------------------------------------------------------------- the name means another interface


def places(kernel: MemoryKernel) -> set[tuple[int, str]]:
    """Return which address is bound on which interface."""
    return {(one.ifindex, socket.inet_ntop(one.family, one.ip)) for one in kernel.addresses()}


def moved(ready: ReadyMessages, *indexes: int) -> tuple[ReadyMessages, ...]:
    """Return the messages for other interfaces."""
    return tuple(ready.moved(index) for index in indexes)


def test_what_was_bound_is_unbound_where_it_was_bound() -> None:
    """Interface 7 was renamed and another one, 9, has its name now.

    The address goes from 7, and only then it is gone.
    """
    kernel = Kernel()
    hands = executor(kernel)
    assert hands.bind(BIND).ok
    hands.ready = (READY[0].moved(9), READY[1])
    kernel.silent = 7
    undone = hands.unbind()
    assert (undone.ok, undone.why, places(kernel)) == (False, "netlink: no answer", {(7, FIRST)})
    kernel.silent = 0
    assert hands.unbind().ok
    assert places(kernel) == set()


def test_an_address_that_cannot_be_removed_where_it_was_is_still_bound() -> None:
    """Though nothing of it is on the interface that has the name now."""
    kernel = Kernel()
    hands = executor(kernel)
    assert hands.bind(BIND).ok
    hands.ready = (READY[0].moved(9), READY[1].moved(10))
    kernel.keeps = True
    undone = hands.unbind()
    assert (undone.ok, undone.why) == (False, f"still bound: {FIRST}/32; still bound: {SECOND}/32")


def test_a_bind_on_another_interface_first_removes_what_is_on_the_old_one() -> None:
    """The address follows the name; if it cannot leave the old interface, the bind has failed."""
    kernel = Kernel()
    hands = executor(kernel)
    assert hands.bind(BIND).ok
    hands.ready = (READY[0].moved(9), READY[1])
    kernel.silent = 7
    done = hands.bind(BIND)
    assert (done.ok, done.why) == (False, "netlink: no answer")
    kernel.silent = 0
    assert hands.bind(BIND).ok
    assert places(kernel) == {(9, FIRST), (8, SECOND)}


@pytest.mark.parametrize("indexes", [(9,), (9, 7), (9, 10, 7), (9, 10, 11)])
def test_a_refresh_that_binds_elsewhere_is_undone_there(indexes: tuple[int, ...]) -> None:
    """A refresh makes an address where there is none.

    Wherever it was sent to, the unbind goes as well.
    """
    kernel = Kernel()
    hands = executor(kernel)
    assert hands.bind(BIND).ok
    for ready in moved(READY[0], *indexes):
        hands.ready = (ready, READY[1])
        assert hands.refresh(Refresh(DEADLINE, 3.0)) == ""
    assert hands.unbind().ok
    assert places(kernel) == set()


def test_what_a_previous_daemon_bound_elsewhere_is_unbound_there() -> None:
    """It died, and the interface was renamed before this one started."""
    kernel = Kernel()
    for index, ready, mark in (
        (7, READY[0], VIPD_PROTO),
        (12, READY[0], VIPD_PROTO),
        (13, READY[1], VIPD_PROTO),
        (14, READY[1], 0),
    ):
        kernel.request(ready.moved(index).bind)
        [at] = [at for at in kernel._bound if at[0] == index]
        kernel._bound[at] = kernel._bound[at]._replace(proto=mark)
    hands = executor(kernel)
    hands.adopt(READY)
    assert hands.unbind().ok
    assert places(kernel) == {(14, SECOND)}  # without vipd's mark it is somebody else's
