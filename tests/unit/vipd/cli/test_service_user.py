"""What root's `vipd check` says of files that the service's user may not read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from health.model import Check, HttpCheck
from tests.unit.vipd.inprocess import configuration, instance
from vipd.cli.service_user import unreadable
from vipd.config.values import EtcdBackend


@pytest.mark.root
def test_files_that_only_root_may_read_are_named(tmp_path: Path) -> None:
    """The key and a check's CA are for root.

    The certificate is for everybody, and a file that is not there is no matter of rights.
    """
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents:
        if parent.stat().st_mode & 0o001 == 0:
            parent.chmod(parent.stat().st_mode | 0o011)
    key, certificate, ca = (tmp_path / name for name in ("key", "certificate", "ca"))
    for file in (key, certificate, ca):
        file.write_text("x")
        file.chmod(0o600)
    certificate.chmod(0o644)
    check = Check("web", HttpCheck("https://127.0.0.1/", ca_file=str(ca)))
    plain = configuration(tmp_path, "n1", [replace(instance(), checks=(check,))])
    missing = str(tmp_path / "missing")
    backend = EtcdBackend(
        ("https://127.0.0.1:2379",), cert_file=str(certificate), key_file=str(key), ca_file=missing
    )
    config = replace(plain, backend=backend)
    expected = [
        f"the user nobody, as which the service runs, may not read {file}" for file in (key, ca)
    ]
    assert unreadable(str(certificate), config, "nobody") == expected
    assert unreadable(str(certificate), config, "no-such-user") == []
