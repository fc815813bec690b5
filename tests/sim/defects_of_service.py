"""Planted defects that cost a move, or wait for the wrong thing.

What a guard, a successor and a holder owe each other.
"""

from __future__ import annotations

from tests.sim.planting import Defect, Patch

DEFECTS = (
    Defect(
        "a lowered deadline wakes no guard",
        "frozen moves",
        (
            Patch(
                "timing",
                """
    return 0 < deadline < before or (deadline > 0 and before == 0 and former_gate)
""",
                """
    return False
""",
            ),
        ),
    ),
    Defect(
        "put back what the daemon before may have handed over",
        "crashes in deleted moves",
        (
            Patch(
                "machine/ownership",
                """
            s.may_have_named = event.inherited <= now + HANDOVER_TIMEOUT
""",
                """
            s.may_have_named = False
""",
            ),
        ),
    ),
    Defect(
        "no hold-off after a restart",
        "crashes of successors",
        (
            Patch(
                "machine/ownership",
                """
            # The former daemon may have taken the lease as a successor just before it ended.
            s.holdoff_until = now + SUCCESSOR_HOLDOFF
""",
                """
            s.holdoff_until = 0.0
""",
            ),
        ),
    ),
    Defect(
        "a naming that met a conflict goes on",
        "touched moves",
        (
            Patch(
                "machine/evidence",
                """
                if s.handover is not None and s.handover.phase is Phase.NAMING:
""",
                """
                if s.handover is None and Phase.NAMING is None:
""",
            ),
        ),
    ),
    Defect(
        "believe a read that a watch has overtaken",
        "overtaken reads",
        (
            Patch(
                "machine/evidence",
                """
        if overtaken and not s.seen.is_news(answer):
            return
""",
                """
        if overtaken and not s.seen.is_news(answer):
            pass
""",
            ),
        ),
    ),
)
