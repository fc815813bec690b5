"""`vipd status` for people: the node in three lines, then each instance with the whole group."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vipd.outages import WORDS
from vipd.status import Address, Candidate, Check, Instance, Status, Store

RED, GREEN, YELLOW, BOLD, FAINT = "31", "32", "33", "1", "2"
STATE_COLOURS = {"Active": GREEN, "Backup": "36", "Fault": RED, "Initialize": YELLOW}
NOT_REACHABLE = "NOT REACHABLE"
OUTAGES = {str(kind): words.upper() for kind, words in WORDS.items()}
"""By `outage_kind`; a kind of another version's is NOT_REACHABLE."""
MINUTE, HOUR, DAY = 60, 3600, 86400


class Paint:
    """Puts colours around words, or leaves them alone."""

    def __init__(self, *, colour: bool) -> None:
        self._colour = colour

    def __call__(self, text: str, code: str) -> str:
        """Return the text in a colour, with everything unprintable in it shown as an escape."""
        return f"\x1b[{code}m{clean(text)}\x1b[0m" if self._colour else clean(text)


def clean(text: str) -> str:
    """Return text from a store, a check or another node without anything that would drive the terminal."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def render(document: Status, *, colour: bool = False, width: int = 0) -> str:
    """Return the whole view. `width` in columns cuts long lines, 0: it does not."""
    paint = Paint(colour=colour)
    lines = [*_node(document, paint)]
    for instance in document.instances:
        lines += ["", *_instance(instance, document.node, paint)]
    return "\n".join(cut(line, width) if width else line for line in lines)


def _node(document: Status, paint: Paint) -> Iterable[str]:
    drained = paint("  DRAINED: takes part in no election until `vipd resume`", YELLOW) if document.drained else ""
    up = f", up {duration(document.uptime)}" if document.uptime else ""
    yield f"node   {paint(document.node, BOLD)}  vipd {clean(document.version)}{up}, session {clean(document.session)}{drained}"
    if document.config.refused:
        yield paint(f"  ! the file on disk was refused at {document.config.refused_at}; that of {document.config.loaded} runs:", RED)
        yield paint(f"    {document.config.refused}", RED)
    yield f"store  {_store(document.store, paint)}"
    if document.store.reaction:
        yield f"       {clean(document.store.reaction)}"
    if document.store.watch:
        since = "" if document.store.watch_since is None else f" for {duration(document.store.watch_since)}"
        yield paint(f"  ! the watch is lost{since}: {document.store.watch}", YELLOW)
    fence = "guard and gate" if document.fence.gate else "guard, no gate"
    named = paint(fence, GREEN) if document.fence.guard else paint("no guard", RED)
    yield f"fence  {named}: {clean(document.fence.covers)}" if document.fence.covers else f"fence  {named}"
    if document.fence.gate and document.fence.on:
        yield f"       on {clean(', '.join(document.fence.on))}"
    if document.fence.gate and document.fence.left_alone:
        yield f"       not on {clean(document.fence.left_alone)}, taken for containers': if one leads to the LAN, set its arp_ignore to 1"
    times = document.fence.put_back
    taken = [f"somebody took the gate away {times} time{'s' if times > 1 else ''}; it was put back"] if times else []
    for note in (*document.fence.before, *taken):
        yield paint(f"  ! {note}", YELLOW)


def _store(store: Store, paint: Paint) -> str:
    age = "never answered" if store.last_success_age is None else f"last answer {duration(store.last_success_age)} ago"
    if not store.outage:
        word = paint("reachable", GREEN) if store.reachable else paint(NOT_REACHABLE, RED)
        return f"{clean(store.kind)} {word}, {age}"
    word = paint(OUTAGES.get(store.outage_kind, NOT_REACHABLE), RED)
    since = "" if store.outage_since is None else f" for {duration(store.outage_since)}"
    return f"{clean(store.kind)} {word}{since}, {age}: {clean(store.outage)}"


def _instance(instance: Instance, node: str, paint: Paint) -> Iterable[str]:
    state = paint(instance.state, STATE_COLOURS.get(instance.state, BOLD))
    group = f" of the group {clean(instance.group)}" if instance.group else ""
    yield f"{paint(instance.name, BOLD)}{group}  {state} for {duration(instance.since)} ({clean(instance.reason)})"
    if instance.detail:
        yield f"  {clean(instance.detail)}"
    addresses = ", ".join(_address(address, instance, paint) for address in instance.addresses)
    yield f"  address   {addresses} on {clean(instance.interface)}"
    yield f"  holder    {_holder(instance, node, paint)}"
    yield f"  priority  {_priority(instance)}"
    yield from _checks(instance.checks, paint)
    yield from _candidates(instance, node, paint)
    for note in instance.notes:
        yield paint(f"  ! {note}", YELLOW)


def _address(address: Address, instance: Instance, paint: Paint) -> str:
    """Return the address; bound while not Active, or the other way round, is what an operator must not overlook."""
    word = "bound" if address.bound else "not bound"
    wrong = address.bound != (instance.state == "Active")
    return f"{clean(address.address)} {paint(word, RED) if wrong else word}"


def _holder(instance: Instance, node: str, paint: Paint) -> str:
    if instance.holder is None:
        return paint("nobody", RED) + f", epoch {instance.epoch}"
    name = clean(instance.holder.name) + (" (this node)" if instance.holder.name == node else "")
    since = f" since {clean(instance.holder.since)}" if instance.holder.since else ""
    remaining = "" if instance.lease_remaining is None else f", lease ends in {max(instance.lease_remaining, 0):.1f}s unless renewed"
    return f"{name}{since}, epoch {instance.epoch}{remaining}"


def _priority(instance: Instance) -> str:
    effective = instance.effective_priority
    configured = "" if effective == instance.priority else f" (configured {instance.priority}, the rest comes from checks)"
    pin = f", pinned to {clean(instance.pin)} until `vipd handover {clean(instance.name)} --auto`" if instance.pin else ""
    return f"{effective}{configured}, {'preempts' if instance.preempt else 'does not preempt'}{pin}"


def _checks(checks: Sequence[Check], paint: Paint) -> Iterable[str]:
    rows = [(check.name, check.kind, _verdict(check), duration(check.since), check.detail) for check in checks]
    colours = {"ok": GREEN, "FAILS": RED, "undecided": YELLOW}
    for index, cells in enumerate(aligned(rows)):
        word = rows[index][2]
        name, kind, verdict, since, detail = cells
        label = "checks" if index == 0 else ""
        padding = verdict[len(word) :]
        yield f"  {label:8}  {name}  {kind}  {paint(word, colours[word])}{padding}  {since}  {detail}".rstrip()


def _verdict(check: Check) -> str:
    return "undecided" if check.ok is None else "ok" if check.ok else "FAILS"


def _candidates(instance: Instance, node: str, paint: Paint) -> Iterable[str]:
    rows = [
        (candidate.name, candidate.state or "?", str(candidate.priority), _remark(candidate, node)) for candidate in instance.candidates
    ]
    for index, (name, state, priority, remark) in enumerate(aligned(rows)):
        label = "group" if index == 0 else ""
        candidate = instance.candidates[index]
        line = f"{name}  {state}  {priority}  {remark}".rstrip()
        yield f"  {label:8}  " + (line if candidate.live and candidate.eligible else paint(line, FAINT))


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
    cleaned = [tuple(map(clean, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*cleaned, strict=True)]
    return [tuple(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cleaned]


def duration(seconds: float) -> str:
    """Return a time span as people say it: 0.4s, 12s, 3m 20s, 5h 2m, 3d 4h."""
    if seconds < 10:  # noqa: PLR2004 - one digit and its tenth
        return f"{max(seconds, 0):.1f}s"
    whole = int(seconds)
    if whole < MINUTE:
        return f"{whole}s"
    if whole < HOUR:
        return f"{whole // MINUTE}m {whole % MINUTE}s"
    if whole < DAY:
        return f"{whole // HOUR}h {whole % HOUR // MINUTE}m"
    return f"{whole // DAY}d {whole % DAY // HOUR}h"


def cut(line: str, width: int) -> str:
    """Return the line within this many columns; escapes for colours take none, and the last one stays."""
    out, column, index = [], 0, 0
    while index < len(line):
        if line[index] == "\x1b":
            end = line.index("m", index) + 1
            out.append(line[index:end])
            index = end
            continue
        column += 1
        if column <= width:
            out.append("…" if column == width and len(plain(line)) > width else line[index])
        index += 1
    return "".join(out)


def plain(line: str) -> str:
    """Return the line without escapes for colours."""
    parts = line.split("\x1b[")
    return parts[0] + "".join(part.partition("m")[2] for part in parts[1:])
