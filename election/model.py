"""The words of the election: states, reasons, the lease record, what happens and what is to be done.

Everything here is a frozen value. Times are seconds (float) on one node's CLOCK_BOOTTIME and are never compared
between nodes; durations of a lease travel in the record as whole milliseconds.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

FORMAT_VERSION = 1
"""Version of the record's format that this code writes."""

Revision = str
"""A store's own version of one record: opaque, compared for equality only."""


class State(enum.IntEnum):
    """Router states of RFC 9568 section 6.3, and Fault: not eligible. The numbers are those of the metric `vipd_state`."""

    INITIALIZE = 0
    BACKUP = 1
    ACTIVE = 2
    FAULT = 3


class Reason(enum.StrEnum):
    """Why a node changed its state. Each transition has exactly one."""

    STARTUP = "startup"
    RECOVERED = "recovered"
    ACQUIRED = "acquired"
    TAKEN_BACK = "taken_back"
    LEASE_EXPIRED = "lease_expired"
    RELEASED = "released"
    HANDED_OVER = "handed_over"
    PREEMPTED = "preempted"
    CHECK_FAILED = "check_failed"
    LINK_DOWN = "link_down"
    DRAINED = "drained"
    FENCED = "fenced"
    LOST = "lost"
    NAMESAKE = "namesake"
    BIND_FAILED = "bind_failed"
    ADDRESS_CLAIMED = "address_claimed"
    SHUTDOWN = "shutdown"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who speaks: the node's configured name and a session id that is fresh at every start of the daemon."""

    name: str
    session: str


@dataclass(frozen=True, slots=True)
class Release:
    """Proof in a record that its holder let go by itself: the session and epoch that released."""

    session: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Record:
    """One election's record in the store; changed by compare-and-swap only.

    `epoch` rises with every acquisition and is the fencing token, `counter` with every write. `lease_duration` is in ms.
    `acquire_time` and `renew_time` are RFC 3339 wall-clock times for people; no decision reads them. `extra` keeps the
    fields that this version does not know.
    """

    uid: str
    holder: str = ""
    session: str = ""
    epoch: int = 0
    counter: int = 0
    lease_duration: int = 3000
    successor: Identity | None = None
    bound: bool = False
    pin: str = ""
    priority: int = 0
    addresses: tuple[str, ...] = ()
    release: Release | None = None
    acquire_time: str = ""
    renew_time: str = ""
    version: int = FORMAT_VERSION
    extra: Mapping[str, object] = field(default_factory=dict, hash=False)

    @property
    def released(self) -> bool:
        """Whether the last holder itself let go: an emptied holder alone is a stranger's edit."""
        return not self.holder and self.release == Release(self.session, self.epoch)

    def held_by(self, identity: Identity) -> bool:
        """Whether this very session of this node is the holder."""
        return self.holder == identity.name and self.session == identity.session


# ---------------------------------------------------------------- what a store answers


@dataclass(frozen=True, slots=True)
class Applied:
    """The write took effect; the record now has this revision."""

    revision: Revision


@dataclass(frozen=True, slots=True)
class Conflict:
    """The write did not take effect and never will: somebody else wrote first."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nobody can tell: timeout, connection lost, server error, throttled, not authorised. Never a loss by itself."""

    why: str


@dataclass(frozen=True, slots=True)
class Found:
    """The record as the store has it."""

    record: Record
    revision: Revision


@dataclass(frozen=True, slots=True)
class Unreadable:
    """There is a record, but it says nothing that can be understood."""

    revision: Revision
    why: str


@dataclass(frozen=True, slots=True)
class Absent:
    """The store says with certainty that there is no such record."""


WriteAnswer = Applied | Conflict | Unknown
Content = Found | Unreadable | Absent
ReadAnswer = Content | Unknown


# ---------------------------------------------------------------- candidates


@dataclass(frozen=True, slots=True)
class Candidacy:
    """What one node says of itself in one election. `asks`: it is better than the holder, for its preempt_delay, and wants the VIP."""

    eligible: bool
    priority: int
    asks: bool = False
    epoch: int = 0
    state: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class CandidateRecord:
    """A node's own record in the store: advice for speed and for people, never needed for safety.

    `counter` rises with every refresh; `extra` keeps unknown fields (room for a peer address and key).
    """

    name: str
    session: str
    counter: int
    elections: Mapping[str, Candidacy] = field(default_factory=dict, hash=False)
    vipd_version: str = ""
    refresh_interval: int = 3000
    version: int = FORMAT_VERSION
    extra: Mapping[str, object] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One node in one election as this node sees it: live means changed within three refresh intervals by own observation."""

    name: str
    session: str
    counter: int
    eligible: bool
    priority: int
    asks: bool
    live: bool
    epoch: int = 0


# ---------------------------------------------------------------- what happens (events)


@dataclass(frozen=True, slots=True)
class Started:
    """First event of a machine's life.

    `former_sessions` are this node's own, of this boot, proven gone by the lock. `inherited` is the deadline that a
    former daemon of the same guard left in the shared word (0.0: none). `leftover`: addresses of an earlier life are
    bound with a kernel lifetime, but nobody can tell their deadline.
    """

    former_sessions: frozenset[str] = frozenset()
    inherited: float = 0.0
    leftover: bool = False


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed; sent when `Machine.next_wake` is reached, and harmless at any other moment."""


@dataclass(frozen=True, slots=True)
class RecordSeen:
    """A watch reported this content: a hint that makes reactions fast, and never proof of age."""

    content: Content


@dataclass(frozen=True, slots=True)
class ReadDone:
    """The answer to the Read with this id."""

    request: int
    answer: ReadAnswer


@dataclass(frozen=True, slots=True)
class WriteDone:
    """The answer to the Write with this id."""

    request: int
    answer: WriteAnswer


@dataclass(frozen=True, slots=True)
class CandidatesSeen:
    """All candidates of this election, this node included if its record was seen."""

    candidates: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True)
class FitnessChanged:
    """Checks and link: whether this node may hold the VIP, at what effective priority (1..254), and if not, why."""

    fit: bool
    priority: int
    reason: Reason = Reason.CHECK_FAILED


@dataclass(frozen=True, slots=True)
class BindDone:
    """The kernel's answer to a Bind; not ok: too late (undone) or refused."""

    epoch: int
    ok: bool
    why: str = ""


@dataclass(frozen=True, slots=True)
class UnbindDone:
    """The kernel's answer to an Unbind, read back; not ok: an address may still be bound."""

    ok: bool
    why: str = ""


@dataclass(frozen=True, slots=True)
class RivalSeen:
    """A frame for the VIP came from somebody else's MAC address."""


@dataclass(frozen=True, slots=True)
class AddressLost:
    """The kernel reported that a bound address went away without vipd's doing."""


@dataclass(frozen=True, slots=True)
class ProbeDone:
    """Whether anybody answered for the VIP (`mac`), asked by ARP or neighbour solicitation."""

    mac: str = ""


@dataclass(frozen=True, slots=True)
class NamesakeSeen:
    """Whether another live daemon uses this node's name."""

    present: bool


@dataclass(frozen=True, slots=True)
class AddressClaimed:
    """Whether an earlier election of the same store claims one of this election's addresses (`by`, or empty)."""

    by: str = ""


@dataclass(frozen=True, slots=True)
class HandoverAsked:
    """An operator wants a planned move, to a named node or to the best one; `pin` keeps it there."""

    to: str = ""
    pin: bool = True


@dataclass(frozen=True, slots=True)
class UnpinAsked:
    """An operator gives the choice back to the priorities."""


@dataclass(frozen=True, slots=True)
class DrainChanged:
    """An operator takes this node out of (or back into) the election."""

    drained: bool


@dataclass(frozen=True, slots=True)
class StopAsked:
    """The daemon is to end: hand over or release, then `Machine.stopped` becomes true."""


KernelEvent = BindDone | UnbindDone | RivalSeen | AddressLost
Order = NamesakeSeen | AddressClaimed | HandoverAsked | UnpinAsked | DrainChanged | StopAsked
Event = Started | Tick | RecordSeen | ReadDone | WriteDone | CandidatesSeen | FitnessChanged | ProbeDone | KernelEvent | Order


# ---------------------------------------------------------------- what is to be done (actions)


class WriteKind(enum.StrEnum):
    """What a write is for; the name appears in metrics and dialogues."""

    CREATE = "create"
    TAKE = "take"
    RENEW = "renew"
    NAME = "name"
    STRIKE = "strike"
    RELEASE = "release"


@dataclass(frozen=True, slots=True)
class Read:
    """Read the record; answer with ReadDone within `timeout` seconds."""

    request: int
    timeout: float


@dataclass(frozen=True, slots=True)
class Write:
    """Write the record if its revision is still `expected` (None: if there is none); answer with WriteDone within `timeout` seconds."""

    request: int
    kind: WriteKind
    record: Record
    expected: Revision | None
    timeout: float


@dataclass(frozen=True, slots=True)
class SetDeadline:
    """Write the shared word that daemon, guard and gate obey: the moment the right ends, 0.0 for closed. Never fails, never waits."""

    deadline: float


@dataclass(frozen=True, slots=True)
class Bind:
    """Bind all addresses at once, comparing the deadline before and after; answer with BindDone. Idempotent.

    If it fails, the Announce that follows it in the same list is left out.
    """

    epoch: int
    deadline: float
    lease_duration: float
    repair: bool = False


@dataclass(frozen=True, slots=True)
class Refresh:
    """Give the bound addresses their kernel lifetimes again, comparing the deadline before and after.

    `shrink`: the deadline was lowered for a handover; the lifetime becomes the shortest there is, one second.
    """

    deadline: float
    lease_duration: float
    shrink: bool = False


@dataclass(frozen=True, slots=True)
class Unbind:
    """Stop announcing, remove all addresses and read back that they are gone; answer with UnbindDone. Idempotent."""

    why: Reason


@dataclass(frozen=True, slots=True)
class Announce:
    """Send the first frames at once, then the burst and the refreshes for as long as the deadline lies ahead."""

    epoch: int


@dataclass(frozen=True, slots=True)
class Probe:
    """Ask by ARP or neighbour solicitation whether somebody answers for the VIP; answer with ProbeDone within `timeout` seconds."""

    timeout: float


@dataclass(frozen=True, slots=True)
class Remember:
    """Keep the highest epoch seen and the longest lease_duration known (ms) in the state directory."""

    epoch: int
    lease_duration: int


@dataclass(frozen=True, slots=True)
class Transition:
    """This node's state changed; for log, metrics and history."""

    before: State
    after: State
    reason: Reason
    epoch: int
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Notice:
    """One sentence for the operator, said once."""

    text: str
    warning: bool = False


Action = Read | Write | SetDeadline | Bind | Refresh | Unbind | Announce | Probe | Remember | Transition | Notice
