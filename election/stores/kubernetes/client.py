"""Requests to one Kubernetes API server, and what its answers mean.

Every request goes out once and is bounded as a whole by its caller. What is no answer of the API
becomes a StoreFault with a sentence.

The generated client of the kubernetes package is not used: with it the daemon has 20 MB more,
starts 0.5 s later, and each renewal costs about twice the CPU time.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from typing import NoReturn
from urllib.parse import urlencode, urlsplit

from election.outage import Outage
from election.stores.errors import BadAccess, GivenUp, Gone, NotHttp, Refused, Stale, StoreFault
from election.stores.kubernetes.connection import Connection, Head
from election.stores.kubernetes.credentials import Credentials, Login
from election.stores.kubernetes.pool import Pool
from election.stores.refusals import EVERYTHING, Refusals

DEFAULT_PAUSE = 1.0
"""Seconds to wait after a Retry-After that is no number: the least that API servers ask for."""
STARTING = 5.0
"""Seconds for which a refusal says little: an API server forbids everybody everything in its first
one or two."""
SHOWN = 300
"""Characters of what the API says that go into a sentence."""
OK, UNAUTHORIZED, FORBIDDEN, TOO_MANY, GONE, SERVER_ERROR = 200, 401, 403, 429, 410, 500
ANSWERS = {OK, 201, 404, 409, GONE, 422}
"""Codes with which the API says what it did or did not do; all others are faults."""
BEHIND = {
    "etcdserver: mvcc: database space exceeded": Outage.FULL,
    "etcdserver: leader changed": Outage.NO_QUORUM,
    "etcdserver: no leader": Outage.NO_QUORUM,
    "etcdserver: request timed out": Outage.NO_QUORUM,
}
"""What the etcd behind the API says in its answers with 500."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer of the API that is no fault."""

    code: int
    body: dict[str, object]

    @property
    def message(self) -> str:
        """What the API says in a Status."""
        return printable(str(self.body.get("message") or self.code))


class ApiClient:
    """Sends requests. Connects with the first one, and again by itself.

    `longest_pause`: seconds for which Retry-After is heeded at most. API servers say 1; a proxy
    that says 120, or a second for leases of one second, would cost the lease.
    """

    starting = STARTING

    def __init__(self, credentials: Credentials, longest_pause: float) -> None:
        self._credentials = credentials
        self._refusals = Refusals()
        self._longest_pause = longest_pause
        self._pool = Pool()
        self._not_before = 0.0
        self._closed = False
        self._server = ""

    @property
    def contact(self) -> int:
        """What a resourceVersion has to be read again for when it has changed: see Pool."""
        return self._pool.contact

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
        contact: int | None = None,
    ) -> Reply:
        """Send a request and return its answer.

        Raises StoreFault, and Stale if `contact` is over.
        """
        with self._unless_refused((method, path)):
            async with self._asked(method, path, query, body=body, contact=contact) as (
                connection,
                head,
            ):
                data = await connection.body()
            return self._reply(head, data)

    @contextlib.asynccontextmanager
    async def stream(self, path: str, query: Mapping[str, str]) -> AsyncIterator[Connection]:
        """Open a watch, and close it with the block.

        Raises StoreFault, Gone and GivenUp, also for what its body raises there.
        """
        async with contextlib.AsyncExitStack() as stack:
            with self._unless_refused(("WATCH", path)):
                connection, head = await stack.enter_async_context(
                    self._asked("GET", path, query, watch=True)
                )
                reply = self._reply(head, await connection.body()) if head.code != OK else None
            if reply is not None:
                self.refuse_watch(reply.code, reply.message)
            try:
                yield connection
            except (OSError, EOFError):
                if connection.given_up:
                    raise GivenUp(
                        f"{self._name} refuses new connections: the watch was ended",
                        Outage.UNREACHABLE,
                    ) from None
                raise

    async def examine(self, watch: Connection) -> None:
        """End a watch that is silent, if its server refuses new connections; see Pool."""
        await self._pool.examine(watch)

    @contextlib.asynccontextmanager
    async def bounded(self, timeout: float) -> AsyncIterator[None]:
        """Bound what is done inside to so many seconds; then it is a StoreFault."""
        try:
            async with asyncio.timeout(timeout):
                yield
        except TimeoutError:
            outage = Outage.SLOW if self._pool.reached else Outage.UNREACHABLE
            raise self.fault(outage, f"did not answer within {timeout:.3g} s") from None

    async def close(self) -> None:
        """Let go of connections; calls that still wait get a StoreFault."""
        self._closed = True
        await self._credentials.close()
        await self._pool.close()

    def fault(self, outage: Outage, what: str) -> StoreFault:
        """Return the fault that says this of the server."""
        return StoreFault(f"{self._name} {what}", outage)

    def _refusal(self, what: str, *, everything: bool = False) -> Refused:
        return Refused(f"{self._name} {what}", everything=everything)

    def refuse_watch(self, code: int, message: str) -> NoReturn:
        """Raise what it means that a watch is not begun, or ended, with this code."""
        if code == GONE:
            raise Gone(f"{self._name} does not keep changes that old: {message}", Outage.FAILING)
        raise self.fault(Outage.FAILING, f"ended the watch ({code}): {message}")

    @contextlib.contextmanager
    def faults(self) -> Iterator[None]:
        """Turn what goes wrong on a connection into StoreFaults."""
        try:
            yield
        except TimeoutError:
            # An OSError to Python; whoever set the timeout knows what it means.
            raise
        except ssl.SSLCertVerificationError as error:
            raise self.fault(
                Outage.UNREACHABLE,
                f"shows a certificate that is not trusted: {error.verify_message}",
            ) from None
        except (EOFError, ConnectionResetError, BrokenPipeError, ssl.SSLEOFError):
            raise self.fault(Outage.UNREACHABLE, "closed the connection") from None
        except ssl.SSLError as error:
            raise self.fault(Outage.UNREACHABLE, f"does not agree on TLS: {error.reason}") from None
        except OSError as error:
            raise self.fault(
                Outage.UNREACHABLE, f"cannot be reached: {printable(error.strerror or str(error))}"
            ) from None
        except (NotHttp, ValueError, KeyError, TypeError) as error:
            raise self.fault(
                Outage.FAILING, f"gave an answer that cannot be understood: {printable(str(error))}"
            ) from None

    @contextlib.contextmanager
    def _unless_refused(self, key: tuple[str, str]) -> Iterator[None]:
        """Ask inside, unless it was refused a short while ago.

        Then the answer is the same, and nothing is sent.
        """
        clock, refusals = asyncio.get_running_loop().time, self._refusals
        # Taken before the login: the next request notices files that change from here on.
        files = self._credentials.signature()
        if refusals.wait(key, clock(), files):
            raise self._refused(key)
        if refusals.expected(key):
            self._credentials.look_again()
        try:
            yield
        except Refused as refused:
            what = EVERYTHING if refused.everything else key
            refusals.refused(what, clock(), files, str(refused))
            raise self._refused(key) from None
        except BaseException:
            refusals.unanswered(key, clock())
            raise
        refusals.granted(key)

    def _refused(self, key: tuple[str, str]) -> Refused:
        """Return what it means that this is refused.

        An API server refuses everybody everything in its first seconds.
        """
        refusal = self._refusals.of(key)
        lasts = asyncio.get_running_loop().time() - refusal.since >= self.starting
        return Refused(
            refusal.why,
            everything=refusal.everything,
            outage=Outage.REFUSING if lasts else Outage.FAILING,
        )

    @property
    def _name(self) -> str:
        return f"the Kubernetes API at {self._server}" if self._server else "the Kubernetes API"

    async def _login(self) -> Login:
        if self._closed:
            raise self.fault(Outage.UNREACHABLE, "was let go of")
        wait = self._not_before - asyncio.get_running_loop().time()
        if wait > 0:
            raise self.fault(Outage.THROTTLED, f"asked to be left alone for another {wait:.2g} s")
        try:
            login = await self._credentials.login()
        except BadAccess as bad:
            raise StoreFault(f"no access to the Kubernetes API: {bad}", Outage.REFUSING) from None
        self._server = login.server
        return login

    @contextlib.asynccontextmanager
    async def _asked(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        *,
        body: object = None,
        contact: int | None = None,
        watch: bool = False,
    ) -> AsyncIterator[tuple[Connection, Head]]:
        """Send a request and return the beginning of its answer.

        After a 401 it is sent once more if there are newer credentials: nothing was done then.
        Nothing else is sent twice.
        """
        data = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        refused: Login | None = None
        while True:
            login = await self._login()
            if login == refused:
                raise self._refusal("does not accept the credentials (401)", everything=True)
            target = (
                urlsplit(login.server).path.rstrip("/")
                + path
                + (f"?{urlencode(query)}" if query else "")
            )
            with self.faults():
                async with self._pool.connection(login, watch=watch) as connection:
                    if contact is not None and contact != self._pool.contact:
                        raise Stale
                    head = await connection.ask(method, target, _headers(login.token), data)
                    if head.code != UNAUTHORIZED:
                        yield connection, head
                        return
                    await connection.body()
            if refused is not None:
                raise self._refusal(
                    "does not accept the credentials, nor newer ones (401)", everything=True
                )
            self._credentials.refused()
            refused = login

    def _reply(self, head: Head, data: bytes) -> Reply:
        code = head.code
        if code in ANSWERS:
            with self.faults():
                body = json.loads(data)
                if not isinstance(body, dict):
                    raise TypeError("no JSON object")
                return Reply(code, body)
        message = _message(data)
        if "retry-after" in head.headers:
            self._pause(head.headers["retry-after"])
        if code == FORBIDDEN:
            raise self._refusal(f"forbids it (403): {message}")
        if code == TOO_MANY:
            raise self.fault(Outage.THROTTLED, f"has too many requests (429): {message}")
        outage = next(
            (outage for words, outage in BEHIND.items() if words in message), Outage.FAILING
        )
        raise self.fault(
            outage,
            f"{'failed' if code >= SERVER_ERROR else 'refuses the request'} ({code}): {message}",
        )

    def _pause(self, retry_after: str) -> None:
        seconds = float(retry_after) if retry_after.isdecimal() else DEFAULT_PAUSE
        self._not_before = asyncio.get_running_loop().time() + min(seconds, self._longest_pause)


def _headers(token: str) -> dict[str, str]:
    login = {"Authorization": f"Bearer {token}"} if token else {}
    return {
        "Accept": "application/json",
        "User-Agent": "vipd",
        "Content-Type": "application/json",
        **login,
    }


def _message(data: bytes) -> str:
    """Return what a Status says, or the beginning of whatever a proxy sent instead."""
    try:
        status = json.loads(data)
    except ValueError:
        status = None
    said = (
        status.get("message") if isinstance(status, dict) else data[:SHOWN].decode(errors="replace")
    )
    return printable(str(said or "it gives no reason"))


def printable(text: str) -> str:
    """Return the beginning of a text as one line without escape sequences.

    It goes to logs and terminals.
    """
    return "".join(char if char.isprintable() else " " for char in text[:SHOWN]).strip()
