"""What Prometheus sees.

Every metric of this program, with one narrow method for each thing that happens.

A registry of its own, so that nothing else of the process gets in. Labels are names from the
configuration and closed sets of words; the one name that comes from outside, the holder's, has one
series at a time.
"""

from __future__ import annotations

import platform
from collections.abc import Callable

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from election.model import Reason, State
from election.outage import Outage
from vipd.clock import now
from vipd.version import VERSION

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
INSTANCE = "vip_instance"
"""The label with an instance's name: Prometheus itself sets `instance` to the address it
scrapes."""
LAG_WINDOW = 60.0
"""Seconds for which a lag stays visible: longer than the usual scrape interval of 15 to 60 s."""
STORE_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.8, 1.0, 2.5)
"""From a store on loopback (1 ms) past the request_timeout of every profile (0.25, 0.8 and 2.5
s)."""
TAKEOVER_BUCKETS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
CHECK_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 1.0, 2.5, 5.0)


class RecentMaximum:
    """The largest value of the last one to two half windows.

    A scrape does not reset it, so that two scrapers see the same.
    """

    def __init__(self, clock: Callable[[], float], window: float = LAG_WINDOW) -> None:
        self._clock = clock
        self._half = window / 2
        self._current = self._former = 0.0
        self._turn_at = clock() + self._half

    def add(self, value: float) -> None:
        """Take a value in."""
        self._turn()
        self._current = max(self._current, value)

    def read(self) -> float:
        """Return the largest value that is not too old."""
        self._turn()
        return max(self._current, self._former)

    def _turn(self) -> None:
        late = self._clock() - self._turn_at
        if late >= 0:
            self._former, self._current = (self._current if late < self._half else 0.0), 0.0
            self._turn_at = self._clock() + self._half


class Metrics:
    """All metrics of one daemon.

    `clock` returns seconds on CLOCK_BOOTTIME. Methods never fail and never wait.
    """

    def __init__(self, clock: Callable[[], float] = now) -> None:
        # The time at which a series began to exist is noise beside the series itself.
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call] # the one untyped function of the library
        self.registry = CollectorRegistry()
        self._clock = clock
        self._holders: dict[str, str] = {}
        self._lag = RecentMaximum(clock)
        self._node_metrics()
        self._election_metrics()
        self._instance_metrics()

    def _node_metrics(self) -> None:
        self._store_request = self._histogram(
            "store_request_seconds", "Requests to the store.", ("op", "result"), STORE_BUCKETS
        )
        self._store_success = self._gauge(
            "store_last_success_timestamp_seconds", "Unix time of the store's last answer."
        )
        self._store_outage = self._gauge(
            "store_outage", "1: the store has this kind of outage.", ("kind",)
        )
        self._watch_lost = self._gauge(
            "store_watch_lost", "1: no watch stands, because of this kind of trouble.", ("kind",)
        )
        self.store_outage(None)
        self.store_watch_lost(None)
        self._crashes = self._counter("crashes", "Daemons that the guard had to replace.")
        self._gate_put_back = self._counter(
            "gate_put_back", "Times the kernel's gate was put back that somebody had taken away."
        )
        lag = self._gauge(
            "loop_lag_seconds", f"Longest delay of the event loop in the last {LAG_WINDOW:g} s."
        )
        lag.set_function(self._lag.read)
        self._reload_success = self._gauge(
            "config_reload_success", "1: the configuration file, when last read, was good."
        )
        self._reload_at = self._gauge(
            "config_reload_timestamp_seconds", "Unix time at which it was last read and found good."
        )
        build = self._gauge("build_info", "What runs here; always 1.", ("version", "python"))
        build.labels(VERSION, platform.python_version()).set(1)

    def _election_metrics(self) -> None:
        one = (INSTANCE,)
        self._state = self._gauge("state", "0 Initialize, 1 Backup, 2 Active, 3 Fault.", one)
        self._priority = self._gauge("priority", "Configured priority.", one)
        self._effective = self._gauge(
            "effective_priority", "Priority with the weights of the checks.", one
        )
        self._bound = self._gauge(
            "address_bound", "1: the address is on this node's interface.", (INSTANCE, "address")
        )
        self._transitions = self._counter(
            "transitions", "Changes of state.", (INSTANCE, "to", "reason")
        )
        self._holder = self._gauge(
            "holder_info",
            "Who holds the lease, as this node sees it; always 1.",
            (INSTANCE, "holder"),
        )
        self._epoch = self._gauge(
            "epoch", "Number of the last acquisition: the fencing token.", one
        )
        self._lease = self._gauge(
            "lease_remaining_seconds", "Time until the holder's lease ends unless renewed.", one
        )
        self._takeover = self._histogram(
            "takeover_seconds",
            "From the observed chance to the first frame.",
            one,
            TAKEOVER_BUCKETS,
        )

    def _instance_metrics(self) -> None:
        one = (INSTANCE,)
        self._announced = self._counter(
            "announcements_sent", "Frames that announced an address.", (INSTANCE, "kind")
        )
        self._repaired = self._counter(
            "address_repaired", "Times an address was put back that somebody had removed.", one
        )
        self._foreign_edits = self._counter(
            "foreign_edits", "Times somebody else changed the record that this node held.", one
        )
        self._conflicts = self._counter(
            "conflicts", "Frames for an address of ours from somebody else.", one
        )
        self._fenced = self._counter(
            "fenced", "Times the right ended before it was renewed.", (INSTANCE, "by")
        )
        self._gate = self._gauge("gate_in_force", "1: the kernel's gate covers the addresses.", one)
        self._check_up = self._gauge("check_up", "1: the check is up.", (INSTANCE, "check"))
        self._check_seconds = self._histogram(
            "check_seconds", "Tries of the checks.", (INSTANCE, "check"), CHECK_BUCKETS
        )

    def _gauge(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Gauge:
        return Gauge(f"vipd_{name}", text, labels, registry=self.registry)

    def _counter(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
        return Counter(f"vipd_{name}", text, labels, registry=self.registry)

    def _histogram(
        self, name: str, text: str, labels: tuple[str, ...], buckets: tuple[float, ...]
    ) -> Histogram:
        return Histogram(f"vipd_{name}", text, labels, registry=self.registry, buckets=buckets)

    def render(self) -> bytes:
        """Return everything in the text format of Prometheus (CONTENT_TYPE).

        May be called on another thread.
        """
        return generate_latest(self.registry)

    # ---------------------------------------------------------------- the node

    def store_request(self, op: str, result: str, seconds: float) -> None:
        """Count a request; `op` names a kind of read or write, `result` is one of the kinds of
        answers.
        """
        self._store_request.labels(op, result).observe(seconds)

    def store_answered(self, unix_time: float) -> None:
        """Note that the store answered, whatever it said."""
        self._store_success.set(unix_time)

    def store_outage(self, kind: Outage | None) -> None:
        """Show which kind of outage the store has; None: none."""
        for each in Outage:
            self._store_outage.labels(each.value).set(each is kind)

    def store_watch_lost(self, kind: Outage | None) -> None:
        """Show which kind of trouble keeps the store's watch from standing; None: none."""
        for each in Outage:
            self._watch_lost.labels(each.value).set(each is kind)

    def crashed(self, count: int = 1) -> None:
        """Count daemons that the guard had to replace.

        A new daemon reports those before it at once.
        """
        self._crashes.inc(count)

    def gate_put_back(self, count: int) -> None:
        """Count removals of the kernel's gate; a new daemon reports those before it at once."""
        self._gate_put_back.inc(count)

    def configuration(self, *, good: bool, loaded_at: float) -> None:
        """Show whether the configuration file is in use as it is now, and when it was last read and
        found good (Unix time).
        """
        self._reload_success.set(good)
        self._reload_at.set(loaded_at)

    def loop_lag(self, seconds: float) -> None:
        """Note by how much the event loop was late."""
        self._lag.add(seconds)

    # ---------------------------------------------------------------- instances

    def instance(self, instance: str, priority: int) -> None:
        """Make an instance known.

        Its counters start at 0, so that their first step is a step in every graph.
        """
        self._state.labels(instance).set(State.INITIALIZE)
        self._priority.labels(instance).set(priority)
        self._effective.labels(instance).set(priority)
        self._repaired.labels(instance)
        self._conflicts.labels(instance)
        self._foreign_edits.labels(instance)
        self._takeover.labels(instance)
        for by in ("daemon", "guard"):
            self._fenced.labels(instance, by)

    def transition(self, instance: str, to: State, reason: Reason) -> None:
        """Count a change of state and show the new one."""
        self._transitions.labels(instance, to.name.capitalize(), reason.value).inc()
        self._state.labels(instance).set(to)

    def effective_priority(self, instance: str, priority: int) -> None:
        """Show the priority with the weights of the checks."""
        self._effective.labels(instance).set(priority)

    def address_bound(self, instance: str, address: str, *, bound: bool) -> None:
        """Show whether an address is on this node's interface."""
        self._bound.labels(instance, address).set(bound)

    def holder(self, instance: str, name: str) -> None:
        """Show who holds the lease (empty: nobody); the series of the former holder goes away."""
        former = self._holders.get(instance, "")
        if former == name:
            return
        self._holders[instance] = name
        if former:
            self._holder.remove(instance, former)
        if name:
            self._holder.labels(instance, name).set(1)

    def epoch(self, instance: str, epoch: int) -> None:
        """Show the epoch of the record."""
        self._epoch.labels(instance).set(epoch)

    def lease_ends(self, instance: str, at: float) -> None:
        """Show the time left until `at` (the daemon's clock, seconds), as of the moment of each
        scrape; never below 0.
        """
        self._lease.labels(instance).set_function(lambda: max(0.0, at - self._clock()))

    def took_over(self, instance: str, seconds: float) -> None:
        """Note how long it took from the observed chance to the first frame."""
        self._takeover.labels(instance).observe(seconds)

    def announced(self, instance: str, kind: str, frames: int = 1) -> None:
        """Count frames sent; `kind` is arp_request, arp_reply or na."""
        self._announced.labels(instance, kind).inc(frames)

    def repaired(self, instance: str) -> None:
        """Count an address that was put back."""
        self._repaired.labels(instance).inc()

    def foreign_edit(self, instance: str) -> None:
        """Count a change of the record by somebody else."""
        self._foreign_edits.labels(instance).inc()

    def conflict(self, instance: str) -> None:
        """Count a frame for an address of ours from somebody else."""
        self._conflicts.labels(instance).inc()

    def fenced(self, instance: str, by: str) -> None:
        """Count a right that ended before it was renewed; `by` is daemon or guard.

        Who removed the addresses.
        """
        self._fenced.labels(instance, by).inc()

    def gate_in_force(self, instance: str, *, in_force: bool) -> None:
        """Show whether the kernel's gate covers the addresses."""
        self._gate.labels(instance).set(in_force)

    def check(self, instance: str, check: str, *, up: bool | None, seconds: float) -> None:
        """Note one try of a check and its verdict; an undecided one (None) shows nothing yet."""
        self._check_seconds.labels(instance, check).observe(seconds)
        if up is not None:
            self._check_up.labels(instance, check).set(up)
