"""What can go wrong with a check beside the answer that it gets: one tree for health."""

from __future__ import annotations


class HealthError(Exception):
    """The root; the message is a sentence that says why."""


class NameLookupError(HealthError):
    """A name has no addresses now."""


class NoAnswerError(NameLookupError):
    """Nobody can tell: no name server answered, or all have troubles of their own."""


class NoSuchNameError(NameLookupError):
    """A name server says that there is no such name, or that it has no address."""


class SearchError(HealthError):
    """It cannot be told whether the text matches."""
