"""Every error between guard and daemon; one tree."""

from __future__ import annotations


class FenceError(Exception):
    """What guard and daemon cannot do for one another; the text says why."""


class SlotError(FenceError):
    """A request that cannot be granted."""


class GuardError(FenceError):
    """The guard is gone, does not answer, or refused a request that it should not refuse."""


class LockedError(FenceError):
    """Another process holds an address; the sentence says which one."""


class ChannelError(FenceError):
    """The other end speaks something else; the connection is of no use any more."""
