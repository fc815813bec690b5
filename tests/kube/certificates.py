"""A CA made by the openssl command, and certificates that it signs."""

from __future__ import annotations

import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

NEW_KEY = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate and its key."""

    cert: Path
    key: Path


class Authority:
    """A CA with its files below `folder`, which is made.

    `bare`: neither the CA nor what it signs has more extensions than Kubernetes demands, as in many
    clusters.
    """

    def __init__(self, folder: Path, *, bare: bool = False) -> None:
        self.folder = folder
        self._usage = "" if bare else "-addext keyUsage=critical,keyCertSign,cRLSign"
        self._identifier = "" if bare else "authorityKeyIdentifier=keyid\n"
        self.file = folder / "ca.crt"
        self.key = folder / "ca.key"
        folder.mkdir(parents=True)
        self._openssl(
            f"req -x509 {NEW_KEY} -days 2 -subj /CN=test-ca {self._usage} -keyout ca.key -out "
            "ca.crt"
        )

    def sign(self, name: str, subject: str, names: str = "") -> Certificate:
        """Return a certificate for a subject (`/O=group/CN=user`).

        `names` are subjectAltNames: `DNS:a,IP:b`.
        """
        purpose = f"subjectAltName={names}\n" if names else "extendedKeyUsage=clientAuth\n"
        (self.folder / f"{name}.ext").write_text(purpose + self._identifier)
        self._openssl(f"req {NEW_KEY} -subj {subject} -keyout {name}.key -out {name}.csr")
        self._openssl(
            f"x509 -req -in {name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile "
            f"{name}.ext -out {name}.crt"
        )
        return Certificate(self.folder / f"{name}.crt", self.folder / f"{name}.key")

    def serving(self, certificate: Certificate) -> ssl.SSLContext:
        """Return the context of a server that asks its clients for certificates of this CA, and
        goes on without.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.cert, certificate.key)
        context.load_verify_locations(self.file)
        context.verify_mode = ssl.CERT_OPTIONAL
        return context

    def _openssl(self, arguments: str) -> None:
        subprocess.run(
            ["openssl", *arguments.split()], cwd=self.folder, check=True, capture_output=True
        )
