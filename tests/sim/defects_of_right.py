"""Planted defects about rights.

Until when one lasts, from when on others may take it, and who it is.
"""

from __future__ import annotations

from tests.sim.planting import Defect, Patch, joined

READ = """
        s.pending.note_read(now)
        self._interpret_content(now, answer)
"""
LEASE_OUT = """
        return self._held_until
"""
LONGEST = """
            self._wait = self.longest
"""

DEFECTS = (
    # ------------------------------------------------------------ until when the right lasts
    Defect(
        "stamp at the reply instead of the send",
        "slow answers",
        (
            Patch(
                "machine/evidence",
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
                "machine/evidence",
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
                "machine/evidence",
                """
            case Unknown():
                self._on_unknown(now, request)
            case Conflict():
""",
                """
            case Unknown():
                self._interpret_content(now, Found(request.write.record, "?"))
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
                "machine/lease",
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
                "machine/situation",
                """
        if request is None or request.number != number:
""",
                """
        if request is None:
""",
            ),
        ),
        seeds=400,
    ),
    Defect(
        "a late answer binds again what was left",
        "late answers",
        (
            # The answer to a request that was given up is taken, and a right outlives the unbind.
            Patch(
                "machine/evidence",
                """
        request = s.pending.match_answer(number)
        if request is None or request.write is None:
            return
""",
                """
        request = s.pending.match_answer(number)
        applied = request is None and isinstance(answer, Applied)
        if applied and s.mine is not None and s.state is not State.ACTIVE:
            from election.machine.situation import Taking
            from election.timing import right_ends
            s.right.deadline = right_ends(now, s.lease)
            self._ownership.become_active(now, Taking(s.mine.epoch, s.reason))
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
                "machine/evidence",
                READ,
                """
        s.pending.note_read(now)
        self._interpret_content(request.sent_at, answer)
""",
            ),
        ),
    ),
    Defect(
        "wait the configured lease_duration instead of the written one",
        "mixed leases",
        (
            Patch(
                "machine/lease",
                LEASE_OUT,
                """
        return self.changed_at + self.promises._own
""",
            ),
        ),
    ),
    Defect(
        "wait one's own lease for a record that says nothing",
        "mixed absences",
        (
            Patch(
                "machine/lease",
                LONGEST,
                """
            self._wait = self.promises._own
""",
            ),
            Patch(
                "machine/lease",
                """
            return max(self._held_until, self.changed_at + self._wait)
""",
                """
            return self.changed_at + self._wait
""",
            ),
        ),
    ),
    Defect(
        "trust the wall-clock renew time",
        "lost requests",
        (
            Patch(
                "machine/lease",
                LEASE_OUT,
                """
        return float(record.renew_time) + record.lease_duration / 1000
""",
            ),
        ),
    ),
    Defect(
        "take an absent record at once",
        "absences",
        (
            Patch(
                "machine/lease",
                """
            return self.changed_at + self._wait
""",
                """
            return self.changed_at
""",
            ),
            Patch(
                "machine/lease",
                """
            return max(self._held_until, self.changed_at + self._wait)
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
                "machine/schedule",
                """
    if isinstance(seen.content, Absent):
        return Due(0.0, Task.CREATE)
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
                "machine/lease",
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
                "machine/situation",
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
                "machine/lease",
                """
        return (known if known < LARGEST_COUNT else self.floor) + 1
""",
                """
        return max(known, 1)
""",
            ),
        ),
    ),
    Defect(
        "count a full lease for what a former daemon left",
        "crashes in the dark",
        (
            Patch(
                "machine/ownership",
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
)
