"""Who vipd is to etcd, and whom it takes for etcd.

Certificates, user and password, all of them in files.

The files are read when a connection is made and again when they have changed, so that whatever
renews them need not know vipd. Only the standard library is imported: `check` judges the same files
by the same rules.

Without ca_file the authorities of the system count; without those gRPC has a list of its own.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from election.stores.errors import BadAccess
from election.stores.files import read_file

LARGEST_PASSWORD = 4096
LARGEST_FILE = 1024 * 1024
"""Bytes of a file that are used at most; the authorities of a whole system have a quarter of
this."""
BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora
    "/etc/ssl/ca-bundle.pem",  # SUSE
    "/etc/ssl/cert.pem",  # Alpine
)
"""Where distributions keep the authorities that they trust, if Python was not built to know."""

Signature = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class EtcdAccess:
    """Names of files, and of a user.

    Empty: not given. A certificate and its key go together, as do user and password.
    """

    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    username: str = ""
    password_file: str = ""

    @property
    def tls_files(self) -> tuple[str, ...]:
        """The files on which a TLS connection depends."""
        return tuple(name for name in (self.ca_file, self.cert_file, self.key_file) if name)


NO_ACCESS = EtcdAccess()


@dataclass(frozen=True, slots=True)
class Tls:
    """What a TLS connection is made with, as PEM.

    None: the library's own authorities; no client certificate.
    """

    authorities: bytes | None = field(default=None, repr=False)
    certificate: bytes | None = field(default=None, repr=False)
    key: bytes | None = field(default=None, repr=False)


def signature(files: Sequence[str]) -> Signature:
    """Return what changes when one of these files is written, replaced or may be read at last; a
    missing one counts too.
    """
    return tuple(_stat(name) for name in files)


def _stat(name: str) -> tuple[int, int, int, int] | None:
    try:
        # Through symbolic links: a mounted Secret is replaced by turning one of them.
        found = Path(name).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


def read_tls(access: EtcdAccess) -> Tls:
    """Return the content of the files, found to fit together; raises BadAccess."""
    before = signature(access.tls_files)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authorities = _authorities(context, access.ca_file) if access.ca_file else _system_authorities()
    certificate = key = None
    if access.cert_file:
        certificate, key = _content(access.cert_file), _content(access.key_file)
        _match(context, access)
    # Between two of the reads above a renewal may have replaced them: what was read would not be
    # what was judged.
    if signature(access.tls_files) != before:
        raise BadAccess(f"{', '.join(access.tls_files)} are just being replaced")
    return Tls(authorities, certificate, key)


def read_password(access: EtcdAccess) -> str:
    """Return the password without the line end behind it; raises BadAccess."""
    content = _content(access.password_file, LARGEST_PASSWORD)
    try:
        password = content.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        # The error would quote bytes of the password.
        raise BadAccess(f"password_file {access.password_file} is not text in UTF-8") from None
    if not password:
        raise BadAccess(f"password_file {access.password_file} is empty")
    return password


def flaws(access: EtcdAccess, *, tls: bool) -> list[str]:
    """Return a sentence about each thing that would keep a connection from being made now."""
    found = []
    for wanted, read in ((tls, read_tls), (bool(access.password_file), read_password)):
        try:
            if wanted:
                read(access)
        except BadAccess as bad:
            found.append(str(bad))
    return found


def _content(name: str, largest: int = LARGEST_FILE) -> bytes:
    try:
        content = read_file(name, largest)
    except OSError as error:
        raise BadAccess(f"{name} cannot be read: {error.strerror}") from None
    if len(content) > largest:
        raise BadAccess(f"{name} has more than {largest} bytes")
    return content


def _authorities(context: ssl.SSLContext, name: str) -> bytes:
    content = _content(name)
    try:
        context.load_verify_locations(cadata=content.decode("ascii", "replace"))
    except (ssl.SSLError, ValueError):
        raise BadAccess(f"ca_file {name} holds no certificate in PEM form") from None
    return content


def _system_authorities() -> bytes | None:
    known = ssl.get_default_verify_paths().cafile
    for name in (known, *BUNDLES):
        if name and Path(name).is_file():
            return _content(name)
    return None


def _match(context: ssl.SSLContext, access: EtcdAccess) -> None:
    try:
        # A key that is encrypted would otherwise be asked about on the terminal.
        context.load_cert_chain(access.cert_file, access.key_file, password=lambda: b"")
    except OSError as error:
        # SSLError is one; its text quotes nothing of a file.
        why = (
            "do not belong together"
            if isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH"
            else ""
        )
        why = why or "are not a certificate and its key, not encrypted, in PEM form"
        raise BadAccess(
            f"cert_file {access.cert_file} and key_file {access.key_file} {why}"
        ) from None
