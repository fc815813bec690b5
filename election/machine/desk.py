"""The one store request that an election has under way: ids, pacing, giving up, and whether the record must be read first."""

from __future__ import annotations

from dataclasses import dataclass

from election.actions import Read, Write, WriteKind
from election.model import Record, Revision


@dataclass(frozen=True, slots=True)
class Request:
    """A request under way; `write` is None for a read. Answers with another number are of a request given up."""

    number: int
    sent_at: float
    timeout: float
    write: Write | None

    @property
    def gives_up_at(self) -> float:
        """When its outcome counts as unknown, whatever comes later."""
        return self.sent_at + self.timeout


class Desk:
    """Lets one request out at a time. `unread`: something happened that only a read can judge."""

    def __init__(self) -> None:
        self.request: Request | None = None
        self.unread = True
        self.in_touch = False
        self.read_at = 0.0
        self.not_before = 0.0
        self._count = 0

    @property
    def next_number(self) -> int:
        """The number that the next request will have."""
        return self._count + 1

    def read(self, now: float, timeout: float) -> Read:
        """Send a read."""
        self._count += 1
        self.request = Request(self._count, now, timeout, None)
        return Read(self._count, timeout)

    def write(self, now: float, timeout: float, kind: WriteKind, record: Record, expected: Revision | None) -> Write:
        """Send a write."""
        self._count += 1
        write = Write(self._count, kind, record, expected, timeout)
        self.request = Request(self._count, now, timeout, write)
        return write

    def answered(self, number: int) -> Request | None:
        """Take the request with this number off the desk; None: it was given up, its answer means nothing any more."""
        request = self.request
        if request is None or request.number != number:
            return None
        self.request = None
        return request

    def unknown(self, now: float, request: Request, pause: float) -> None:
        """Note that nobody can tell the outcome: read before judging, and not at once again if the store refuses quickly."""
        self.request = None
        self.in_touch, self.unread = False, True
        self.not_before = max(now, request.sent_at + pause)

    def in_contact(self) -> None:
        """Note that the store answered."""
        self.in_touch = True
