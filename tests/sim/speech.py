"""Events and actions as short sentences, for traces and golden dialogues."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields

from election import model
from election.actions import (
    Action,
    Bind,
    Notice,
    Read,
    Refresh,
    SetDeadline,
    Transition,
    Unbind,
    Write,
)
from election.events import CandidatesSeen, Event, ReadDone, RecordSeen, WriteDone
from election.model import Absent, Found, Identity, Record


def say_record(record: Record, usual: frozenset[str] = frozenset()) -> str:
    """Say what decides in a record.

    `usual` are sessions that need not be named (those that the nodes' names tell).
    """
    session = f"({record.session})" if record.session and record.session not in usual else ""
    parts = [
        f"holder={record.holder or '-'}{session}",
        f"epoch={record.epoch}",
        f"counter={record.counter}",
    ]
    if record.successor is not None:
        parts.append(f"successor={_identity(record.successor, usual)}")
    if record.bound:
        parts.append("bound")
    if record.pin:
        parts.append(f"pin={record.pin}")
    if record.released:
        parts.append("released")
    return " ".join(parts)


def _identity(identity: Identity, usual: frozenset[str]) -> str:
    return identity.name if identity.session in usual else f"{identity.name}({identity.session})"


def say_answer(answer: object, usual: frozenset[str] = frozenset()) -> str:
    """Say what a store answered."""
    match answer:
        case Found(record):
            return say_record(record, usual)
        case Absent():
            return "absent"
        case model.Unreadable(why=why):
            return f"unreadable: {why}"
        case model.Applied():
            return "applied"
        case model.Conflict():
            return "conflict"
        case model.Unknown(why):
            return f"unknown: {why}"
    return str(answer)


def say_event(event: Event, usual: frozenset[str] = frozenset()) -> str:
    """Say what happened, as the machine was told."""
    match event:
        case RecordSeen(content):
            return f"RecordSeen {say_answer(content, usual)}"
        case ReadDone(request, answer):
            return f"ReadDone {request} {say_answer(answer, usual)}"
        case WriteDone(request, answer):
            return f"WriteDone {request} {say_answer(answer, usual)}"
        case CandidatesSeen(candidates):
            return "CandidatesSeen " + " ".join(_candidate(c) for c in candidates)
    return _plain(event)


def _candidate(candidate: model.Candidate) -> str:
    marks = "" if candidate.eligible else " unfit"
    marks += " asks" if candidate.asks else ""
    marks += "" if candidate.live else " dead"
    return f"{candidate.name}:{candidate.priority}{marks.replace(' ', '/')}"


def say_actions(
    actions: Sequence[Action], usual: frozenset[str] = frozenset(), shift: float = 0.0
) -> Iterator[str]:
    """Say what is to be done; `shift` turns a node's seconds into true ones."""
    for action in actions:
        match action:
            case Write(request, kind, record, expected):
                yield (
                    f"{kind.capitalize()} {request} {say_record(record, usual)} "
                    f"if={expected or 'absent'}"
                )
            case Read(request):
                yield f"Read {request}"
            case SetDeadline(deadline):
                yield f"SetDeadline {deadline + shift:.3f}" if deadline else "SetDeadline closed"
            case Bind(epoch=epoch, repair=repair):
                yield f"Bind epoch={epoch}" + (" repair" if repair else "")
            case Refresh(shrink=shrink):
                yield "Refresh" + (" shrink" if shrink else "")
            case Unbind(why):
                yield f"Unbind {why}"
            case Transition(before, after, reason, epoch, detail):
                names = f"{before.name.capitalize()} -> {after.name.capitalize()}"
                yield f"{names} ({reason}) epoch={epoch}" + (f" {detail}" if detail else "")
            case Notice(text):
                yield f"Notice: {text}"
            case _:
                yield _plain(action)


def _plain(value: Event | Action) -> str:
    """Say a small value by its name and those fields that are not empty."""
    values = ((field.name, getattr(value, field.name)) for field in fields(value))
    said = [
        f"{name}={_value(said)}"
        for name, said in values
        if said not in (False, "", 0.0, None, frozenset())
    ]
    return " ".join([type(value).__name__, *said])


def _value(value: object) -> str:
    if isinstance(value, frozenset):
        return ",".join(sorted(map(str, value)))
    return f"{value:.3f}" if isinstance(value, float) else str(value)
