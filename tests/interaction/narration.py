"""What happened as lines for an operator.

One for each transition, write, unknown outcome, netlink call and guard action.

    22.804 b Backup -> Active (lease_expired) epoch=2     who and when; a transition stands first,
    then its actions in order
           > Guard until=25.502                           `>` is what the node wants done, `<` what
           it was told or found out
    3.003 b,c < holder=a epoch=1                          nodes that say the same in the same moment
    share a line

Routine is left out: reads, refreshes, records that were merely renewed; with `quiet` also renewals
that succeed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from election import model
from election.actions import (
    Action,
    Announce,
    Bind,
    ForeignEdit,
    Notice,
    Probe,
    Read,
    Refresh,
    SetDeadline,
    Transition,
    Unbind,
    Waits,
    Write,
    WriteKind,
)
from election.events import (
    AddressClaimed,
    AddressLost,
    BindDone,
    Event,
    NamesakeSeen,
    ProbeDone,
    ReadDone,
    RivalSeen,
    Started,
    UnbindDone,
    WriteDone,
)
from election.machine.lease import sane
from election.machine.machine import Machine
from election.model import Record, State
from tests.sim.daemon import Daemon
from tests.sim.speech import say_answer, say_record

SAME_MOMENT = 1e-6
READ = "Read"


@dataclass(slots=True)
class Block:
    """What one or several nodes did at one moment."""

    at: float
    who: list[str]
    lines: list[str]

    def render(self) -> list[str]:
        """Return the lines: the first with time and names, the others under it."""
        time = f"{self.at:.3f} "
        first, *rest = self.lines
        return [f"{time}{','.join(sorted(self.who))} {first}"] + [
            " " * len(time) + line for line in rest
        ]


@dataclass(slots=True)
class Tale:
    """What the narrator has to remember of one life of a daemon.

    `pending` is the request under way (0: none), which counts as unknown from `gives_up_at` on, by
    the node's clock. `highest` is the highest (epoch, counter) that the node has seen, `counter`
    the highest that it has used itself.
    """

    highest: tuple[int, int]
    asked: dict[int, str] = field(default_factory=dict)
    pending: int = 0
    gives_up_at: float = 0.0
    given_up: set[int] = field(default_factory=set)
    in_trouble: bool = False
    written: Record | None = None
    counter: int = 0
    seen: str = "nothing"
    asks: bool = False


class Narrator:
    """Turns steps into blocks. `quiet` leaves out renewals that succeed; `mute` everything."""

    def __init__(self) -> None:
        self.quiet = self.mute = False
        self._blocks: list[Block] = []
        self._tales: dict[str, Tale] = {}

    def take(self) -> list[str]:
        """Return the lines since the last call."""
        blocks, self._blocks = self._blocks, []
        return [line for block in blocks for line in block.render()]

    def line(self, now: float, who: str, text: str) -> None:
        """Add something that happened outside of a machine."""
        self._add(now, who, [text])

    def step(
        self, now: float, daemon: Daemon, machine: Machine, event: Event, actions: Sequence[Action]
    ) -> None:
        """Add one step of a machine."""
        own_time = daemon.now
        tale = self._tales.setdefault(
            daemon.me.session,
            Tale(highest=(daemon.host.known.epochs.get(machine.settings.election, 0), 0)),
        )
        tale.counter = max(
            [
                tale.counter,
                *(
                    a.record.counter
                    for a in actions
                    if isinstance(a, Write) and a.kind is not WriteKind.CREATE
                ),
            ]
        )
        told = [
            *_outcome(tale, machine, event, own_time),
            *_told(event, now - own_time),
            *_observed(tale, machine, event, own_time),
        ]
        transitions = [
            line
            for action in actions
            if isinstance(action, Transition)
            for line in _done(action, now - own_time)
        ]
        transitions += _asking(tale, machine, own_time)
        done = []
        for action in actions:
            match action:
                case Read() | Write():
                    done += self._requested(tale, action, own_time)
                case Transition():
                    pass
                case _:
                    done += _done(action, now - own_time)
        if (
            self.quiet
            and not tale.in_trouble
            and not told
            and not transitions
            and _is_deadline_only(done)
        ):
            return
        if any(isinstance(action, SetDeadline) and action.deadline for action in actions):
            tale.in_trouble = False
        self._add(now, daemon.host.label, told + transitions + done)

    def _add(self, now: float, who: str, lines: list[str]) -> None:
        if self.mute or not lines:
            return
        for block in reversed(self._blocks):
            if now - block.at > SAME_MOMENT or who in block.who:
                break
            if block.lines == lines:
                block.who.append(who)
                return
        self._blocks.append(Block(now, [who], lines))

    def _requested(self, tale: Tale, request: Read | Write, now: float) -> list[str]:
        tale.pending, tale.gives_up_at = request.request, now + request.timeout
        if isinstance(request, Read):
            tale.asked[request.request] = READ
            return []
        kind, record = request.kind, request.record
        text = say_write(kind, record)
        if (
            kind is WriteKind.RENEW
            and tale.written is not None
            and tale.written.priority != record.priority
        ):
            text += f" priority={record.priority}"
        tale.asked[request.request] = text
        routine = _is_routine(tale, kind, record)
        tale.written = record
        return [] if routine and self.quiet else [f"> {text}"]


def _outcome(tale: Tale, machine: Machine, event: Event, now: float) -> Iterator[str]:
    """Say how the request under way ended, unless all is well.

    A machine may give up before anybody tells it to.
    """
    number, answer = (
        (event.request, event.answer) if isinstance(event, ReadDone | WriteDone) else (0, None)
    )
    if number in tale.given_up and not isinstance(answer, model.Unknown):
        tale.given_up.discard(number)
        if tale.asked[number] != READ:
            yield f"< answer to {tale.asked[number]}, which was given up: dropped"
    overdue = now >= tale.gives_up_at
    if not tale.pending or (number != tale.pending and not overdue):
        return
    asked, pending, tale.pending = tale.asked[tale.pending], tale.pending, 0
    if overdue:
        answer = model.Unknown("timeout")
    if isinstance(answer, model.Unknown):
        tale.given_up.add(pending)
        left = machine.snapshot(now).deadline - now
        first, tale.in_trouble = not tale.in_trouble, True
        if left > 0 or first:
            yield f"< {asked} unknown: {answer.why}" + (f" ({left:.3f} left)" if left > 0 else "")
    elif isinstance(answer, model.Conflict):
        tale.in_trouble = True
        yield f"< {asked} conflict"


def say_write(kind: WriteKind, record: Record) -> str:
    """Say what a write is for, with what decides in it."""
    said = say_record(record, usual=frozenset({record.session, *_session(record)}))
    _, _, rest = said.partition(" ")
    return f"{kind.capitalize()} {rest}"


def _session(record: Record) -> set[str]:
    return {record.successor.session} if record.successor else set()


def _is_routine(tale: Tale, kind: WriteKind, record: Record) -> bool:
    before = tale.written
    if kind is not WriteKind.RENEW or before is None or tale.in_trouble:
        return False
    return replace(record, counter=0, renew_time="") == replace(before, counter=0, renew_time="")


def _is_deadline_only(lines: list[str]) -> bool:
    return all(line.startswith("> Guard until=") for line in lines)


def _told(event: Event, shift: float) -> Iterator[str]:
    """Say what happened; `shift` turns the node's seconds into true ones."""
    match event:
        case Started(inherited=inherited) if inherited:
            yield f"< Started, with the right of its former self until {inherited + shift:.3f}"
        case ProbeDone(mac):
            yield f"< Probe answered by {mac}" if mac else "< Probe: silence"
        case RivalSeen():
            yield "< frame for the address from another node"
        case BindDone(ok=False, why=why):
            yield f"< Bind refused: {why}" if why else "< Bind came too late for its lifetime"
        case UnbindDone(ok=False):
            yield "< Unbind not confirmed"
        case AddressLost():
            yield "< the address is gone from the interface"
        case AddressClaimed(by):
            yield (
                f"< the election {by} holds the address"
                if by
                else "< no other election holds the address any more"
            )
        case NamesakeSeen(present):
            yield (
                "< another live daemon has this name"
                if present
                else "< no other daemon has this name any more"
            )


def _observed(tale: Tale, machine: Machine, event: Event, now: float) -> Iterator[str]:
    """Say what the node now knows of the record, if it tells more than a renewal and is not its own
    writing.
    """
    record = machine.snapshot(now).record
    if record is not None:
        age = (record.epoch, record.counter)
        older, tale.highest = age < tale.highest, max(age, tale.highest)
        text = say_record(
            replace(record, counter=0, bound=False), usual=_sessions(machine, record)
        ).replace(" counter=0", "")
        lease = record.lease_duration / 1000
        text += "" if lease == machine.settings.timing.lease_duration else f" lease={lease:g}s"
        text += " (older than one already seen)" if older else ""
        mine = record.held_by(machine.me) or (
            record.released and record.session == machine.me.session
        )
        own = mine and not older and 0 < record.counter <= tale.counter
    elif isinstance(event, ReadDone) and not isinstance(event.answer, model.Unknown):
        text, own = f"record {say_answer(sane(event.answer))}", False
    else:
        return
    changed, tale.seen = text != tale.seen, text
    if changed and not own:
        # What an Active node has to put right is no routine.
        tale.in_trouble = tale.in_trouble or machine.state is State.ACTIVE
        yield f"< {text}"


def _sessions(machine: Machine, record: Record) -> frozenset[str]:
    """Return the sessions that the record's names tell already: all but a namesake's."""
    strange = record.holder == machine.me.name and record.session != machine.me.session
    return frozenset(_session(record) | (set() if strange else {record.session}))


def _asking(tale: Tale, machine: Machine, now: float) -> Iterator[str]:
    asks = machine.candidacy(now).asks and machine.state is State.BACKUP
    if asks and not tale.asks:
        yield f"asks for the address: priority {machine.candidacy(now).priority}"
    tale.asks = asks


def _done(action: Action, shift: float) -> Iterator[str]:
    match action:
        case Transition(before, after, reason, epoch, detail):
            said = (
                f"{before.name.capitalize()} -> {after.name.capitalize()} "
                f"({reason}{', ' + detail if detail else ''})"
            )
            yield said + (f" epoch={epoch}" if after is State.ACTIVE else "")
        case SetDeadline(deadline):
            yield f"> Guard until={deadline + shift:.3f}" if deadline else "> Guard closed"
        case Bind(repair=repair):
            yield "> Bind" + (" again" if repair else "")
        case Unbind():
            yield "> Unbind"
        case Announce():
            yield "> Announce"
        case Refresh(shrink=True):
            yield "> Lifetime 1 s"
        case Probe():
            yield "> Probe: does anybody answer for the address?"
        case _:
            yield from _sentences(action, shift)


def _sentences(action: Action, shift: float) -> Iterator[str]:
    match action:
        case Notice(text):
            yield f"> Notice: {text}"
        case Waits(until, why):
            yield f"> Waits{f' until={until + shift:.3f}' if until < math.inf else ''}: {why}"
        case ForeignEdit(what):
            yield f"> Somebody else changed the record: {what}"
