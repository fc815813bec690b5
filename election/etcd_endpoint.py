"""One etcd server, through aetcd: the only file that knows the library and its errors.

aetcd has one timeout for each client, so there is none here: callers bound each call with asyncio.timeout, which cancels
the request. Its watcher is not used, but the generated stub below it: when a server ends a watch (no quorum, a closed
stream, a compacted revision at creation) aetcd 1.0.0 passes that over in silence and the watch never reports anything again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aetcd
from aetcd import rpc
from aetcd.utils import prefix_range_end
from grpc.aio import EOF

OPTIONS = {
    # gRPC waits up to 120 s before it tries a server again that was down; a restart has to be noticed within 500 ms, and
    # the waits vary by 20 %.
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 400,
    # What it calls so is the time that an attempt to connect may take: 20 s into a network that swallows packets. Two round
    # trips have to fit.
    "grpc.min_reconnect_backoff_ms": 400,
    # After a partition TCP sends again only when its doubled timer runs out, minutes later at worst. With keepalive gRPC
    # gives up a connection whose bytes stay unacknowledged for this timeout. etcd forbids pings more often than every 5 s.
    "grpc.keepalive_time_ms": 6000,
    "grpc.keepalive_timeout_ms": 1000,
    # http_proxy in the environment is not meant for etcd.
    "grpc.enable_http_proxy": 0,
}
PROGRESS_INTERVAL = 1.0
"""Seconds of silence after which a watch's server is asked for a sign of life."""
LARGEST_COMPARED = 256 * 1024
"""Bytes of an old value that go into a request; etcd takes requests of 1.5 MiB, and a stranger may have filled one."""
NEED_QUORUM = (("hasleader", "true"),)
"""With this a server that is cut off from the others ends its watches, which otherwise stand and report nothing."""
MEANINGS = (
    ("no leader", "has no quorum"),
    ("leader changed", "has lost its quorum for a moment"),
    ("request timed out", "has no quorum, or is overloaded"),
    ("Connection refused", "refuses the connection"),
    ("Socket closed", "closed the connection"),
    ("failed to connect", "cannot be reached"),
    ("timed out", "cannot be reached"),
    ("space exceeded", "is out of space (alarm NOSPACE)"),
    ("permission denied", "denies the permission"),
    ("too many requests", "has too many requests"),
)
"""Parts of what etcd and gRPC say, and what to tell the operator."""


class EtcdFault(Exception):  # noqa: N818 - faults of the store are its everyday life, not errors of this program
    """The server did not do it, or nobody knows whether it did; the message is a sentence that says why."""


@dataclass(frozen=True, slots=True)
class Item:
    """A key with its value, and the store's revision at which it got it."""

    key: str
    value: bytes
    revision: int


@dataclass(frozen=True, slots=True)
class Change:
    """A key has changed; no item: it is gone."""

    key: str
    item: Item | None


class Endpoint:
    """The calls that vipd needs of one server. All raise EtcdFault. Connects with the first one, and again by itself."""

    def __init__(self, url: str) -> None:
        self.url = url
        host, port = host_and_port(url)
        self._client = aetcd.Client(host=host, port=port, options=OPTIONS)
        self._closed = False

    async def get(self, key: str) -> Item | None:
        """Return a key as of a moment after this call began (linearizable)."""
        with self._faults():
            found = await self._client.get(key.encode())
        return None if found is None else _item(found)

    async def list(self, prefix: str) -> tuple[int, list[Item]]:
        """Return all keys with this prefix, and the store's revision at which they were as returned (linearizable)."""
        with self._faults():
            found = await self._client.get_prefix(prefix.encode())
        return int(found.header.revision), [_item(kv) for kv in found.kvs]

    async def swap(self, key: str, value: bytes, before: Item | None) -> int | None:
        """Write the value if the key is still as it was before (None: absent); return the new revision, or None: it is not.

        The old value is compared besides its revision: after a restore from a backup etcd gives revisions out again.
        """
        operations = self._client.transactions
        compare = [operations.mod(key.encode()) == (before.revision if before else 0)]
        if before is not None and len(before.value) <= LARGEST_COMPARED:
            compare.append(operations.value(key.encode()) == before.value)
        with self._faults():
            done, answers = await self._client.transaction(compare, success=[operations.put(key.encode(), value)], failure=[])
        return int(answers[0].response_put.header.revision) if done else None

    async def put(self, key: str, value: bytes, ttl: int) -> int:
        """Write the value, whatever is there, for `ttl` seconds; return the new revision.

        Each time under a new lease of etcd's: none can have run out meanwhile, and the one before runs out without a key.
        """
        with self._faults():
            lease = await self._client.lease(ttl)
            return int((await self._client.put(key.encode(), value, lease=lease)).header.revision)

    async def delete(self, key: str) -> None:
        """Remove a key, if it is there."""
        with self._faults():
            await self._client.delete(key.encode())

    async def watch(self, prefix: str, start: int, timeout: float) -> Watch:
        """Return the changes from the revision `start` on. A server silent for `timeout` seconds when asked is given up."""
        with self._faults():
            await self._client.connect()
            call = rpc.WatchStub(self._client.channel).Watch(metadata=NEED_QUORUM)
            watch = Watch(self, call, timeout)
            try:
                await watch.begin(prefix, start)
            except BaseException:
                await watch.close()
                raise
        return watch

    async def close(self) -> None:
        """Let go of the connection; calls that still wait get an EtcdFault."""
        # aetcd connects again for any call, also after close().
        self._closed = True
        with contextlib.suppress(aetcd.ClientError, rpc.BaseError, TimeoutError):
            await self._client.close()

    def fault(self, what: str) -> EtcdFault:
        """Return the fault that says this of the server."""
        return EtcdFault(f"etcd at {self.url} {what}")

    def _meant(self, error: BaseException) -> EtcdFault:
        details = str(error.details() if isinstance(error, rpc.AioRpcError) else error)
        return self.fault(next((meaning for part, meaning in MEANINGS if part in details), f"failed: {details or type(error).__name__}"))

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        if self._closed:
            raise self.fault("was let go of")
        try:
            yield
        except (aetcd.ClientError, rpc.RpcError, rpc.BaseError) as error:
            raise self._meant(error) from error
        except asyncio.CancelledError:
            # gRPC says this to whoever waits for a call on a channel that is closed, though nobody cancelled the task.
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise self.fault("was let go of") from None


class Watch:
    """A stream of changes. Made by Endpoint.watch."""

    def __init__(self, endpoint: Endpoint, call: Any, timeout: float) -> None:  # noqa: ANN401 - aetcd has no types
        self._endpoint = endpoint
        self._call = call
        self._timeout = timeout
        self._reading: asyncio.Task[Any] | None = None

    async def begin(self, prefix: str, start: int) -> None:
        """Ask for the watch and wait until it stands."""
        key = prefix.encode()
        request = rpc.WatchCreateRequest(key=key, range_end=prefix_range_end(key), start_revision=start)
        await self._call.write(rpc.WatchRequest(create_request=request))
        self._checked(await self._call.read())

    async def changes(self) -> list[Change]:
        """Return the next changes, in the order in which they happened; raises EtcdFault once the watch is broken."""
        with self._endpoint._faults():  # noqa: SLF001 - two classes of one file
            while True:
                response = self._checked(await self._next())
                if response.events:
                    return [_change(event) for event in response.events]

    async def close(self) -> None:
        """End the watch."""
        self._call.cancel()
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait({self._reading})

    async def _next(self) -> Any:  # noqa: ANN401 - a protobuf message
        # A read that is cancelled takes the stream with it, so it stays in a task of its own while the silence is measured.
        if self._reading is None:
            self._reading = asyncio.create_task(self._call.read())
        done, _ = await asyncio.wait({self._reading}, timeout=PROGRESS_INTERVAL)
        if not done:
            await self._ask_for_life(self._reading)
        reading, self._reading = self._reading, None
        return reading.result()

    async def _ask_for_life(self, reading: asyncio.Task[Any]) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                await self._call.write(rpc.WatchRequest(progress_request=rpc.WatchProgressRequest()))
                await asyncio.wait({reading})
        except TimeoutError:
            raise self._endpoint.fault(f"gave no sign of life within {self._timeout:g} s") from None

    def _checked(self, response: Any) -> Any:  # noqa: ANN401 - a protobuf message
        if response is EOF:
            raise self._endpoint.fault("ended the watch")
        if response.compact_revision:
            raise self._endpoint.fault("has compacted the changes that were to be reported")
        if response.canceled:
            raise self._endpoint.fault(f"ended the watch: {response.cancel_reason}")
        return response


def host_and_port(url: str) -> tuple[str, int]:
    """Return host and port of `http://host:port` or `host:port`, as gRPC writes them; raises ValueError."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme != "http":
        raise ValueError(f"{url}: only http:// endpoints are supported by this version")
    if not parts.hostname or parts.path not in {"", "/"} or parts.query or parts.username:
        raise ValueError(f"{url} is not an endpoint like http://192.0.2.1:2379")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return host, parts.port or 2379


def _item(kv: Any) -> Item:  # noqa: ANN401 - a protobuf message
    return Item(bytes(kv.key).decode(errors="replace"), bytes(kv.value), int(kv.mod_revision))


def _change(event: Any) -> Change:  # noqa: ANN401 - a protobuf message
    item = _item(event.kv)
    return Change(item.key, None if event.type == rpc.Event.DELETE else item)
