"""Locks of a network namespace, against a user who binds their names.

In a namespace of its own, with a second one beside it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from announce.gate.hook import TC_SLOTS, TcSlot
from announce.gate.traffic_control import TrafficControl
from announce.kernel.namespace_lock import HeldError, Place, presence, take
from vipd.guard.errors import LockedError
from vipd.guard.locks import Locks

pytestmark = [pytest.mark.root, pytest.mark.netns]

NOBODY = 65534
V4, V6, LOCAL = "192.0.2.77", "2001:db8::77", "fe80::77"
SQUAT = """
import os, socket, sys, time
kept = []
for name in sys.argv[3:]:
    kept.append(socket.socket(socket.AF_UNIX))
    kept[-1].bind("\\0" + name)
    if sys.argv[2] == "listening":
        kept[-1].listen()
    if sys.argv[2] == "full":
        kept[-1].listen(0)
        for _ in range(2):
            kept.append(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK))
            try:
                kept[-1].connect("\\0" + name)
            except BlockingIOError:
                pass
print("there", flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _namespace() -> Iterator[None]:
    """Be in a network namespace that nobody else is in."""
    libc, new_network = ctypes.CDLL(None, use_errno=True), 0x40000000
    before = os.open("/proc/self/ns/net", os.O_RDONLY)
    assert libc.unshare(new_network) == 0
    yield
    assert libc.setns(before, new_network) == 0
    os.close(before)


@contextlib.contextmanager
def user(manner: str, *names: str, uid: int = NOBODY) -> Iterator[int]:
    """Let a process of this user bind the names; give its process id."""
    python = "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable
    command = [
        "setpriv",
        "--reuid",
        str(uid),
        "--clear-groups",
        "--bounding-set",
        "-all",
        python,
        "-c",
        SQUAT,
        "squatter",
        manner,
        *names,
    ]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "there\n"
        yield process.pid
        process.stdin.close()


@pytest.mark.parametrize("address", [V4, V6, LOCAL])
@pytest.mark.parametrize("manner", ["listening", "silent", "full"])
def test_a_user_who_binds_the_name_keeps_nobody_out(address: str, manner: str) -> None:
    """The lock is had all the same, its squatter is known, and a second vipd is refused, also when
    the name is free again.
    """
    with user(manner, f"vipd/{address}") as pid:
        first = take(f"vipd/{address}", Place(address))
        assert first.squatter is not None
        assert (first.squatter.pid, first.squatter.uid) == (pid, NOBODY)
        assert "python3 -c" in first.squatter.command
        with pytest.raises(HeldError) as refused:
            take(f"vipd/{address}", Place(address))
        assert refused.value.holder.pid == os.getpid()
    with pytest.raises(HeldError):
        take(f"vipd/{address}", Place(address))
    first.close()
    second = take(f"vipd/{address}", Place(address))
    assert second.squatter is None
    second.close()


@pytest.mark.parametrize("manner", ["listening", "silent"])
def test_roots_sockets_are_a_vipds(manner: str) -> None:
    """Whatever root runs is taken for one: it could take the address as well."""
    with user(manner, f"vipd/{V4}", uid=0), pytest.raises(HeldError) as refused:
        take(f"vipd/{V4}", Place(V4))
    assert refused.value.is_vipd


def test_the_user_of_the_unit_is_known_to_the_pod() -> None:
    """It shows a mark that needs CAP_NET_RAW.

    So it is no squatter, though it is neither root nor the pod's own user.
    """
    shown = presence()
    assert shown is not None
    os.fchown(shown.fileno(), NOBODY, NOBODY)
    with user("listening", f"vipd/{V4}"):
        with pytest.raises(HeldError) as refused:
            take(f"vipd/{V4}", Place(V4))
        assert refused.value.is_vipd
        shown.close()
        take(f"vipd/{V4}", Place(V4)).close()


def test_the_guard_says_who_it_was() -> None:
    """Once, with process, user and command; and refuses another guard with the same."""
    said: list[str] = []
    first, second = Locks(said.append), Locks(said.append)
    with user("listening", f"vipd/{V4}") as pid:
        first.lock([V4, V6])
        with pytest.raises(
            LockedError,
            match=rf"{V4} is managed by another vipd \(process {os.getpid()}\) "
            r"on this host already; uid 0, ",
        ):
            second.lock([V4])
    assert len(said) == 1
    assert f"process {pid}, uid {NOBODY}" in said[0]
    for each in (first, second):
        each.close()


def test_no_process_can_keep_the_gate_from_its_seats() -> None:
    """All names are squatted.

    Both directions of an interface can still be taken, by as many vipds as before.
    """
    subprocess.run(["ip", "link", "add", "v0", "type", "veth"], check=True)
    control, ifindex = TrafficControl(), socket.if_nametoindex("v0")
    with user(
        "listening", *(f"vipd/gate/{ifindex}/{number}" for number in range(1, TC_SLOTS + 1))
    ) as pid:
        tc_slots = [TcSlot(control, ifindex) for _ in range(TC_SLOTS)]
        assert len(tc_slots[0].squatters) == 1
        assert tc_slots[0].squatters[0].startswith(f"process {pid}, uid {NOBODY}: ")
        assert sorted(tc_slot._number for tc_slot in tc_slots) == list(range(1, TC_SLOTS + 1))
        with pytest.raises(OSError, match="other processes have the sockets"):
            TcSlot(control, ifindex)
        for tc_slot in tc_slots:
            tc_slot.close()
    with contextlib.closing(TcSlot(control, ifindex)) as tc_slot:
        assert tc_slot.squatters == ()
    control.close()
