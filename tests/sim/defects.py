"""Defects planted on purpose: each is a patch to the election, and the kind of trouble in which it must be caught."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Patch:
    """Replace `old`, which must occur exactly once in the file, by `new`."""

    file: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Defect:
    """One mistake that somebody could make. `theme` is where it shows, `seeds` how many seeds that takes at most."""

    name: str
    theme: str
    patches: tuple[Patch, ...]
    seeds: int = 60


def machine(old: str, new: str) -> Patch:
    """Patch the machine."""
    return Patch("machine.py", old, new)


DEFECTS = (
    Defect(
        "stamp at the reply instead of the send",
        "slow answers",
        (
            machine(
                "            if self._right.confirm(record.counter):\n",
                "            if self._right.confirm(record.counter):\n                self._right.deadline = right_ends(now, self._lease)\n",
            ),
        ),
    ),
    Defect(
        "a read-back gives a right from its own time",
        "slow answers",
        (
            machine(
                "        self._desk.unread, self._desk.read_at = False, now\n        self._digest(now, answer)\n",
                "        self._desk.unread, self._desk.read_at = False, now\n        self._digest(now, answer)\n"
                "        if self.state is State.ACTIVE and self._seen.record and self._seen.record.held_by(self.me):\n"
                "            self._right.deadline = right_ends(now, self._lease)\n"
                "            self._out.append(model.SetDeadline(self._right.deadline))\n",
            ),
        ),
    ),
    Defect(
        "a record counts as observed when it was asked for",
        "slow answers",
        (
            machine(
                "        self._desk.unread, self._desk.read_at = False, now\n        self._digest(now, answer)\n",
                "        self._desk.unread, self._desk.read_at = False, now\n        self._digest(request.sent_at, answer)\n",
            ),
        ),
    ),
    Defect(
        "wait the configured lease_duration instead of the written one",
        "mixed leases",
        (Patch("observation.py", "        return self.changed_at + self._lease\n", "        return self.changed_at + self._own_lease\n"),),
    ),
    Defect(
        "wait one's own lease for a record that says nothing",
        "mixed absences",
        (Patch("observation.py", "            return self.changed_at + self.longest\n", "            return self.changed_at + self._own_lease\n"),),
    ),
    Defect(
        "release before the unbind",
        "planned",
        (
            machine(
                "        self._leave(now, Reason.SHUTDOWN if self._fitness.stopping else Reason.DRAINED)\n",
                "        self._release(now)\n        self._leave(now, Reason.SHUTDOWN if self._fitness.stopping else Reason.DRAINED)\n",
            ),
        ),
    ),
    Defect(
        "release before the unbind is confirmed",
        "stuck unbinds",
        (
            machine("        if self._kernel is Kernel.LEAVING:\n            return NEVER, self._read\n", ""),
            machine("        if self._is_mine() and self._kernel is Kernel.CLEAR and (", "        if self._is_mine() and ("),
        ),
    ),
    Defect(
        "ignore the session",
        "namesakes",
        (
            Patch("model.py", "        return self.holder == identity.name and self.session == identity.session\n", "        return self.holder == identity.name\n"),
            machine("        return record.session in self._former and not self._seen.older\n", "        return not self._seen.older\n"),
        ),
    ),
    Defect(
        "trust the wall-clock renew time",
        "lost requests",
        (Patch("observation.py", "        return self.changed_at + self._lease\n", "        return float(record.renew_time) + self._lease\n"),),
    ),
    Defect(
        "skip the fence margin",
        "drift",
        (Patch("timing.py", "    return sent_at + lease_duration - fence_margin(lease_duration)\n", "    return sent_at + lease_duration\n"),),
    ),
    Defect(
        "read an unknown answer as applied",
        "lost requests",
        (
            machine(
                "            case Unknown():\n                self._on_unknown(now, request)\n            case Conflict():",
                '            case Unknown():\n                self._digest(now, Found(request.write.record, "?"))\n            case Conflict():',
            ),
        ),
    ),
    Defect(
        "bind before the lease is taken",
        "lost requests",
        (
            machine(
                "        self._send(now, WriteKind.TAKE, record)\n",
                "        self._send(now, WriteKind.TAKE, record)\n"
                "        self._right.deadline = right_ends(now, self._lease)\n"
                "        self._mine = record\n"
                "        self._on_acquired(now, self._taking)\n",
            ),
        ),
    ),
    Defect(
        "no second look after a kernel call",
        "paused calls",
        (Patch("lateness.py", "    return now >= deadline\n", "    return False\n"),),
    ),
    Defect(
        "take an absent record at once",
        "absences",
        (
            Patch("observation.py", "            return self.changed_at + self.longest\n", "            return self.changed_at\n"),
            Patch("observation.py", "            return self.changed_at + max(self.longest, self._lease)\n", "            return self.changed_at\n"),
        ),
    ),
    Defect(
        "an absence seen twice taken for one",
        "absences",
        (machine("        if isinstance(seen.content, Absent):\n            return 0.0, self._create\n", ""),),
    ),
    Defect(
        "use a counter value twice",
        "lost requests",
        (Patch("right.py", "        self._last_counter = max(self._last_counter, seen) + 1\n", "        self._last_counter = seen + 1\n"),),
    ),
    Defect(
        "take a late answer for that to the present request",
        "late answers",
        (Patch("desk.py", "        if request is None or request.number != number:\n", "        if request is None:\n"),),
    ),
    Defect(
        "trust a strike-out that is not confirmed",
        "broken moves",
        (
            machine(
                "        self._renew(now, WriteKind.STRIKE)\n",
                "        self._renew(now, WriteKind.STRIKE)\n"
                "        self._right.deadline = right_ends(now, self._lease)\n"
                "        self._out.append(model.SetDeadline(self._right.deadline))\n",
            ),
        ),
    ),
    Defect(
        "name a successor without lowering the deadline",
        "broken moves",
        (machine("        self._promise(now, counter, now + HANDOVER_TIMEOUT)\n", "        self._promise(now, counter, right_ends(now, self._lease))\n"),),
    ),
    Defect(
        "lower the deadline without telling guard and gate",
        "broken moves",
        (
            machine(
                "        if self._right.attempt(counter, ends_at):\n            self._out.append(model.SetDeadline(self._right.deadline))\n",
                "        if self._right.attempt(counter, ends_at):\n",
            ),
        ),
    ),
    Defect(
        "lower the deadline after the naming was sent",
        "broken moves",
        (
            machine(
                "        self._promise(now, counter, now + HANDOVER_TIMEOUT)\n"
                "        self._send(now, WriteKind.NAME, records.named(record, counter, handover.successor, handover.pin))\n",
                "        self._send(now, WriteKind.NAME, records.named(record, counter, handover.successor, handover.pin))\n"
                "        self._promise(now, counter, now + HANDOVER_TIMEOUT)\n",
            ),
        ),
        200,
    ),
    Defect(
        "leave the lifetimes long in a handover",
        "killed moves",
        (machine("shrink=self._handover is not None)", "shrink=False)"),),
    ),
    Defect(
        "hand on at once what was just taken as a successor",
        "chained moves",
        (Patch("timing.py", "SUCCESSOR_HOLDOFF = 0.510\n", "SUCCESSOR_HOLDOFF = 0.0\n"),),
    ),
    Defect(
        "put the own record back though a successor may have taken it",
        "deleted moves",
        (machine("        if self._handover is not None and (record is None or", "        if self._handover is not None and False and (record is None or"),),
        200,
    ),
    Defect(
        "count a foreign edit as a renewal",
        "touched for ever",
        (
            Patch("observation.py", "            case Found(record=r):\n                return (", "            case Found(record=r, revision=v):\n                return (v, "),
        ),
    ),
    Defect(
        "take an emptied holder for a release",
        "emptied",
        (Patch("model.py", "        return not self.holder and self.release == Release(self.session, self.epoch)\n", "        return not self.holder\n"),),
    ),
    Defect(
        "tell the guard after the bind",
        "planned",
        (
            machine(
                "        self._out.append(model.SetDeadline(self._right.deadline))\n        self._out.append(model.Bind(taking.epoch, self._right.deadline, self._lease))\n",
                "        self._out.append(model.Bind(taking.epoch, self._right.deadline, self._lease))\n        self._out.append(model.SetDeadline(self._right.deadline))\n",
            ),
        ),
    ),
    Defect(
        "announce before the bind",
        "planned",
        (
            machine(
                "        self._out.append(model.Bind(taking.epoch, self._right.deadline, self._lease))\n        self._out.append(model.Announce(taking.epoch))\n",
                "        self._out.append(model.Announce(taking.epoch))\n        self._out.append(model.Bind(taking.epoch, self._right.deadline, self._lease))\n",
            ),
        ),
    ),
    Defect(
        "acquire at the same epoch",
        "lost requests",
        (Patch("observation.py", "        return max(seen, self.highest[0], self.epoch_floor) + 1\n", "        return max(seen, self.highest[0], self.epoch_floor, 1)\n"),),
    ),
    Defect(
        "leave what a former life bound",
        "full kills",
        (
            machine("            if self._kernel is Kernel.LEFTOVER or (self._kernel", "            if (self._kernel"),
            machine("        return staying_out and self._kernel in FORMER\n", "        return False\n"),
        ),
        200,
    ),
    Defect(
        "forget the deadline that a former daemon left",
        "full kills",
        (machine("        if event.inherited > now:\n", "        if False:\n"),),
    ),
    Defect(
        "the guard removes before it kills",
        "thaws",
        (
            Patch("fencing.py", "    return view.life is Life.NONE or not slot.armed or _beyond_return(now, view)\n", "    return True\n"),
            Patch("fencing.py", "        actions += [Kill(why) for at, why in _offences(view) if now >= at][:1]\n    actions += _care(now, view)\n", "        actions += _care(now, view)\n        actions += [Kill(why) for at, why in _offences(view) if now >= at][:1]\n"),
            Patch("fencing.py", "close=view.life is Life.NONE or not slot.armed)", "close=True)"),
        ),
    ),
    Defect(
        "the guard ignores deadlines after a suspend",
        "thaws",
        (
            Patch(
                "fencing.py",
                "    found = [(slot.deadline, Why.DEADLINE)",
                "    found = [(max(slot.deadline, view.late_at + patience(view)), Why.DEADLINE)",
            ),
        ),
    ),
    Defect(
        "the guard leaves a dead daemon's addresses",
        "full kills",
        (Patch("fencing.py", "    removals: list[GuardAction] = [\n", "    removals: list[GuardAction] = [] if view.life is Life.NONE else [\n"),),
    ),
)
