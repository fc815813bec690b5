"""How the network, the store and the kernel behave at present.

Delays, losses, errors, and stops between two steps.

All knobs are probabilities unless they say seconds. `Weather()` is the calm of the golden
dialogues: every message takes `latency`, nothing is lost, and no dice are thrown.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.sim.world import World

SLOW = 0.008
"""Seconds one way; a slower message counts as a disturbance, so it may stretch a handover's overlap
beyond 50 ms."""
SLOWEST_KERNEL = 0.25


@dataclass(slots=True)
class Climate:
    """The knobs. `latency`, `jitter` (mean) and `spike_length` (most) in seconds, one way."""

    latency: float = 0.001
    jitter: float = 0.0
    spikes: float = 0.0
    spike_length: float = 2.0
    lost_requests: float = 0.0
    lost_replies: float = 0.0
    errors_before: float = 0.0
    errors_after: float = 0.0
    late_answers: float = 0.0
    refusals: float = 0.0
    lag: float = 0.0
    reordered: float = 0.0
    lost_frames: float = 0.0
    kernel_time: float = 0.0
    slow_kernel: float = 0.0
    bind_refused: float = 0.0
    unbind_refused: float = 0.0
    stops: float = 0.0
    kills: float = 0.0
    rough: float = 0.0


class Weather:
    """Throws the dice for one world."""

    def __init__(self, world: World, climate: Climate) -> None:
        self._world = world
        self._rng: Random = world.rng
        self.climate = climate

    def clear_up(self) -> None:
        """End all that is random but harmless delays."""
        kept = {"latency", "jitter", "lag", "kernel_time", "rough"}
        self.climate = Climate(
            **{f.name: getattr(self.climate, f.name) for f in fields(Climate) if f.name in kept}
        )

    @property
    def latency(self) -> float:
        """The shortest time that a message takes."""
        return self.climate.latency

    @property
    def rough(self) -> bool:
        """Whether address lifetimes end early or late."""
        return self.climate.rough > 0

    def delay(self) -> float:
        """Return how long a message takes."""
        c = self.climate
        seconds = c.latency
        if c.jitter:
            seconds += self._rng.expovariate(1 / c.jitter)
        if self._happens(c.spikes):
            seconds += self._rng.uniform(0.0, c.spike_length)
        if seconds > SLOW:
            self._world.disturb(seconds)
        return seconds

    def lag(self) -> float:
        """Return how long a watch takes to report."""
        return self.delay() + (
            self._rng.expovariate(1 / self.climate.lag) if self.climate.lag else 0.0
        )

    def reorders(self) -> bool:
        """Whether this report may overtake others."""
        return self._happens(self.climate.reordered)

    def refuses(self) -> bool:
        """Whether a node that cannot reach the store is told so at once."""
        return self._happens(self.climate.refusals)

    def loses_request(self) -> bool:
        """Whether this request never arrives."""
        return self._harms(self.climate.lost_requests)

    def loses_reply(self) -> bool:
        """Whether this answer never arrives."""
        return self._harms(self.climate.lost_replies)

    def errs_before(self) -> bool:
        """Whether the store answers with an error, and does nothing."""
        return self._harms(self.climate.errors_before)

    def errs_after(self) -> bool:
        """Whether the store answers with an error though it did what was asked."""
        return self._harms(self.climate.errors_after)

    def answers_late(self) -> bool:
        """Whether an answer reaches the machine though the caller gave up."""
        return self._happens(self.climate.late_answers)

    def loses_frame(self) -> bool:
        """Whether the link loses this frame."""
        return self._harms(self.climate.lost_frames)

    def refuses_bind(self) -> bool:
        """Whether the kernel refuses this address."""
        return self._harms(self.climate.bind_refused)

    def refuses_unbind(self) -> bool:
        """Whether an address is still there after an unbind."""
        return self._harms(self.climate.unbind_refused)

    def kernel_time(self, margin: float) -> float:
        """Return how long a netlink call takes; always less than the fence margin."""
        c = self.climate
        if self._happens(c.slow_kernel):
            seconds = self._rng.uniform(0.0, min(0.6 * margin, SLOWEST_KERNEL))
            self._world.disturb(seconds)
            return seconds
        return c.kernel_time

    def phase(self, period: float) -> float:
        """Return how long it takes until something happens that happens once in every period; no
        time at all in calm.
        """
        return self._rng.uniform(0.0, period) if self.rough else 0.0

    def watch_retry(self) -> float:
        """Return how long a dead watch stays unnoticed."""
        return self._rng.uniform(0.1, 5.0) if self.rough else 0.5

    def stop_length(self, longest_lease: float) -> float:
        """Return how long a stopped process stays stopped."""
        dice = self._rng.random()
        if dice < 0.4:
            return self._rng.uniform(0.0, 0.05)
        if dice < 0.7:
            return self._rng.uniform(0.0, 0.6)
        return self._rng.uniform(0.0, 2.5 * longest_lease)

    def _happens(self, probability: float) -> bool:
        return probability > 0.0 and self._rng.random() < probability

    def _harms(self, probability: float) -> bool:
        if self._happens(probability):
            self._world.disturb(0.0)
            return True
        return False
