"""Planted defects about the gate.

When its word is opened, what the word says, and whose programs are attached.
"""

from __future__ import annotations

from tests.sim.planting import Defect, Patch

DEFECTS = (
    Defect(
        "open the gate before the lease is taken",
        "races after kills",
        (
            Patch(
                "machine/requests",
                """
        self._send(now, WriteKind.TAKE, record)
""",
                """
        s.out.append(SetDeadline(right_ends(now, s.lease)))
        self._send(now, WriteKind.TAKE, record)
""",
            ),
        ),
    ),
    Defect(
        "store the deadline as a duration",
        "planned",
        (
            Patch(
                "machine/ownership",
                """
        s.out.append(SetDeadline(s.right.deadline))
        s.out.append(Bind(""",
                """
        s.out.append(SetDeadline(s.right.deadline - now))
        s.out.append(Bind(""",
            ),
        ),
    ),
    Defect(
        "leave the old programs attached with an open map",
        "moves after kills",
        (
            Patch(
                "gate/interface",
                """
GRACE = 0.1
""",
                """
GRACE = 60.0
""",
                package="announce",
            ),
            Patch(
                "gate/interface",
                """
        if open_slots - self.inherited or (not waiting and (open_slots or self.settled)):
""",
                """
        if open_slots - self.inherited or (not waiting and not open_slots and self.settled):
""",
                package="announce",
            ),
        ),
    ),
)
