"""The alert rules that ship: they fire when they should, and speak of metrics that exist."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from vipd.observe.metrics import Metrics

FOLDER = Path(__file__).parents[3] / "deploy" / "monitoring"
RULES = FOLDER / "vipd.rules.yml"
PROMTOOL = shutil.which("promtool")


@pytest.mark.skipif(PROMTOOL is None, reason="needs promtool (Debian: prometheus)")
@pytest.mark.parametrize(
    "words", [["check", "rules", RULES.name], ["test", "rules", "vipd.rules.test.yml"]]
)
def test_prometheus_takes_the_rules_and_they_fire(words: list[str]) -> None:
    """Nobody Active, two Active, counters that rise.

    Each alert is provoked once, and a sound group provokes none.
    """
    done = subprocess.run(
        [PROMTOOL or "", *words], cwd=FOLDER, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_metric_of_a_rule_exists() -> None:
    """A rule about a metric that was renamed would be silent for ever."""
    named = set(
        re.findall(
            r"\bvipd_[a-z_]+",
            "".join(
                line for line in RULES.read_text().splitlines(keepends=True) if "expr:" in line
            ),
        )
    )
    known = {
        sample
        for family in Metrics().registry.collect()
        for sample in (family.name, f"{family.name}_total")
    }
    assert len(named) >= 8
    assert named - known == set()


def test_every_alert_is_tested() -> None:
    """An alert that no test names may never fire."""
    alerts = re.findall(r"alert: (\w+)", RULES.read_text())
    tests = (FOLDER / "vipd.rules.test.yml").read_text()
    assert [alert for alert in alerts if alert not in tests] == []
    assert len(alerts) >= 10
