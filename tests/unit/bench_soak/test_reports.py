"""What the benches of fence and gate say of their figures."""

from __future__ import annotations

import pytest

from tests.bench.fence import Trial, table
from tests.bench.gate_cost import Compared


def test_the_fence_table_has_a_row_for_each_daemon_and_fault() -> None:
    """Median, minimum and maximum; what never stopped says so."""
    trials = [Trial("vipd", "kill", late) for late in (-3.0, -1.0, 0.5)]
    trials += [Trial("vipd", "freeze", -2.0, None), Trial("ucarp", "kill", 10_000.0, never=True)]
    assert table(trials).splitlines()[2:] == [
        "| vipd | kill | 3 | -1.00 (-3.00 to +0.50) | - |",
        "| vipd | freeze | 1 | -2.00 (-2.00 to -2.00) | none late |",
        "| ucarp | kill | 1 | > 10 s, never stopped (1 of 1) | - |",
    ]


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(-0.01, 0.04, "shown"), (0.06, 0.10, "refuted"), (0.03, 0.07, "not decided")],
)
def test_within_five_percent_is_shown_only_by_the_whole_range(
    low: float, high: float, said: str
) -> None:
    """A median alone decides nothing."""
    row = str(Compared("round trips", 10.0, 10.3, (low + high) / 2, low, high, 0.0, 40))
    assert row.endswith(f"| {said} |")
