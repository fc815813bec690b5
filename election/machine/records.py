"""The next content of a record for each kind of write. Pure; wall-clock times are stamped by whoever sends it."""

from __future__ import annotations

from dataclasses import replace

from election.model import FORMAT_VERSION, Candidate, Identity, Record, Release


def created(uid: str, epoch: int, lease_duration: int) -> Record:
    """Return a record without a holder, under a unique id: the absence it ends was seen once, and is waited out on it."""
    return Record(uid=uid, epoch=epoch, lease_duration=lease_duration)


def taken(base: Record, me: Identity, epoch: int, counter: int, lease_duration: int, priority: int, addresses: tuple[str, ...]) -> Record:
    """Return the record with a new holder and tenure; a pin stays only if it pins the new holder."""
    return replace(
        base,
        holder=me.name,
        session=me.session,
        epoch=epoch,
        counter=counter,
        lease_duration=lease_duration,
        successor=None,
        bound=False,
        pin=base.pin if base.pin == me.name else "",
        priority=priority,
        addresses=addresses,
        release=None,
        acquire_time="",
        version=max(base.version, FORMAT_VERSION),
    )


def renewed(base: Record, mine: Record, counter: int, priority: int, bound: bool, pin: str) -> Record:
    """Return the holder's record renewed on top of what is in the store, a stranger's unknown fields kept."""
    return replace(
        mine,
        counter=counter,
        successor=None,
        priority=priority,
        bound=bound,
        pin=pin,
        release=None,
        extra=base.extra,
        version=max(base.version, FORMAT_VERSION),
    )


def named(base: Record, counter: int, successor: Candidate, pin: bool) -> Record:
    """Return the record that names a successor."""
    return replace(
        base,
        counter=counter,
        successor=Identity(successor.name, successor.session),
        pin=successor.name if pin else "",
    )


def released(base: Record, counter: int) -> Record:
    """Return the record without a holder, with the proof that the holder itself let go."""
    return replace(
        base,
        holder="",
        counter=counter,
        successor=None,
        bound=False,
        pin="",
        release=Release(base.session, base.epoch),
    )
