"""The means to read configuration files as a test wants them."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from vipd.config.findings import Finding
from vipd.config.load import Examined, Surroundings, examine

NAMES = {"vip.example": "192.0.2.10", "other.example": "192.0.2.99"}


def look_up(
    names: Sequence[str], _seconds: float
) -> dict[str, frozenset[ipaddress.IPv4Address | ipaddress.IPv6Address]]:
    """Resolve the names of the tests, and no others."""
    return {name: frozenset({ipaddress.ip_address(NAMES[name])}) for name in names if name in NAMES}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the configuration of a test stands."""
    return tmp_path / "vipd.yaml"


@pytest.fixture
def read(file: Path) -> Callable[..., Examined]:
    """Examine a text (or bytes) as a configuration file, with this environment only."""

    def _read(
        content: str | bytes, environ: Mapping[str, str] | None = None, host_name: str = "node-1"
    ) -> Examined:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return examine(str(file), Surroundings(environ or {}, host_name, look_up))

    return _read


@pytest.fixture
def errors(read: Callable[..., Examined]) -> Callable[..., list[tuple[str, str]]]:
    """Return what is wrong with a text.

    Pairs of `line:column path` and the problem with its remedies.
    """

    def _errors(
        content: str | bytes, environ: Mapping[str, str] | None = None
    ) -> list[tuple[str, str]]:
        return [
            split(finding) for finding in read(content, environ).findings if not finding.warning
        ]

    return _errors


def split(finding: Finding) -> tuple[str, str]:
    """Return a finding in two halves: where, and what."""
    where, _, rest = str(finding)[len(finding.file) :].partition(" error: ")
    path, _, problem = rest.partition(": ")
    return f"{where.strip(':')} {path}", problem


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep variables of the developer's own shell out of the tests."""
    for name in ("VIPD_STATE_DIR", "JOURNAL_STREAM", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
