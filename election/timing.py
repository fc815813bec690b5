"""Every duration of the election, with its source. Seconds (float) throughout; pure arithmetic.

Section numbers in this package are those of ARCHITECTURE.md unless an RFC is named.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

DRIFT = 0.01
"""Clock rates of two nodes are assumed to differ by less than this fraction."""
SMALLEST_LEASE = 1.0
LONGEST_LEASE = 300.0
"""A record that promises more is a foreign edit, not a lease: it is treated as unreadable."""
RANK_STEP = 0.050
"""Delay between two candidates of neighbouring rank: a take needs about 5 ms over a local store, 50
ms over a slow one."""
HANDOVER_TIMEOUT = 0.500
"""How long a naming counts, for the holder from its send, for the successor from its first sight of
it."""
SUCCESSOR_HOLDOFF = 0.510
"""A node that took as successor neither names another nor releases before this long after its take
was sent.

1. A names B. 2. B takes and binds; A has not seen that yet and is still bound. 3. B names C, which
takes and binds: three nodes
would own the VIP, where a planned move allows two."""
STRIKE_AFTER = 0.200
"""A successor that has not taken the lease this long after it was named is struck out."""
UNBIND_AFTER_TAKEN = 0.040
"""The former holder unbinds at the latest this long after it saw the lease taken."""
LINGER = 0.010
"""The former holder keeps the VIP so long after it has seen the successor serve: what clients sent
it before that is still being answered, and an answer cannot leave from an address that is gone
(measured: up to 5 ms with a busy ingress)."""
HANDOVER_REREAD = 0.020
"""While a named successor has not answered, the holder re-reads the record this often."""
REMEMBER_PATIENCE = 0.100
"""Seconds after a take was sent for which the bind waits until the state directory has kept the new
epoch: a disk that hangs must not cost the VIP. Keeping it takes less than a request to the store as
a rule."""
REMEMBER_IN_HANDOVER = 0.020
"""The same for a named successor: the former holder unbinds UNBIND_AFTER_TAKEN after it saw the
take."""
LIFETIME_RESERVE = 0.6
"""Kernel address lifetimes end up to 0.5 s late as a rule (measured, Linux 6.18): they are set to
end this much early."""
REFRESH_EARLY = 0.050
"""Lifetimes are whole seconds: the refresh that ends nearest to the right is sent this long before
the second turns."""
SHORT_REFRESH = 0.5
"""Seconds between two refreshes of a short lease's one-second lifetimes."""
SHORTEST_TIMEOUT = 0.05
WAKE_RESERVE = 0.010
"""Seconds by which an answer may be looked at late."""
SHORT_LEASE = 2.0
"""Below this lease_duration whole-second lifetimes cannot end before the deadline; one second is
used."""
SHRUNK = 1
"""Whole seconds of lifetime while a handover's lowered deadline stands: the shortest that the
kernel knows."""


@dataclass(frozen=True, slots=True)
class Timing:
    """lease_duration, renew_interval and request_timeout in seconds."""

    lease_duration: float = 3.0
    renew_interval: float = 0.6
    request_timeout: float = 0.8

    @property
    def retry_interval(self) -> float:
        """Pause after a store request that failed at once (refused).

        Six tries fit into a renew_interval.
        """
        return self.renew_interval / 6

    @property
    def candidate_refresh(self) -> float:
        """How often an unchanged candidate record is refreshed."""
        return self.lease_duration


PROFILES = {
    "fast": Timing(1.0, 0.2, 0.25),
    "default": Timing(3.0, 0.6, 0.8),
    "relaxed": Timing(10.0, 2.0, 2.5),
}


@dataclass(frozen=True, slots=True)
class Settings:
    """`preempt_delay` in seconds; `probe`.

    Ask on the wire before a record that was absent is taken (`on_conflict: wait`).
    """

    election: str
    addresses: tuple[str, ...]
    timing: Timing
    preempt: bool = True
    preempt_delay: float = 0.0
    probe: bool = True


def fence_margin(lease_duration: float) -> float:
    """Return how long before the lease's own end the right to the VIP ends: max(50 ms, 10 %)."""
    return max(0.050, 0.1 * lease_duration)


def right_ends(sent_at: float, lease_duration: float) -> float:
    """Return the deadline that an applied write gives, counted from its send, never from its
    answer.
    """
    return sent_at + lease_duration - fence_margin(lease_duration)


def unbind_lead(addresses: int) -> float:
    """Return how long before the deadline the daemon starts to unbind.

    5 ms and 0.2 ms for each address.

    Measured (Linux 6.18, two cores): 1000 IPv4 removals take 16 to 29 ms, 1000 IPv6 ones 92 ms,
    under load 162 ms.
    """
    return 0.005 + 0.0002 * addresses


def lifetime_seconds(deadline: float, now: float, lease_duration: float) -> int:
    """Return the whole seconds of kernel lifetime to give an address now; 0.

    It must not be bound or refreshed.

    The kernel takes whole seconds only and ends them 0.02 s early to 0.5 s late as a rule, 1.2 s at
    worst.
    """
    if now >= deadline:
        return 0
    if lease_duration < SHORT_LEASE:
        return 1
    return max(0, math.floor(deadline - now - LIFETIME_RESERVE + 1e-9))


def next_refresh(now: float, deadline: float, refreshed_at: float, lease_duration: float) -> float:
    """Return when lifetimes last set at `refreshed_at` are to be set again though the deadline
    stays.

    Seconds; `now` or earlier: at once, inf: not any more. The rule of daemon and guard.

    A lifetime of floor(time left) seconds set at any moment but just before a second turns ends up
    to a second before the right does, and one set just after it even shortens what the last one
    gave. So a turn that was missed, by a process that was stopped, is left out: what was set last
    reaches beyond the next turn, or there is none.
    """
    seconds = lifetime_seconds(deadline, now, lease_duration)
    if seconds < 1:
        return math.inf
    ends = refreshed_at + lifetime_seconds(deadline, refreshed_at, lease_duration)
    if lease_duration < SHORT_LEASE:
        return refreshed_at + SHORT_REFRESH if ends < deadline else math.inf
    best = deadline - LIFETIME_RESERVE
    if ends >= best - 2 * REFRESH_EARLY:
        return math.inf
    return best - seconds - REFRESH_EARLY


def lifetime_to_set(
    now: float, deadline: float, lease_duration: float, *, shrink: bool = False
) -> int:
    """Return the lifetime in whole seconds to bind or refresh with, asked right before the call.

    0: do not call the kernel.

    A replace re-creates an address that has expired: a late refresh would bring the VIP back.
    """
    if shrink:
        return SHRUNK if now < deadline else 0
    return lifetime_seconds(deadline, now, lease_duration)


def wakes_guard(before: float, deadline: float, *, former_gate: bool) -> bool:
    """Whether the guard must be woken when its word changes from `before` to `deadline`.

    It sleeps until the one that it read.

    A closed word needs no waking: there is nothing to be late for. Nor does one that opens, unless
    programs of an earlier guard stand in the gate (`former_gate`), which do not know this word.
    """
    return 0 < deadline < before or (deadline > 0 and before == 0 and former_gate)


def came_late(now: float, deadline: float) -> bool:
    """Whether the call just made has to be undone.

    The process may have been stopped between the question and the call.
    """
    return now >= deadline


def skew_time(priority: int, renew_interval: float) -> float:
    """Return the VRRP skew time (RFC 9568 section 6.1), with renew_interval in the place of the
    advertisement interval.
    """
    return (256 - priority) / 256 * renew_interval


def take_delay(rank: int | None, priority: int, timing: Timing) -> float:
    """Return how long to wait once a lease may be taken.

    By rank among the live candidates, by skew time if it is unknown.
    """
    return skew_time(priority, timing.renew_interval) if rank is None else rank * RANK_STEP


def longest_request(lease_duration: float, addresses: int = 1) -> float:
    """Return how long a take may be under way so that its addresses can still be bound.

    A whole second of lifetime fits.

    Seconds; infinite for a lease so short that its lifetimes are not kept to its deadline.
    """
    if lease_duration < SHORT_LEASE:
        return math.inf
    right = right_ends(0.0, lease_duration) - unbind_lead(addresses)
    return right - LIFETIME_RESERVE - 1 - WAKE_RESERVE


def _never_bound(timing: Timing, addresses: int) -> list[str]:
    """Say that a store which always takes nearly request_timeout would have nobody ever bind, if
    that is so.
    """
    longest = longest_request(timing.lease_duration, addresses)
    if timing.request_timeout <= longest:
        return []
    too_long = timing.request_timeout - longest
    lease = math.ceil(100 * (timing.lease_duration + too_long / 0.9)) / 100
    cures = (
        [f"request_timeout of at most {math.floor(1000 * longest):g}ms"]
        if longest >= SHORTEST_TIMEOUT
        else []
    )
    cures += [
        f"lease_duration of at least {lease:g}s",
        f"below {SHORT_LEASE:g}s with the kernel's gate",
    ]
    return [
        f"a store that needs request_timeout {timing.request_timeout:g}s for each answer "
        "leaves too little of a lease of "
        f"{timing.lease_duration:g}s for a whole second of address lifetime: nothing would "
        "ever be bound; " + ", or ".join(cures)
    ]


def problems(timing: Timing, addresses: int = 1) -> list[str]:
    """Return one sentence for each way in which these durations are not safe or not useful
    together; empty: all is well.

    `addresses`: the most that one election has.
    """
    lease, renew, timeout = timing.lease_duration, timing.renew_interval, timing.request_timeout
    found = []
    if not SMALLEST_LEASE <= lease <= LONGEST_LEASE:
        found.append(
            f"lease_duration {lease:g}s is outside {SMALLEST_LEASE:g}s..{LONGEST_LEASE:g}s"
        )
    if not 0.05 <= renew:
        found.append(f"renew_interval {renew:g}s is shorter than 50ms")
    if not SHORTEST_TIMEOUT <= timeout:
        found.append(f"request_timeout {timeout:g}s is shorter than 50ms")
    left = lease - fence_margin(lease) - renew
    if left < 2 * timeout:
        found.append(
            f"after one missed renewal {max(left, 0):.2f}s of the lease are left, less than two "
            "requests of "
            f"request_timeout {timeout:g}s: raise lease_duration, or lower renew_interval or "
            "request_timeout"
        )
    if not found:
        found += _never_bound(timing, addresses)
    if fence_margin(lease) < 2 * DRIFT * lease:
        found.append("the fence margin does not cover two clocks that drift by 1 %")
    return found


def crash_promise(timing: Timing, restart: float = 0.3) -> str:
    """Return why a crash of the daemon may move the VIP with these durations; empty: it does not.

    `restart` is the time in seconds from a crash to the first renewal.
    """
    stuck = max(0.25, timing.lease_duration / 6)
    left = timing.lease_duration - fence_margin(timing.lease_duration) - timing.renew_interval
    need = stuck + restart
    if left >= need:
        return ""
    return (
        f"a stuck daemon is replaced within {need:.2f}s, but only {left:.2f}s of the lease may "
        "be left: it can lose the VIP"
    )
