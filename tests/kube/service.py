"""The HTTP side: from a request to a verb and back, with the faults that are set."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from tests.kube import status, verbs
from tests.kube.access import SUPERUSERS, Access, User, forbidden
from tests.kube.discovery import discovered
from tests.kube.faults import Fault, Faults, Kind
from tests.kube.listing import Habits, Watch, delete_all, get_cached, listed
from tests.kube.resources import NAMESPACES, Target, target_of
from tests.kube.status import ApiError, Json
from tests.kube.storage import Storage

LOGGED = 50_000
POLL = 0.01
LARGEST_BODY = 3 * 1024 * 1024
"""Bytes of a request: the real server's limit."""
LINKED = ("default", "kube-system", "kube-public", "kube-node-lease")
"""Namespaces that every cluster has:
https://kubernetes.io/docs/concepts/overview/working-with-objects/namespaces/ ."""


@dataclass(frozen=True, slots=True)
class Logged:
    """A request that came.

    Who asked what over which connection, and the code of the answer (0: none was given).
    """

    verb: str
    resource: str
    namespace: str
    name: str
    user: str
    connection: int
    code: int
    query: str


class Service:
    """One API server. Serves once `listen` is called, on the same port each time.

    `seed` decides what it leaves to chance.
    """

    def __init__(self, host: str, port: int, tls: ssl.SSLContext, seed: int = 0) -> None:
        self.host, self.port = host, port
        self._chance = random.Random(seed)
        self.storage = Storage()
        self.access = Access(self.storage)
        self.faults = Faults()
        self.habits = Habits()
        self.log: deque[Logged] = deque(maxlen=LOGGED)
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._knows_roles_at = 0.0
        self._busy: set[asyncio.Transport] = set()
        self._ending: asyncio.Task[None] | None = None
        self._runner = web.AppRunner(
            self._app(), access_log=None, handler_cancellation=True, shutdown_timeout=0.1
        )
        for name in LINKED:
            self.add_namespace(name)

    def _app(self) -> web.Application:
        app = web.Application(client_max_size=LARGEST_BODY)
        app.router.add_route("*", "/{path:.*}", self._handle)
        return app

    def add_namespace(self, name: str) -> None:
        """Make a namespace."""
        body = {"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": name}}
        verbs.create(self.storage, verbs.Call(Target(NAMESPACES), {}, "kube-apiserver", body))

    # ------------------------------------------------------------------ life

    async def start(self) -> None:
        """Get ready and listen."""
        await self._runner.setup()
        await self.listen()

    async def listen(self) -> None:
        """Serve; after a pause what was changed before cannot be watched any more, as after a
        restart of the real server.
        """
        if self._server is None:
            assert self._runner.server is not None
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(
                self._runner.server, self.host, self.port, ssl=self._tls, reuse_address=True
            )
            if self.port:
                self._knows_roles_at = (
                    loop.time() + self._chance.uniform(0.5, 1.0) * self.habits.forbidden_for
                )
            self.port = self._server.sockets[0].getsockname()[1]
            self.storage.compact()

    def know_roles(self) -> None:
        """End the time after a pause in which it forbids everything."""
        self._knows_roles_at = 0.0

    async def stop_listening(self) -> None:
        """Refuse connections and close those that there are."""
        if self._server is not None:
            self._server.close()
            self._server = None
            self.cut_connections()

    def terminate(self, patience: float) -> None:
        """End as the real server does on SIGTERM.

        Listen no more, close what is idle, and wait until no request is under way.

        A watch is one all the time. After `patience` seconds (of the real one 60) they are cut.
        `ended` says when it is over.
        """
        if self._server is not None:
            self._server.close()
            self._server = None
            self._ending = asyncio.get_running_loop().create_task(self._end(patience))

    @property
    def ended(self) -> bool:
        """Whether it has ended, as far as clients can tell."""
        return self._server is None and (self._ending is None or self._ending.done())

    async def _end(self, patience: float) -> None:
        assert self._runner.server is not None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while self._busy:
                    for connection in self._runner.server.connections:
                        if (
                            connection.transport is not None
                            and connection.transport not in self._busy
                        ):
                            connection.transport.close()
                    await asyncio.sleep(POLL)
        self.cut_connections()

    def cut_connections(self) -> int:
        """Close all connections as a crash would; return how many there were."""
        assert self._runner.server is not None
        connections = self._runner.server.connections
        for connection in connections:
            if connection.transport is not None:
                connection.transport.abort()
        return len(connections)

    async def stop(self) -> None:
        """End."""
        if self._ending is not None:
            self._ending.cancel()
        await self.stop_listening()
        await self._runner.cleanup()

    # ------------------------------------------------------------------ requests

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        target = target_of(request.path)
        verb = _verb(request, target)
        user = User("")
        # Now, for later the connection may be gone: the client's port, of which no two connections
        # of a short test have the same.
        peer = (
            request.transport.get_extra_info("peername") if request.transport is not None else None
        )
        connection, code = peer[1] if peer else 0, 0
        transport = request.transport
        if transport is not None:
            self._busy.add(transport)
        try:
            user = self.access.user(request.headers.get("Authorization", ""), _certificate(request))
            if target is None:
                answer: web.StreamResponse = _answer(discovered(request.path), 200)
            else:
                answer = await self._serve(request, verb, target, user)
            code = answer.status
        except ApiError as error:
            code = error.code
            answer = _refused(error)
        finally:
            self._note(request, verb, target, user, connection, code)
            if transport is not None:
                # The answer is sent when this has returned.
                asyncio.get_running_loop().call_soon(self._busy.discard, transport)
        return answer

    async def _serve(
        self, request: web.Request, verb: str, target: Target, user: User
    ) -> web.StreamResponse:
        fault = self.faults.take(verb, target.resource.plural, target.name)
        if fault is not None:
            await self._before(fault, request)
        if (
            asyncio.get_running_loop().time() < self._knows_roles_at
            and SUPERUSERS not in user.groups
        ):
            raise forbidden(user, verb, target)
        self.access.check(user, verb, target)
        if verb == "watch":
            return await self._watch(request, target)
        body = await _body(request)
        answer, code = await self._in_some_order(request, verb, target, body)
        if fault is not None:
            await _after(fault, request, answer)
        return _answer(answer, code, garbled=fault is not None and fault.kind is Kind.GARBLED)

    async def _before(self, fault: Fault, request: web.Request) -> None:
        match fault.kind:
            case Kind.SLOW:
                await asyncio.sleep(fault.seconds)
            case Kind.HUNG:
                await _for_ever()
            case Kind.DROPPED:
                await _drop(request)
            case Kind.REFUSED:
                raise ApiError(
                    fault.code, fault.reason, fault.message, retry_after=fault.retry_after
                )

    async def _in_some_order(
        self, request: web.Request, verb: str, target: Target, body: object
    ) -> tuple[Json, int]:
        """Carry a request out.

        If it changes something, its answer may come before or after what watches report of it.

        A real server's does: its watches hear from etcd while the answer is still on its way.
        """
        storage, before = self.storage, self.storage.version
        pause = self._chance.uniform(0.0, self.habits.gap)
        if self._chance.random() < self.habits.event_first:
            done = self._do(request, verb, target, body)
            if storage.version != before:
                await asyncio.sleep(pause)
            return done
        with storage.held():
            try:
                return self._do(request, verb, target, body)
            finally:
                if storage.version != before:
                    asyncio.get_running_loop().call_later(pause, storage.publish, storage.version)

    def _do(
        self, request: web.Request, verb: str, target: Target, body: object
    ) -> tuple[Json, int]:
        query = request.query
        if self.habits.strip_labels and verb in {"create", "update"} and isinstance(body, dict):
            body = {**body, "metadata": {**body.get("metadata", {}), "labels": {}}}
        manager = (
            query.get("fieldManager")
            or request.headers.get("User-Agent", "").partition("/")[0]
            or "unknown"
        )
        call = verbs.Call(target, query, manager, body)
        storage = self.storage
        match verb:
            case "get" if query.get("resourceVersion"):
                return get_cached(storage, target, query["resourceVersion"], self.habits), 200
            case "get":
                return verbs.get(storage, call), 200
            case "list":
                return listed(storage, target, query, self.habits), 200
            case "create":
                return verbs.create(storage, call), 201
            case "update":
                there = storage.get(call.key) is not None
                return verbs.update(storage, call), 200 if there else 201
            case "patch":
                there = storage.get(call.key) is not None
                return verbs.patch(storage, call, request.content_type), 200 if there else 201
            case "delete":
                return verbs.delete(storage, call), 200
            case "deletecollection":
                return self._delete_collection(target, call), 200
        raise ApiError(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        )

    def _delete_collection(self, target: Target, call: verbs.Call) -> Json:
        for name in delete_all(self.storage, target, call.query):
            one = Target(target.resource, target.namespace, name)
            verbs.delete(self.storage, verbs.Call(one, call.query, call.manager, call.body))
        return status.success(target.resource, "", "")

    async def _watch(self, request: web.Request, target: Target) -> web.StreamResponse:
        watch = Watch(self.storage, target, request.query, self.habits)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        async for event in watch.events():
            await response.write(json.dumps(event).encode() + b"\n")
        await response.write_eof()
        return response

    def _note(
        self,
        request: web.Request,
        verb: str,
        target: Target | None,
        user: User,
        connection: int,
        code: int,
    ) -> None:
        where = target or Target(NAMESPACES)
        resource = request.path if target is None else target.resource.plural
        self.log.append(
            Logged(
                verb,
                resource,
                where.namespace,
                where.name,
                user.name,
                connection,
                code,
                request.query_string,
            )
        )


def _verb(request: web.Request, target: Target | None) -> str:
    """Return the verb of RBAC.

    Https://kubernetes.io/docs/reference/access-authn-authz/authorization/#determine-the-request-verb
    .
    """
    if target is None:
        return request.method.lower()
    match request.method, bool(target.name):
        case "GET", named:
            # `watch` means nothing for one object: that is a watch of the collection with
            # fieldSelector=metadata.name=….
            return (
                "get"
                if named
                else "watch"
                if request.query.get("watch") in ("1", "true")
                else "list"
            )
        case "DELETE", named:
            return "delete" if named else "deletecollection"
        case "POST", False:
            return "create"
        case "PUT", True:
            return "update"
        case "PATCH", True:
            return "patch"
    return "none"


def _certificate(request: web.Request) -> Json | None:
    transport = request.transport
    found: Json | None = transport.get_extra_info("peercert") if transport is not None else None
    return found


async def _body(request: web.Request) -> object:
    data = await request.read()
    if not data:
        return None
    try:
        return json.loads(data)
    except ValueError as error:
        raise status.bad_request(f"couldn't get version/kind; json parse error: {error}") from None


def _answer(body: Json, code: int, *, garbled: bool = False) -> web.Response:
    data = json.dumps(body).encode()
    return web.Response(
        body=data[: len(data) // 2] if garbled else data,
        status=code,
        headers={"Content-Type": "application/json"},
    )


def _refused(error: ApiError) -> web.Response:
    response = _answer(error.status(), error.code)
    if error.retry_after:
        response.headers["Retry-After"] = str(error.retry_after)
    return response


async def _after(fault: Fault, request: web.Request, answer: Json) -> None:
    match fault.kind:
        case Kind.LOST:
            await _drop(request)
        case Kind.MUTE:
            await _for_ever()
        case Kind.CUT:
            data = json.dumps(answer).encode()
            response = web.StreamResponse(
                headers={"Content-Type": "application/json", "Content-Length": str(len(data))}
            )
            await response.prepare(request)
            await response.write(data[: len(data) // 2])
            await _drop(request, at_once=False)


async def _drop(request: web.Request, *, at_once: bool = True) -> None:
    transport = request.transport
    if transport is not None:
        close: Callable[[], None] = transport.abort if at_once else transport.close
        close()
    await _for_ever()


async def _for_ever() -> None:
    """Wait until the connection is gone: aiohttp cancels the handler then."""
    await asyncio.get_running_loop().create_future()
