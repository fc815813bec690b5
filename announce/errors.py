"""Every error of announce; one tree, so that who asks for all of them gets all."""

from __future__ import annotations


class AnnounceError(Exception):
    """What went wrong with addresses, frames or the gate; the text says what."""


class ForgeError(AnnounceError):
    """The child failed, or gave no answer in time; the text says why."""


class GateError(AnnounceError):
    """The gate cannot be in force; the text says why."""


class BpfError(AnnounceError, OSError):
    """The kernel refused a call.

    The text says which one, and for a program what the verifier said last.
    """


class AssemblyError(AnnounceError, ValueError):
    """A statement that is none, or a name that is not given; says which line."""


class ReportError(AnnounceError):
    """Whoever was told of an event failed at it: the fault is not the monitor's."""
