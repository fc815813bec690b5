"""Exec plugins: programs that issue credentials.

https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins

Run as an argv in a process group of its own, without a terminal, never through a shell; killed at the timeout.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import math
import os
import signal
from dataclasses import dataclass, field

from election.stores.kubernetes.kubeconfig import BadAccess, ExecPlugin

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
        raise BadAccess(f"the exec plugin {name} cannot be run: {error.strerror}. {plugin.hint}".rstrip(". ")) from None
    try:
        async with asyncio.timeout(timeout):
            output, errors = await process.communicate()
    except TimeoutError:
        raise BadAccess(f"the exec plugin {name} did not end within {timeout:g} s") from None
    finally:
        await _end(process)
    if process.returncode:
        said = " ".join(errors.decode(errors="replace").split())[:SHOWN]
        raise BadAccess(f"the exec plugin {name} ended with {process.returncode}: {said or 'it said nothing'}")
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
        raise BadAccess(f"the exec plugin {name} speaks {version}, and the kubeconfig wants {plugin.api_version}")
    if not isinstance(token, str) or not token.isprintable() or bool(cert) != bool(key) or not (token or cert):
        raise BadAccess(f"the exec plugin {name} printed neither a token nor a certificate with its key")
    return issued


def _expiry(text: str | None) -> float:
    return math.inf if text is None else dt.datetime.fromisoformat(text).timestamp()
