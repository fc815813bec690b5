"""What every store can do.

Read and compare-and-swap the records, keep candidate records, and report changes.

An adapter maps every fault of its library to `Unknown`; nothing but a bug or a cancellation is
raised out of these calls.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from election.model import (
    CandidateRecord,
    Content,
    ReadAnswer,
    Record,
    Revision,
    Unknown,
    WriteAnswer,
)
from election.outage import Outage


@dataclass(frozen=True, slots=True)
class ElectionChanged:
    """A watch saw this content of an election's record."""

    election: str
    content: Content


@dataclass(frozen=True, slots=True)
class CandidateChanged:
    """A watch saw a node's candidate record; None: it is gone."""

    name: str
    record: CandidateRecord | None


@dataclass(frozen=True, slots=True)
class WatchLost:
    """The watch broke and is being set up again.

    What happened meanwhile is reported when it stands again.

    Reported again when the reason why it cannot be set up is another one.
    """

    why: str
    outage: Outage = Outage.UNREACHABLE


@dataclass(frozen=True, slots=True)
class WatchStands:
    """The watch stands.

    The current content of all records has been reported, and every change from here on will be.
    """


WatchEvent = ElectionChanged | CandidateChanged | WatchLost | WatchStands


class Store(Protocol):
    """A place that all nodes of a group share.

    `timeout` is in seconds and bounds the whole call, retries included.
    """

    async def read(self, election: str, timeout: float) -> ReadAnswer:
        """Return the record as of a moment after the call began (never from a cache)."""
        ...

    async def write(
        self, election: str, record: Record, expected: Revision | None, timeout: float
    ) -> WriteAnswer:
        """Replace the record if its revision is still `expected`; None: create it if there is
        none.
        """
        ...

    async def read_candidates(self, timeout: float) -> Sequence[CandidateRecord] | Unknown:
        """Return every node's candidate record; unreadable ones are left out."""
        ...

    async def write_candidate(self, record: CandidateRecord, timeout: float) -> WriteAnswer:
        """Replace this node's candidate record, whatever is there."""
        ...

    async def delete_candidate(self, name: str, timeout: float) -> WriteAnswer:
        """Remove a candidate record; absent is as good as applied."""
        ...

    def watch(self) -> AsyncIterator[WatchEvent]:
        """Report every change of every record for as long as it is iterated.

        Sets itself up again after a fault.
        """
        ...

    async def close(self) -> None:
        """Let go of connections, watches and threads."""
        ...
