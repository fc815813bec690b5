"""What a look-up of a name may end with."""

from __future__ import annotations


class NameLookupError(Exception):
    """A name has no addresses now; the message is a sentence that says why."""


class NoAnswerError(NameLookupError):
    """Nobody can tell: no name server answered, or all have troubles of their own."""


class NoSuchNameError(NameLookupError):
    """A name server says that there is no such name, or that it has no address."""
