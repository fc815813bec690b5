"""Planted defects about order.

Of unbind and release, of planned moves, and of what the guard does.
"""

from __future__ import annotations

from tests.sim.planting import Defect, Patch, joined

NAME = """
        self._promise(now, counter, now + HANDOVER_TIMEOUT)
"""
SEND_NAME = """
        self._send(now, WriteKind.NAME, named(record, counter, handover.successor, handover.pin))
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

DEFECTS = (
    # ------------------------------------------------------------ in which order
    Defect(
        "release before the unbind",
        "planned",
        (
            Patch(
                "machine/requests",
                """
                self._ownership.leave_without_successor(now)
""",
                """
                self._release(now)
                self._ownership.leave_without_successor(now)
""",
            ),
        ),
    ),
    Defect(
        "release before the unbind is confirmed",
        "stuck unbinds",
        (
            Patch(
                "machine/schedule",
                """
    if s.kernel is Kernel.LEAVING or (s.taking is not None and s.taking.confirmed):
        return Due(NEVER, Task.READ)
    if s.is_mine and s.kernel is Kernel.CLEAR and (""",
                """
    if s.taking is not None and s.taking.confirmed:
        return Due(NEVER, Task.READ)
    if s.is_mine and (""",
            ),
        ),
    ),
    Defect(
        "bind before the lease is taken",
        "lost requests",
        (
            Patch(
                "machine/requests",
                """
        self._send(now, WriteKind.TAKE, record)
""",
                """
        self._send(now, WriteKind.TAKE, record)
        s.right.deadline = right_ends(now, s.lease)
        s.mine = record
        from election.machine.situation import Taking
        Ownership(s).become_active(now, Taking(epoch, reason))
""",
            ),
        ),
    ),
    Defect(
        "no second look after a refresh or bind",
        "paused calls",
        (
            Patch(
                "timing",
                """
    return now >= deadline
""",
                """
    return False
""",
            ),
        ),
    ),
    Defect(
        "tell the guard after the bind",
        "planned",
        (Patch("machine/ownership", joined(TELL, BIND), joined(BIND, TELL)),),
    ),
    Defect(
        "announce before the bind",
        "planned",
        (Patch("machine/ownership", joined(BIND, ANNOUNCE), joined(ANNOUNCE, BIND)),),
    ),
    # ------------------------------------------------------------ planned moves
    Defect(
        "trust a strike-out that is not confirmed",
        "silent successors",
        (
            Patch(
                "machine/requests",
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
                "machine/requests",
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
                "machine/requests",
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
        (Patch("machine/requests", joined(NAME, SEND_NAME), joined(SEND_NAME, NAME)),),
    ),
    Defect(
        "leave the lifetimes long in a handover",
        "killed moves",
        (Patch("machine/requests", "shrink=s.handover is not None)", "shrink=False)"),),
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
                "machine/evidence",
                """
        if s.handover is not None and (
            record is None or""",
                """
        if s.handover is not None and False and (
            record is None or""",
            ),
        ),
    ),
    # ------------------------------------------------------------ the guard
    Defect(
        "the guard removes before it kills",
        "thaws in a call",
        (
            Patch(
                "fencing",
                """
    return view.life is Life.NONE or not slot.armed or _cannot_act_again(now, view)
""",
                """
    return True
""",
            ),
            Patch(
                "fencing",
                """
    if view.life is not Life.NONE and not view.killed_at:
        actions += [Kill(why) for at, why in offences(view) if now >= at][:1]
    actions += _removals_and_refreshes(now, view)
""",
                """
    actions += _removals_and_refreshes(now, view)
    if view.life is not Life.NONE and not view.killed_at:
        actions += [Kill(why) for at, why in offences(view) if now >= at][:1]
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
