"""The words of the election.

States, reasons, the lease record, what a store answers, and candidates.

Everything here is a frozen value. Times are seconds (float) on one node's CLOCK_BOOTTIME and are
never compared between nodes; durations of a lease travel in the record as whole milliseconds.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from election.outage import Outage

FORMAT_VERSION = 1
"""Version of the record's format that this code writes."""

Revision = str
"""A store's own version of one record: opaque, compared for equality only."""


class State(enum.IntEnum):
    """Router states of RFC 9568 section 6.3, and Fault: not eligible.

    The numbers are those of the metric `vipd_state`.
    """

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
    ADDRESS_IN_USE = "address_in_use"
    UNBIND_FAILED = "unbind_failed"
    SHUTDOWN = "shutdown"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who speaks: the node's configured name and a session id that is fresh at every start of the
    daemon.
    """

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

    `epoch` rises with every acquisition and is the fencing token, `counter` with every write.
    `lease_duration` is in ms. `acquire_time` and `renew_time` are RFC 3339 wall-clock times for
    people; no decision reads them. `extra` keeps the fields that this version does not know.
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
        """Whether the last holder itself let go: an emptied holder alone is a foreign edit."""
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
    """Nobody can tell: timeout, connection lost, server error, throttled, not authorised. Never a
    loss by itself.
    """

    why: str
    outage: Outage = Outage.UNREACHABLE


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
    """What one node says of itself in one election.

    `asks`: it is better than the holder, for its preempt_delay, and wants the VIP.
    """

    eligible: bool
    priority: int
    asks: bool = False
    epoch: int = 0
    state: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class CandidateRecord:
    """A node's own record in the store: advice for speed and for people, never needed for safety.

    `counter` rises with every refresh; `extra` keeps unknown fields (room for a peer address and
    key).
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
    """One node in one election as this node sees it.

    Live means changed within three refresh intervals by own observation.
    """

    name: str
    session: str
    counter: int
    eligible: bool
    priority: int
    asks: bool
    live: bool
    epoch: int = 0
