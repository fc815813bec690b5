"""The real `vipd run` on the owner's host, seen from outside.

Its processes, its word in the gate, and every answer of its VIP.

The word is read out of the gate's own map, whatever has become of vipd; who may answer until when
is then one comparison.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from announce.gate.maps import Deadlines
from tests.netns.announce.gating import (
    CLIENT_PORT,
    CLIENT_V4,
    CLIENT_V6,
    KINDS,
    PORT,
    VIP_V4,
    VIP_V6,
    Client,
    Heard,
    boottime,
    checksum,
    ipv4,
    ipv6,
    pseudo,
)
from vipd.control.client import request
from vipd.control.errors import FailedError, UnreachableError
from vipd.demo.node import NICE
from vipd.guard.shared_words import DEFAULT_SLOTS

if TYPE_CHECKING:
    from tests.netns.announce.conftest import Host

ROOT = Path(__file__).parents[3]
MILLISECOND = 1_000_000
SECOND = 1_000_000_000
ALL_KINDS = KINDS | {"tcp4", "tcp6"}
WEB = "web"
SLOT = 1
PATIENCE = 40.0
LOOK_AGAIN = 0.01
CLOSED_PORT = 9
PIDFD_GETFD = 438
FREEBIND = {socket.AF_INET: (socket.IPPROTO_IP, 15), socket.AF_INET6: (socket.IPPROTO_IPV6, 78)}
_TCP = 6
_SYN = 0x5002


class Vipd:
    """One life of vipd after the other, alone in its election.

    Whoever restarts it has the VIP again.
    """

    def __init__(self, host: Host, folder: Path, lease: float, gate: str = "auto") -> None:
        self._host = host
        self._folder = folder
        self.lease = lease
        self._process: subprocess.Popen[bytes] | None = None
        self._handles: dict[int, int] = {}
        self.file = folder / "vipd.yaml"
        self.log = folder / "log"
        self.configure(gate)

    def configure(self, gate: str, *more: dict[str, object]) -> None:
        """Write the configuration for the next start; `more` instances besides the one."""
        interface = self._host.interface
        instance = {
            "name": WEB,
            "interface": interface,
            "addresses": [f"{VIP_V4}/32", f"{VIP_V6}/128"],
            "on_conflict": "take",
        }
        config = {
            "node": "a",
            "backend": {"file": {"path": str(self._folder / "store")}},
            "timing": {"lease_duration": f"{self.lease}s"},
            "instances": [instance, *more],
            "fence": {"gate": gate},
            "metrics": {"listen": "off"},
            "control": {"socket": str(self._folder / "sock")},
            "state_dir": str(self._folder / "state"),
        }
        self.file.write_text(json.dumps(config), encoding="utf-8")

    def status(self) -> dict[str, Any]:
        """Return its status document; empty while its daemon cannot be reached."""
        with contextlib.suppress(UnreachableError, FailedError):
            return request(str(self._folder / "sock"), "status")
        return {}

    def ask(self, command: str, **arguments: object) -> dict[str, object]:
        """Send one command over the control socket."""
        return request(str(self._folder / "sock"), command, arguments)

    def instance(self, index: int = 0) -> dict[str, Any]:
        """Return one instance of its status document; empty while its daemon cannot be reached."""
        found = self.status().get("instances", [])
        return dict(found[index]) if found else {}

    def start(self, *prefix: str) -> None:
        """Start it, with these words before the command."""
        command = [*prefix, sys.executable, "-m", "vipd", "run", "-c", str(self.file)]
        with self._host.inside(), self.log.open("ab") as log:
            self._process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        os.setpriority(os.PRIO_PROCESS, self._process.pid, NICE)

    @property
    def guard(self) -> int:
        """The process id of the guard."""
        assert self._process is not None
        return self._process.pid

    @property
    def daemon(self) -> int:
        """The process id of the daemon; 0: there is none."""
        return next((pid for pid in self.tree() if _name(pid).startswith("vipd-daemon")), 0)

    def tree(self) -> list[int]:
        """Return the guard and all below it, the guard first.

        Those who are orphans later are killed all the same.
        """
        found = [self.guard]
        for pid in found:
            for task in Path("/proc").glob(f"{pid}/task/*/children"):
                with contextlib.suppress(OSError):
                    found += map(int, task.read_text().split())
        for pid in set(found) - self._handles.keys():
            with contextlib.suppress(ProcessLookupError):
                self._handles[pid] = os.pidfd_open(pid)
        return found

    def deadlines(self) -> Deadlines:
        """Return the map of deadlines that guard and gate look at; it outlives them."""
        for entry in (Path("/proc") / str(self.guard) / "fdinfo").iterdir():
            if re.search(rf"^max_entries:\s*{DEFAULT_SLOTS + 2}$", entry.read_text(), re.MULTILINE):
                return Deadlines.from_descriptor(
                    stolen(self.guard, int(entry.name)), DEFAULT_SLOTS + 1
                )
        raise AssertionError("the guard has no map of deadlines")

    def written_at(self) -> int:
        """Return when the election's record was last written, in ns of CLOCK_BOOTTIME."""
        ahead = time.clock_gettime_ns(time.CLOCK_REALTIME) - boottime()
        return (
            max(
                path.stat().st_mtime_ns for path in (self._folder / "store" / "elections").iterdir()
            )
            - ahead
        )

    def kill(self) -> None:
        """Kill what is left of it, and wait until it is gone."""
        if self._process is not None:
            self.tree()
            for handle in self._handles.values():
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
                select.select([handle], [], [], PATIENCE)
                os.close(handle)
            self._handles.clear()
            self._process.wait()
            self._process = None

    def stop(self) -> int:
        """End it in an orderly way; return its exit code."""
        assert self._process is not None
        self._process.terminate()
        code = self._process.wait(PATIENCE)
        self._process = None
        return code


def until(happened: Callable[[], object], what: str) -> None:
    """Wait until something has happened that takes a process to start, on a machine that may be
    busy.
    """
    end = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < end, f"waited {PATIENCE:g} s in vain for {what}"
        time.sleep(LOOK_AGAIN)


def limited(*names: str) -> list[str]:
    """Return what starts a program with these capabilities only."""
    some = ",".join(["-all", *(f"+{name}" for name in names)])
    return ["setpriv", f"--inh-caps={some}", f"--bounding-set={some}"]


def signal_all(pids: Collection[int], number: signal.Signals) -> None:
    """Send a signal to each process that is still there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def stolen(pid: int, number: int) -> int:
    """Return a copy of another process's descriptor (pidfd_getfd, Linux 5.6)."""
    process = os.pidfd_open(pid)
    try:
        found = int(
            ctypes.CDLL(None, use_errno=True).syscall(
                ctypes.c_long(PIDFD_GETFD), process, number, 0
            )
        )
        if found < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return found
    finally:
        os.close(process)


# ---------------------------------------------------------------- what is asked and heard


def syn(source: str, target: str) -> bytes:
    """Return a TCP segment that opens a connection to a port on which nobody listens: the answer is
    a reset.
    """
    head = struct.pack("!HHIIHHHH", CLIENT_PORT, CLOSED_PORT, 1, 0, _SYN, 1024, 0, 0)
    total = checksum(pseudo(source, target, _TCP, len(head)) + head)
    return head[:16] + total.to_bytes(2, "big") + head[18:]


def questions(client: Client) -> list[bytes]:
    """Return one frame of each kind, all to the owner's own MAC."""
    asked = [client.question(kind) for kind in sorted(KINDS)]
    asked.append(client.wrapped(b"\x08\x00", ipv4(CLIENT_V4, VIP_V4, syn(CLIENT_V4, VIP_V4), _TCP)))
    asked.append(client.wrapped(b"\x86\xdd", ipv6(CLIENT_V6, VIP_V6, _TCP, syn(CLIENT_V6, VIP_V6))))
    return asked


@dataclass
class Watcher:
    """Asks in all ways all the time, and compares each answer with the latest deadline that the
    word has ever had.

    Times are ns of CLOCK_BOOTTIME. `asked` counts questions. `over`: by how much an answer was
    later than that, at most; negative: none was.
    """

    client: Client
    words: list[Deadlines] = field(default_factory=list)
    limit: int = 0
    asked: int = 0
    over: int = -SECOND
    answered_at: dict[str, int] = field(default_factory=dict)
    heard: list[Heard] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Make the questions."""
        self._questions = questions(self.client)

    def see_words(self) -> None:
        """Take note of the deadline as it is now."""
        self.limit = max([self.limit, *(words.at(SLOT) for words in self.words)])

    def until(self, moment: int, pause: int = MILLISECOND) -> None:
        """Go on until this moment, with a question of each kind every `pause` ns."""
        while (at := boottime()) < moment:
            self.see_words()
            for frame in self._questions:
                self.client.send(frame)
            self.asked += len(self._questions)
            while found := self.client.hear(max(0.0001, (at + pause - boottime()) / SECOND)):
                self._take_in(found)

    def _take_in(self, found: Heard) -> None:
        self.see_words()
        self.heard.append(found)
        self.answered_at[found.kind] = found.at
        self.over = max(self.over, found.at - self.limit)

    def until_served(self) -> None:
        """Go on until all kinds of questions are answered."""
        begin = boottime()
        while any(self.answered_at.get(kind, 0) < begin for kind in ALL_KINDS):
            assert boottime() < begin + PATIENCE * SECOND, {
                kind: self.answered_at.get(kind) for kind in ALL_KINDS
            }
            self.until(boottime() + 5 * MILLISECOND, 5 * MILLISECOND)


class Echo:
    """What serves on the VIPs whether they are bound or not: sends every datagram back.

    A process of its own, that never stops.
    """

    def __init__(self, host: Host) -> None:
        with host.inside():
            self._process = subprocess.Popen(
                [sys.executable, "-c", ECHO, VIP_V4, VIP_V6, str(PORT)], stdout=subprocess.PIPE
            )
        assert self._process.stdout
        assert self._process.stdout.readline() == b"ready\n"

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdout
        self._process.stdout.close()


ECHO = f"""
import select, socket, sys
socks = []
for family, (level, option), ip in zip((socket.AF_INET, socket.AF_INET6), {tuple(FREEBIND.values())!r}, sys.argv[1:]):
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.setsockopt(level, option, 1)
    sock.bind((ip, int(sys.argv[3])))
    socks.append(sock)
print("ready", flush=True)
while True:
    for sock in select.select(socks, [], [])[0]:
        data, sender = sock.recvfrom(2048)
        try:
            sock.sendto(data, sender)
        except OSError:
            pass
"""


@contextlib.contextmanager
def served(vipd: Vipd, watcher: Watcher) -> Iterator[Deadlines]:
    """Start a life of vipd and wait until its VIP answers in every way.

    Whatever is left of it is killed at the end.
    """
    vipd.start()
    try:
        until(lambda: has_map(vipd), "the guard's map")
        words = vipd.deadlines()
        watcher.words.append(words)
        watcher.client.synchronize()
        watcher.until_served()
        yield words
    finally:
        vipd.kill()
        watcher.see_words()
        for words in watcher.words:
            words.close()
        watcher.words.clear()


def has_map(vipd: Vipd) -> bool:
    """Whether the guard has made its map."""
    with contextlib.suppress(AssertionError, OSError):
        words = vipd.deadlines()
        words.close()
        return True
    return False


def _name(pid: int) -> str:
    """Return a process's name; empty if it has just ended."""
    try:
        return (Path("/proc") / str(pid) / "comm").read_text()
    except OSError:
        return ""
