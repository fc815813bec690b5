"""`vipd status` for people: the node in three lines, then each instance with the whole group."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from vipd.clock import duration
from vipd.control.status import Address, Candidate, Check, Fence, Instance, Status, Store
from vipd.observe.log_line import printable
from vipd.observe.store_health import WORDS

RED, GREEN, YELLOW, BOLD, FAINT = "31", "32", "33", "1", "2"
STATE_COLOURS = {"Active": GREEN, "Backup": "36", "Fault": RED, "Initialize": YELLOW}
FEW = 3
"""Up to so many instances are shown whole; more are a table, since 20 of them would be 200
lines."""
NOT_REACHABLE = "NOT REACHABLE"
OUTAGES = {str(kind): words.upper() for kind, words in WORDS.items()}
"""By `outage_kind`; a kind of another version's is NOT_REACHABLE."""


class Paint:
    """Puts colours around words, or leaves them alone."""

    def __init__(self, *, colour: bool) -> None:
        self._colour = colour

    def __call__(self, text: str, code: str) -> str:
        """Return the text in a colour, with everything unprintable in it shown as an escape."""
        return f"\x1b[{code}m{printable(text)}\x1b[0m" if self._colour else printable(text)


def render(document: Status, *, colour: bool = False, width: int = 0, whole: bool = False) -> str:
    """Return the view: everything about each instance, or where there are many (and not `whole`) a
    line each.

    `width` in columns folds long lines; 0: it does not.
    """
    paint = Paint(colour=colour)
    lines = [*_node(document, paint)]
    if whole or len(document.instances) <= FEW:
        for instance in document.instances:
            lines += ["", *_instance(instance, document.node, paint)]
    else:
        lines += ["", *_table(document.instances, paint)]
    return "\n".join(part for line in lines for part in (folded(line, width) if width else [line]))


def _table(instances: Sequence[Instance], paint: Paint) -> Iterable[str]:
    """Yield a line for each instance, then what an operator should read of any of them."""
    rows = [("INSTANCE", "STATE", "FOR", "HOLDER", "PRIORITY", "ADDRESS")]
    for one in instances:
        more = f" +{len(one.addresses) - 1}" if len(one.addresses) > 1 else ""
        address = one.addresses[0].address.partition("/")[0] + more if one.addresses else ""
        holder = one.holder.name if one.holder else "nobody"
        rows.append(
            (one.name, one.state, duration(one.since), holder, str(one.effective_priority), address)
        )
    for index, cells in enumerate(aligned(rows)):
        name, state, *rest = cells
        if index == 0:
            yield paint("  ".join(cells).rstrip(), BOLD)
            continue
        yield (
            f"{name}  {paint(state, STATE_COLOURS.get(rows[index][1], BOLD))}  {'  '.join(rest)}"
        ).rstrip()
    notes = [f"{one.name}: {note}" for one in instances for note in (*_wrong(one), *one.notes)]
    if notes:
        yield ""
    yield from (paint(f"  ! {note}", YELLOW) for note in notes)
    yield paint(
        f"`vipd status {printable(instances[0].name)}` shows all about one, `vipd status -v` "
        "about each",
        FAINT,
    )


def _wrong(instance: Instance) -> Iterable[str]:
    """Yield what is wrong with an instance beside its notes.

    Its addresses, or why it is in Fault.
    """
    if instance.state == "Fault":
        yield f"Fault ({instance.reason})" + (f": {instance.detail}" if instance.detail else "")
    for address in instance.addresses:
        if address.bound != (instance.state == "Active"):
            yield (
                f"{address.address} is {'bound' if address.bound else 'not bound'} though this "
                f"node is {instance.state}"
            )


def _node(document: Status, paint: Paint) -> Iterable[str]:
    drained = ""
    if document.drained:
        drained = paint("  DRAINED: takes part in no election until `vipd resume`", YELLOW)
    up = f", up {duration(document.uptime)}" if document.uptime else ""
    yield (
        f"node   {paint(document.node, BOLD)}  vipd {printable(document.version)}{up}, session "
        f"{printable(document.session)}{drained}"
    )
    if document.config.refused:
        yield paint(
            f"  ! the file on disk was refused at {document.config.refused_at}; that of "
            f"{document.config.loaded} runs:",
            RED,
        )
        yield paint(f"    {document.config.refused}", RED)
    yield f"store  {_store(document.store, paint)}"
    if document.store.reaction:
        yield f"       {printable(document.store.reaction)}"
    if document.store.watch:
        since = (
            ""
            if document.store.watch_since is None
            else f" for {duration(document.store.watch_since)}"
        )
        yield paint(f"  ! the watch is lost{since}: {document.store.watch}", YELLOW)
    yield from _fence(document.fence, paint)


def _fence(fence: Fence, paint: Paint) -> Iterable[str]:
    layers = "guard and gate" if fence.gate else "guard, no gate"
    named = paint(layers, GREEN) if fence.guard else paint("no guard", RED)
    yield f"fence  {named}" + (f": {printable(fence.covers)}" if fence.covers else "")
    if fence.gate and fence.on:
        yield f"       on {printable(', '.join(fence.on))}"
    if fence.gate and fence.left_alone:
        alone = f"not on {printable(fence.left_alone)}, taken for containers'"
        yield f"       {alone}: if one leads to the LAN, set its arp_ignore to 1"
    for note in fence.before:
        yield paint(f"  ! {note}", YELLOW)
    if times := fence.put_back:
        often = f"{times} time{'s' if times > 1 else ''}"
        yield paint(f"  ! somebody took the gate away {often}; it was put back", YELLOW)


def _store(store: Store, paint: Paint) -> str:
    age = (
        "never answered"
        if store.last_success_age is None
        else f"last answer {duration(store.last_success_age)} ago"
    )
    if not store.outage:
        word = paint("reachable", GREEN) if store.reachable else paint(NOT_REACHABLE, RED)
        return f"{printable(store.kind)} {word}, {age}"
    word = paint(OUTAGES.get(store.outage_kind, NOT_REACHABLE), RED)
    since = "" if store.outage_since is None else f" for {duration(store.outage_since)}"
    return f"{printable(store.kind)} {word}{since}, {age}: {printable(store.outage)}"


def _instance(instance: Instance, node: str, paint: Paint) -> Iterable[str]:
    state = paint(instance.state, STATE_COLOURS.get(instance.state, BOLD))
    group = f" of the group {printable(instance.group)}" if instance.group else ""
    yield (
        f"{paint(instance.name, BOLD)}{group}  {state} for {duration(instance.since)} "
        f"({printable(instance.reason)})"
    )
    if instance.detail:
        yield f"  {printable(instance.detail)}"
    addresses = ", ".join(_address(address, instance, paint) for address in instance.addresses)
    yield f"  address   {addresses} on {printable(instance.interface)}"
    yield f"  holder    {_holder(instance, node, paint)}"
    yield f"  priority  {_priority(instance)}"
    yield from _checks(instance.checks, paint)
    yield from _candidates(instance, node, paint)
    for note in instance.notes:
        yield paint(f"  ! {note}", YELLOW)


def _address(address: Address, instance: Instance, paint: Paint) -> str:
    """Return the address.

    Bound while not Active, or the other way round, is what an operator must not overlook.
    """
    word = "bound" if address.bound else "not bound"
    wrong = address.bound != (instance.state == "Active")
    return f"{printable(address.address)} {paint(word, RED) if wrong else word}"


def _holder(instance: Instance, node: str, paint: Paint) -> str:
    if instance.holder is None:
        return paint("nobody", RED) + f", epoch {instance.epoch}"
    name = printable(instance.holder.name) + (
        " (this node)" if instance.holder.name == node else ""
    )
    since = f" since {printable(instance.holder.since)}" if instance.holder.since else ""
    remaining = (
        ""
        if instance.lease_remaining is None
        else f", lease ends in {max(instance.lease_remaining, 0):.1f}s unless renewed"
    )
    return f"{name}{since}, epoch {instance.epoch}{remaining}"


def _priority(instance: Instance) -> str:
    effective = instance.effective_priority
    configured = (
        ""
        if effective == instance.priority
        else f" (configured {instance.priority}, the rest comes from checks)"
    )
    pin = (
        f", pinned to {printable(instance.pin)} until `vipd handover "
        f"{printable(instance.name)} --auto`"
        if instance.pin
        else ""
    )
    return f"{effective}{configured}, {'preempts' if instance.preempt else 'does not preempt'}{pin}"


def _checks(checks: Sequence[Check], paint: Paint) -> Iterable[str]:
    rows = [
        (check.name, check.kind, _verdict(check), duration(check.since), check.detail)
        for check in checks
    ]
    colours = {"ok": GREEN, "FAILS": RED, "undecided": YELLOW}
    for index, cells in enumerate(aligned(rows)):
        word = rows[index][2]
        name, kind, verdict, since, detail = cells
        label = "checks" if index == 0 else ""
        padding = verdict[len(word) :]
        yield (
            f"  {label:8}  {name}  {kind}  {paint(word, colours[word])}{padding}  {since}  {detail}"
        ).rstrip()


def _verdict(check: Check) -> str:
    return "undecided" if check.ok is None else "ok" if check.ok else "FAILS"


def _candidates(instance: Instance, node: str, paint: Paint) -> Iterable[str]:
    rows = [
        (candidate.name, candidate.state or "?", str(candidate.priority), _remark(candidate, node))
        for candidate in instance.candidates
    ]
    for index, (name, state, priority, remark) in enumerate(aligned(rows)):
        label = "group" if index == 0 else ""
        candidate = instance.candidates[index]
        line = f"{name}  {state}  {priority}  {remark}".rstrip()
        yield f"  {label:8}  " + (
            line if candidate.live and candidate.eligible else paint(line, FAINT)
        )


def _remark(candidate: Candidate, node: str) -> str:
    remarks = ["this node"] if candidate.name == node else []
    if not candidate.live:
        remarks.append("not seen lately")
    elif not candidate.eligible:
        remarks.append("not fit")
    if candidate.asks:
        remarks.append("asks for the address")
    return ", ".join(remarks)


def aligned(rows: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Return the rows, cleaned and padded so that their columns stand below each other."""
    cleaned = [tuple(map(printable, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*cleaned, strict=True)]
    return [
        tuple(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cleaned
    ]


def folded(line: str, width: int) -> list[str]:
    """Return the line in parts of at most this many columns, broken between words where there are
    some; later ones are indented.

    Escapes for colours take no column, and each part ends the colour that it begins.
    """
    text = plain(line)
    if len(text) <= width:
        return [line]
    indent = min(_indentation(text), width // 2)
    colours = _colours(line)
    parts, start, room = [], 0, width
    while len(text) - start > room:
        space = text.rfind(" ", start + 1, start + room + 1)
        end = space if text[start:space].strip() and space > start else start + room
        parts.append((start, end))
        start, room = end + (end == space), width - indent
    return [
        (" " * indent if number else "") + _painted(text[start:end], colours[start:end])
        for number, (start, end) in enumerate([*parts, (start, len(text))])
    ]


def _colours(line: str) -> list[str]:
    """Return the escape that is in force at each character of the plain line; empty: none."""
    found, current = [], ""
    for index, part in enumerate(line.split("\x1b[")):
        code, mark, text = part.partition("m") if index else ("", "", part)
        if mark:
            current = "" if code == "0" else f"\x1b[{code}m"
        found += [current] * len(text)
    return found


def _painted(text: str, colours: Sequence[str]) -> str:
    runs = itertools.groupby(zip(text, colours, strict=True), key=lambda pair: pair[1])
    pieces = ((colour, "".join(character for character, _ in run)) for colour, run in runs)
    return "".join(f"{colour}{piece}\x1b[0m" if colour else piece for colour, piece in pieces)


def _indentation(text: str) -> int:
    """Return the column at which the text of a line begins, behind its label."""
    for start, column in (
        ("  ! ", 4),
        ("  ", 12),
        ("node ", 7),
        ("store ", 7),
        ("fence ", 7),
        (" ", 7),
    ):
        if text.startswith(start):
            return column
    return 2


def plain(line: str) -> str:
    """Return the line without escapes for colours."""
    parts = line.split("\x1b[")
    return parts[0] + "".join(part.partition("m")[2] for part in parts[1:])
