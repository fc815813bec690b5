"""The guard's loop against its own children and a daemon that fails.

What it decides, and what follows.
"""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from election.fencing import EXIT_CONFIG, EXIT_FAILED, EXIT_REFUSED, Kill, Quit, Remove, Start, Why
from tests.unit.vipd.guard.dialogue import ADDRESS, Dialogue, play

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
"""The script runs in a thread beside the guard; a child of the guard waits for no lock of it."""


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return (
            Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
            != "Z"
        )
    except (FileNotFoundError, ProcessLookupError):  # gone before, or while it is read
        return False


def stopped(d: Dialogue) -> None:
    """Stop the guard as systemd does; its daemon ends in order."""
    d.signal(signal.SIGTERM)
    d.expect(Quit(0))


# ---------------------------------------------------------------- start and stop


def test_a_daemon_is_started_and_ends_with_the_guard() -> None:
    """systemd is notified of each step, and nothing is left to be removed."""

    def script(d: Dialogue) -> None:
        d.expect(Start())
        daemon = d.daemon()
        assert (daemon.said["crashes"], daemon.said["fenced"]) == (0, {})
        daemon.up()
        assert d.notified("READY") == "READY=1"
        daemon.do("status", "all is\nwell")
        assert d.notified("STATUS=all") == "STATUS=all is well"
        d.signal(signal.SIGTERM)
        d.expect(Quit(0))
        assert d.notified("STOPPING") == "STOPPING=1"
        assert not alive(daemon.pid)

    assert play(script) == 0


def test_a_second_stop_and_a_reload_after_it_change_nothing() -> None:
    """The daemon is already on its way out."""

    def script(d: Dialogue) -> None:
        d.expect(Start())
        daemon = d.daemon()
        daemon.up(60.0)
        daemon.do("stubborn")
        d.signal(signal.SIGINT)
        d.logged("SIGINT: stopping")
        d.signal(signal.SIGTERM)
        d.signal(signal.SIGHUP)
        daemon.tell("exit", 0)
        d.expect(Remove(1, Why.LEAVING), Quit(0))
        assert d.log().count("stopping") == 1

    assert play(script) == 0


def test_a_stop_while_the_daemon_starts_reaches_it() -> None:
    """1. A daemon is asked for, 2.

    A stop comes before its process id is known, 3. so it gets the signal as soon as it is.
    """

    def script(d: Dialogue) -> None:
        d.signal(signal.SIGTERM)
        d.expect(Quit(0))

    assert play(script) == 0


@pytest.mark.parametrize("code", [EXIT_CONFIG, EXIT_REFUSED])
def test_what_a_new_start_cannot_mend_ends_the_guard(code: int) -> None:
    """The exit code is the daemon's."""

    def script(d: Dialogue) -> None:
        d.expect(Start(), Quit(code))

    assert play(script, exit=code) == code


def test_a_file_that_is_refused_at_the_start_ends_the_guard() -> None:
    """Nothing is ever started."""
    assert play(lambda _: None, invalid=True) == EXIT_CONFIG


@pytest.mark.parametrize("code", [0, 1])
def test_three_ends_in_a_row_are_given_up(code: int) -> None:
    """Also if the daemon says that all is well: nobody asked it to end."""

    def script(d: Dialogue) -> None:
        d.expect(Start(), Start(), Start(), Quit(EXIT_FAILED))
        d.logged("giving up: 3 deaths")

    assert play(script, exit=code) == EXIT_FAILED


# ---------------------------------------------------------------- fences


def test_a_missed_deadline_is_the_end_of_the_daemon_and_then_of_the_address() -> None:
    """In this order: a daemon that is merely paused would bind again after a removal.

    The next daemon knows of it.
    """

    def script(d: Dialogue) -> None:
        d.expect(Start())
        first = d.daemon()
        slot = first.up(0.2)
        d.expect(Kill(Why.DEADLINE), Remove(slot, Why.DEADLINE), Start())
        assert not alive(first.pid)
        second = d.daemon()
        assert (second.said["crashes"], second.said["fenced"]) == (1, {"ingress": 1})
        assert second.do("arm") == [slot, 0.0]
        d.logged("missed a deadline: killed (the right to ingress has ended")
        d.logged("ingress: the right ended")
        second.do("ready")
        stopped(d)

    assert play(script) == 0


def test_a_silent_daemon_is_killed_and_its_stack_is_in_the_log() -> None:
    """Its right lasts on.

    The next daemon finds the deadline that stands, and the guard refreshes the lifetimes meanwhile.
    """

    def script(d: Dialogue) -> None:
        d.expect(Start())
        daemon = d.daemon()
        daemon.up(30.0)
        daemon.tell("hang", 10.0)
        d.expect(Kill(Why.STUCK), Start())
        assert "in do_hang" in d.log().partition("gives no sign of life")[2]
        second = d.daemon()
        answer = second.do("arm")
        assert isinstance(answer, list)
        assert answer[1] > 0
        assert d.guard.refreshed >= 1
        d.logged("refresh failed: the kernel refused 1 addresses")
        second.do("open", 1, 0)
        stopped(d)

    assert play(script) == 0


def test_a_stopped_daemon_cannot_say_what_it_does() -> None:
    """The log says why there is no stack."""

    def script(d: Dialogue) -> None:
        d.expect(Start())
        daemon = d.daemon()
        daemon.up()
        os.kill(daemon.pid, signal.SIGSTOP)
        d.expect(Kill(Why.STUCK), Start())
        d.logged("no stack: it was stopped by a signal")
        d.daemon().up()
        stopped(d)

    assert play(script) == 0


def test_a_right_that_nobody_takes_up_ends_beside_the_next_daemon() -> None:
    """It has not armed the election: the guard removes the addresses, and kills nobody for it."""

    def script(d: Dialogue) -> None:
        d.expect(Start())
        daemon = d.daemon()
        daemon.up(0.6)
        daemon.tell("die")
        d.expect(Start())
        second = d.daemon()
        d.logged("crashed (SIGKILL); still bound: ingress")
        second.do("ready")
        d.expect(Remove(1, Why.DEADLINE))
        assert alive(second.pid)
        stopped(d)

    assert play(script) == 0


def test_what_a_dead_daemon_left_running_is_killed() -> None:
    """Its checks and hooks have become the guard's children."""

    def script(d: Dialogue) -> None:
        d.expect(Start())
        daemon = d.daemon()
        left = daemon.do("spawn")
        assert isinstance(left, int)
        assert alive(left)
        daemon.tell("die")
        d.expect(Start())
        d.until(lambda: not alive(left), "it is still there")
        d.daemon().up()
        stopped(d)

    assert play(script) == 0


# ---------------------------------------------------------------- requests


def test_a_daemon_that_asks_for_nonsense_is_cut_off() -> None:
    """It sees the guard's end, and its own end counts as a crash."""

    def script(d: Dialogue) -> None:
        d.expect(Start())
        d.daemon().do("send", {"op": "nonsense"})
        d.expect(Start())
        assert "the daemon cannot be served (unknown request 'nonsense'): hanging up" in d.log()
        assert d.daemon().said["crashes"] == 1
        stopped(d)

    assert play(script) == 0


@pytest.mark.parametrize(
    "request_",
    [
        {"op": "arm", "name": "one"},
        {"op": "arm", "name": "one", "ready": "none", "lease": 3.0, "gate": True},
        {"op": "arm", "name": "one", "ready": ["00"], "lease": 3.0, "gate": True},
        {"op": "lock", "names": 7},
        {"op": "unlock"},
        {},
    ],
    ids=str,
)
def test_a_malformed_request_is_the_end_of_the_connection(request_: dict[str, object]) -> None:
    """Whatever is wrong with it; the guard itself goes on."""

    def script(d: Dialogue) -> None:
        d.expect(Start())
        d.daemon().do("send", request_)
        d.expect(Start())
        assert "malformed request" in d.log()
        d.daemon().up()
        stopped(d)

    assert play(script) == 0


def test_an_election_cannot_be_forgotten_while_its_right_lasts() -> None:
    """And one that was never armed is none."""

    def script(d: Dialogue) -> None:
        d.expect(Start())
        daemon = d.daemon()
        slot = daemon.up(60.0)
        assert "close its word first" in daemon.refused("disarm", "ingress")
        daemon.do("open", slot, 0)
        daemon.do("disarm", "ingress")
        daemon.do("disarm", "other")
        assert daemon.do("arm", "other") == [slot, 0.0]
        stopped(d)

    assert play(script) == 0


def test_a_lock_outlives_the_daemon_until_the_next_one_does_not_ask_for_it() -> None:
    """1. A daemon dies, 2. another vipd takes its address, 3. so two would serve it."""
    name = f"{ADDRESS.rpartition('.')[0]}.{os.getpid() % 200 + 20}"

    def script(d: Dialogue) -> None:
        d.expect(Start())
        daemon = d.daemon()
        assert daemon.do("lock", name) == ""
        daemon.tell("die")
        d.expect(Start())
        second = d.daemon()
        assert d.guard._locks._held.keys() == {name}
        second.do("ready")
        d.until(lambda: not d.guard._locks._held, "the lock is still held")
        assert second.do("lock", name) == ""
        second.do("unlock", name)
        d.until(lambda: not d.guard._locks._held, "the lock is still held")
        stopped(d)

    assert play(script) == 0


# ---------------------------------------------------------------- reload


def test_a_new_configuration_takes_the_place_of_the_old_one() -> None:
    """The daemon gives way for one that starts with it, which is no crash.

    Systemd is notified of both ends of it.
    """

    def script(d: Dialogue) -> None:
        d.expect(Start())
        d.daemon().up()
        assert d.notified("READY") == "READY=1"
        d.configure(note="new")
        d.signal(signal.SIGHUP)
        assert d.notified("RELOADING").startswith("RELOADING=1\nMONOTONIC_USEC=")
        d.expect(Start())
        second = d.daemon()
        assert (second.said["note"], second.said["crashes"]) == ("new", 0)
        second.up()
        assert d.notified("READY") == "READY=1"
        d.logged("the new configuration is valid")
        stopped(d)

    assert play(script) == 0


def test_an_unchanged_file_changes_nothing() -> None:
    """No daemon is asked."""

    def script(d: Dialogue) -> None:
        d.expect(Start())
        daemon = d.daemon()
        daemon.up()
        d.notified("READY")
        d.signal(signal.SIGHUP)
        d.notified("RELOADING")
        assert d.notified("READY") == "READY=1"
        d.logged("the configuration is unchanged: nothing to do")
        assert alive(daemon.pid)
        stopped(d)

    assert play(script) == 0


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"invalid": True}, "it is invalid"),
        ({"unimportable": True}, "no daemon starts with it (exit 1)"),
    ],
    ids=["invalid", "unimportable"],
)
def test_a_configuration_that_cannot_be_used_is_refused(
    values: dict[str, object], why: str
) -> None:
    """The daemon goes on with the old one, and knows why; so does the one after it."""

    def script(d: Dialogue) -> None:
        d.expect(Start())
        daemon = d.daemon()
        daemon.up()
        d.notified("READY")
        d.configure(**values)
        d.signal(signal.SIGHUP)
        d.notified("RELOADING")
        assert d.notified("READY") == "READY=1"
        d.logged(f"the new configuration cannot be used, nothing changes: {why}")
        assert daemon.do("config") == [why, {"ingress": "none in this test"}]
        daemon.tell("die")
        d.expect(Start())
        assert d.daemon().said["refused"] == why
        stopped(d)

    assert play(script) == 0


def test_a_reload_while_the_file_is_being_read_reads_it_once_more() -> None:
    """What is in the file now counts, not what was in it when the first reading began."""

    def script(d: Dialogue) -> None:
        d.expect(Start())
        d.daemon().up()
        d.configure(slow=0.3, note="first")
        d.signal(signal.SIGHUP)
        d.until(Path(f"{d.file}.read").exists, "the file was not read")
        d.signal(signal.SIGHUP)
        d.until(lambda: d.guard._children._again, "the second reload was not noted")
        d.configure(note="second")
        d.expect(Start())
        noted = [d.daemon().said["note"]]
        if noted == ["first"]:
            d.expect(Start())
            noted.append(d.daemon().said["note"])
        assert noted[-1] == "second"
        stopped(d)

    assert play(script) == 0


def test_a_reload_before_the_daemon_is_up_is_no_news_for_systemd() -> None:
    """It was not ready yet: READY comes with the daemon, once."""

    def script(d: Dialogue) -> None:
        d.expect(Start())
        daemon = d.daemon()
        d.signal(signal.SIGHUP)
        d.logged("unchanged")
        daemon.up()
        assert d.notified("READY") == "READY=1"
        stopped(d)
        assert d.notified("STOPPING") == "STOPPING=1"

    assert play(script) == 0


def test_the_log_is_json_if_the_configuration_wants_it() -> None:
    """From the first line after it was read."""

    def script(d: Dialogue) -> None:
        d.expect(Start())
        d.daemon().up()
        lines = [json.loads(line) for line in d.log().splitlines()]
        assert lines[0]["message"].endswith("started")
        stopped(d)

    assert play(script, json=True) == 0


# ---------------------------------------------------------------- the template


def test_a_dead_template_is_replaced() -> None:
    """Before a daemon needs it; the daemon that runs is not touched."""

    def script(d: Dialogue) -> None:
        d.expect(Start())
        daemon = d.daemon()
        daemon.up()
        (template,) = d.guard._children.pids
        os.kill(template, signal.SIGKILL)
        d.logged("the process that daemons are forked from ended (SIGKILL): starting another")
        d.until(
            lambda: (
                d.guard._children.pids not in (set(), {template}) and d.guard._children.can_start
            ),
            "there is no other",
        )
        daemon.tell("die")
        d.expect(Start())
        d.daemon().up()
        stopped(d)

    assert play(script) == 0


def test_a_template_that_does_not_answer_is_replaced_when_it_is_needed() -> None:
    """The start that it owed counts as a crash: it may have forked."""

    def script(d: Dialogue) -> None:
        d.expect(Start())
        daemon = d.daemon()
        (template,) = d.guard._children.pids
        os.kill(template, signal.SIGSTOP)
        daemon.tell("die")
        d.expect(Start(), Start())
        assert d.daemon().said["crashes"] == 2
        d.logged(f"process {template} does not fork a daemon: killed")
        d.logged("the daemon could not be started")
        stopped(d)

    assert play(script) == 0


def test_more_than_one_thread_in_the_template_is_said() -> None:
    """Only one of them would be in the daemon."""

    def script(d: Dialogue) -> None:
        d.expect(Start())
        d.daemon().up()
        d.logged("2 threads in the process that daemons are forked from: only one is copied")
        stopped(d)

    assert play(script, threads=True) == 0


def test_nothing_is_started_from_other_code_than_the_guards() -> None:
    """1. Another version is installed over the one that runs, 2.

    The template ends, 3. a daemon of the new code would speak to an old guard.

    So the guard ends with its daemon, and the service manager starts the new version. A reload is
    refused meanwhile.
    """

    def script(d: Dialogue) -> None:
        d.expect(Start())
        daemon = d.daemon()
        daemon.up()
        d.notified("READY")
        d.signal(signal.SIGHUP)
        d.logged("the new configuration cannot be used, nothing changes: vipd")
        (template,) = d.guard._children.pids
        os.kill(template, signal.SIGKILL)
        d.logged("no daemon can be started again: another version of vipd was installed")
        assert alive(daemon.pid)
        daemon.tell("die")

    assert play(script, code="00000000") == EXIT_FAILED


# ---------------------------------------------------------------- the service manager


def test_the_watchdog_is_fed_while_the_daemon_makes_progress() -> None:
    """And not once it is silent."""

    def script(d: Dialogue) -> None:
        d.expect(Start())
        daemon = d.daemon()
        daemon.up()
        for _ in range(3):
            while d.notify.recv(4096) != b"WATCHDOG=1":
                pass
        stopped(d)

    assert play(script, {"WATCHDOG_USEC": "150000"}) == 0
