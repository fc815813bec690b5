"""Names, labels and values of the metrics, as a scraper reads them."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from election.model import Reason, State
from election.outage import Outage
from vipd.observe.metrics import LAG_WINDOW, Metrics, RecentMaximum
from vipd.version import VERSION

Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]

PROMISED = {
    *(
        "state",
        "priority",
        "effective_priority",
        "address_bound",
        "transitions",
        "holder_info",
        "epoch",
        "lease_remaining_seconds",
    ),
    *(
        "store_request_seconds",
        "store_last_success_timestamp_seconds",
        "takeover_seconds",
        "announcements_sent",
        "address_repaired",
    ),
    *(
        "conflicts",
        "foreign_edits",
        "fenced",
        "crashes",
        "check_up",
        "check_seconds",
        "loop_lag_seconds",
        "build_info",
    ),
    *("gate_in_force", "gate_put_back", "store_outage", "store_watch_lost"),
    *("config_reload_success", "config_reload_timestamp_seconds"),
}
"""design: names without the prefix vipd_, counters without their suffix _total."""


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Return a clock of the test's own."""
    return Clock()


@pytest.fixture
def metrics(clock: Clock) -> Metrics:
    """Return the metrics of one daemon."""
    return Metrics(clock)


def scrape(metrics: Metrics) -> Series:
    """Return every sample by name and labels."""
    families = text_string_to_metric_families(metrics.render().decode())
    return {
        (s.name, tuple(sorted(s.labels.items()))): s.value
        for family in families
        for s in family.samples
    }


def test_every_promised_metric_is_there_and_no_other(metrics: Metrics) -> None:
    """Dashboards and alerts are written against these names."""
    names = {family.name for family in text_string_to_metric_families(metrics.render().decode())}
    assert names == {f"vipd_{name}" for name in PROMISED}


def test_an_outage_is_shown_by_its_kind(metrics: Metrics) -> None:
    """All kinds are there from the start, so that an alert on one of them works
    before the first.
    """

    def shown() -> dict[str, float]:
        return {
            dict(labels)["kind"]: value
            for (name, labels), value in scrape(metrics).items()
            if name == "vipd_store_outage"
        }

    assert shown() == dict.fromkeys(map(str, Outage), 0)
    metrics.store_outage(Outage.FULL)
    assert shown() == {**dict.fromkeys(map(str, Outage), 0), "full": 1}
    metrics.store_outage(None)
    assert sum(shown().values()) == 0


def test_a_transition_is_counted_and_shown(metrics: Metrics) -> None:
    """The state is a number, not a label."""
    metrics.instance("a", 150)
    metrics.transition("a", State.BACKUP, Reason.STARTUP)
    metrics.transition("a", State.ACTIVE, Reason.LEASE_EXPIRED)
    found = scrape(metrics)
    assert found["vipd_state", (("vip_instance", "a"),)] == 2
    assert (
        found[
            "vipd_transitions_total",
            (("reason", "lease_expired"), ("to", "Active"), ("vip_instance", "a")),
        ]
        == 1
    )


def test_an_instance_starts_with_counters_at_zero(metrics: Metrics) -> None:
    """A counter that first appears as 1 has no increase."""
    metrics.instance("a", 150)
    found = scrape(metrics)
    one = (("vip_instance", "a"),)
    assert [found[f"vipd_{name}", one] for name in ("state", "priority", "effective_priority")] == [
        0,
        150,
        150,
    ]
    assert [
        found[f"vipd_{name}_total", one]
        for name in ("conflicts", "foreign_edits", "address_repaired")
    ] == [0, 0, 0]
    assert [found["vipd_fenced_total", (("by", by), *one)] for by in ("daemon", "guard")] == [0, 0]
    assert found["vipd_crashes_total", ()] == 0


def test_a_refused_file_is_shown(metrics: Metrics) -> None:
    """And since when what runs was read."""
    metrics.configuration(good=False, loaded_at=1234.5)
    found = scrape(metrics)
    assert (
        found["vipd_config_reload_success", ()],
        found["vipd_config_reload_timestamp_seconds", ()],
    ) == (0, 1234.5)


def test_only_the_present_holder_has_a_series(metrics: Metrics) -> None:
    """A name from the store must not stay for ever."""
    for name in ("n1", "n1", "n2", "", "n3"):
        metrics.holder("a", name)
    holders = [labels for name, labels in scrape(metrics) if name == "vipd_holder_info"]
    assert holders == [(("holder", "n3"), ("vip_instance", "a"))]


def test_the_lease_runs_down_between_scrapes(metrics: Metrics, clock: Clock) -> None:
    """It is computed when somebody looks, and never negative."""
    metrics.lease_ends("a", 1003.0)
    key = ("vipd_lease_remaining_seconds", (("vip_instance", "a"),))
    seen = []
    for clock.now in (1000.0, 1001.5, 1004.0):
        seen.append(scrape(metrics)[key])
    assert seen == [3.0, 1.5, 0.0]


def test_checks_show_their_verdict_once_they_have_one(metrics: Metrics) -> None:
    """An undecided check is neither up nor down."""
    labels = (("check", "c"), ("vip_instance", "a"))
    metrics.check("a", "c", up=None, seconds=0.003)
    assert ("vipd_check_up", labels) not in scrape(metrics)
    metrics.check("a", "c", up=True, seconds=0.003)
    metrics.check("a", "c", up=False, seconds=0.3)
    found = scrape(metrics)
    assert (found["vipd_check_up", labels], found["vipd_check_seconds_count", labels]) == (0, 3)
    assert (
        found["vipd_check_seconds_bucket", (("check", "c"), ("le", "0.005"), ("vip_instance", "a"))]
        == 2
    )


def test_everything_else_counts_or_shows(metrics: Metrics) -> None:
    """One call each."""
    metrics.effective_priority("a", 90)
    metrics.address_bound("a", "192.0.2.10/32", bound=True)
    metrics.epoch("a", 7)
    metrics.store_request("renew", "applied", 0.004)
    metrics.store_answered(1.5e9)
    metrics.took_over("a", 0.012)
    metrics.announced("a", "arp_request", 2)
    metrics.repaired("a")
    metrics.conflict("a")
    metrics.fenced("a", "guard")
    metrics.crashed(2)
    metrics.loop_lag(0.02)
    found = {
        (name, *(value for _, value in labels)): value
        for (name, labels), value in scrape(metrics).items()
    }
    expected = {
        ("vipd_effective_priority", "a"): 90,
        ("vipd_address_bound", "192.0.2.10/32", "a"): 1,
        ("vipd_epoch", "a"): 7,
        ("vipd_store_request_seconds_count", "renew", "applied"): 1,
        ("vipd_store_last_success_timestamp_seconds",): 1.5e9,
        ("vipd_takeover_seconds_count", "a"): 1,
        ("vipd_announcements_sent_total", "arp_request", "a"): 2,
        ("vipd_address_repaired_total", "a"): 1,
        ("vipd_conflicts_total", "a"): 1,
        ("vipd_fenced_total", "guard", "a"): 1,
        ("vipd_crashes_total",): 2,
        ("vipd_loop_lag_seconds",): 0.02,
    }
    assert {key: found[key] for key in expected} == expected
    assert ("version", VERSION) in next(
        labels for name, labels in scrape(metrics) if name == "vipd_build_info"
    )


def test_a_lag_is_visible_for_a_whole_window_and_not_for_ever(clock: Clock) -> None:
    """However often it is read."""
    lag = RecentMaximum(clock)
    clock.now += LAG_WINDOW / 2 - 1
    lag.add(0.5)
    for _ in range(3):
        clock.now += LAG_WINDOW / 6
        lag.add(0.001)
        assert lag.read() == 0.5
    clock.now += LAG_WINDOW
    assert lag.read() == 0.0
    lag.add(0.1)
    assert lag.read() == 0.1


def test_two_daemons_in_one_process_do_not_meet() -> None:
    """The registry is the daemon's own; the demo and the tests have several."""
    first, second = Metrics(), Metrics()
    first.crashed()
    assert (scrape(first)["vipd_crashes_total", ()], scrape(second)["vipd_crashes_total", ()]) == (
        1,
        0,
    )
