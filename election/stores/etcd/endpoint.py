"""One etcd server: the calls that vipd needs of it, on the stubs that aetcd generated, and every
fault as an StoreFault.

aetcd's client and watcher are not used, but the stubs below them. Its client has no TLS, keeps a
token that has expired, and hides which error a server returned; its watcher passes over in silence
that a server ended a watch (no quorum, a closed stream, a compacted revision at creation), and the
watch never reports anything again.

There is no timeout here: callers bound each call with asyncio.timeout, which cancels the request.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from election.outage import Outage
from election.stores.errors import (
    BadAccess,
    LoginSilent,
    NothingDone,
    PasswordRefused,
    StoreFault,
    TooOld,
)
from election.stores.etcd.access import NO_ACCESS, EtcdAccess
from election.stores.etcd.batch import (
    MOST_TOGETHER,
    Gatherer,
    Item,
    Swap,
    first_item,
    fitting,
    item_of,
    read_request,
    read_together,
    swap_request,
    together,
)
from election.stores.etcd.channel import EtcdChannel, EtcdChannels
from election.stores.etcd.faults import REFUSALS, UNKNOWN_SERVICE, WRONG_PASSWORD, meaning
from election.stores.etcd.login import Login
from election.stores.etcd.rpc import EOF, prefix_range_end, rpc

PROGRESS_INTERVAL = 1.0
"""Seconds of silence after which a watch's server is asked for a sign of life, at most; with short
timeouts two of these, so that a watch that is silently dead is noticed within the shortest
lease."""


@dataclass(frozen=True, slots=True)
class Change:
    """A key has changed; no item: it is gone."""

    key: str
    item: Item | None


class Endpoint:
    """The calls that vipd needs of one server.

    All raise StoreFault. Connects with the first one, and again by itself.
    """

    def __init__(
        self, url: str, access: EtcdAccess = NO_ACCESS, login: Login | None = None
    ) -> None:
        self.url = url
        target, self._tls = target_of(url)
        self._access = access
        self._channels = EtcdChannels(target, access, tls=self._tls, login=login or Login(access))
        self._gets: Gatherer[str, Item | None] = Gatherer(
            self._get_all, lambda keys: min(len(keys), MOST_TOGETHER)
        )
        self._swaps: Gatherer[Swap, int | None] = Gatherer(self._swap_all, fitting)
        self._closed = False

    @property
    def silence(self) -> Outage:
        """What it means that no answer came: whether there is a connection at all."""
        return Outage.SLOW if self._channels.connected else Outage.UNREACHABLE

    @property
    def logging_in(self) -> float:
        """For how many seconds the node's login has been under way, here or at another server; 0.0:
        none is.
        """
        return self._channels.login.lasts

    def note_silence(self) -> None:
        """Note that it gave no answer: its name may lead elsewhere by now."""
        if not self._closed:
            self._channels.note_silence()

    async def get(self, key: str) -> Item | None:
        """Return a key as of a moment after this call began (linearizable)."""
        return await self._gets.ask(key)

    async def list(self, prefix: str) -> tuple[int, list[Item]]:
        """Return all keys with this prefix, and the store's revision at which they were as returned
        (linearizable).
        """
        request = rpc.RangeRequest(key=prefix.encode(), range_end=prefix_range_end(prefix.encode()))
        found = await self._call(
            lambda channel: channel.kv.Range(request, metadata=channel.metadata), f"read {prefix}"
        )
        return int(found.header.revision), [item_of(kv) for kv in found.kvs]

    async def swap(self, key: str, value: bytes, before: Item | None) -> int | None:
        """Write the value if the key is still as it was before (None: absent).

        Return the new revision, or None: it is not.
        """
        return await self._swaps.ask(Swap(key, value, before))

    async def put(self, key: str, value: bytes, ttl: int) -> int:
        """Write the value, whatever is there, for `ttl` seconds; return the new revision.

        Each time under a new lease of etcd's: none can have run out meanwhile, and the one before
        runs out without a key.
        """
        grant = rpc.LeaseGrantRequest(TTL=ttl)
        lease = await self._call(
            lambda channel: channel.leases.LeaseGrant(grant, metadata=channel.metadata),
            f"write {key}",
        )
        request = rpc.PutRequest(key=key.encode(), value=value, lease=lease.ID)
        done = await self._call(
            lambda channel: channel.kv.Put(request, metadata=channel.metadata), f"write {key}"
        )
        return int(done.header.revision)

    async def delete(self, key: str) -> None:
        """Remove a key, if it is there."""
        request = rpc.DeleteRangeRequest(key=key.encode())
        await self._call(
            lambda channel: channel.kv.DeleteRange(request, metadata=channel.metadata),
            f"remove {key}",
        )

    async def watch(self, prefix: str, start: int, timeout: float) -> Watch:
        """Return the changes from the revision `start` on.

        A server silent for `timeout` seconds when asked is given up.
        """
        with self.faults(f"watch {prefix}"):
            channel = await self._channels.acquire()
            watch = Watch(self, channel, prefix, timeout)
            try:
                await watch.begin(start)
            except BaseException:
                await watch.close()
                raise
        return watch

    async def close(self) -> None:
        """Let go of the connections; calls that still wait get an StoreFault."""
        self._closed = True
        await self._channels.close()

    def fault(self, what: str, outage: Outage = Outage.UNREACHABLE) -> StoreFault:
        """Return the fault that says this of the server."""
        flaw = f"; {self._channels.flaw}" if self._channels.flaw else ""
        return StoreFault(f"etcd at {self.url} {what}{flaw}", outage)

    def meant(self, details: str, doing: str) -> StoreFault:
        """Return the fault for what etcd or gRPC said when asked to do this."""
        fault = self.fault(*meaning(details, self._access, tls=self._tls, doing=doing))
        refused = any(part in details for part in REFUSALS)
        return NothingDone(str(fault), fault.outage) if refused else fault

    @contextlib.contextmanager
    def faults(self, doing: str) -> Iterator[None]:
        """Turn whatever goes wrong into an StoreFault."""
        if self._closed:
            raise self.fault("was let go of")
        try:
            yield
        except rpc.AioRpcError as error:
            unknown = error.code() is rpc.StatusCode.UNIMPLEMENTED
            raise self.meant(UNKNOWN_SERVICE if unknown else str(error.details()), doing) from error
        except PasswordRefused:
            raise self.meant(WRONG_PASSWORD, doing) from None
        except (LoginSilent, TooOld) as error:
            raise self.fault(str(error), error.outage) from None
        except BadAccess as bad:
            raise StoreFault(f"etcd at {self.url} is not asked: {bad}", Outage.REFUSING) from None
        except (rpc.RpcError, rpc.BaseError) as error:
            raise self.fault(f"failed: {error or type(error).__name__}", Outage.FAILING) from error
        except asyncio.InvalidStateError:
            # gRPC says this to whoever writes to a stream that has ended since.
            raise self.fault("ended the watch") from None
        except asyncio.CancelledError:
            # gRPC says this to whoever waits for a call on a channel that is closed, though nobody
            # cancelled the task.
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise self.fault("was let go of") from None

    async def _get_all(self, keys: Sequence[str]) -> Sequence[Item | None]:
        if len(keys) == 1:
            request = read_request(keys[0])
            return [
                first_item(
                    await self._call(
                        lambda channel: channel.kv.Range(request, metadata=channel.metadata),
                        f"read {keys[0]}",
                    )
                )
            ]
        found = await self._transact(read_together(keys), f"read {_all(keys)}")
        return [first_item(part.response_range) for part in found.responses]

    async def _swap_all(self, swaps: Sequence[Swap]) -> Sequence[int | None]:
        doing = f"write {_all([swap.key for swap in swaps])}"
        if len(swaps) == 1:
            done = await self._transact(swap_request(swaps[0]), doing)
            return [int(done.header.revision) if done.succeeded else None]
        done = await self._transact(together(swaps), doing)
        # All that one transaction writes gets one revision, its own; the nested answers do not
        # repeat it.
        revision = int(done.header.revision)
        return [revision if part.response_txn.succeeded else None for part in done.responses]

    async def _transact(self, request: Any, doing: str) -> Any:  # noqa: ANN401 - protobuf messages
        return await self._call(
            lambda channel: channel.kv.Txn(request, metadata=channel.metadata), doing
        )

    async def _call(self, send: Callable[[EtcdChannel], Awaitable[Any]], doing: str) -> Any:  # noqa: ANN401 - a protobuf message
        """Send a request. A second time only if the server refused the token, which it does before
        it applies anything.
        """
        with self.faults(doing):
            async with self._channel() as channel:
                used = channel.metadata
                try:
                    answer = await send(channel)
                except rpc.AioRpcError as error:
                    if not self._channels.renewable(used, str(error.details())):
                        raise
                    await self._channels.login.renew(channel, used)
                    answer = await send(channel)
                self._channels.note_answer()
                return answer

    @contextlib.asynccontextmanager
    async def _channel(self) -> AsyncIterator[EtcdChannel]:
        channel = await self._channels.acquire()
        try:
            yield channel
        finally:
            await channel.remove_user()


class Watch:
    """A stream of changes. Made by Endpoint.watch."""

    def __init__(
        self, endpoint: Endpoint, channel: EtcdChannel, prefix: str, timeout: float
    ) -> None:
        self._endpoint = endpoint
        self._channel = channel
        self._prefix = prefix
        self._doing = f"watch {prefix}"
        self._timeout = timeout
        self._call: Any = None
        self._given_back = False
        self._reading: asyncio.Task[Any] | None = None

    async def begin(self, start: int) -> None:
        """Ask for the watch and wait until it stands."""
        key = self._prefix.encode()
        request = rpc.WatchCreateRequest(
            key=key, range_end=prefix_range_end(key), start_revision=start
        )
        self._call = self._channel.watches.Watch(metadata=self._channel.metadata)
        await self._call.write(rpc.WatchRequest(create_request=request))
        self._checked(await self._call.read())

    async def changes(self) -> list[Change]:
        """Return the next changes, in the order in which they happened.

        Raises StoreFault once the watch is broken.
        """
        with self._endpoint.faults(self._doing):
            while True:
                response = self._checked(await self._next())
                if response.events:
                    return [_change(event) for event in response.events]

    async def close(self) -> None:
        """End the watch."""
        if self._call is not None:
            self._call.cancel()
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait({self._reading})
        if not self._given_back:
            self._given_back = True
            await self._channel.remove_user()

    async def _next(self) -> Any:  # noqa: ANN401 - a protobuf message
        # A read that is cancelled takes the stream with it, so it stays in a task of its own while
        # the silence is measured.
        if self._reading is None:
            self._reading = asyncio.create_task(self._call.read())
        done, _ = await asyncio.wait(
            {self._reading}, timeout=min(PROGRESS_INTERVAL, 2 * self._timeout)
        )
        if not done:
            await self._ask_for_life(self._reading)
        reading, self._reading = self._reading, None
        return reading.result()

    async def _ask_for_life(self, reading: asyncio.Task[Any]) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                await self._call.write(
                    rpc.WatchRequest(progress_request=rpc.WatchProgressRequest())
                )
                await asyncio.wait({reading})
        except TimeoutError:
            raise self._endpoint.fault(
                f"gave no sign of life within {self._timeout:g} s", Outage.SLOW
            ) from None

    def _checked(self, response: Any) -> Any:  # noqa: ANN401 - a protobuf message
        if response is EOF:
            raise self._endpoint.fault("ended the watch")
        if response.compact_revision:
            raise self._endpoint.fault(
                "has compacted the changes that were to be reported", Outage.FAILING
            )
        if response.canceled:
            raise self._endpoint.meant(response.cancel_reason, self._doing)
        return response


def target_of(url: str) -> tuple[str, bool]:
    """Return what gRPC connects to, and whether with TLS, for `https://host:port`, `http://host` or
    `host`; raises ValueError.
    """
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if (
        parts.scheme not in {"http", "https"}
        or not parts.hostname
        or parts.path not in {"", "/"}
        or parts.query
        or parts.username
    ):
        raise ValueError(f"{url} is not an endpoint like https://192.0.2.1:2379")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{host}:{parts.port or 2379}", parts.scheme == "https"


def _all(keys: Sequence[str]) -> str:
    return keys[0] if len(keys) == 1 else f"{keys[0]} and {len(keys) - 1} more"


def _change(event: Any) -> Change:  # noqa: ANN401 - a protobuf message
    item = item_of(event.kv)
    return Change(item.key, None if event.type == rpc.Event.DELETE else item)
