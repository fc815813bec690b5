"""The daemon's heartbeat: it lets time pass for every machine, and shows the guard that it does."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping

from vipd.clock import now
from vipd.daemon.member import Member
from vipd.daemon.peers import Peers
from vipd.daemon.view import ALIVE_WITHIN
from vipd.guard.link import GuardLink
from vipd.observe.metrics import Metrics

SHORTEST_BEAT, LONGEST_BEAT = 0.050, 0.200
BEATS_A_LEASE = 30
"""A beat is a thirtieth of a lease: a fifth of the time after which the guard takes the daemon for
stuck."""
MOVES = 20
"""Moves of an election between two beats that count as life: a takeover is about ten, with all that
is told of others meanwhile."""
LONGEST_SILENCE_OF_CANDIDATES = 1.0
"""Seconds after which the machines hear of the candidates again, changed or not."""


class Heartbeat:
    """Beats from `start` on for as long as the event loop runs."""

    def __init__(
        self,
        link: GuardLink,
        members: Mapping[str, Member],
        peers: Peers,
        metrics: Metrics,
        lease_duration: float,
    ) -> None:
        self._link, self._members, self._peers, self._metrics = link, members, peers, metrics
        self._interval = min(max(lease_duration / BEATS_A_LEASE, SHORTEST_BEAT), LONGEST_BEAT)
        self._beat_at = 0.0
        self._candidates_change_at = 0.0
        self._moves: Counter[str] = Counter()

    def start(self) -> None:
        """Beat now and at every interval."""
        self._loop = asyncio.get_running_loop()
        self._beat()

    def moved(self, election: str) -> None:
        """Show life because an election's machine has moved.

        Two hundred that take over in one turn of the loop take their time.

        Only so often between two beats: one that moves for ever is no progress.
        """
        self._moves[election] += 1
        if self._moves[election] <= MOVES:
            self._link.beat(now())

    def trouble(self) -> str:
        """Return why the event loop cannot be called alive, or nothing."""
        silent = now() - self._beat_at
        return f"the event loop has not run for {silent:.1f}s" if silent > ALIVE_WITHIN else ""

    def _beat(self) -> None:
        """Show life, and let time pass for every machine.

        Timers stand still while the host is suspended.
        """
        moment = now()
        self._moves.clear()
        for member in self._members.values():
            member.driver.tick()
        if self._members and moment >= self._candidates_change_at:
            self._peers.tell()
            for member in self._members.values():
                member.look_for_obstacles()
            self._candidates_change_at = min(
                self._peers.candidates.changes_at(moment), moment + LONGEST_SILENCE_OF_CANDIDATES
            )
        self._link.beat(now())
        if self._beat_at:
            self._metrics.loop_lag(max(0.0, moment - self._beat_at - self._interval))
        self._beat_at = moment
        self._loop.call_later(self._interval, self._beat)
