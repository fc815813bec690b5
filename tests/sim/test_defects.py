"""The simulation catches what it is there to catch.

Every planted defect breaks an invariant within a few seeds.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sim.defects import DEFECTS
from tests.sim.planting import Defect

ROOT = Path(__file__).parents[2]
TIMEOUT = 100
"""Seconds for one defect; most are caught within two."""


def plant(defect: Defect, where: Path) -> None:
    """Copy what the simulation runs to `where` and patch the copy."""
    for package in ("election", "announce"):
        shutil.copytree(
            ROOT / package, where / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    for patch in defect.patches:
        path = where / patch.package / f"{patch.module}.py"
        text = path.read_text()
        assert text.count(patch.old) == 1, (
            f"{path.name} has changed: {text.count(patch.old)} places look like {patch.old!r}"
        )
        path.write_text(text.replace(patch.old, patch.new))


def simulate(defect: Defect, election: Path) -> subprocess.CompletedProcess[str]:
    """Run seeds against the election that lies there, until one fails."""
    command = [
        sys.executable,
        "-P",
        "-m",
        "tests.sim.run",
        "--first",
        "--seeds",
        str(defect.seeds),
        "--theme",
        defect.theme,
    ]
    environment = {
        **os.environ,
        "PYTHONPATH": f"{election}{os.pathsep}{ROOT}",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return subprocess.run(
        command,
        cwd=election,
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.name.replace(" ", "-"))
def test_a_planted_defect_is_caught(defect: Defect, tmp_path: Path) -> None:
    """An invariant says so: not an exception, which would be the patch's own mistake."""
    plant(defect, tmp_path)
    result = simulate(defect, tmp_path)
    assert result.returncode == 1, (
        f"nothing noticed it in {defect.seeds} seeds\n{result.stdout}{result.stderr}"
    )
    assert "Traceback" not in result.stdout + result.stderr, result.stdout + result.stderr


@pytest.mark.parametrize("theme", sorted({defect.theme for defect in DEFECTS}))
@pytest.mark.parametrize("seeds", [4, pytest.param(60, marks=pytest.mark.long)])
def test_without_a_defect_the_same_seeds_are_clean(theme: str, seeds: int, tmp_path: Path) -> None:
    """What catches a defect says nothing of sound code."""
    sound = Defect("none", theme, (), seeds=seeds)
    plant(sound, tmp_path)
    result = simulate(sound, tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
