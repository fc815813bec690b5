"""The http check: one request, one new connection, one verdict.

A new connection each time is what detects a dead ingress fastest and cannot be fooled. A kept one
would be answered by the old worker of a server that is shutting down, or whose listening socket is
gone, long after new clients are refused; and the server closing it while idle would look like a
fault. The cost is one accept and, with https, one handshake for each try.

Only this file imports aiohttp, and `open_probe` imports this file only if an http check is
configured.
"""

from __future__ import annotations

import re
import ssl
from types import SimpleNamespace

import aiohttp
from aiohttp import ClientResponse, ClientSession, TraceConnectionCreateEndParams
from yarl import URL

from health.errors import SearchError
from health.kinds.probe import failure
from health.kinds.workers import Workers
from health.model import HttpCheck, Result

LONGEST_BODY = 65536
"""Bytes of the body that are read and searched: an answer without an end is not waited for."""
LONGEST_QUOTE = 200
"""Characters of an error that reach log and status."""
CONNECTION = "connection"
NO_LIMITS = aiohttp.ClientTimeout(total=None, connect=None, sock_read=None, sock_connect=None)
"""The loop that runs the check bounds everything at once; aiohttp's own limits would be a second,
coarser clock."""


class HttpProbe:
    """Asks each address of the URL's host in turn, IPv4 first, until one can be connected to.

    What that one answers counts.
    """

    def __init__(self, check: HttpCheck, workers: Workers) -> None:
        self._check = check
        self._names = workers.names
        self._workers = workers
        self._url = URL(check.url, encoded=True)
        self._host = check.host or _authority(self._url)
        self._session: ClientSession | None = None
        self.stage = "address"

    async def prepare(self) -> None:
        """Read the CA certificates and start the searcher of bodies, if they are needed.

        A first try has no time for that.
        """
        if self._check.body:
            await self._workers.searches.found("", b"")
        await self._context()

    async def run(self) -> Result:
        """Return the first answer, or why the first address could not be connected to."""
        targets = await self._targets()
        if isinstance(targets, Result):
            return targets
        results = []
        for target in targets:
            result = await self._ask(target)
            if self.stage != CONNECTION:
                return result
            results.append(result)
        return results[0]

    async def close(self) -> None:
        """Close the session."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _targets(self) -> list[URL] | Result:
        """Return the URL once for each address in the place of its host, so that aiohttp has no
        name to look up.
        """
        self.stage = "address"
        if self._check.unix_socket:
            return [self._url]
        addresses = await self._names.addresses(self._url.raw_host or "")
        return (
            addresses
            if isinstance(addresses, Result)
            else [self._url.with_host(address) for address in addresses]
        )

    async def _ask(self, target: URL) -> Result:
        where = self._check.unix_socket or _authority(target)
        try:
            tls = await self._context()
        except OSError as error:
            return Result(
                up=False, detail=f"ca_file {self._check.ca_file}: {error.strerror or error}"
            )
        self.stage = CONNECTION
        try:
            return await self._request(target, tls)
        except aiohttp.ClientConnectorCertificateError as error:
            # The CA may have been rotated since its file was read. Failing on would take the VIP
            # from all nodes at once.
            self._workers.trust.doubt(self._check.ca_file, verify=self._check.verify)
            return Result(up=False, detail=f"{where}: {error.certificate_error}")
        except aiohttp.ClientConnectorError as error:
            return failure(error.os_error, where)
        except aiohttp.ServerDisconnectedError:
            return Result(up=False, detail=f"{where}: closed without a response", refused=True)
        except aiohttp.ClientOSError as error:
            return failure(error, where)
        except aiohttp.ClientError as error:
            return Result(up=False, detail=f"{where}: {_said(error)}")

    async def _request(self, target: URL, tls: ssl.SSLContext | None) -> Result:
        session = self._session = self._session or self._open()
        async with session.request(
            self._check.method,
            target,
            headers=self._headers(),
            allow_redirects=False,
            ssl=tls if tls is not None else True,
            server_hostname=_without_port(self._host) if tls is not None else None,
        ) as response:
            return await self._judge(response)

    def _open(self) -> ClientSession:
        trace = aiohttp.TraceConfig()
        trace.on_connection_create_end.append(self._connected)
        return ClientSession(
            connector=self._connector(),
            timeout=NO_LIMITS,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trace_configs=[trace],
        )

    def _connector(self) -> aiohttp.BaseConnector:
        if self._check.unix_socket:
            return aiohttp.UnixConnector(self._check.unix_socket, force_close=True)
        # There is nothing to resolve, and the resolver that aiohttp makes otherwise has a thread.
        return aiohttp.TCPConnector(force_close=True, resolver=aiohttp.ThreadedResolver())

    async def _connected(
        self,
        _session: ClientSession,
        _context: SimpleNamespace,
        _params: TraceConnectionCreateEndParams,
    ) -> None:
        self.stage = "response"

    def _headers(self) -> list[tuple[str, str]]:
        """Return the configured headers behind our own, which they replace."""
        given = {name.lower() for name, _ in self._check.headers}
        own = [
            ("Host", self._host),
            ("User-Agent", "vipd"),
            ("Accept", "*/*"),
            ("Accept-Encoding", "identity"),
            ("Connection", "close"),
        ]
        return [
            *((name, value) for name, value in own if name.lower() not in given),
            *self._check.headers,
        ]

    async def _context(self) -> ssl.SSLContext | None:
        """Return the TLS context for https. Raises OSError for an unusable ca_file."""
        if self._url.scheme != "https":
            return None
        self.stage = "CA certificates"
        return await self._workers.trust.context(self._check.ca_file, verify=self._check.verify)

    async def _judge(self, response: ClientResponse) -> Result:
        status = response.status
        if not any(low <= status <= high for low, high in self._check.status):
            return Result(up=False, detail=f"status {status}, wanted {_ranges(self._check.status)}")
        pattern = self._check.body
        if not pattern:
            return Result(up=True, detail=f"status {status}")
        self.stage = "body"
        body = await _beginning(response)
        self.stage = "end of the search for the body pattern"
        try:
            found = await self._workers.searches.found(pattern, body)
        except SearchError as error:
            return Result(up=False, detail=f"status {status}, but {error}")
        except OSError as error:
            # Nothing is known of the one that was asked.
            return Result(
                up=None,
                detail=f"status {status}, but no process for the search can be started: "
                f"{error.strerror}",
            )
        if found:
            return Result(up=True, detail=f"status {status}, the body matches")
        return Result(up=False, detail=f"status {status}, but the body does not match {pattern!r}")


def _authority(url: URL) -> str:
    """Return host and port as written in a URL, without user and password."""
    return url.raw_authority.rpartition("@")[2]


def _said(error: aiohttp.ClientError) -> str:
    """Return the first line of what aiohttp says.

    Further ones quote the answer, which may be anything, and at any length.
    """
    said = error.message if isinstance(error, aiohttp.ClientResponseError) else str(error)
    return said.partition("\n")[0][:LONGEST_QUOTE] or type(error).__name__


async def _beginning(response: ClientResponse) -> bytes:
    """Return the first LONGEST_BODY bytes of a body; fewer if it ends before."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) >= LONGEST_BODY:
            break
    return bytes(body[:LONGEST_BODY])


def _without_port(host: str) -> str:
    """Return the name in a Host header: `[::1]:8443` is ::1."""
    name = (
        host.rpartition(":")[0]
        if re.search(r":\d*$", host) and (host.startswith("[") or host.count(":") == 1)
        else host
    )
    return name.strip("[]")


def _ranges(status: tuple[tuple[int, int], ...]) -> str:
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in status)
