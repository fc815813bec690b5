"""What must hold at every instant, checked while the world runs.

- Never two nodes serve one address, but for a planned handover: only the pair of that handover, at
  most 50 ms without a second fault, at most 500 ms with one. (A node without the gate whose guard
  and daemon were both out of action may serve until its address lifetimes end: section 6 says for
  which leases and how long.)
- Nothing is announced that is not bound; nothing is released that is still bound; nothing is left
  after a stop.
- The gate is opened for the record's holder only. Guard and gate know the deadline before a bind,
  and the lower one before a successor is named; what was bound or refreshed after the deadline is
  gone again before anything else happens.
- Epochs rise with every acquisition; no session uses a counter value twice.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from election.actions import Bind, Write, WriteKind
from election.model import Content, Found, Identity, Record
from election.timing import HANDOVER_TIMEOUT, fence_margin
from tests.sim.weather import SLOW

if TYPE_CHECKING:
    from tests.sim.host import Host
    from tests.sim.kernel import Words
    from tests.sim.world import World

UNDISTURBED = 0.050
TOLERANCE = 1e-6
DRIFTED = 0.005
"""Seconds by which 500 ms on one clock may differ from true time."""
STRICT_LEASE, SHORT_LEASE = 8.0, 2.0
LATEST_LIFETIME = 1.2
LIFETIME_RESERVE = 0.6
WORST_WITHOUT_GATE = 2.2


class InvariantError(Exception):
    """An invariant does not hold; the message says which, where and when."""


@dataclass(slots=True)
class Move:
    """The last acquisition of an election that followed a naming.

    Who may overlap, and for how long they did.
    """

    former: str
    successor: str
    taken_at: float
    named_at: float
    overlap: float = 0.0


@dataclass(slots=True)
class Ledger:
    """What happened to one election."""

    accounted: float = 0.0
    epoch: int = 0
    tampered: bool = False
    move: Move | None = None
    named_at: float = 0.0
    loose: dict[str, float] = field(default_factory=dict)


class Judge:
    """Watches a world. Raises InvariantError."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._ledgers: dict[str, Ledger] = {}
        self._bound: dict[tuple[str, str], int] = {}
        self._refused: set[tuple[str, str]] = set()
        self._named_to: dict[tuple[str, str], tuple[float, Identity | None]] = {}
        self._counters: set[tuple[str, str, int]] = set()
        self.failovers = 0
        self.handovers = 0
        self.longest_overlap = 0.0

    def blame(self, host: Host, election: str, text: str) -> None:
        """Stop the run."""
        raise InvariantError(f"{self._world.now:.4f} {host.label} {election}: {text}")

    def ledger(self, election: str) -> Ledger:
        """Return the election's history."""
        return self._ledgers.setdefault(election, Ledger())

    # ------------------------------------------------------------------ who serves

    def account(self, election: str) -> None:
        """Look at the time since the last change of anything that decides who serves; call before
        each change.
        """
        ledger, now = self.ledger(election), self._world.now
        since, ledger.accounted = ledger.accounted, now
        if now <= since:
            return
        serving = [
            (min(until, now), host)
            for host in self._world.hosts
            if (until := host.kernel.serving_until(election)) > since
        ]
        self._world.availability.served(
            election, since, max((until for until, _ in serving), default=since), now
        )
        if len(serving) > 1:
            self._note_loose(ledger, since, serving)
        for i, (until, one) in enumerate(serving):
            for other_until, other in serving[i + 1 :]:
                self._overlap(ledger, election, one, other, min(until, other_until) - since)

    @staticmethod
    def _note_loose(ledger: Ledger, since: float, serving: list[tuple[float, Host]]) -> None:
        """Add up for how long each node out of action has served beside others.

        Beside two of them no longer than beside one.
        """
        for until, host in serving:
            if host.kernel.gate or not host.stunned:
                continue
            beside = min(
                until, max(other_until for other_until, other in serving if other is not host)
            )
            ledger.loose[host.label] = ledger.loose.get(host.label, 0.0) + beside - since

    def _overlap(
        self, ledger: Ledger, election: str, one: Host, other: Host, seconds: float
    ) -> None:
        if seconds <= TOLERANCE:
            return
        move = ledger.move
        if move is not None and {move.former, move.successor} == {one.label, other.label}:
            move.overlap += seconds
            self.longest_overlap = max(self.longest_overlap, move.overlap)
            if move.overlap <= self._allowed(move) or self._lifetimes_only(
                ledger, election, one, other
            ):
                return
            self.blame(
                one,
                election,
                f"{one.label} and {other.label} overlapped for {move.overlap:.4f} s in a handover",
            )
        if not self._lifetimes_only(ledger, election, one, other):
            self.blame(
                one,
                election,
                f"{one.label} and {other.label} both serve, for {seconds:.4f} s until "
                f"{self._world.now:.4f}",
            )

    def _allowed(self, move: Move) -> float:
        quiet = self._world.disturbed_until < move.named_at - 0.05 and not self._is_deaf(move)
        return UNDISTURBED if quiet else HANDOVER_TIMEOUT + DRIFTED + self._kernel_time()

    def _is_deaf(self, move: Move) -> bool:
        """Whether the former holder learns of the take too late.

        Its watch is still dead, and its store so far that reads are slow.
        """
        former = next(host for host in self._world.hosts if host.label == move.former)
        return former.distance > SLOW and (
            former.watch is None or former.watch.stands_since > move.taken_at
        )

    def _kernel_time(self) -> float:
        # Without the gate an unbind ends when netlink answers, within the margin that is assumed.
        return 0.3 if any(not host.kernel.gate for host in self._world.hosts) else 0.0

    def _lifetimes_only(self, ledger: Ledger, election: str, one: Host, other: Host) -> bool:
        """Whether the overlap is one that only address lifetimes end, and short enough for that."""
        stunned = [host for host in (one, other) if not host.kernel.gate and host.stunned]
        return any(
            ledger.loose.get(host.label, 0.0) <= self._loosest(*host.kernel.promises[election])
            for host in stunned
        )

    @staticmethod
    def _loosest(lease: float, lifetime: int) -> float:
        """Return for how long section 6 lets an address outlast its right until lifetimes end it,
        seen by the next holder.
        """
        # A handover shrinks lifetimes to one second, and that is twice what is left of the right.
        if lease < SHORT_LEASE or lifetime == 1:
            return WORST_WITHOUT_GATE
        return (
            LATEST_LIFETIME - LIFETIME_RESERVE - 0.9 * fence_margin(lease) + DRIFTED
            if lease < STRICT_LEASE
            else 0.0
        )

    # ------------------------------------------------------------------ what nodes do

    def sending(self, host: Host, election: str, write: Write) -> None:
        """Check a write as it leaves."""
        record = write.record
        if write.kind is WriteKind.RELEASE:
            if host.kernel.bound(election):
                self.blame(host, election, "released while still bound")
            return
        told = host.kernel.words.get(election)
        self._naming(host, election, write)
        if (
            write.kind is WriteKind.NAME
            and told > host.clock.local(self._world.now) + HANDOVER_TIMEOUT + TOLERANCE
        ):
            self.blame(
                host,
                election,
                "named a successor while guard and gate still count on a later deadline",
            )
        if write.kind is WriteKind.CREATE:
            if record.holder:
                self.blame(host, election, "created an absent record with a holder")
            return
        key = (election, record.session, record.counter)
        if key in self._counters:
            self.blame(host, election, f"used counter {record.counter} twice")
        self._counters.add(key)

    def naming_refused(self, host: Host, election: str) -> None:
        """Take in that a holder knows: the successor that it wanted to name was not named."""
        self._refused.add((host.label, election))

    def _naming(self, host: Host, election: str, write: Write) -> None:
        """Check that nobody is struck out who was never named, or who is given no reason to be
        late.
        """
        if write.kind is WriteKind.NAME:
            self._refused.discard((host.label, election))
            self._named_to[host.label, election] = (self._world.now, write.record.successor)
        if write.kind is not WriteKind.STRIKE:
            return
        at, successor = self._named_to.get((host.label, election), (0.0, None))
        if (host.label, election) in self._refused and self._world.disturbed_until < at:
            self.blame(host, election, "strikes out a successor that, as it knows, was never named")
        named = self._world.host_of(successor.session) if successor is not None else None
        if (
            named is None
            or named.daemon is None
            or not named.daemon.watch.stands
            or not self._world.availability.demanding
        ):
            return
        # A request that was lost when the fault was over is waited for until its time is up;
        # nothing is sent before that.
        if self._world.disturbed_until > at - 0.1 - named.settings[election].timing.request_timeout:
            return
        if (
            election in named.kernel.has_refused
            or named.daemon.machines[election].situation.seen.older
        ):
            # It stays out until something changes; or it has seen a newer record than the store,
            # which was restored, has now.
            return
        if named.daemon.me == successor and self._world.availability.is_able(named, election):
            self.blame(
                host,
                election,
                f"strikes out {named.label}, which nothing kept from taking the lease",
            )

    def wrote(
        self, host: Host, election: str, before: Content, after: Found, kind: WriteKind
    ) -> None:
        """Check a write that the store has just applied."""
        ledger = self.ledger(election)
        if kind is WriteKind.NAME:
            ledger.named_at = self._world.now
        if kind is not WriteKind.TAKE:
            return
        record = after.record
        own = (
            host.daemon.remembered
            if host.daemon is not None and host.daemon.me.session == record.session
            else {}
        )
        if record.epoch <= own.get(election, 0) or (
            record.epoch <= ledger.epoch and not ledger.tampered
        ):
            self.blame(
                host, election, f"took the lease at epoch {record.epoch}, not above {ledger.epoch}"
            )
        ledger.epoch, ledger.tampered = record.epoch, False
        ledger.loose.pop(host.label, None)
        former = before.record if isinstance(before, Found) else None
        self._note_move(ledger, former, record)

    def _note_move(self, ledger: Ledger, former: Record | None, record: Record) -> None:
        now = self._world.now
        old = (
            self._world.host_of(former.session)
            if former is not None and not former.released
            else None
        )
        new = self._world.host_of(record.session)
        if old is new and old is not None:
            # Taken back by the same node: whoever handed over to it may still be letting go.
            return
        ledger.move = None
        if old is None or new is None or former is None:
            return
        if former.successor == Identity(record.holder, record.session):
            self.handovers += 1
            ledger.move = Move(old.label, new.label, now, ledger.named_at)
        else:
            self.failovers += 1

    def tampered(self, election: str) -> None:
        """Note that a foreign writer changed, deleted or restored the record.

        What it said of epochs may be lost.
        """
        self.ledger(election).tampered = True

    def tampered_all(self) -> None:
        """Note that a foreign writer changed all records."""
        for ledger in self._ledgers.values():
            ledger.tampered = True

    def opening(self, host: Host, election: str, before: float, deadline: float) -> None:
        """Check that a gate is opened, or held open for longer, by the record's holder only.

        One that has just handed over may: it learns of its naming after its successor. How long the
        two overlap is checked elsewhere.
        """
        ledger = self.ledger(election)
        moved = ledger.move is not None and ledger.move.former == host.label
        if deadline <= max(before, host.clock.local(self._world.now)) or ledger.tampered or moved:
            return
        content = self._world.store.records.get(election)
        if (
            not isinstance(content, Found)
            or self._world.host_of(content.record.session) is not host
        ):
            self.blame(
                host,
                election,
                f"opened the gate until {deadline} for a lease that it does not hold",
            )

    def binding(self, host: Host, election: str, bind: Bind) -> None:
        """Check that guard and gate know of what is about to be bound."""
        if host.kernel.words.get(election) != bind.deadline:
            self.blame(
                host,
                election,
                f"binds until {bind.deadline} while guard and gate know "
                f"{host.kernel.words.get(election)}",
            )

    def touched(self, host: Host, election: str) -> None:
        """Check what a bind or refresh leaves.

        An address brought back after its right had ended must be gone again.
        """
        late = host.clock.local(self._world.now) >= host.kernel.words.get(election)
        if late and host.kernel.bound(election):
            self.blame(host, election, "left what was bound or refreshed after the right had ended")

    def bound(self, host: Host, election: str, epoch: int) -> None:
        """Check the epoch of a bind.

        A daemon knows what it bound with, and the state directory what can be kept there.
        """
        daemon = host.daemon
        for knower in (host.label, daemon.me.session if daemon is not None else host.label):
            before = self._bound.get((knower, election), 0)
            if epoch < before:
                self.blame(host, election, f"bound at epoch {epoch} after {before}")
            if knower != host.label or host.state_readable:
                # What a bind could not write down is gone with its daemon; the record may still
                # tell.
                self._bound[knower, election] = epoch

    def forgotten(self, host: Host) -> None:
        """Take in that a node lost its memory.

        With the record gone as well, nothing tells it at which epoch it bound.
        """
        for election in host.settings:
            self._bound.pop((host.label, election), None)

    def announcing(self, host: Host, election: str, *, holds: bool) -> None:
        """Check that what a machine wants announced was bound before."""
        if not holds:
            self.blame(host, election, "announced without being bound")

    def sent_frames(self, host: Host, election: str) -> None:
        """Check that nobody speaks in the address's name after its right has ended."""
        if host.clock.local(self._world.now) >= host.kernel.words.get(election):
            self.blame(host, election, "announced after the right had ended")

    def nothing_orphaned(self, host: Host, words: Words) -> None:
        """Check that a guard without a daemon watches over all that was bound in its life."""
        for election in host.settings:
            if (
                host.kernel.bound(election)
                and host.kernel.bound_under[election] is words
                and not words.get(election)
            ):
                self.blame(
                    host, election, "bound, but the word is closed and nobody looks after it"
                )

    def stopped(self, host: Host) -> None:
        """Check what an orderly stop leaves."""
        for election in host.settings:
            if host.kernel.bound(election):
                self.blame(host, election, "left the address behind after a stop")
