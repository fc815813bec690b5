"""The files that vipd is known to etcd by, and the sentences about what goes wrong with it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from election.outage import Outage
from election.stores.errors import BadAccess
from election.stores.etcd.access import (
    LARGEST_FILE,
    LARGEST_PASSWORD,
    EtcdAccess,
    Tls,
    flaws,
    read_password,
    read_tls,
    signature,
)
from election.stores.etcd.faults import meaning, too_old

SELF_SIGNED = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -days 2 -subj /CN=x"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with two certificates and their keys, and a key that is encrypted."""
    made = tmp_path_factory.mktemp("pem")
    for name in ("one", "two"):
        openssl(made, f"{SELF_SIGNED} -nodes -keyout {name}.key -out {name}.crt")
    openssl(made, f"{SELF_SIGNED} -passout pass:s3cret -keyout locked.key -out locked.crt")
    return made


def openssl(folder: Path, arguments: str) -> None:
    """Run openssl there."""
    subprocess.run(["openssl", *arguments.split()], cwd=folder, check=True, capture_output=True)


def access(
    folder: Path, ca: str = "one.crt", cert: str = "one.crt", key: str = "one.key"
) -> EtcdAccess:
    """Return an access with these files."""
    return EtcdAccess(str(folder / ca), str(folder / cert), str(folder / key))


def test_files_that_fit_are_read(folder: Path) -> None:
    """As they are, and they do not show in a log."""
    tls = read_tls(access(folder))
    cert = (folder / "one.crt").read_bytes()
    assert tls == Tls(cert, cert, (folder / "one.key").read_bytes())
    assert repr(tls) == "Tls()"
    assert read_tls(EtcdAccess(ca_file=str(folder / "one.crt"))) == Tls(cert)


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"key": "two.key"}, "do not belong together"),
        ({"cert": "locked.crt", "key": "locked.key"}, "not encrypted"),
        ({"cert": "one.key"}, "are not a certificate and its key"),
        ({"ca": "one.key"}, "holds no certificate in PEM form"),
        ({"ca": "none"}, "none cannot be read: No such file or directory"),
        ({"key": "none"}, "none cannot be read: No such file or directory"),
        ({"ca": "."}, "cannot be read: a directory, not a file"),
        ({"ca": "pipe"}, "cannot be read: a named pipe, not a file"),
        ({"ca": "huge"}, f"has more than {LARGEST_FILE} bytes"),
    ],
)
def test_files_that_do_not_fit_are_named(
    folder: Path, files: dict[str, str], sentence: str
) -> None:
    """Before a connection is made with them.

    Nobody is asked for a passphrase, and no pipe is waited for.
    """
    if not (folder / "pipe").exists():
        os.mkfifo(folder / "pipe")
        (folder / "huge").write_bytes(b"x" * (LARGEST_FILE + 1))
    with pytest.raises(BadAccess, match=sentence):
        read_tls(access(folder, **files))
    assert [sentence in flaw for flaw in flaws(access(folder, **files), tls=True)] == [True]
    assert flaws(access(folder, **files), tls=False) == []


def test_without_a_ca_file_the_system_decides() -> None:
    """Whatever it has; at least nothing fails."""
    assert flaws(EtcdAccess(), tls=True) == []


@pytest.mark.parametrize("content", [b"s3cret", b"s3cret\n", b"s3cret\r\n"])
def test_the_line_end_is_no_part_of_a_password(tmp_path: Path, content: bytes) -> None:
    """Editors and `echo` put it there."""
    file = tmp_path / "password"
    file.write_bytes(content)
    assert read_password(EtcdAccess(password_file=str(file))) == "s3cret"


@pytest.mark.parametrize("content", [b"", b"\n", b"s3cret\xff", b"s3cret" * LARGEST_PASSWORD])
def test_what_cannot_be_a_password_is_refused_without_quoting_it(
    tmp_path: Path, content: bytes
) -> None:
    """The sentence goes into the log."""
    file = tmp_path / "password"
    file.write_bytes(content)
    with pytest.raises(BadAccess, match=str(file)) as raised:
        read_password(EtcdAccess(password_file=str(file)))
    assert "s3cret" not in str(raised.value)
    assert raised.value.__cause__ is None


def test_a_signature_follows_every_way_of_renewal(tmp_path: Path) -> None:
    """Written in place, replaced, a link turned as Kubernetes does it, rights given, gone."""
    file, link = tmp_path / "a", tmp_path / "link"
    seen = [signature([str(link)])]
    file.write_text("1")
    link.symlink_to(file)
    seen.append(signature([str(link)]))
    file.write_text("22")
    seen.append(signature([str(link)]))
    (tmp_path / "b").write_text("22")
    (tmp_path / "b").rename(file)
    seen.append(signature([str(link)]))
    (tmp_path / "c").write_text("22")
    (tmp_path / "turned").symlink_to(tmp_path / "c")
    (tmp_path / "turned").rename(link)
    seen.append(signature([str(link)]))
    assert signature([str(link)]) == seen[-1]
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize(
    ("version", "old"),
    [
        ("3.3.27", True),
        ("2.3.8", True),
        ("3.4.0", False),
        ("3.5.16", False),
        ("3.6.0-rc.1", False),
        ("4.0.0", False),
        ("", False),
        ("x.y", False),
    ],
)
def test_versions(version: str, old: bool) -> None:
    """From 3.4 on; whoever does not say it clearly is not refused."""
    assert too_old(version) is old


FULL = EtcdAccess("/ca", "/cert", "/key", "vipd", "/password")


@pytest.mark.parametrize(
    ("details", "sentence", "outage"),
    [
        ("etcdserver: no leader", "has no quorum", Outage.NO_QUORUM),
        ("etcdserver: leader changed", "has lost its quorum for a moment", Outage.NO_QUORUM),
        (
            "etcdserver: request timed out, possibly due to previous leader failure",
            "has no quorum, or is overloaded",
            Outage.NO_QUORUM,
        ),
        (
            "etcdserver: mvcc: database space exceeded",
            "is full (alarm NOSPACE): compact and defragment it, then disarm the alarm",
            Outage.FULL,
        ),
        (
            "etcdserver: corrupt cluster",
            "has found its data to be corrupt (alarm CORRUPT)",
            Outage.FAILING,
        ),
        ("etcdserver: too many requests", "has too many requests", Outage.THROTTLED),
        (
            "etcdserver: rpc not supported for learner",
            "is a learner, which answers no requests",
            Outage.FAILING,
        ),
        (
            "etcdserver: permission denied",
            "denies user vipd the permission to read /x",
            Outage.REFUSING,
        ),
        (
            "etcdserver: authentication failed, invalid user ID or password",
            "does not know user vipd with the password of /password",
            Outage.REFUSING,
        ),
        (
            (
                "failed to connect to all addresses; last error: x: Failed to connect to remote "
                "host: Connection refused"
            ),
            "refuses the connection",
            Outage.UNREACHABLE,
        ),
        (
            (
                "failed to connect to all addresses; last error: x: Failed to connect to remote "
                "host: No route to host"
            ),
            "cannot be reached",
            Outage.UNREACHABLE,
        ),
        (
            "unknown service etcdserverpb.KV",
            "is no etcd, or too old: version 3.4 or newer is needed",
            Outage.TOO_OLD,
        ),
        ("Socket closed", "closed the connection", Outage.UNREACHABLE),
        ("something {new}", "failed: something {new}", Outage.FAILING),
    ],
)
def test_what_etcd_says_becomes_a_sentence(details: str, sentence: str, outage: Outage) -> None:
    """The operator reads what to look at; what is not known is passed on."""
    assert meaning(details, FULL, tls=True, doing="read /x") == (sentence, outage)
