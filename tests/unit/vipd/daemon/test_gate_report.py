"""What the daemon makes of the guard's reports on the gate."""

from __future__ import annotations

import ipaddress
import logging
import os
import socket
from collections.abc import Iterator

import pytest

from election.timing import Timing
from vipd.config import values as config
from vipd.config.promises import lifetimes
from vipd.config.values import Config, FileBackend, Gate, Instance
from vipd.daemon.gate_report import GateStatus
from vipd.guard.link import GateReport, GuardLink, StartInfo
from vipd.guard.shared_words import Words
from vipd.observe.metrics import Metrics

WHY = "this process lacks CAP_BPF"
TROUBLE = GateReport({"one": "eth0: no room"})


class Daemon:
    """A fence with a guard that says what the test wants."""

    def __init__(self, gate: Gate, no_gate: str = "", group: str = "") -> None:
        address = ipaddress.ip_interface("192.0.2.1/32")
        instances = tuple(
            Instance(name, "eth0", (address,), group=group) for name in ("one", "two")
        )
        self._sockets = socket.socketpair()
        self._counter = os.eventfd(0)
        self.link = GuardLink(self._sockets[0], Words(4), self._counter, StartInfo(no_gate=no_gate))
        self.metrics = Metrics()
        self.fence = GateStatus(
            Config("n1", FileBackend(), Timing(), instances, fence=config.Fence(gate)),
            self.link,
            self.metrics,
        )

    def reported(self, report: GateReport) -> bool:
        """Have the guard report this, and take it in."""
        self.link.gate = report
        return self.fence.take_in()

    def metric(self, name: str, **labels: str) -> float | None:
        """Return one sample."""
        return self.metrics.registry.get_sample_value(f"vipd_{name}", labels)

    def close(self) -> None:
        """Close what is open."""
        for one in self._sockets:
            one.close()
        os.close(self._counter)


@pytest.fixture(params=list(Gate))
def daemon(request: pytest.FixtureRequest) -> Iterator[Daemon]:
    """Return one for each setting, on a host that cannot have a gate."""
    made = Daemon(request.param, WHY)
    yield made
    made.close()


@pytest.fixture
def able() -> Iterator[Daemon]:
    """Return one with `auto` on a host that can."""
    made = Daemon(Gate.AUTO)
    yield made
    made.close()


def test_only_who_requires_a_gate_is_refused(
    daemon: Daemon, caplog: pytest.LogCaptureFixture
) -> None:
    """The others go on: `auto` says once what is left, `off` did not ask."""
    gate = daemon.fence._required, daemon.fence.wanted
    with caplog.at_level(logging.WARNING):
        refusal = daemon.fence.refusal()
    assert (WHY in refusal) is gate[0]
    assert [WHY in line for line in caplog.messages] == ([True] if gate == (False, True) else [])


def test_only_who_requires_a_gate_stays_out_for_want_of_it(daemon: Daemon) -> None:
    """And only with the instance whose interface has none."""
    daemon.reported(TROUBLE)
    assert (daemon.fence.unmet("one") != "") is daemon.fence._required
    assert daemon.fence.unmet("two") == ""


def test_the_document_says_what_is_covered(daemon: Daemon) -> None:
    """With trouble or switched off, what address lifetimes give.

    With the gate in force, everything.
    """
    daemon.reported(TROUBLE)
    told = daemon.fence.document()
    assert not told.gate
    assert told.covers.endswith(lifetimes(3.0))
    assert ("no room" in told.covers) is daemon.fence.wanted
    daemon.reported(GateReport(put_back=2, before=("eth0: somebody is first",)))
    told = daemon.fence.document()
    assert (told.gate, "any lease is covered strictly" in told.covers) == (
        daemon.fence.wanted,
        daemon.fence.wanted,
    )


def test_reports_become_metrics(able: Daemon) -> None:
    """Removals are counted once, though every report has them all."""
    for report in (
        GateReport(put_back=1),
        GateReport({"one": "x"}, put_back=3),
        GateReport({"one": "x"}, put_back=3),
    ):
        able.reported(report)
    assert able.metric("gate_put_back_total") == 3
    assert (
        able.metric("gate_in_force", vip_instance="one"),
        able.metric("gate_in_force", vip_instance="two"),
    ) == (0, 1)


def test_a_group_without_a_gate_is_one_for_each_of_its_instances() -> None:
    """The guard knows elections, collectors know instances."""
    daemon = Daemon(Gate.REQUIRE, group="edge")
    daemon.reported(GateReport({"edge": "eth1: no room"}))
    assert [daemon.metric("gate_in_force", vip_instance=name) for name in ("one", "two")] == [0, 0]
    assert "no room" in daemon.fence.unmet("edge")
    daemon.close()


def test_the_end_of_an_earlier_lifes_programs_is_told_once(able: Daemon) -> None:
    """They may have stopped announcements, which are made again."""
    reports = (
        GateReport(),
        GateReport(inherited=True),
        GateReport(inherited=True),
        GateReport(),
        GateReport(),
    )
    assert [able.reported(report) for report in reports] == [False, False, False, True, False]


@pytest.mark.parametrize(
    ("lease", "said"),
    [
        (8.0, "a lease of 8s is covered strictly"),
        (7.9, "a lease of 7.9s is covered as a rule"),
        (2.0, "as a rule"),
        (1.9, "not covered"),
    ],
)
def test_lifetimes_cover_what_is_long_enough(lease: float, said: str) -> None:
    """Strictly from 8 s on, as a rule from 2 s on."""
    assert said in lifetimes(lease)
