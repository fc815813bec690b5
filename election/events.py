"""What happens to an election: the events that `Machine.step` takes in, each a frozen value."""

from __future__ import annotations

from dataclasses import dataclass

from election.model import Candidate, Content, ReadAnswer, Reason, WriteAnswer


@dataclass(frozen=True, slots=True)
class Started:
    """The first event of a machine.

    `former_sessions` are this node's own, of this boot, known by the lock to have ended.
    `inherited` is the deadline that a former daemon of the same guard left in the shared word (0.0:
    none). `leftover`: addresses of an earlier daemon are bound with a kernel lifetime, but nobody
    can tell their deadline.
    """

    former_sessions: frozenset[str] = frozenset()
    inherited: float = 0.0
    leftover: bool = False


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed; sent when `Machine.next_wake` is reached, and harmless
    at any other moment.
    """


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
    """Checks and link: whether this node may hold the VIP, at what effective priority (1..254), and
    if not, why.
    """

    fit: bool
    priority: int
    reason: Reason = Reason.CHECK_FAILED


@dataclass(frozen=True, slots=True)
class Remembered:
    """The state directory has kept that epochs up to `chosen` were chosen here, or cannot keep
    anything.
    """

    chosen: int


@dataclass(frozen=True, slots=True)
class InterfaceChanged:
    """A link, address or setting of an interface of this election changed.

    What the kernel refused it may now grant.
    """


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
    """Whether an earlier election of the same store claims one of this election's addresses (`by`,
    or empty).
    """

    by: str = ""


@dataclass(frozen=True, slots=True)
class HandoverAsked:
    """An operator wants a planned move, to a named node or to the best one;
    `pin` keeps it there.
    """

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
    """The daemon is to end: hand over or release, then `Machine.stopped` becomes true.

    `patience` is for how many seconds it goes on without a successor if there are other nodes,
    because one may become fit. `pause` is for how many seconds it names nobody: where all nodes are
    stopped at once, what is known of the others is out of date.
    """

    patience: float = 0.0
    pause: float = 0.0


KernelEvent = BindDone | UnbindDone | RivalSeen | AddressLost
NodeEvent = InterfaceChanged | Remembered
Order = NamesakeSeen | AddressClaimed | HandoverAsked | UnpinAsked | DrainChanged | StopAsked
Event = (
    Started
    | Tick
    | RecordSeen
    | ReadDone
    | WriteDone
    | CandidatesSeen
    | FitnessChanged
    | ProbeDone
    | KernelEvent
    | NodeEvent
    | Order
)
