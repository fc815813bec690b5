"""The real guard with a real kernel, and a daemon that fails in every way there is."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest

from vipd.guard.processes import child_pids

pytestmark = [pytest.mark.root, pytest.mark.netns]

ROOT = Path(__file__).parents[2]
STANDIN = Path(__file__).with_name("guard_standin.py")
VIP = "192.0.2.10"
PATIENCE = 15.0
SETUP = (
    "ip link set lo up && ip link add vip0 type veth peer name vip1 && ip link set vip0 up "
    "&& ip link set vip1 up && echo up && exec cat"
)
Event = dict[str, Any]


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait until it is so; fail if it does not become so."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.005)


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return (
            Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
            != "Z"
        )
    except (FileNotFoundError, ProcessLookupError):
        return False


@dataclass
class Namespace:
    """A network namespace without a name: it is gone when nobody is in it any more."""

    holder: subprocess.Popen[str]

    @property
    def enter(self) -> list[str]:
        """Return the words that run a command in it."""
        return ["nsenter", "-t", str(self.holder.pid), "-n", "--"]

    def addresses(self) -> dict[str, int]:
        """Return what is bound on vip0, with the valid lifetimes in seconds."""
        done = subprocess.run(
            [*self.enter, "ip", "-j", "addr", "show", "dev", "vip0"],
            capture_output=True,
            text=True,
            check=True,
        )
        found = json.loads(done.stdout)[0]["addr_info"]
        return {each["local"]: each["valid_life_time"] for each in found if each["scope"] != "link"}


@dataclass
class Guarded:
    """A guard, what its daemons said, and what is in its log."""

    namespace: Namespace
    process: subprocess.Popen[bytes]
    file: Path
    log_file: Path
    events: list[Event] = field(default_factory=list)
    _seen: int = 0
    _rest: bytes = b""

    def wait_for(self, event: str, **values: object) -> Event:
        """Return the next event of this kind and with these values, after the one that was waited
        for last.
        """
        end = time.monotonic() + PATIENCE
        while True:
            for found in self.events[self._seen :]:
                self._seen += 1
                if found["event"] == event and all(
                    found.get(key) == value for key, value in values.items()
                ):
                    return found
            assert time.monotonic() < end, f"no {event}; {self.events}; {self.log()}"
            self._read(0.1)

    def _read(self, seconds: float) -> bool:
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], seconds)[0]:
            return False
        data = os.read(self.process.stdout.fileno(), 65536)
        *lines, self._rest = (self._rest + data).split(b"\n")
        self.events += [json.loads(line) for line in lines]
        return bool(data)

    def say(self, command: str) -> Event:
        """Have the daemon carry out a command, and return when it is done."""
        self.tell(command)
        return self.wait_for("done", command=command.partition(" ")[0])

    def tell(self, command: str) -> None:
        """Give the daemon a command that it may not survive."""
        assert self.process.stdin is not None
        self.process.stdin.write(command.encode() + b"\n")
        self.process.stdin.flush()

    def configure(self, **values: object) -> None:
        """Change the file."""
        self.file.write_text(
            json.dumps({**json.loads(self.file.read_text(encoding="utf-8")), **values}),
            encoding="utf-8",
        )

    def exit_code(self) -> int:
        """Wait for the guard's end, and for all that its daemons said."""
        code = self.process.wait(PATIENCE)
        while self._read(0.0):
            pass
        return code

    def log(self) -> str:
        """Return the guard's log and whatever else went to stderr."""
        return self.log_file.read_text(encoding="utf-8")

    def said(self, event: str) -> list[Event]:
        """Return all events of a kind."""
        return [found for found in self.events if found["event"] == event]


class Stage:
    """Makes namespaces and guards, and clears them away."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stack = contextlib.ExitStack()
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def namespace(self) -> Namespace:
        """Make a namespace with an interface vip0."""
        holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", SETUP],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._stack.callback(_end, holder)
        assert holder.stdout is not None
        assert holder.stdout.readline() == "up\n"
        return Namespace(holder)

    def guard(
        self, namespace: Namespace, prefix: tuple[str, ...] = (), **config: object
    ) -> Guarded:
        """Start a guard."""
        self._count += 1
        file, log = self._path / f"{self._count}.json", self._path / f"{self._count}.log"
        settings = {
            "name": "ingress",
            "interface": "vip0",
            "address": f"{VIP}/32",
            "lease": 3.0,
            **config,
        }
        environment = {
            **os.environ,
            "PYTHONPATH": str(config.get("source", ROOT)),
            **({"NOTIFY_SOCKET": str(config["notify"])} if "notify" in config else {}),
        }
        if "watchdog" in config:
            environment["WATCHDOG_USEC"] = str(config["watchdog"])
        file.write_text(json.dumps(settings), encoding="utf-8")
        command = [
            *namespace.enter,
            *prefix,
            sys.executable,
            "-W",
            "error",
            str(STANDIN),
            str(file),
        ]
        with log.open("wb") as stderr:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=environment,
            )
        guarded = Guarded(namespace, process, file, log)
        self._stack.callback(_end_guard, guarded)
        return guarded

    def monitor(self, namespace: Namespace) -> Callable[[], list[str]]:
        """Watch the addresses of vip0.

        Return a function that tells what has happened to the VIP so far.
        """
        file = self._path / "monitor"
        with file.open("wb") as output:
            process = subprocess.Popen(
                [*namespace.enter, "ip", "monitor", "address", "dev", "vip0"], stdout=output
            )
        self._stack.callback(_end, process)

        def mark(address: str) -> bool:
            subprocess.run(
                [*namespace.enter, "ip", "addr", "replace", address, "dev", "vip0"], check=True
            )
            return address in file.read_text(encoding="utf-8")

        until(lambda: mark("198.51.100.1/32"), "the monitor does not start")

        def result() -> list[str]:
            until(lambda: mark("198.51.100.2/32"), "the monitor is behind")
            return [line for line in file.read_text(encoding="utf-8").splitlines() if VIP in line]

        return result


def _end(process: subprocess.Popen[Any]) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()


def _end_guard(guarded: Guarded) -> None:
    pids = {event["pid"] for event in guarded.events if event["event"] in {"daemon", "template"}}
    with contextlib.suppress(AssertionError, ValueError):
        while guarded._read(0.0):
            pass
    _end(guarded.process)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """Give a stage."""
    with Stage(tmp_path) as made:
        yield made


@pytest.fixture
def namespace(stage: Stage) -> Namespace:
    """Give a namespace."""
    return stage.namespace()


# ---------------------------------------------------------------- crashes


def test_a_crash_does_not_move_the_address(stage: Stage, namespace: Namespace) -> None:
    """A new daemon is there at once and finds slot and deadline.

    The address never went away and ends with the right.
    """
    guarded = stage.guard(namespace)
    first = guarded.wait_for("start")
    assert (first["deadline"], first["crashes"], first["ppid"]) == (0.0, 0, guarded.process.pid)
    deadline = guarded.say("open 8")["deadline"]
    assert namespace.addresses()[VIP] > 50
    watched = stage.monitor(namespace)
    guarded.tell("die")
    second = guarded.wait_for("start")
    assert (second["slot"], second["deadline"], second["crashes"]) == (first["slot"], deadline, 1)
    assert second["ppid"] == guarded.process.pid
    assert namespace.addresses()[VIP] <= 8, (
        "the guard has refreshed the lifetime, as the deadline allows"
    )
    assert watched()
    assert not any(line.startswith("Deleted") for line in watched())
    guarded.process.terminate()
    assert guarded.exit_code() == 0


def test_a_stuck_daemon_is_replaced(stage: Stage, namespace: Namespace) -> None:
    """Stopped for longer than it may be: killed, and then as after a crash."""
    guarded = stage.guard(namespace)
    first = guarded.wait_for("start")
    guarded.say("open 10")
    os.kill(first["pid"], signal.SIGSTOP)
    second = guarded.wait_for("start")
    assert second["crashes"] == 1
    assert second["deadline"] > 0
    assert VIP in namespace.addresses()
    assert "gives no sign of life: killed (silent for " in guarded.log()
    assert "    no stack: it was stopped by a signal" in guarded.log()
    assert not alive(first["pid"])


def test_a_daemon_without_progress_is_replaced(stage: Stage, namespace: Namespace) -> None:
    """It runs, but its elections do not: it does not beat."""
    guarded = stage.guard(namespace)
    guarded.wait_for("start")
    guarded.say("mute")
    assert guarded.wait_for("start")["crashes"] == 1
    stack = guarded.log().partition("gives no sign of life: killed")[2]
    assert "(most recent call first):" in stack
    assert re.search(r'File ".*guard_standin\.py", line \d+ in run', stack), (
        "what it was doing: the test's own loop"
    )


def test_a_host_that_stood_still_is_no_reason_to_kill(stage: Stage, namespace: Namespace) -> None:
    """Guard and daemon were stopped together (a paused machine, a starved host).

    Who runs first does not judge the other.
    """
    guarded = stage.guard(namespace)
    first = guarded.wait_for("start")
    for pid in (guarded.process.pid, first["pid"]):
        os.kill(pid, signal.SIGSTOP)
    time.sleep(0.8)
    os.kill(guarded.process.pid, signal.SIGCONT)
    time.sleep(0.05)
    os.kill(first["pid"], signal.SIGCONT)
    assert guarded.say("nothing")["pid"] == first["pid"]
    time.sleep(0.6)
    assert guarded.say("nothing")["pid"] == first["pid"]
    assert "killed" not in guarded.log()


def test_three_crashes_end_it(stage: Stage, namespace: Namespace) -> None:
    """The addresses are removed though the right lasts; the exit code is 1."""
    guarded = stage.guard(namespace)
    guarded.wait_for("start")
    guarded.say("open 20")
    for _ in range(2):
        guarded.tell("die")
        guarded.wait_for("start")
    assert VIP in namespace.addresses()
    guarded.tell("die")
    assert guarded.exit_code() == 1
    assert len(guarded.said("start")) == 3
    assert namespace.addresses() == {}
    assert re.search(
        r"giving up: 3 deaths in \d+\.\d s; the addresses are removed, and another node takes over",
        guarded.log(),
    )


def test_what_a_dead_daemon_started_is_ended(stage: Stage, namespace: Namespace) -> None:
    """A check or a hook without its daemon has nobody to end it in time."""
    guarded = stage.guard(namespace)
    guarded.wait_for("start")
    guarded.tell("spawn")
    child = guarded.wait_for("spawned")["child"]
    assert alive(child)
    guarded.tell("die")
    guarded.wait_for("start")
    until(lambda: not alive(child), "the child lives on")


def test_adopted_processes_are_reaped(stage: Stage, namespace: Namespace) -> None:
    """A hook's forgotten child is adopted by the guard; it leaves no zombie."""
    guarded = stage.guard(namespace)
    guarded.wait_for("start")
    guarded.say("orphan")
    until(
        lambda: len(child_pids(guarded.process.pid)) == 2,
        "a zombie is left besides the daemon and the template",
    )


# ---------------------------------------------------------------- deadlines


def test_a_frozen_daemon_loses_its_addresses_at_the_deadline(
    stage: Stage, namespace: Namespace
) -> None:
    """It is killed first; the next one knows of the fence and finds no right."""
    guarded = stage.guard(namespace, lease=30.0)
    first = guarded.wait_for("start")
    deadline = guarded.say("open 0.5")["deadline"]
    os.kill(first["pid"], signal.SIGSTOP)
    assert VIP in namespace.addresses()
    second = guarded.wait_for("daemon")
    assert second["at"] > deadline
    assert namespace.addresses() == {}, "removed before the next daemon runs"
    start = guarded.wait_for("start")
    assert (start["deadline"], start["fenced"]) == (0.0, {"ingress": 1})
    assert "missed a deadline: killed" in guarded.log()


def test_a_lowered_deadline_counts_at_once(stage: Stage, namespace: Namespace) -> None:
    """The guard would sleep until the earlier one, or until the heartbeat is overdue (5 s with this
    lease).
    """
    guarded = stage.guard(namespace, lease=30.0)
    first = guarded.wait_for("start")
    guarded.say("open 20")
    deadline = guarded.say("renew 0.4")["deadline"]
    os.kill(first["pid"], signal.SIGSTOP)
    second = guarded.wait_for("daemon")
    assert deadline < second["at"] < deadline + 2
    assert namespace.addresses() == {}
    assert "missed a deadline: killed" in guarded.log()


def test_a_closed_word_is_no_reason_to_kill(stage: Stage, namespace: Namespace) -> None:
    """The daemon unbound in time: its old deadline passes unseen."""
    guarded = stage.guard(namespace)
    guarded.wait_for("start")
    guarded.say("open 0.3")
    guarded.say("renew -10000000000")
    time.sleep(0.5)
    guarded.say("nothing")
    assert len(guarded.said("start")) == 1


def test_a_slow_start_is_no_reason_to_kill(stage: Stage, namespace: Namespace) -> None:
    """The right ends before the new daemon has armed its election.

    The guard removes the addresses beside it.
    """
    guarded = stage.guard(namespace, slow=1.0)
    guarded.wait_for("start")
    guarded.say("open 0.5")
    guarded.tell("die")
    second = guarded.wait_for("start")
    assert (second["crashes"], second["deadline"]) == (1, 0.0)
    assert namespace.addresses() == {}
    assert len(guarded.said("daemon")) == 2


def test_addresses_of_an_earlier_arming_go_as_well(stage: Stage, namespace: Namespace) -> None:
    """The daemon died between two configurations of one election."""
    guarded = stage.guard(namespace)
    guarded.wait_for("start")
    guarded.say("open 1.0")
    guarded.say("rearm 192.0.2.11/32")
    guarded.say("open 0.5")
    assert set(namespace.addresses()) == {VIP, "192.0.2.11"}
    os.kill(guarded.said("start")[0]["pid"], signal.SIGSTOP)
    guarded.wait_for("start")
    assert namespace.addresses() == {}


# it does not take long, but it needs a loop device, which a container may not have
@pytest.mark.long
def test_a_daemon_that_cannot_even_be_killed_loses_its_addresses(
    stage: Stage, namespace: Namespace, tmp_path: Path
) -> None:
    """It sleeps in the kernel, waiting for a disk.

    The addresses go at the deadline, the word closes when it is reaped.
    """
    guarded = stage.guard(namespace, lease=30.0)
    first = guarded.wait_for("start")
    with frozen_disk(tmp_path) as file:
        deadline = guarded.say("open 1.0")["deadline"]
        guarded.tell(f"write {file}")
        until(lambda: "killed" in guarded.log(), "not killed")
        until(lambda: VIP not in namespace.addresses(), "not removed")
        assert (
            Path(f"/proc/{first['pid']}/stat")
            .read_text(encoding="ascii")
            .rpartition(")")[2]
            .split()[0]
            == "D"
        )
    second = guarded.wait_for("start")
    assert second["at"] > deadline
    assert (second["deadline"], second["fenced"]) == (0.0, {"ingress": 1})


@contextlib.contextmanager
def frozen_disk(path: Path) -> Iterator[Path]:
    """Give the name of a file on a disk that does not answer; at the end it does."""
    image, mount = path / "image", path / "disk"
    image.write_bytes(bytes(16 * 1024 * 1024))
    mount.mkdir()
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, mount], check=True)
    try:
        subprocess.run(["fsfreeze", "--freeze", mount], check=True)
        try:
            yield mount / "file"
        finally:
            subprocess.run(["fsfreeze", "--unfreeze", mount], check=True)
    finally:
        subprocess.run(["umount", "--lazy", mount], check=True)


# ---------------------------------------------------------------- the end


def test_a_stop_is_told_to_the_daemon_and_waited_for(stage: Stage, namespace: Namespace) -> None:
    """SIGTERM, the daemon leaves, the guard ends with 0; nothing is left."""
    guarded = stage.guard(namespace)
    start = guarded.wait_for("start")
    guarded.say("open 20")
    guarded.process.terminate()
    assert guarded.exit_code() == 0
    assert [event["event"] for event in guarded.events[-2:]] == ["term", "left"]
    assert guarded.said("term")[0]["ppid"] == guarded.process.pid
    assert namespace.addresses() == {}
    assert not alive(start["pid"])
    assert not alive(guarded.said("template")[0]["pid"])


def test_a_daemon_that_does_not_stop_is_killed(stage: Stage, namespace: Namespace) -> None:
    """After five seconds; its addresses are removed by the guard, and the exit code is 1."""
    guarded = stage.guard(namespace, stubborn=True)
    guarded.wait_for("start")
    guarded.say("open 20")
    guarded.process.terminate()
    assert guarded.exit_code() == 1
    assert "did not stop in time: killed" in guarded.log()
    assert namespace.addresses() == {}


def test_a_dead_guard_is_told_to_the_daemon(stage: Stage, namespace: Namespace) -> None:
    """By the kernel, with SIGTERM: the daemon hands over and ends, the template is gone."""
    guarded = stage.guard(namespace)
    start = guarded.wait_for("start")
    guarded.say("open 20")
    guarded.process.kill()
    guarded.wait_for("left")
    assert guarded.said("term")[0]["pid"] == start["pid"]
    until(
        lambda: not alive(start["pid"]) and not alive(guarded.said("template")[0]["pid"]),
        "processes are left behind",
    )
    assert namespace.addresses() == {}


@pytest.mark.parametrize("code", [2, 4])
def test_what_a_new_start_cannot_mend_is_not_tried_again(
    stage: Stage, namespace: Namespace, code: int
) -> None:
    """The guard removes what is still open and ends with the daemon's own exit code."""
    guarded = stage.guard(namespace)
    guarded.wait_for("start")
    guarded.say("open 20")
    guarded.tell(f"exit {code}")
    assert guarded.exit_code() == code
    assert len(guarded.said("daemon")) == 1
    assert namespace.addresses() == {}


def test_a_wrong_configuration_starts_nothing(stage: Stage, namespace: Namespace) -> None:
    """Exit code 2, after `prepare` has said why."""
    guarded = stage.guard(namespace, invalid=True)
    assert guarded.exit_code() == 2
    assert guarded.said("daemon") == []
    assert "invalid" in guarded.log()


def test_libraries_that_cannot_be_imported_end_it(stage: Stage, namespace: Namespace) -> None:
    """Three times, as with crashes."""
    guarded = stage.guard(namespace, unimportable=True)
    assert guarded.exit_code() == 1
    assert len(guarded.said("template")) == 3
    assert guarded.said("daemon") == []
    assert "as the test wants it" in guarded.log()


def test_a_stop_before_the_first_start_is_a_stop(stage: Stage, namespace: Namespace) -> None:
    """Wherever it meets the guard."""
    guarded = stage.guard(namespace)
    guarded.wait_for("guard")
    time.sleep(0.02)
    guarded.process.terminate()
    assert guarded.exit_code() in {0, -signal.SIGTERM}


# ---------------------------------------------------------------- reload


def test_a_reload_starts_a_new_daemon_with_the_new_configuration(
    stage: Stage, namespace: Namespace
) -> None:
    """The old one ends when it has seen the new configuration.

    The address stays, and it is no crash.
    """
    guarded = stage.guard(namespace)
    guarded.wait_for("start")
    deadline = guarded.say("open 20")["deadline"]
    guarded.configure(note="new")
    guarded.process.send_signal(signal.SIGHUP)
    assert guarded.wait_for("reload")["config"]["note"] == "new"
    second = guarded.wait_for("start")
    assert (second["note"], second["crashes"], second["deadline"]) == ("new", 0, deadline)
    assert VIP in namespace.addresses()
    for _ in range(2):
        guarded.tell("die")
        assert guarded.wait_for("start")["note"] == "new"


def test_a_wrong_new_configuration_changes_nothing(stage: Stage, namespace: Namespace) -> None:
    """The daemon is not even notified; and a crash after it starts with the old one."""
    guarded = stage.guard(namespace)
    guarded.wait_for("start")
    guarded.configure(invalid=True)
    guarded.process.send_signal(signal.SIGHUP)
    until(lambda: "the new configuration cannot be used" in guarded.log(), "not refused")
    guarded.say("nothing")
    guarded.file.unlink()
    guarded.tell("die")
    assert guarded.wait_for("start")["crashes"] == 1
    assert guarded.said("reload") == []


def test_a_new_configuration_that_cannot_be_started_with_changes_nothing(
    stage: Stage, namespace: Namespace
) -> None:
    """The new template fails before anything of the old is given up."""
    guarded = stage.guard(namespace)
    guarded.wait_for("start")
    guarded.configure(unimportable=True)
    guarded.process.send_signal(signal.SIGHUP)
    until(lambda: "the new configuration cannot be used" in guarded.log(), "not refused")
    guarded.tell("die")
    assert guarded.wait_for("start")["crashes"] == 1


def test_a_reload_of_the_same_configuration_changes_nothing(
    stage: Stage, namespace: Namespace
) -> None:
    """No daemon is even asked, and systemd is notified that all is as it was."""
    guarded = stage.guard(namespace)
    first = guarded.wait_for("start")
    guarded.process.send_signal(signal.SIGHUP)
    until(lambda: "the configuration is unchanged: nothing to do" in guarded.log(), "not said")
    guarded.say("nothing")
    assert guarded.said("reload") == []
    guarded.tell("die")
    second = guarded.wait_for("start")
    assert (first["crashes"], second["crashes"]) == (0, 1)


def test_the_next_daemon_knows_that_the_file_is_refused(stage: Stage, namespace: Namespace) -> None:
    """And no more when a later one is good."""
    guarded = stage.guard(namespace)
    assert guarded.wait_for("start")["refused"] == ""
    guarded.configure(invalid=True)
    guarded.process.send_signal(signal.SIGHUP)
    until(lambda: "the new configuration cannot be used" in guarded.log(), "not refused")
    guarded.tell("die")
    assert guarded.wait_for("start")["refused"] != ""
    guarded.configure(invalid=False, note="good")
    guarded.process.send_signal(signal.SIGHUP)
    started = guarded.wait_for("start")
    assert (started["note"], started["refused"]) == ("good", "")


# ---------------------------------------------------------------- upgrades


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Give a copy of the program, to be changed while it runs."""
    for package in ("announce", "election", "health", "vipd"):
        shutil.copytree(
            ROOT / package,
            tmp_path / "source" / package,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    return tmp_path / "source"


def upgrade(source: Path) -> None:
    """Install another version over the one that runs, one that this guard would not understand."""
    (source / "vipd" / "version.py").write_text('VERSION = "99.0.0"\n')
    (source / "vipd" / "prepare.py").write_text("raise RuntimeError\n")


def test_a_reload_after_an_upgrade_is_refused(
    stage: Stage, namespace: Namespace, source: Path
) -> None:
    """A new daemon under an old guard need not understand it.

    What runs goes on, and the sentence says what to do.
    """
    guarded = stage.guard(namespace, source=str(source))
    guarded.wait_for("start")
    guarded.say("open 30")
    upgrade(source)
    guarded.configure(note="new")
    guarded.process.send_signal(signal.SIGHUP)
    until(lambda: "systemctl restart vipd" in guarded.log(), "not refused")
    assert re.search(
        r"vipd 99\.0\.0 \(\w{8}\) is installed, and \S+ \(\w{8}\) runs: "
        r"run `systemctl restart vipd`",
        guarded.log(),
    )
    guarded.say("nothing")
    assert guarded.said("reload") == []
    assert VIP in namespace.addresses()
    guarded.tell("die")
    second = guarded.wait_for("start")
    assert (second["note"], second["crashes"]) == (None, 1)
    assert "systemctl restart vipd" in second["refused"]


def test_no_daemon_of_another_version_is_started_after_a_crash_either(
    stage: Stage, namespace: Namespace, source: Path
) -> None:
    """1. upgrade, 2. the process to fork from dies: none is made of the new code, 3.

    The daemon dies: the whole service starts afresh.
    """
    guarded = stage.guard(namespace, source=str(source))
    template = guarded.wait_for("template")["pid"]
    guarded.wait_for("start")
    guarded.say("open 30")
    upgrade(source)
    os.kill(template, signal.SIGKILL)
    until(
        lambda: (
            "no daemon can be started again: another version of vipd was installed" in guarded.log()
        ),
        "not said",
    )
    guarded.say("nothing")
    guarded.tell("die")
    assert guarded.exit_code() == 1
    assert VIP not in namespace.addresses()


def test_a_reload_after_the_same_code_was_installed_again_is_a_reload(
    stage: Stage, namespace: Namespace, source: Path
) -> None:
    """What counts is the content, not the time of the files."""
    guarded = stage.guard(namespace, source=str(source))
    guarded.wait_for("start")
    for path in source.rglob("*.py"):
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content)
    guarded.configure(note="new")
    guarded.process.send_signal(signal.SIGHUP)
    assert guarded.wait_for("start")["note"] == "new"


def test_reloads_in_a_row_end_with_the_last_configuration(
    stage: Stage, namespace: Namespace
) -> None:
    """However they overlap."""
    guarded = stage.guard(namespace)
    guarded.wait_for("start")
    for number in range(5):
        guarded.configure(note=number)
        guarded.process.send_signal(signal.SIGHUP)
    guarded.wait_for("start", note=4)
    assert guarded.log().count("crashed") == 0


# ---------------------------------------------------------------- locks


def test_one_daemon_for_one_address(stage: Stage, namespace: Namespace) -> None:
    """A second one of the same namespace is refused, one in another is not, and a frozen daemon
    keeps its lock.
    """
    first = stage.guard(namespace, lease=30.0)
    os.kill(first.wait_for("start")["pid"], signal.SIGSTOP)
    second = stage.guard(namespace)
    assert second.exit_code() == 4
    assert second.said("refused")[0]["by"].startswith(
        f"{VIP}/32 is managed by another vipd (process {first.process.pid})"
    )
    elsewhere = stage.guard(stage.namespace())
    elsewhere.wait_for("start")
    first.process.kill()
    first.process.wait()
    third = stage.guard(namespace)
    assert third.exit_code() == 4, "the frozen daemon holds the lock without its guard"


def test_a_daemon_that_freezes_with_the_lock_is_replaced_by_one_that_gets_it(
    stage: Stage, namespace: Namespace, tmp_path: Path
) -> None:
    """Before its first beat, so after four seconds."""
    guarded = stage.guard(namespace, freeze_with_lock=str(tmp_path / "frozen"))
    guarded.wait_for("locked")
    assert guarded.wait_for("start")["crashes"] == 1
    assert "did not come up: killed" in guarded.log()


# ---------------------------------------------------------------- the template


def test_a_dead_template_is_replaced(stage: Stage, namespace: Namespace) -> None:
    """The daemon does not notice, and the next crash is as short as any."""
    guarded = stage.guard(namespace)
    first = guarded.wait_for("start")
    os.kill(guarded.said("template")[0]["pid"], signal.SIGKILL)
    guarded.wait_for("template")
    guarded.say("open 20")
    guarded.tell("die")
    second = guarded.wait_for("start")
    assert second["crashes"] == 1
    assert len(guarded.said("daemon")) == 2
    assert first["ppid"] == second["ppid"] == guarded.process.pid


def test_a_frozen_template_is_replaced_when_it_is_needed(
    stage: Stage, namespace: Namespace
) -> None:
    """It does not fork: half a second later another one does, and the address stays."""
    guarded = stage.guard(namespace)
    guarded.wait_for("start")
    guarded.say("open 20")
    os.kill(guarded.said("template")[0]["pid"], signal.SIGSTOP)
    guarded.tell("die")
    assert guarded.wait_for("start")["crashes"] == 2
    assert VIP in namespace.addresses()


# ---------------------------------------------------------------- its surroundings


def test_systemd_is_told(stage: Stage, namespace: Namespace, tmp_path: Path) -> None:
    """Ready when the daemon is, the watchdog fed while it makes progress and not while it does not,
    reload, stop.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(PATIENCE)
        guarded = stage.guard(
            namespace, lease=30.0, notify=str(tmp_path / "notify"), watchdog=300_000
        )

        def heard_until(text: str) -> list[str]:
            said = [manager.recv(4096).decode()]
            while not said[-1].startswith(text):
                said.append(manager.recv(4096).decode())
            return said

        start = guarded.wait_for("start")
        assert [text for text in heard_until("STATUS") if text != "WATCHDOG=1"] == [
            "READY=1",
            "STATUS=all is well",
        ]
        heard_until("WATCHDOG=1")
        guarded.configure(invalid=True)
        guarded.process.send_signal(signal.SIGHUP)
        heard_until("RELOADING=1\nMONOTONIC_USEC=")
        heard_until("READY=1")
        guarded.configure(invalid=False)
        guarded.process.send_signal(signal.SIGHUP)
        heard_until("RELOADING=1")
        heard_until("READY=1")
        assert not alive(start["pid"])
        guarded.process.terminate()
        heard_until("STOPPING=1")
        assert guarded.exit_code() == 0


def test_the_watchdog_is_not_fed_for_a_daemon_without_progress(
    stage: Stage, namespace: Namespace, tmp_path: Path
) -> None:
    """From the moment that its silence is too long until its successor beats."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        guarded = stage.guard(
            namespace,
            notify=str(tmp_path / "notify"),
            watchdog=30_000,
            freeze_with_lock=str(tmp_path / "later"),
        )
        (tmp_path / "later").touch()
        guarded.wait_for("start")
        guarded.say("mute")
        (tmp_path / "later").unlink()
        guarded.wait_for("locked")
        manager.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while manager.recv(4096):
                pass
        time.sleep(0.3)
        with pytest.raises(BlockingIOError):
            manager.recv(4096)


def test_the_guard_may_be_the_first_process_of_a_container(
    stage: Stage, namespace: Namespace
) -> None:
    """With process id 1 it is everybody's parent; its end is the end of all."""
    guarded = stage.guard(
        namespace, prefix=("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
    )
    first = guarded.wait_for("start")
    assert first["ppid"] == 1
    guarded.say("orphan")
    guarded.say("open 20")
    guarded.tell("die")
    assert guarded.wait_for("start")["crashes"] == 1
    assert VIP in namespace.addresses()
    (inner,) = child_pids(guarded.process.pid)
    os.kill(inner, signal.SIGTERM)
    assert guarded.exit_code() == 0
    assert namespace.addresses() == {}
