"""The systemd units: systemd itself finds nothing wrong with them, and the two say the same."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[3] / "systemd"
ANALYZE = shutil.which("systemd-analyze")
SYSUSERS = shutil.which("systemd-sysusers")
RIGHTS = "CAP_NET_ADMIN CAP_NET_RAW CAP_BPF"


def settings(name: str) -> dict[str, list[str]]:
    """Return what a unit sets."""
    found: dict[str, list[str]] = {}
    for line in (UNITS / name).read_text(encoding="utf-8").splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


@pytest.mark.skipif(ANALYZE is None, reason="needs systemd-analyze (package systemd)")
@pytest.mark.parametrize(
    ("unit", "installed_as"),
    [("vipd.service", "vipd.service"), ("vipd@.service", "vipd@blue.service")],
)
def test_systemd_understands_the_unit(unit: str, installed_as: str, tmp_path: Path) -> None:
    """No unknown key, no bad value; the program itself is not installed here."""
    text = (UNITS / unit).read_text(encoding="utf-8").replace("/usr/bin/vipd", "/bin/true")
    (tmp_path / installed_as).write_text(text, encoding="utf-8")
    command = [ANALYZE or "", "verify", "--man=no", str(tmp_path / installed_as)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert installed_as not in done.stderr
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(SYSUSERS is None, reason="needs systemd-sysusers (package systemd)")
def test_systemd_can_make_the_user() -> None:
    """The line is well formed."""
    done = subprocess.run(
        [SYSUSERS or "", "--dry-run", str(UNITS / "vipd.sysusers.conf")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_template_differs_in_its_names_only() -> None:
    """A second daemon on a host has a file, a state directory and a socket of its own, and all else
    as the first.
    """
    plain, template = settings("vipd.service"), settings("vipd@.service")
    assert template.pop("Environment") == ["VIPD_STATE_DIR=/var/lib/vipd-%i"]
    named = {"Description", "ExecStart", "ExecReload", "StateDirectory", "RuntimeDirectory"}
    assert {key for key in plain | template if plain.get(key) != template.get(key)} == named
    assert all("%i" in template[key][0] for key in named)


def test_a_reload_is_checked_first() -> None:
    """As the service's own user, without a prefix: what only root may read is no good.

    Then the signal, for the guard alone.
    """
    check, signal = settings("vipd.service")["ExecReload"]
    assert check == "/usr/bin/vipd check --reload $MAINPID"
    assert signal == "/bin/kill -HUP $MAINPID"
    assert settings("vipd@.service")["ExecReload"] == [
        "/usr/bin/vipd check --reload $MAINPID -c /etc/vipd/%i.yaml",
        signal,
    ]


def test_the_service_has_three_rights_and_no_more() -> None:
    """And an ordinary user who cannot gain others."""
    unit = settings("vipd.service")
    assert unit["AmbientCapabilities"] == unit["CapabilityBoundingSet"] == [RIGHTS]
    assert unit["NoNewPrivileges"] == ["yes"]
    assert unit["User"] == ["vipd"]


def test_the_address_families_are_those_in_use() -> None:
    """Without netlink nothing is bound, without packet sockets nothing announced."""
    assert set(settings("vipd.service")["RestrictAddressFamilies"][0].split()) == {
        f"AF_{name}" for name in ("UNIX", "INET", "INET6", "NETLINK", "PACKET")
    }


def test_only_a_wrong_configuration_is_not_tried_again() -> None:
    """After anything else systemd starts the guard within the tenth of a second that the own lease
    outlasts.
    """
    unit = settings("vipd.service")
    assert (unit["Restart"], unit["RestartSec"], unit["RestartPreventExitStatus"]) == (
        ["always"],
        ["100ms"],
        ["2"],
    )
    assert re.fullmatch(r"\d+", unit["StartLimitBurst"][0])
