"""What kind of fault keeps a store from serving, so that an operator knows where to look. Pure."""

from __future__ import annotations

import enum
import errno


class Outage(enum.StrEnum):
    """The kinds, those first that say most of the store.

    With three servers, two dead ones tell less than the third one's answer.

    The values are labels of the metric `vipd_store_outage` and part of the status document.
    """

    TOO_OLD = "too_old"
    """It lacks what vipd needs."""
    REFUSING = "refusing"
    """It does not accept who asks, or denies a right (401, 403); or the files with certificate and
    password cannot be used."""
    FULL = "full"
    """It can be read, but has no room for a write."""
    READ_ONLY = "read_only"
    """It can be read, but takes no writes."""
    NO_QUORUM = "no_quorum"
    """Those that are left of its servers may decide nothing."""
    FAILING = "failing"
    """It answers, with an error that is none of the others."""
    THROTTLED = "throttled"
    """It asks for fewer requests (429)."""
    SLOW = "slow"
    """The connection stands, but no answer came in time: overloaded, hung or frozen."""
    UNREACHABLE = "unreachable"
    """There is no connection."""

    def tells_more_than(self, other: Outage) -> bool:
        """Whether this one, seen beside the other, is the one to show."""
        order = list(Outage)
        return order.index(self) < order.index(other)


ERRNOS = {
    errno.EROFS: Outage.READ_ONLY,
    errno.ENOSPC: Outage.FULL,
    errno.EDQUOT: Outage.FULL,
    errno.EACCES: Outage.REFUSING,
    errno.EPERM: Outage.REFUSING,
    errno.ENOENT: Outage.UNREACHABLE,
    errno.ENOTDIR: Outage.UNREACHABLE,
    errno.ESTALE: Outage.UNREACHABLE,
    errno.ENODEV: Outage.UNREACHABLE,
    errno.ETIMEDOUT: Outage.SLOW,
    errno.EAGAIN: Outage.SLOW,
}


def of_system_error(error: OSError) -> Outage:
    """Return what an error of the file system means for a store that lives there."""
    if isinstance(error, TimeoutError):
        return Outage.SLOW
    return ERRNOS.get(error.errno or 0, Outage.FAILING)
