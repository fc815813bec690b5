"""What somebody else changed in a record that this node holds. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from election.model import Absent, Content, Record, Unreadable

OWN_FIELDS = (
    "uid",
    "holder",
    "session",
    "epoch",
    "counter",
    "lease_duration",
    "successor",
    "bound",
    "pin",
    "priority",
    "addresses",
    "release",
)
"""What a holder writes again. The times are for people, and unknown fields are not vipd's."""
LONGEST_VALUE = 40


def foreign_edit(content: Content, own: Iterable[Record]) -> str:
    """Return what is not as one of this session's `own` writes left it; empty: nothing, or another session took the record."""
    match content:
        case Absent():
            return "deleted"
        case Unreadable(why=why):
            return f"made unreadable: {why}"
    record = content.record
    differences = [_differences(record, one) for one in own]
    if not differences or not all(differences) or all("session" in found for found in differences):
        return ""
    fewest = min(differences, key=len)
    return ", ".join(f"{name}: {_shown(getattr(record, name))}" for name in fewest)


def _differences(record: Record, own: Record) -> list[str]:
    return [name for name in OWN_FIELDS if getattr(record, name) != getattr(own, name)]


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return (text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}...") or "empty"
