"""The credentials that a request carries, kept fresh.

Files are looked at again, exec plugins run again before they expire.

https://kubernetes.io/docs/concepts/storage/projected-volumes/#serviceaccounttoken : the kubelet
replaces the token of a pod's service account long before it expires; whoever uses it has to read
the file again.

Exec plugins, programs that issue credentials:
https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins
Run as an argv in a process group of its own, without a terminal, never through a shell; killed at
the timeout.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import math
import os
import signal
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from election.stores.errors import BadAccess
from election.stores.kubernetes.kubeconfig import Access, ExecPlugin, signature

LOOK_AGAIN = 60.0
"""Seconds after which files are compared again."""
PLUGIN_TIMEOUT = 10.0
"""Seconds that an exec plugin may take. Longer than a request: what it issues is for the next
one."""
RENEW_BEFORE = 30.0
"""Seconds before its credentials expire at which a plugin is run again; requests go on with the old
ones meanwhile."""
PLUGIN_PAUSE = 1.0
"""Seconds between two runs of a plugin that fails."""

Load = Callable[[], Access]


@dataclass(frozen=True, slots=True)
class Login:
    """All that a request needs to reach the API and to be known there.

    `tls` is None for a server without TLS.
    """

    server: str
    tls: ssl.SSLContext | None
    token: str = field(repr=False)
    server_name: str = ""

    @property
    def key(self) -> tuple[object, ...]:
        """What a connection is good for; a new token needs no new one."""
        return self.server, self.tls, self.server_name


def _wall() -> float:
    return time.clock_gettime(time.CLOCK_REALTIME)


class Credentials:
    """Loads the access with the first request and gives out logins.

    `wall` is read to compare with a plugin's expiry.
    """

    def __init__(
        self, load: Load, wall: Callable[[], float] = _wall, plugin_timeout: float = PLUGIN_TIMEOUT
    ) -> None:
        self._load = load
        self._wall = wall
        self._plugin_timeout = plugin_timeout
        self._access: Access | None = None
        self._signature: tuple[object, ...] = ()
        self._looked_at = 0.0
        self._issued: Issued | None = None
        self._issuing: asyncio.Task[Issued] | None = None
        self._failed = ("", 0.0)
        self._tls: (
            tuple[tuple[bytes, bytes, bytes, bool], asyncio.Future[ssl.SSLContext]] | None
        ) = None

    async def login(self) -> Login:
        """Return the login of this moment; raises BadAccess.

        Waits only for a plugin that never issued anything valid.
        """
        access = await self._current()
        issued = await self._from_plugin(access) if access.plugin is not None else Issued()
        cert, key = issued.cert or access.cert, issued.key or access.key
        tls = await self._context(access, cert, key) if access.server.startswith("https:") else None
        return Login(access.server, tls, issued.token or access.token, access.server_name)

    def signature(self) -> tuple[object, ...]:
        """Return what changes with the files that the login is in."""
        return signature(self._access.files) if self._access is not None else ()

    def refused(self) -> None:
        """Note that the API did not accept the last login (401).

        Whatever may be newer is looked for.
        """
        self._looked_at = 0.0
        self._issued = None

    async def close(self) -> None:
        """End a plugin that runs."""
        if self._issuing is not None:
            self._issuing.cancel()
            await asyncio.wait({self._issuing})

    def look_again(self) -> None:
        """Compare the files with the next login: perhaps there are newer ones."""
        self._looked_at = 0.0

    async def _current(self) -> Access:
        now = asyncio.get_running_loop().time()
        access = self._access
        if access is not None and self._looked_at and now - self._looked_at < LOOK_AGAIN:
            return access
        if access is None or signature(access.files) != self._signature:
            access = await self._reloaded(access)
        self._looked_at = now
        return access

    async def _reloaded(self, before: Access | None) -> Access:
        try:
            # On a thread: to read a kubeconfig of many clusters takes longer than the event loop
            # may stand still.
            access = await asyncio.to_thread(self._load)
        except BadAccess:
            # A file is just being written. What was good a minute ago may still be.
            if before is None:
                raise
            return before
        if before is not None and before.plugin != access.plugin:
            self._issued = None
        self._access, self._signature = access, signature(access.files)
        return access

    # ------------------------------------------------------------------ exec plugins

    async def _from_plugin(self, access: Access) -> Issued:
        issued = self._issued
        left = issued.expires - self._wall() if issued is not None else 0.0
        if issued is not None and left > RENEW_BEFORE:
            return issued
        if issued is not None and left > 0:
            # A plugin that fails now is no reason to give up what is still good.
            with contextlib.suppress(BadAccess):
                self._issue(access)
            return issued
        task = self._issue(access)
        # Shielded: a request that gives up must not make the next one wait for the plugin from the
        # beginning.
        return await asyncio.shield(task)

    def _issue(self, access: Access) -> asyncio.Task[Issued]:
        now = asyncio.get_running_loop().time()
        why, failed_at = self._failed
        if self._issuing is None or self._issuing.done():
            if why and now - failed_at < PLUGIN_PAUSE:
                raise BadAccess(why)
            self._issuing = asyncio.create_task(self._run(access))
            self._issuing.add_done_callback(self._done)
        return self._issuing

    async def _run(self, access: Access) -> Issued:
        assert access.plugin is not None  # noqa: S101 - for the type checker; the only caller looked
        self._issued = await issue(access.plugin, self._plugin_timeout)
        return self._issued

    def _done(self, task: asyncio.Task[Issued]) -> None:
        # Nobody may have waited: the exception is taken here, or Python would complain.
        error = None if task.cancelled() else task.exception()
        self._failed = (
            (str(error), asyncio.get_running_loop().time()) if error is not None else ("", 0.0)
        )

    # ------------------------------------------------------------------ TLS

    async def _context(self, access: Access, cert: bytes, key: bytes) -> ssl.SSLContext:
        """Return the context, which is made on a thread.

        With the system's authorities that takes 50 ms and more.
        """
        wanted = (access.ca, cert, key, access.verify)
        if self._tls is None or self._tls[0] != wanted:
            self._tls = (wanted, asyncio.ensure_future(asyncio.to_thread(tls_context, *wanted)))
            self._tls[1].add_done_callback(_retrieve)
        making = self._tls[1]
        # A request that gives up does not end it: the next one would have to begin anew.
        await asyncio.wait({making})
        try:
            return making.result()
        except (OSError, ValueError) as error:
            self._tls = None
            raise BadAccess(
                f"the certificates for {access.server} cannot be used: {error}"
            ) from None


def _retrieve(making: asyncio.Future[ssl.SSLContext]) -> None:
    """Look at the exception.

    Unread, when all who waited have given up, asyncio would report it as lost.
    """
    if not making.cancelled():
        making.exception()


def tls_context(ca: bytes, cert: bytes, key: bytes, verify: bool) -> ssl.SSLContext:
    """Return a client's context: with an own CA nobody else's is trusted.

    Raises ssl.SSLError and ValueError.
    """
    context = _trusting(ca)
    # From 3.13 on Python demands extensions of certificates that Kubernetes and its other clients
    # do not: the CAs of many clusters lack the key usage, and those of some clouds issue
    # certificates without an authority key identifier.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if cert:
        with _named(cert + b"\n" + key) as name:
            context.load_cert_chain(name, password=lambda: b"")
    return context


def _trusting(ca: bytes) -> ssl.SSLContext:
    """Return a context that trusts this CA, or the system's authorities."""
    if not ca:
        return ssl.create_default_context()
    # By a name: what is passed as text is read with the interpreter's lock held.
    with _named(ca) as name:
        return ssl.create_default_context(cafile=name)


@contextlib.contextmanager
def _named(content: bytes) -> Iterator[str]:
    """Yield the name of a file with this content that is in memory, for OpenSSL reads files only
    and the root may be read-only.
    """
    descriptor = os.memfd_create("certificates")
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


LARGEST_OUTPUT = 1024 * 1024
SHOWN = 200
"""Characters of what a failed plugin said that go into the sentence."""


@dataclass(frozen=True, slots=True)
class Issued:
    """Credentials. `expires` is in seconds of the wall clock, inf for never."""

    token: str = field(default="", repr=False)
    cert: bytes = field(default=b"", repr=False)
    key: bytes = field(default=b"", repr=False)
    expires: float = math.inf


async def issue(plugin: ExecPlugin, timeout: float) -> Issued:
    """Run a plugin once; raises BadAccess, and lets no process behind."""
    name = plugin.argv[0]
    try:
        process = await asyncio.create_subprocess_exec(
            *plugin.argv,
            env=_environment(plugin),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
            limit=LARGEST_OUTPUT,
        )
    except OSError as error:
        raise BadAccess(
            f"the exec plugin {name} cannot be run: {error.strerror}. {plugin.hint}".rstrip(". ")
        ) from None
    try:
        async with asyncio.timeout(timeout):
            output, errors = await process.communicate()
    except TimeoutError:
        raise BadAccess(f"the exec plugin {name} did not end within {timeout:g} s") from None
    finally:
        await _end(process)
    if process.returncode:
        said = " ".join(errors.decode(errors="replace").split())[:SHOWN]
        raise BadAccess(
            f"the exec plugin {name} ended with {process.returncode}: {said or 'it said nothing'}"
        )
    return read(plugin, output)


def _environment(plugin: ExecPlugin) -> dict[str, str]:
    spec: dict[str, object] = {"interactive": False}
    if plugin.cluster is not None:
        spec["cluster"] = plugin.cluster
    told = {"apiVersion": plugin.api_version, "kind": "ExecCredential", "spec": spec}
    return {**os.environ, **dict(plugin.env), "KUBERNETES_EXEC_INFO": json.dumps(told)}


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill the whole group: a plugin that hangs may have children that hold its pipes."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


def read(plugin: ExecPlugin, output: bytes) -> Issued:
    """Return what a plugin printed: an ExecCredential; raises BadAccess."""
    name = plugin.argv[0]
    try:
        answer = json.loads(output)
        status = answer["status"]
        version, token = answer["apiVersion"], status.get("token", "")
        cert, key = status.get("clientCertificateData", ""), status.get("clientKeyData", "")
        expires = _expiry(status.get("expirationTimestamp"))
        issued = Issued(token, cert.encode(), key.encode(), expires)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BadAccess(f"the exec plugin {name} printed no ExecCredential") from None
    if version != plugin.api_version:
        raise BadAccess(
            f"the exec plugin {name} speaks {version}, and the kubeconfig wants "
            f"{plugin.api_version}"
        )
    if (
        not isinstance(token, str)
        or not token.isprintable()
        or bool(cert) != bool(key)
        or not (token or cert)
    ):
        raise BadAccess(
            f"the exec plugin {name} printed neither a token nor a certificate with its key"
        )
    return issued


def _expiry(text: str | None) -> float:
    return math.inf if text is None else dt.datetime.fromisoformat(text).timestamp()
