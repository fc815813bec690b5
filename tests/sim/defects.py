"""All defects that are planted on purpose."""

from __future__ import annotations

from tests.sim import defects_of_gate, defects_of_order, defects_of_right, defects_of_service

DEFECTS = (
    *defects_of_right.DEFECTS,
    *defects_of_order.DEFECTS,
    *defects_of_gate.DEFECTS,
    *defects_of_service.DEFECTS,
)
