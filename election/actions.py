"""What an election wants done: the actions that `Machine.step` returns, each a frozen value.

Their order is a contract.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from election.model import Reason, Record, Revision, State


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
    """Write the record if its revision is still `expected` (None: if there is none).

    Answer with WriteDone within `timeout` seconds.
    """

    request: int
    kind: WriteKind
    record: Record
    expected: Revision | None
    timeout: float


@dataclass(frozen=True, slots=True)
class SetDeadline:
    """Write the shared word that daemon, guard and gate obey.

    The moment the right ends, 0.0 for closed. Never fails, never waits.
    """

    deadline: float


@dataclass(frozen=True, slots=True)
class Bind:
    """Bind all addresses at once, comparing the deadline before and after.

    Answer with BindDone. Idempotent.

    If it fails, the Announce that follows it in the same list is left out.
    """

    epoch: int
    deadline: float
    lease_duration: float
    repair: bool = False


@dataclass(frozen=True, slots=True)
class Refresh:
    """Give the bound addresses their kernel lifetimes again, comparing the deadline before and
    after.

    `shrink`: the deadline was lowered for a handover; the lifetime becomes the shortest there is,
    one second.
    """

    deadline: float
    lease_duration: float
    shrink: bool = False


@dataclass(frozen=True, slots=True)
class Unbind:
    """Stop announcing, remove all addresses and read back that they are gone.

    Answer with UnbindDone. Idempotent.
    """

    why: Reason


@dataclass(frozen=True, slots=True)
class Announce:
    """Send the first frames at once, then the burst and the refreshes for as long as the deadline
    lies ahead.
    """

    epoch: int


@dataclass(frozen=True, slots=True)
class Probe:
    """Ask by ARP or neighbour solicitation whether somebody answers for the VIP.

    Answer with ProbeDone within `timeout` seconds.
    """

    timeout: float


@dataclass(frozen=True, slots=True)
class Remember:
    """Keep the highest epoch seen, the longest lease_duration known (ms) and the highest epoch seen
    or chosen; answer with Remembered.

    Comes before a take is sent; the bind waits for the answer, but not for long.
    """

    epoch: int
    lease_duration: int
    chosen: int = 0


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


@dataclass(frozen=True, slots=True)
class Waits:
    """This node waits before it may take the VIP; said when the reason changes.

    `until` as in election.machine.waiting.
    """

    until: float
    why: str
    warning: bool


@dataclass(frozen=True, slots=True)
class ForeignEdit:
    """Somebody else changed what this node holds in the store.

    `what` names it; the record is written again unless it was `lost`.
    """

    what: str
    lost: bool = False


Action = (
    Read
    | Write
    | SetDeadline
    | Bind
    | Refresh
    | Unbind
    | Announce
    | Probe
    | Remember
    | Transition
    | Notice
    | Waits
    | ForeignEdit
)
