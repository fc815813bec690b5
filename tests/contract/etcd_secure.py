"""An etcd that lets in only who may: certificates by openssl, and its users and roles."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

from election.model import Unknown
from election.stores.contract import Store
from election.stores.etcd.access import EtcdAccess, read_tls
from election.stores.etcd.channel import EtcdChannel
from election.stores.etcd.rpc import rpc
from election.stores.etcd.store import EtcdStore
from tests.contract.places import PATIENCE, TIMEOUT, EtcdPlace
from tests.etcd_server import EtcdServer, ServerTls
from tests.kube.certificates import Authority, Certificate

LOCAL = "IP:127.0.0.1"
ROOT_PASSWORD = "root's own"  # noqa: S105 - of a server that lives for seconds
PASSWORD = "s3cret wörd"  # noqa: S105 - likewise
USER = "vipd"


def authority(folder: Path) -> Authority:
    """Return a CA with certificates `server` and `client`.

    The client's names an organisation, which etcd takes for no user.
    """
    made = Authority(folder)
    made.sign("server", "/CN=etcd", LOCAL)
    made.sign("client", "/O=vipd")
    return made


def certificate(of: Authority, name: str) -> Certificate:
    """Return a certificate that was made before."""
    return Certificate(of.folder / f"{name}.crt", of.folder / f"{name}.key")


def expired(of: Authority, name: str, subject: str) -> Certificate:
    """Return a certificate for this host that ended yesterday."""
    made = of.sign(name, subject, LOCAL)
    sign = (
        f"openssl x509 -req -in {name}.csr -CA ca.crt -CAkey ca.key -days -1 -extfile "
        f"{name}.ext -out {name}.crt"
    )
    subprocess.run(sign.split(), cwd=of.folder, check=True, capture_output=True)
    return made


def server_tls(of: Authority, folder: Path, *, client_certificates: bool = True) -> ServerTls:
    """Return what a server needs, in files of its own that a test may replace."""
    folder.mkdir()
    tls = ServerTls(of.file, folder / "server.crt", folder / "server.key", client_certificates)
    put(certificate(of, "server"), tls.certificate, tls.key)
    return tls


def put(made: Certificate, cert: Path, key: Path) -> None:
    """Replace a certificate and its key as those who renew them do: each at once, the key first."""
    for source, target in ((made.key, key), (made.cert, cert)):
        aside = target.with_suffix(".new")
        shutil.copy(source, aside)
        aside.rename(target)


def client_access(of: Authority, name: str = "client") -> EtcdAccess:
    """Return the access with a certificate of this CA."""
    made = certificate(of, name)
    return EtcdAccess(ca_file=str(of.file), cert_file=str(made.cert), key_file=str(made.key))


class SecurePlace(EtcdPlace):
    """A prefix of an etcd, and who its stores are there."""

    def __init__(self, directory: Path, server: EtcdServer, access: EtcdAccess, *urls: str) -> None:
        super().__init__(directory, server)
        self.access = access
        self.urls = urls or (server.url,)

    def store(self, candidate_ttl: float = 30.0) -> EtcdStore:
        """Return another node's view of the place."""
        return EtcdStore(self.urls, self.prefix, 0.5, candidate_ttl, self.access)


class Users:
    """What an operator does with `etcdctl user`, `role` and `auth`, as root.

    `access` is that of the operator's connection.
    """

    def __init__(self, server: EtcdServer, access: EtcdAccess | None = None) -> None:
        self._channel = EtcdChannel(
            f"{server.host}:{server.port}", read_tls(access or EtcdAccess()) if server.tls else None
        )
        self._token: tuple[tuple[str, str], ...] = ()

    async def log_in(self) -> None:
        """Get a token for root."""
        answer: Any = await self._channel.auth.Authenticate(
            rpc.AuthenticateRequest(name="root", password=ROOT_PASSWORD)
        )
        self._token = (("token", answer.token),)

    async def add(self, name: str, password: str, prefix: str) -> None:
        """Add a user who may do everything below a prefix."""
        await self._channel.auth.RoleAdd(rpc.AuthRoleAddRequest(name=name), metadata=self._token)
        key = prefix.encode()
        permission = rpc.Permission(
            permType=rpc.Permission.READWRITE, key=key, range_end=rpc_end(key)
        )
        await self._channel.auth.RoleGrantPermission(
            rpc.AuthRoleGrantPermissionRequest(name=name, perm=permission), metadata=self._token
        )
        await self._add_user(name, password, name)

    async def enable(self) -> None:
        """Turn authentication on."""
        await self._channel.auth.AuthEnable(rpc.AuthEnableRequest(), metadata=self._token)

    async def add_root(self) -> None:
        """Add the user that authentication cannot be turned on without."""
        await self._add_user("root", ROOT_PASSWORD, "root")

    async def disable(self) -> None:
        """Turn authentication off."""
        await self.log_in()
        await self._channel.auth.AuthDisable(rpc.AuthDisableRequest(), metadata=self._token)
        self._token = ()

    async def change_password(self, name: str, password: str) -> None:
        """Give a user another password; etcd forgets its tokens."""
        await self.log_in()
        await self._channel.auth.UserChangePassword(
            rpc.AuthUserChangePasswordRequest(name=name, password=password), metadata=self._token
        )

    async def close(self) -> None:
        """Let go of the connection."""
        await self._channel.close()

    async def _add_user(self, name: str, password: str, role: str) -> None:
        options = rpc.UserAddOptions(no_password=False)
        await self._channel.auth.UserAdd(
            rpc.AuthUserAddRequest(name=name, password=password, options=options),
            metadata=self._token,
        )
        await self._channel.auth.UserGrantRole(
            rpc.AuthUserGrantRoleRequest(user=name, role=role), metadata=self._token
        )


def rpc_end(key: bytes) -> bytes:
    """Return the first key behind all that begin with this one, which ends with a slash."""
    return key[:-1] + bytes([key[-1] + 1])


async def refused(store: Store, election: str = "ingress") -> str:
    """Return why a read is not answered."""
    answer = await store.read(election, TIMEOUT)
    assert isinstance(answer, Unknown), answer
    return answer.why


async def refused_because(store: Store, sentence: str) -> None:
    """Wait until reads are refused for this reason.

    GRPC tells that of its last attempt to connect, up to 0.5 s ago.
    """
    async with asyncio.timeout(PATIENCE):
        while sentence not in await refused(store):  # noqa: ASYNC110 - the answer is the event
            await asyncio.sleep(0.05)


def with_password(access: EtcdAccess, file: Path, password: str = PASSWORD) -> EtcdAccess:
    """Return the access with a user whose password is in this file, which is written."""
    file.write_text(f"{password}\n")
    return replace(access, username=USER, password_file=str(file))
