"""What of the election reaches the log and the metrics, at which level and how often."""

from __future__ import annotations

import logging
import math
import re
from pathlib import Path

import pytest

from election.actions import ForeignEdit, Transition, Waits
from election.model import Reason, State
from election.timing import PROFILES
from tests.unit.vipd.inprocess import instance
from vipd.clock import now
from vipd.observe import observe
from vipd.observe.metrics import Metrics
from vipd.observe.observe import Observe

WEB = "web"


@pytest.fixture
def metrics() -> Metrics:
    """Return those of one daemon."""
    return Metrics()


@pytest.fixture
def observer(tmp_path: Path, metrics: Metrics, caplog: pytest.LogCaptureFixture) -> Observe:
    """Return one for a daemon with one instance."""
    caplog.set_level(logging.DEBUG)
    return Observe(metrics, {WEB: [instance()]}, PROFILES["default"])


def test_foreign_changes_are_all_counted_and_said_with_restraint(
    observer: Observe,
    metrics: Metrics,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A controller that fights for the record writes many times a second."""
    moment = 1000.0
    monkeypatch.setattr(observe, "now", lambda: moment)
    for _ in range(50):
        observer.foreign_edit(WEB, ForeignEdit("pin: x"))
    moment += observe.FOREIGN_QUIET
    observer.foreign_edit(WEB, ForeignEdit("holder: foo", lost=True))
    assert re.search(
        r'^vipd_foreign_edits_total\{\w+="web"\} 51\.0$', metrics.render().decode(), re.MULTILINE
    )
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "somebody else changed the record of web (pin: x); written again"),
        (
            "WARNING",
            (
                "somebody else changed the record of web (holder: foo); it is lost (50 changes "
                "since this was last said)"
            ),
        ),
    ]


def test_a_notice_has_the_age_of_its_last_cause_and_goes(
    observer: Observe, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logged once in a while, however often there is cause for it.

    What happened long ago is not shown.
    """
    moment = 1000.0
    monkeypatch.setattr(observe, "now", lambda: moment)
    observer.notice(WEB, "a", warning=True)
    moment += observe.NOTE_AGE - 1
    observer.notice(WEB, "a", warning=True)
    observer.notice(WEB, "b", warning=True)
    moment += 11
    assert observer.notes(WEB) == [("a", 11.0), ("b", 11.0)]
    observer.notice(WEB, "a", warning=True)
    assert [record.getMessage() for record in caplog.records] == ["a", "b", "a"]
    moment += observe.NOTE_AGE
    assert observer.notes(WEB) == []


def test_what_is_waited_for_is_said_with_a_time_of_day(
    observer: Observe, caplog: pytest.LogCaptureFixture
) -> None:
    """An operator compares it with a watch; a wait without an end has none."""
    observer.waits(
        WEB, Waits(now() + 60.0, "the record is older than one already seen", warning=True)
    )
    observer.waits(
        WEB, Waits(now() + 60.0, "the record is older than one already seen", warning=True)
    )
    observer.waits(WEB, Waits(math.inf, "somebody already answers for it", warning=False))
    [older, rival] = caplog.records
    assert re.fullmatch(
        r"waits until \d\d:\d\d:\d\d: the record is older than one already seen", older.getMessage()
    )
    assert (older.levelname, rival.levelname) == ("WARNING", "INFO")
    assert rival.getMessage() == "somebody already answers for it"


@pytest.mark.parametrize(
    ("change", "level"),
    [
        (Transition(State.ACTIVE, State.BACKUP, Reason.LOST, 5, "to foo"), "WARNING"),
        (Transition(State.ACTIVE, State.BACKUP, Reason.NAMESAKE, 5, "to a"), "WARNING"),
        (Transition(State.ACTIVE, State.BACKUP, Reason.LEASE_EXPIRED, 5), "WARNING"),
        (Transition(State.ACTIVE, State.BACKUP, Reason.PREEMPTED, 5, "to a"), "INFO"),
        (Transition(State.BACKUP, State.ACTIVE, Reason.RELEASED, 5), "INFO"),
        (Transition(State.BACKUP, State.FAULT, Reason.CHECK_FAILED, 5), "WARNING"),
    ],
)
def test_losing_the_address_is_a_warning(
    observer: Observe, caplog: pytest.LogCaptureFixture, change: Transition, level: str
) -> None:
    """A planned move is none."""
    observer.transition(WEB, change)
    assert [record.levelname for record in caplog.records] == [level]
