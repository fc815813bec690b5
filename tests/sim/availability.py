"""For how long an address may be away, measured while the world runs (section 4).

An address is away while no node answers for it, after it was served once. Every fault *permits*
absence for a while:

- a planned move, a drain, a stop, a reload, a daemon's crash or a foreign edit that is healed: none
  at all;
- a holder that lost its health, or an address that somebody removed: as long as it takes to release
  and to take;
- anything else: for as long as it lasts, and then for the longest lease that anybody knows of, and
  what a start and a few requests take.

Nothing is expected of a group in which no node is able to serve: one whose kernel has just refused
the address is not, nor is one that is fit again until others know of it. All that is away beyond
this counts, and adds up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from election.timing import RANK_STEP, SUCCESSOR_HOLDOFF
from tests.sim.clock import LARGEST_DRIFT

if TYPE_CHECKING:
    from tests.sim.host import Host
    from tests.sim.world import World

START = 1.5
"""Seconds that a start of guard and daemon may take until the node knows record and candidates, and
may add to a lease."""
ROUND_TRIPS = 8
"""Requests one after the other between an unbind and the next bind, watches included."""
RECKONED_FOR = 0.5
"""Seconds for which a recovery once reckoned is taken to be right: in rough weather it is asked for
at every message."""
REFUSAL_PATIENCE = 5.0
"""Seconds for which a node stays out after its kernel refused an address, and twice as long after
each further refusal unless the address is vacant and there was a sign that the cause is over."""
VACANT = 0.5
"""Seconds for which an address is vacant until a node tries for it whose kernel refused it."""
GRAIN = 0.002
"""Seconds away for which nobody is blamed: what happens in one instant of true time takes the
kernel a moment."""


class Availability:
    """The absences of one world's elections.

    `away` adds up, by election, what nothing permitted (seconds).

    `demanding`: somebody is blamed for it. The golden dialogues, which tell their own stories, only
    look at the longest.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.demanding = False
        self._permitted_until = 0.0
        self._recovery = (-RECKONED_FOR, 0.0)
        self._refusals: dict[tuple[str, str], tuple[float, int]] = {}
        self._out_until: dict[tuple[str, str], float] = {}
        self._served: set[str] = set()
        self._unserved: set[str] = set()
        self.away: dict[str, float] = {}

    # ------------------------------------------------------------------ what permits it

    def permit(self, seconds: float) -> None:
        """Permit absence for so many seconds from now on."""
        until = self._world.now + seconds
        if until > self._permitted_until:
            self._account_all()
            self._permitted_until = until

    def permit_recovery(self, lasting: float = 0.0) -> None:
        """Permit absence for as long as a fault lasts, and until a lease has been waited out after
        it.
        """
        self.permit(lasting + self.recovery())

    def refusal_begins(self, host: Host, election: str) -> None:
        """Take in that a kernel refuses an election's addresses from now on."""
        self._refusals[host.label, election] = (self._world.now, 0)
        self.permit(self.succession())

    def refused(self, host: Host, election: str) -> None:
        """Take in that a bind failed by a lasting refusal.

        It may cost an absence again and again, but each time twice as late.

        Its node stays out for a while, whatever the kernel grants meanwhile.
        """
        out_until = self._world.now + REFUSAL_PATIENCE * (1.0 + 2 * LARGEST_DRIFT) + VACANT
        self._out_until[host.label, election] = out_until
        self._world.at(out_until, self.look)
        at, count = self._refusals.get((host.label, election), (self._world.now, 0))
        if self._world.now >= at:
            self.permit(self.succession())
            pause = REFUSAL_PATIENCE * 2.0**count * (1.0 - 2 * LARGEST_DRIFT)
            self._refusals[host.label, election] = (self._world.now + pause, count + 1)

    def returns(self, host: Host, election: str) -> None:
        """Take in that a node is fit again.

        Whoever holds learns of it by its candidate record, and names nobody before that.
        """
        known_at = self._world.now + 2 * self._message() + GRAIN
        self._out_until[host.label, election] = max(
            known_at, self._out_until.get((host.label, election), 0.0)
        )
        self._world.at(known_at, self.look)

    def forgotten(self) -> None:
        """Take in that a node lost what it had observed.

        Whoever waits for a lease to expire begins anew.
        """
        self._account_all()
        if self._unserved:
            self.permit_recovery()

    def forgive_nothing(self) -> None:
        """Permit nothing any more: all that went wrong is long over."""
        self._account_all()
        self._permitted_until = self._world.now

    def recovery(self) -> float:
        """Return how long it takes at most until another node serves.

        A lease as others see it, and a start.
        """
        at, seconds = self._recovery
        if self._world.now >= at + RECKONED_FOR:
            seconds = self._reckon_recovery()
            self._recovery = (self._world.now, seconds)
        return seconds

    def _reckon_recovery(self) -> float:
        world = self._world
        timeout = max(
            (s.timing.request_timeout for host in world.hosts for s in host.settings.values()),
            default=0.0,
        )
        longest = [
            m.longest
            for host in world.hosts
            if host.daemon is not None
            for m in host.daemon.machines.values()
        ]
        lease = max([world.faults.longest_lease, *longest])
        # Half a lease later if the watch that would have told of the change is silently dead.
        return lease * (1.5 + 3 * LARGEST_DRIFT) + 2 * timeout + START + self.succession()

    def succession(self) -> float:
        """Return how long it takes at most from an unbind to the next bind if the lease is
        released.
        """
        return (
            SUCCESSOR_HOLDOFF
            + RANK_STEP * len(self._world.hosts)
            + 2 * ROUND_TRIPS * self._message()
        )

    def _message(self) -> float:
        """Return how long a message takes at most, one way."""
        climate = self._world.weather.climate
        return (
            climate.latency
            + 3 * climate.jitter
            + max((host.distance for host in self._world.hosts), default=0.0)
        )

    # ------------------------------------------------------------------ what is seen

    def served(self, election: str, since: float, until: float, now: float) -> None:
        """Take in that the addresses were served from `since` to `until` (that before `since`: not
        at all) and not until `now`.
        """
        if until > since:
            self._served.add(election)
            self._unserved.discard(election)
        if until >= now or election not in self._served:
            return
        self._unserved.add(election)
        begin = max(since, until)
        away = now - max(begin, self._permitted_until)
        if away <= 0.0:
            return
        if not any(self.is_able(host, election) for host in self._world.hosts):
            self._permitted_until = now + self.recovery()
            return
        self.away[election] = self.away.get(election, 0.0) + away
        self.exceeded(election)

    def exceeded(self, election: str) -> None:
        """Blame somebody if what was not permitted is more than a moment."""
        if self.demanding and self.away[election] > GRAIN:
            self._world.judge.blame(
                self._world.hosts[0],
                election,
                f"away for {self.away[election]:.4f} s without a cause",
            )

    def look(self) -> None:
        """Look again at who is able: an absence with nobody to end it is no fault."""
        self._account_all()

    def is_able(self, host: Host, election: str) -> bool:
        """Whether this node could serve.

        It runs, is in touch with the store, and nobody wants it out.
        """
        daemon, guard = host.daemon, host.guard
        if (
            daemon is None
            or guard is None
            or daemon.frozen
            or guard.frozen
            or daemon.stopping_since is not None
        ):
            return False
        now = self._world.now
        if now < daemon.born_at + START or now <= self._out_until.get((host.label, election), 0.0):
            return False
        reached = not (host.store_cut or host.replies_cut) and now >= self._world.store.down_until
        grants = (
            host.index is not None and election not in host.kernel.refused | host.kernel.foreign
        )
        return reached and grants and host.wanted and host.fit[election].fit and not host.drained

    def _account_all(self) -> None:
        if self._world.hosts:
            for election in self._world.hosts[0].settings:
                self._world.judge.account(election)
