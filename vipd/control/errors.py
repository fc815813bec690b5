"""Every error between a command and the daemon; one tree."""

from __future__ import annotations


class ControlSocketError(Exception):
    """A command could not be carried out; the text says why."""


class UnreachableError(ControlSocketError):
    """There is no daemon to talk to, or this user may not; the text says which."""


class RefusedError(ControlSocketError):
    """The daemon does not do it; the text says why."""


class FailedError(ControlSocketError):
    """The daemon could not do it, or its answer cannot be understood."""


class SchemaError(ControlSocketError):
    """A status document that this version cannot read; the text is a sentence."""


class Refused(ControlSocketError):  # noqa: N818 - a decision, not an error
    """The daemon does not do what was asked for.

    The text says why, in a sentence for the operator.
    """


class ControlError(ControlSocketError):
    """The control socket cannot be set up; the text is a sentence for the operator."""
