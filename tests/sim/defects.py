"""Defects planted on purpose: each is a patch to the election, and the kind of trouble in which it must be caught."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Patch:
    """Replace `old`, which must occur exactly once in the module, by `new`. Both begin with the indentation of a first line."""

    module: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Defect:
    """One mistake that somebody could make. `theme` is where it shows, `seeds` how many seeds that takes at most."""

    name: str
    theme: str
    patches: tuple[Patch, ...]
    seeds: int = 60


READ = """
        s.desk.unread, s.desk.read_at = False, now
        self._digest.take_in(now, answer)
"""
LEASE_OUT = """
        return self.changed_at + self._lease
"""
LONGEST_OUT = """
            return self.changed_at + self.longest
"""
NAME = """
        self._promise(now, counter, now + HANDOVER_TIMEOUT)
"""
SEND_NAME = """
        self._send(now, WriteKind.NAME, records.named(record, counter, handover.successor, handover.pin))
"""
TELL = """
        s.out.append(SetDeadline(s.right.deadline))
"""
BIND = """
        s.out.append(Bind(taking.epoch, s.right.deadline, s.lease))
"""
ANNOUNCE = """
        s.out.append(Announce(taking.epoch))
"""


def joined(*lines: str) -> str:
    """Return the pieces as one."""
    return "\n" + "".join(line.removeprefix("\n") for line in lines)


DEFECTS = (
    # ------------------------------------------------------------ until when the right lasts
    Defect(
        "stamp at the reply instead of the send",
        "slow answers",
        (
            Patch(
                "digest",
                """
            if s.right.confirm(record.counter):
""",
                """
            if s.right.confirm(record.counter):
                from election.timing import right_ends
                s.right.deadline = right_ends(now, s.lease)
""",
            ),
        ),
    ),
    Defect(
        "a read-back gives a right from its own time",
        "slow answers",
        (
            Patch(
                "answers",
                READ,
                joined(
                    READ,
                    """
        if s.state is State.ACTIVE and s.seen.record and s.seen.record.held_by(s.me):
            from election.actions import SetDeadline
            from election.timing import right_ends
            s.right.deadline = right_ends(now, s.lease)
            s.out.append(SetDeadline(s.right.deadline))
""",
                ),
            ),
        ),
    ),
    Defect(
        "skip the fence margin",
        "drift",
        (
            Patch(
                "timing",
                """
    return sent_at + lease_duration - fence_margin(lease_duration)
""",
                """
    return sent_at + lease_duration
""",
            ),
        ),
    ),
    Defect(
        "read an unknown answer as applied",
        "lost requests",
        (
            Patch(
                "answers",
                """
            case Unknown():
                self._on_unknown(now, request)
            case Conflict():
""",
                """
            case Unknown():
                self._digest.take_in(now, Found(request.write.record, "?"))
            case Conflict():
""",
            ),
        ),
    ),
    Defect(
        "use a counter value twice",
        "lost requests",
        (
            Patch(
                "right",
                """
        self._last_counter = max(self._last_counter, seen) + 1
""",
                """
        self._last_counter = seen + 1
""",
            ),
        ),
    ),
    Defect(
        "take a late answer for that to the present request",
        "late answers",
        (
            Patch(
                "desk",
                """
        if request is None or request.number != number:
""",
                """
        if request is None:
""",
            ),
        ),
    ),
    Defect(
        "a late answer binds again what was left",
        "late answers",
        (
            # The answer to a request that was given up is taken, and a right outlives the unbind.
            Patch(
                "answers",
                """
        request = s.desk.answered(number)
        if request is None or request.write is None:
            return
""",
                """
        request = s.desk.answered(number)
        if request is None and isinstance(answer, Applied) and s.mine is not None and s.state is not State.ACTIVE:
            from election.situation import Taking
            from election.timing import right_ends
            s.right.deadline = right_ends(now, s.lease)
            self._digest._hold.acquired(now, Taking(s.mine.epoch, s.reason))
        if request is None or request.write is None:
            return
""",
            ),
        ),
        200,
    ),
    # ------------------------------------------------------------ from when on others may take it
    Defect(
        "a record counts as observed when it was asked for",
        "slow reads",
        (
            Patch(
                "answers",
                READ,
                """
        s.desk.unread, s.desk.read_at = False, now
        self._digest.take_in(request.sent_at, answer)
""",
            ),
        ),
    ),
    Defect(
        "wait the configured lease_duration instead of the written one",
        "mixed leases",
        (
            Patch(
                "observation",
                LEASE_OUT,
                """
        return self.changed_at + self._own_lease
""",
            ),
        ),
    ),
    Defect(
        "wait one's own lease for a record that says nothing",
        "mixed absences",
        (
            Patch(
                "observation",
                LONGEST_OUT,
                """
            return self.changed_at + self._own_lease
""",
            ),
        ),
    ),
    Defect(
        "trust the wall-clock renew time",
        "lost requests",
        (
            Patch(
                "observation",
                LEASE_OUT,
                """
        return float(record.renew_time) + self._lease
""",
            ),
        ),
    ),
    Defect(
        "take an absent record at once",
        "absences",
        (
            Patch(
                "observation",
                LONGEST_OUT,
                """
            return self.changed_at
""",
            ),
            Patch(
                "observation",
                """
            return self.changed_at + max(self.longest, self._lease)
""",
                """
            return self.changed_at
""",
            ),
        ),
    ),
    Defect(
        "an absence seen twice taken for one",
        "absences",
        (
            Patch(
                "due",
                """
    if isinstance(seen.content, Absent):
        return Due(0.0, Errand.CREATE)
""",
                """
""",
            ),
        ),
    ),
    Defect(
        "count a foreign edit as a renewal",
        "touched for ever",
        (
            Patch(
                "observation",
                """
            case Found(record=r):
                return (r.uid,""",
                """
            case Found(record=r, revision=v):
                return (v, r.uid,""",
            ),
        ),
    ),
    Defect(
        "take an emptied holder for a release",
        "emptied",
        (
            Patch(
                "model",
                """
        return not self.holder and self.release == Release(self.session, self.epoch)
""",
                """
        return not self.holder
""",
            ),
        ),
    ),
    # ------------------------------------------------------------ who it is
    Defect(
        "ignore the session",
        "namesakes",
        (
            Patch(
                "model",
                """
        return self.holder == identity.name and self.session == identity.session
""",
                """
        return self.holder == identity.name
""",
            ),
            Patch(
                "situation",
                """
        return record.session in self.former and not self.seen.older
""",
                """
        return not self.seen.older
""",
            ),
        ),
    ),
    Defect(
        "acquire at the same epoch",
        "lost requests",
        (
            Patch(
                "observation",
                """
        return max(seen, self.highest[0], self.epoch_floor) + 1
""",
                """
        return max(seen, self.highest[0], self.epoch_floor, 1)
""",
            ),
        ),
    ),
    Defect(
        "count a full lease for what a former daemon left",
        "crashes in the dark",
        (
            Patch(
                "hold",
                """
            s.right.inherit(event.inherited)
""",
                """
            from election.timing import right_ends
            s.right.inherit(right_ends(now, s.lease))
            s.out.append(SetDeadline(s.right.deadline))
""",
            ),
        ),
    ),
    # ------------------------------------------------------------ in which order
    Defect(
        "release before the unbind",
        "planned",
        (
            Patch(
                "machine",
                """
            self._hold.retire(now)
""",
                """
            self._requests._release(now)
            self._hold.retire(now)
""",
            ),
        ),
    ),
    Defect(
        "release before the unbind is confirmed",
        "stuck unbinds",
        (
            Patch(
                "due",
                """
    if s.kernel is Kernel.LEAVING:
        return Due(NEVER, Errand.READ)
    if s.is_mine and s.kernel is Kernel.CLEAR and (""",
                """
    if s.is_mine and (""",
            ),
        ),
    ),
    Defect(
        "bind before the lease is taken",
        "lost requests",
        (
            Patch(
                "requests",
                """
        self._send(now, WriteKind.TAKE, record)
""",
                """
        self._send(now, WriteKind.TAKE, record)
        from election.hold import Hold
        s.right.deadline = right_ends(now, s.lease)
        s.mine = record
        Hold(s).acquired(now, s.taking)
""",
            ),
        ),
    ),
    Defect(
        "no second look after a refresh or bind",
        "paused calls",
        (
            Patch(
                "lateness",
                """
    return now >= deadline
""",
                """
    return False
""",
            ),
        ),
    ),
    Defect("tell the guard after the bind", "planned", (Patch("hold", joined(TELL, BIND), joined(BIND, TELL)),)),
    Defect("announce before the bind", "planned", (Patch("hold", joined(BIND, ANNOUNCE), joined(ANNOUNCE, BIND)),)),
    # ------------------------------------------------------------ planned moves
    Defect(
        "trust a strike-out that is not confirmed",
        "silent successors",
        (
            Patch(
                "requests",
                """
        self._renew(now, WriteKind.STRIKE)
""",
                """
        self._renew(now, WriteKind.STRIKE)
        self._s.right.deadline = right_ends(now, self._s.lease)
        self._s.out.append(SetDeadline(self._s.right.deadline))
""",
            ),
        ),
    ),
    Defect(
        "name a successor without lowering the deadline",
        "broken moves",
        (
            Patch(
                "requests",
                NAME,
                """
        self._promise(now, counter, right_ends(now, s.lease))
""",
            ),
        ),
    ),
    Defect(
        "lower the deadline without telling guard and gate",
        "broken moves",
        (
            Patch(
                "requests",
                """
        if s.right.attempt(counter, ends_at):
            s.out.append(SetDeadline(s.right.deadline))
""",
                """
        if s.right.attempt(counter, ends_at):
""",
            ),
        ),
    ),
    Defect(
        "lower the deadline after the naming was sent",
        "planned",
        (Patch("requests", joined(NAME, SEND_NAME), joined(SEND_NAME, NAME)),),
    ),
    Defect(
        "leave the lifetimes long in a handover", "killed moves", (Patch("requests", "shrink=s.handover is not None)", "shrink=False)"),)
    ),
    Defect(
        "hand on at once what was just taken as a successor",
        "chained moves",
        (
            Patch(
                "timing",
                """
SUCCESSOR_HOLDOFF = 0.510
""",
                """
SUCCESSOR_HOLDOFF = 0.0
""",
            ),
        ),
    ),
    Defect(
        "put the own record back though a successor may have taken it",
        "deleted moves",
        (
            Patch(
                "digest",
                """
        if s.handover is not None and (record is None or""",
                """
        if s.handover is not None and False and (record is None or""",
            ),
        ),
    ),
    # ------------------------------------------------------------ the guard
    Defect(
        "the guard removes before it kills",
        "thaws",
        (
            Patch(
                "fencing",
                """
    return view.life is Life.NONE or not slot.armed or _beyond_return(now, view)
""",
                """
    return True
""",
            ),
            Patch(
                "fencing",
                """
        actions += [Kill(why) for at, why in _offences(view) if now >= at][:1]
    actions += _care(now, view)
""",
                """
        actions += _care(now, view)
        actions += [Kill(why) for at, why in _offences(view) if now >= at][:1]
""",
            ),
            Patch("fencing", "close=view.life is Life.NONE or not slot.armed)", "close=True)"),
        ),
    ),
    Defect(
        "the guard ignores deadlines after a suspend",
        "thaws",
        (
            Patch(
                "fencing",
                """
    found = [(slot.deadline, Why.DEADLINE)""",
                """
    found = [(max(slot.deadline, view.late_at + patience(view)), Why.DEADLINE)""",
            ),
        ),
    ),
    Defect(
        "the guard leaves a dead daemon's addresses",
        "crash after crash",
        (
            Patch(
                "fencing",
                """
    removals: list[GuardAction] = [
""",
                """
    removals: list[GuardAction] = [] if view.life is Life.NONE else [
""",
            ),
        ),
    ),
)
