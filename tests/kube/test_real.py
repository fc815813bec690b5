"""What the real server's stand-in for tests does beside the server itself.

Its keys, and its backups.
"""

from __future__ import annotations

from pathlib import Path

from tests.kube.real import RealServer, Signer


def test_the_signers_key_is_in_forms_that_the_server_reads(tmp_path: Path) -> None:
    """An EC key in PKCS#8 ("PRIVATE KEY") is refused where the server expects the key that it
    checks tokens with.
    """
    signer = Signer(tmp_path)
    assert signer.private.read_text().startswith("-----BEGIN EC PRIVATE KEY-----")
    assert signer.public.read_text().startswith("-----BEGIN PUBLIC KEY-----")
    server = RealServer(Path("/usr/bin"), tmp_path / "server")
    flags = dict(flag.removeprefix("--").split("=", 1) for flag in server._argv()[1:])
    assert "EC PRIVATE KEY" in Path(flags["service-account-signing-key-file"]).read_text()
    assert "PUBLIC KEY" in Path(flags["service-account-key-file"]).read_text()


def test_a_backup_cuts_nobody_off_and_can_be_restored(tmp_path: Path) -> None:
    """The data are copied while etcd stands still for a moment; whoever uses it goes on."""
    server = RealServer(Path("/usr/bin"), tmp_path / "server")
    etcd = server._etcd
    with etcd:
        put = {"key": "YQ==", "value": "MQ=="}
        server._etcd_call("kv/put", dict(put))
        pid = etcd.pid
        server.backup("one")
        assert etcd.pid == pid
        server._etcd_call("kv/put", {**put, "value": "Mg=="})
        etcd.stop()
        etcd.restore_data(server._copies["one"])
        etcd.start()
        [found] = server._etcd_call("kv/range", {"key": "YQ=="})["kvs"]  # type: ignore[misc]  # one key
        assert found["value"] == "MQ=="  # type: ignore[has-type]  # JSON
