"""The wheel is whole: installed outside of the checkout, vipd works from it alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("vipd", "election", "announce", "health")
PATIENCE = 120


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel as `make wheel` does, from a copy of what git knows, and return its path."""
    folder = tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True
    ).stdout
    for name in filter(None, listed.decode().split("\0")):
        if name.startswith(
            (*(f"{package}/" for package in PACKAGES), "pyproject", "README", "LICENSE")
        ):
            target = folder / "source" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", "wheel"]
    argv = [*pip, "--no-deps", "--no-build-isolation", "-w", str(folder), str(folder / "source")]
    subprocess.run(argv, check=True, timeout=PATIENCE)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel into a new environment and return the folder of its programs.

    Its dependencies are those of this environment, by a path file: an editable vipd is not found
    that way.
    """
    home = tmp_path_factory.mktemp("home") / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(home)], check=True, timeout=PATIENCE)
    programs = home / "bin"
    pip = [str(programs / "python"), "-m", "pip", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--no-deps", str(wheel)], check=True, timeout=PATIENCE)
    (packages,) = home.glob("lib/python3.*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return programs


def vipd(programs: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the installed command in a folder that has no source."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    argv = [str(programs / "vipd"), *words]
    return subprocess.run(
        argv,
        cwd="/",
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )


def test_every_module_is_in_the_wheel(wheel: Path) -> None:
    """A sub-package that `pyproject.toml` does not find would be missing only where vipd is
    installed.
    """
    inside = set(zipfile.ZipFile(wheel).namelist())
    files = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.suffix == ".py" or path.name == "py.typed"
    }
    assert files - inside == set()
    assert {name for name in inside if name.endswith(".py")} - files == set()


def test_what_is_installed_is_what_runs(installed: Path) -> None:
    """The command comes from the new environment, and finds all that it needs there."""
    said = vipd(installed, "version")
    assert (said.returncode, said.stdout.split()[0], said.stderr) == (0, "vipd", "")
    code = "import vipd, election, announce, health; print(vipd.__file__, election.__file__)"
    found = subprocess.run(
        [str(installed / "python"), "-c", code], cwd="/", capture_output=True, text=True, check=True
    ).stdout.split()
    assert all(path.startswith(str(installed.parent)) for path in found), found


def test_the_shipped_configuration_is_valid(installed: Path) -> None:
    """`vipd check` needs every part of the configuration."""
    said = vipd(installed, "check", "-c", str(ROOT / "systemd" / "vipd.yaml"))
    assert said.returncode == 0, said.stdout + said.stderr


@pytest.mark.root
@pytest.mark.netns
def test_the_demo_plays_from_the_wheel(installed: Path) -> None:
    """Three nodes come up, and one of them serves the address.

    Nothing of the checkout is needed.
    """
    said = vipd(installed, "demo", "--backend", "file", "--until", "baseline", "--json")
    assert said.returncode == 0, said.stderr
    (scenario,) = json.loads(said.stdout)["scenarios"]
    assert (scenario["key"], scenario["ok"]) == ("baseline", True)
