"""The unit as it is shipped, under a real systemd.

Rights, readiness, every kind of death, reload, stop.

One host for all tests of this file; each leaves the instance Active, or starts the service again.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tests.netns.systemd_host import INTERFACE, VIP, SystemdHost, missing

pytestmark = pytest.mark.root

CONFIG = {
    "node": "a",
    "backend": {"file": {"path": "/var/lib/vipd/store"}},
    # Long enough for the restart of everything on a busy machine.
    "timing": {"profile": "relaxed"},
    "instances": [{"name": "web", "interface": INTERFACE, "addresses": [f"{VIP}/32"]}],
    "log": {"format": "json"},
}
CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF = 12, 13, 39
"""Numbers of linux/capability.h."""


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SystemdHost]:
    """Return a host on which the service was started and is Active."""
    if why := missing():
        pytest.skip(why)
    with SystemdHost(tmp_path_factory.mktemp("systemd"), CONFIG) as made:
        made.run("systemctl", "start", "vipd")
        made.wait_active()
        yield made


def guard(host: SystemdHost) -> int:
    """Return the guard's process id."""
    return int(host.unit("MainPID"))


def daemon(host: SystemdHost) -> int:
    """Return the daemon's process id."""
    (pid,) = (pid for pid, name in host.processes().items() if name == "vipd-daemon")
    return pid


def kill(host: SystemdHost, number: signal.Signals, *pids: int) -> None:
    """Send a signal to processes of the host, in one call."""
    host.run("kill", f"-{int(number)}", *map(str, pids))


def test_it_has_three_rights_and_runs_as_nobody_special(host: SystemdHost) -> None:
    """Guard and daemon alike; no other capability is in reach."""
    for pid in (guard(host), daemon(host)):
        status = dict(
            line.split(":\t", 1)
            for line in host.run("cat", f"/proc/{pid}/status").splitlines()
            if ":\t" in line
        )
        assert status["Uid"].split()[0] == host.run("id", "-u", "vipd").strip() != "0"
        rights = 1 << CAP_NET_ADMIN | 1 << CAP_NET_RAW | 1 << CAP_BPF
        assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == rights
        assert status["NoNewPrivs"] == "1"


def test_systemctl_status_says_what_this_node_is(host: SystemdHost) -> None:
    """Without asking vipd: the line Status of `systemctl status`."""
    assert host.unit("StatusText") == "Active: web"


def test_a_dead_daemon_is_the_guards_business(host: SystemdHost) -> None:
    """No restart by systemd, and the address never goes away."""
    main, epoch, removals = guard(host), host.wait_active(), host.removals()
    kill(host, signal.SIGKILL, daemon(host))
    host.wait_active(epoch)
    assert guard(host) == main
    assert host.removals() == removals


def test_reload_leaves_the_address_alone(host: SystemdHost) -> None:
    """And the main process too; the next daemon has the new file."""
    main, epoch, removals = guard(host), host.wait_active(), host.removals()
    good = host.run("cat", "/run/lab/vipd.yaml")
    host.reconfigure(good.replace('"log": {', '"log": {"level": "debug", '))
    host.run("systemctl", "reload", "vipd")
    epoch = host.wait_active(epoch)
    host.reconfigure(good)
    host.run("systemctl", "reload", "vipd")
    host.wait_active(epoch)
    assert guard(host) == main
    assert host.removals() == removals


def test_a_reload_with_a_wrong_file_fails(host: SystemdHost) -> None:
    """systemctl says so, and nothing changes; nor is a file any good that only root may read."""
    main, epoch, removals = guard(host), host.wait_active(), host.removals()
    good = host.run("cat", "/run/lab/vipd.yaml")
    for spoil in (
        "printf 'instances: nonsense' >/run/lab/vipd.yaml",
        "chmod 0600 /run/lab/vipd.yaml",
    ):
        host.run("sh", "-c", spoil)
        answer = host.run("sh", "-c", "systemctl reload vipd >/dev/null 2>&1; echo $?").strip()
        host.until(lambda: host.document()["config"]["refused"], "the refusal in the status")
        host.run("chmod", "0644", "/run/lab/vipd.yaml")
        host.reconfigure(good)
        host.run("systemctl", "reload", "vipd")
        host.until(lambda: not host.document()["config"]["refused"], "the refusal to be over")
        assert answer != "0"
    assert host.status()["epoch"] == epoch
    assert (guard(host), host.removals()) == (main, removals)


def test_a_dead_guard_is_started_again(host: SystemdHost) -> None:
    """The daemon hands over, unless systemd ends what is left of the unit before that.

    Either way there is a new life.
    """
    restarts, epoch = int(host.unit("NRestarts")), host.wait_active()
    former = daemon(host)
    kill(host, signal.SIGKILL, guard(host))
    host.wait_active(epoch)
    assert int(host.unit("NRestarts")) == restarts + 1
    assert former not in host.processes()
    assert VIP in host.addresses()


def test_a_full_kill_is_over_before_the_lease_is(host: SystemdHost) -> None:
    """Everything of the unit at once."""
    restarts, epoch, removals = int(host.unit("NRestarts")), host.wait_active(), host.removals()
    host.run("systemctl", "kill", "--signal=KILL", "vipd")
    host.wait_active(epoch)
    assert int(host.unit("NRestarts")) == restarts + 1
    assert host.removals() == removals


def test_a_stop_leaves_nothing(host: SystemdHost) -> None:
    """Neither address nor process; and the next start takes the released lease."""
    epoch = host.wait_active()
    host.run("systemctl", "stop", "vipd")
    assert host.addresses().isdisjoint({VIP})
    assert host.processes() == {}
    assert host.unit("Result") == "success"
    host.run("systemctl", "start", "vipd")
    host.wait_active(epoch)


def test_a_wrong_file_is_not_tried_again(host: SystemdHost) -> None:
    """Exit code 2: the next try would read the same file."""
    good = host.run("cat", "/run/lab/vipd.yaml")
    host.run("systemctl", "stop", "vipd")
    host.reconfigure("instances: nonsense")
    host.run("systemctl", "start", "vipd", check=False)
    assert host.unit("ExecMainStatus") == "2"
    assert host.unit("ActiveState") == "failed"
    assert int(host.unit("NRestarts")) == 0
    host.reconfigure(good)
    host.run("systemctl", "start", "vipd")
    host.wait_active()


@pytest.mark.long
def test_a_guard_that_hangs_is_replaced(host: SystemdHost) -> None:
    """The watchdog of systemd, after ten seconds."""
    restarts, epoch = int(host.unit("NRestarts")), host.wait_active()
    kill(host, signal.SIGSTOP, guard(host))
    host.wait_active(epoch)
    assert int(host.unit("NRestarts")) == restarts + 1
