"""What systemd hears, word for word."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from vipd.guard.systemd import Notifier


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """Listen as systemd does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        sock.bind(str(tmp_path / "notify"))
        yield sock


def heard(manager: socket.socket) -> list[str]:
    """Return everything that was said."""
    found = []
    while True:
        try:
            found.append(manager.recv(4096).decode())
        except BlockingIOError:
            return found


def test_each_event_is_one_message(manager: socket.socket) -> None:
    """As sd_notify(3) wants them."""
    notifier = Notifier({"NOTIFY_SOCKET": manager.getsockname()})
    notifier.ready()
    notifier.status("Active for\ningress")
    notifier.watchdog()
    notifier.reloading()
    notifier.stopping()
    notifier.close()
    said = heard(manager)
    assert said[:3] == ["READY=1", "STATUS=Active for ingress", "WATCHDOG=1"]
    assert said[3].startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert said[4:] == ["STOPPING=1"]


def test_an_abstract_socket_is_understood() -> None:
    """Containers pass one on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        name = f"vipd-test-{os.getpid()}"
        sock.bind(f"\0{name}")
        notifier = Notifier({"NOTIFY_SOCKET": f"@{name}"})
        notifier.ready()
        notifier.close()
        assert sock.recv(100) == b"READY=1"


def test_without_a_manager_nothing_happens() -> None:
    """`vipd run` in a terminal."""
    notifier = Notifier({})
    notifier.ready()
    assert not notifier.waiting
    assert notifier.watchdog_interval == 0.0
    notifier.close()


def test_a_manager_that_is_gone_is_forgotten(tmp_path: Path) -> None:
    """Nothing is kept for it."""
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "nobody")})
    notifier.ready()
    assert not notifier.waiting
    notifier.close()


def test_a_manager_that_does_not_listen_is_not_waited_for(manager: socket.socket) -> None:
    """What it did not take is sent when it does.

    Feeding the watchdog is not kept, or it would be believed late.
    """
    notifier = Notifier({"NOTIFY_SOCKET": manager.getsockname()})
    said = 0
    while not notifier.waiting:
        notifier.watchdog()
        notifier.status(str(said))
        said += 1
    notifier.ready()
    notifier.watchdog()
    first = heard(manager)
    notifier.flush()
    rest = heard(manager)
    assert [text for text in first + rest if text != "WATCHDOG=1"] == [
        f"STATUS={number}" for number in range(said)
    ] + ["READY=1"]
    assert "WATCHDOG=1" not in rest
    notifier.close()


def test_children_do_not_inherit_the_variables() -> None:
    """A hook that says READY=1 would speak for the daemon."""
    environment = {
        "NOTIFY_SOCKET": "/nowhere",
        "WATCHDOG_USEC": "3000000",
        "WATCHDOG_PID": str(os.getpid()),
        "HOME": "/",
    }
    notifier = Notifier(environment)
    assert environment == {"HOME": "/"}
    assert notifier.watchdog_interval == 1.0
    notifier.close()


@pytest.mark.parametrize(
    "variables", [{"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "soon"}, {}]
)
def test_a_watchdog_that_is_not_for_this_process_is_not_fed(variables: dict[str, str]) -> None:
    """Its time is somebody else's, or none."""
    notifier = Notifier(dict(variables))
    assert notifier.watchdog_interval == 0.0
    notifier.close()
