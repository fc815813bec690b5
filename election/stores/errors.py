"""What can go wrong between vipd and its store: one tree for all stores. Standard library only.

Faults are the store's everyday life, not errors of this program. What ends at a store's surface
becomes a value of the contract: Unknown, WatchLost, Unreadable, Conflict.
"""

from __future__ import annotations

from election.outage import Outage


class StoreError(Exception):
    """The root; the message is a sentence that says why, for logs and terminals."""


class StoreFault(StoreError):
    """The server did not do it, or nobody knows whether it did."""

    def __init__(self, why: str, outage: Outage = Outage.UNREACHABLE) -> None:
        super().__init__(why)
        self.outage = outage

    def copy(self) -> StoreFault:
        """Return another one that says the same: each of several callers raises its own."""
        return StoreFault(str(self), self.outage)


class NothingDone(StoreFault):
    """The server did nothing at all of the request, for a reason that may lie in a part of it."""


class Refused(StoreFault):
    """The server does not accept the credentials (401; `everything`), or denies them this right
    (403).
    """

    def __init__(self, why: str, *, everything: bool, outage: Outage = Outage.REFUSING) -> None:
        super().__init__(why, outage)
        self.everything = everything


class Gone(StoreFault):
    """The changes since the version that a watch asked for are not kept any more (410)."""


class GivenUp(StoreFault):
    """A watch was ended from here, because its server refuses new connections.

    It is being stopped, or is one of several.
    """


class Stale(StoreError):
    """The request was not sent: contact was lost since what it is based on was read."""


class NotHttp(StoreError):
    """An answer is not HTTP, or larger than any answer may be."""


class PasswordRefused(StoreError):
    """The server does not know the user with this password."""


class LoginSilent(StoreError):
    """The server did not answer a login in time, or has died meanwhile; the message says which."""

    outage = Outage.SLOW


class TooOld(StoreError):
    """The server lacks what vipd needs; the message says what the server is."""

    outage = Outage.TOO_OLD


class NoWorker(StoreError):
    """The thread for what may block takes no calls now."""


class BadAccess(StoreError, ValueError):
    """The operator's files give no access.

    One cannot be used, or there is no way to the store in them.

    The message names the file and never says what is in it.
    """


class BadRecord(StoreError, ValueError):
    """The bytes are not a record."""
