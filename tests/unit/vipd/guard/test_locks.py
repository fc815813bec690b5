"""One daemon for one address."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator

import pytest

from vipd.guard.errors import LockedError
from vipd.guard.locks import Locks

ONE, TWO, THREE = (f"192.0.2.{number}-test-{os.getpid()}" for number in (1, 2, 3))


@pytest.fixture
def locks() -> Iterator[tuple[Locks, Locks]]:
    """Give the locks of two guards in one network namespace."""
    both = Locks(), Locks()
    yield both
    for each in both:
        each.close()


def test_a_second_guard_is_refused_and_told_by_whom(locks: tuple[Locks, Locks]) -> None:
    """The operator who has unit and DaemonSet on one host can find the other one."""
    first, second = locks
    first.lock([ONE])
    with pytest.raises(
        LockedError, match=re.escape(f"{ONE} is managed by another vipd (process {os.getpid()})")
    ):
        second.lock([ONE])


def test_a_refusal_takes_nothing(locks: tuple[Locks, Locks]) -> None:
    """All or none: who is refused must not stand in a third one's way."""
    first, second = locks
    first.lock([TWO])
    with pytest.raises(LockedError):
        second.lock([ONE, TWO])
    first.lock([ONE])


def test_the_next_daemon_of_the_same_guard_gets_them_again(locks: tuple[Locks, Locks]) -> None:
    """A crash does not give the address away."""
    first, _ = locks
    descriptors = first.lock([ONE, TWO])
    first.expect_daemon()
    assert first.lock([ONE, TWO]) == descriptors


def test_a_copy_keeps_the_lock(locks: tuple[Locks, Locks]) -> None:
    """The guard is dead, the daemon hands over: the address is still taken."""
    first, second = locks
    (descriptor,) = first.lock([ONE])
    copy = os.dup(descriptor)
    first.close()
    with pytest.raises(LockedError):
        second.lock([ONE])
    os.close(copy)
    second.lock([ONE])


def test_what_the_new_configuration_does_not_have_is_let_go(locks: tuple[Locks, Locks]) -> None:
    """Another daemon of this host may manage it now."""
    first, second = locks
    first.lock([ONE, TWO])
    first.expect_daemon()
    first.lock([TWO, THREE])
    first.settle()
    second.lock([ONE])
    for name in (TWO, THREE):
        with pytest.raises(LockedError):
            second.lock([name])


def test_unlocking_is_idempotent(locks: tuple[Locks, Locks]) -> None:
    """Unknown names included."""
    first, second = locks
    first.lock([ONE])
    first.unlock([ONE, TWO])
    first.unlock([ONE])
    second.lock([ONE])


def test_a_holder_that_shows_no_process_is_named_all_the_same(locks: tuple[Locks, Locks]) -> None:
    """Bound without listening, by a user who may run a vipd."""
    first, _ = locks
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as holder:
        holder.bind(f"\0vipd/{ONE}")
        with pytest.raises(
            LockedError,
            match=rf"another vipd \(process {os.getpid()}\) on this host already; "
            rf"uid {os.geteuid()}",
        ):
            first.lock([ONE])
