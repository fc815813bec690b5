"""The way to one etcd server: a channel made with the certificates of now.

When the files have changed, the next call gets a new channel. The old one stays for whoever still
uses it: a renewed certificate must cut neither a watch that stands nor a write whose answer is
under way.
"""

from __future__ import annotations

import asyncio
import ipaddress

from election.stores.errors import BadAccess, TooOld
from election.stores.etcd.access import EtcdAccess, Signature, Tls, read_tls, signature
from election.stores.etcd.faults import DENIED, TOKEN_REFUSED, too_old
from election.stores.etcd.login import NEED_QUORUM, Login, Metadata
from election.stores.etcd.rpc import ChannelConnectivity, rpc, ssl_channel_credentials

OPTIONS = {
    # gRPC waits up to 120 s before it tries a server again that was down; a restart has to be
    # noticed within 500 ms, and the waits vary by 20 %.
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 400,
    # What it calls so is the time that an attempt to connect may take: 20 s into a network that
    # swallows packets. Two round trips have to fit.
    "grpc.min_reconnect_backoff_ms": 400,
    # After a partition TCP sends again only when its doubled timer runs out, minutes later at
    # worst. With keepalive gRPC gives up a connection whose bytes stay unacknowledged for this
    # timeout. etcd forbids pings more often than every 5 s.
    "grpc.keepalive_time_ms": 6000,
    "grpc.keepalive_timeout_ms": 1000,
    # A watch begins with a list of all records, and anybody may have filled some.
    "grpc.max_receive_message_length": 64 * 1024 * 1024,
    # A name that has moved: gRPC asks again when a connection fails, but not more often than every
    # 30 s.
    "grpc.dns_min_time_between_resolutions_ms": 500,
    # http_proxy in the environment is not meant for etcd.
    "grpc.enable_http_proxy": 0,
}
TRY_AGAIN = 1.0
"""Seconds between two attempts to find out whether a name leads elsewhere by now."""


class EtcdChannel:
    """One channel and its stubs. `ready`: the server is new enough."""

    def __init__(self, target: str, tls: Tls | None, login: Login | None = None) -> None:
        self._login = login
        options = tuple(OPTIONS.items())
        if tls is None:
            self._grpc = rpc.insecure_channel(target, options=options)
        else:
            credentials = ssl_channel_credentials(tls.authorities, tls.key, tls.certificate)
            self._grpc = rpc.secure_channel(target, credentials, options=options)
        self.kv = rpc.KVStub(self._grpc)
        self.leases = rpc.LeaseStub(self._grpc)
        self.watches = rpc.WatchStub(self._grpc)
        self.auth = rpc.AuthStub(self._grpc)
        self.maintenance = rpc.MaintenanceStub(self._grpc)
        self.ready = False
        self._users = 0
        self._retired = False

    @property
    def metadata(self) -> Metadata:
        """What goes with every call: the token of this moment."""
        return self._login.metadata if self._login is not None else NEED_QUORUM

    @property
    def in_use(self) -> bool:
        """Whether somebody still has it."""
        return self._users > 0

    @property
    def connected(self) -> bool:
        """Whether its connection stands, as far as gRPC knows."""
        return bool(self._grpc.get_state() is ChannelConnectivity.READY)

    def connect(self) -> None:
        """Begin to connect, without a call."""
        self._grpc.get_state(try_to_connect=True)

    def add_user(self) -> None:
        """Count one more user."""
        self._users += 1

    async def remove_user(self) -> None:
        """Count one user less; the last one of a retired channel closes it."""
        self._users -= 1
        if self._retired and not self.in_use:
            await self.close()

    async def retire(self) -> None:
        """Take on no more users, and close as soon as there are none."""
        self._retired = True
        if not self.in_use:
            await self.close()

    async def close(self) -> None:
        """Close the channel; calls on it end at once."""
        await self._grpc.close()


class EtcdChannels:
    """The channels to one server.

    The current one, and retired ones that are still in use. Used in one event loop.

    A name is resolved by gRPC, and again only when it sees a connection fail, which it does not
    while a server is frozen or a network swallows packets. So when calls get no answer another
    channel is tried beside the current one, which gRPC resolves the name for; as soon as it is
    connected it takes the current one's place. (Until then that one stays: it is all there is while
    name servers are away too.)

    `flaw` says why the certificate files as they are now cannot be used (a channel from before goes
    on working); empty: they can.
    """

    def __init__(self, target: str, access: EtcdAccess, *, tls: bool, login: Login) -> None:
        self._target = target
        self._access = access
        self._tls = tls
        self._read: Tls | None = None
        self.login = login
        self._trial: EtcdChannel | None = None
        self._tried_at = float("-inf")
        self._closing: set[asyncio.Task[None]] = set()
        self._files: Signature | None = None
        self._channel: EtcdChannel | None = None
        self._old: list[EtcdChannel] = []
        self._greeting = asyncio.Lock()
        self.flaw = ""

    @property
    def connected(self) -> bool:
        """Whether there is a connection to the server, as far as gRPC knows."""
        return self._channel is not None and self._channel.connected

    def renewable(self, metadata: Metadata, details: str) -> bool:
        """Whether to log in, and send a call again that was refused with these details.

        Authentication that is turned on finds calls without a token. With a client certificate they
        are then not called calls without a user, but denied: the certificate names one, though
        perhaps the empty one.
        """
        without_token = metadata == NEED_QUORUM and DENIED in details
        return bool(self._access.username) and (
            without_token or any(part in details for part in TOKEN_REFUSED)
        )

    async def acquire(self) -> EtcdChannel:
        """Return the channel to use, logged in; to be given back.

        Raises BadAccess, TooOld, Login's errors, and gRPC's.
        """
        before, channel = self._channel, self._current()
        if self._trial is not None and self._trial.connected:
            self._channel, self._trial = self._trial, None
            channel = self._channel
        channel.add_user()
        try:
            if before is not None and before is not channel:
                self._old = [*(old for old in self._old if old.in_use), before]
                await before.retire()
            if not channel.ready:
                async with self._greeting:
                    await self._greet(channel)
        except BaseException:
            await channel.remove_user()
            raise
        return channel

    def note_silence(self) -> None:
        """Note that a call got no answer.

        See whether a fresh channel gets a connection, perhaps to another address.
        """
        now = asyncio.get_running_loop().time()
        if (
            self._channel is None
            or is_address(self._target)
            or self.login.lasts
            or now - self._tried_at < TRY_AGAIN
        ):
            return
        self._tried_at = now
        self._drop_trial()
        self._trial = EtcdChannel(self._target, self._read, self.login)
        self._trial.connect()

    def note_answer(self) -> None:
        """Note that a call was answered."""
        self._drop_trial()

    def _drop_trial(self) -> None:
        trial, self._trial = self._trial, None
        if trial is not None:
            closing = asyncio.get_running_loop().create_task(trial.close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Close all channels; calls on them end at once."""
        self._drop_trial()
        await asyncio.gather(*self._closing)
        channels = [*self._old, *([self._channel] if self._channel else [])]
        self._channel, self._old = None, []
        for channel in channels:
            await channel.close()

    def _current(self) -> EtcdChannel:
        """Return the channel for the files as they are now.

        While they cannot be used: the one from before, or BadAccess.
        """
        files = signature(self._access.tls_files) if self._tls else ()
        if files != self._files:
            self._files, self.flaw = files, ""
            try:
                self._read = read_tls(self._access) if self._tls else None
                self._channel = EtcdChannel(self._target, self._read, self.login)
                self._drop_trial()
            except BadAccess as bad:
                self.flaw = str(bad)
        if self._channel is None:
            raise BadAccess(self.flaw)
        return self._channel

    async def _greet(self, channel: EtcdChannel) -> None:
        """Make the channel ready, unless another call has done so."""
        if channel.ready:
            return
        await self.login.ensure(channel)
        try:
            version = str(
                (
                    await channel.maintenance.Status(
                        rpc.StatusRequest(), metadata=channel.metadata[1:]
                    )
                ).version
            )
        except rpc.AioRpcError as error:
            # Whoever may not ask for the version may still use the store; whoever is not there says
            # so at once.
            if error.code() in {rpc.StatusCode.UNAVAILABLE, rpc.StatusCode.UNIMPLEMENTED}:
                raise
        else:
            if too_old(version):
                raise TooOld(f"is of version {version}: version 3.4 or newer is needed")
        channel.ready = True


def is_address(target: str) -> bool:
    """Whether what gRPC connects to is an address and a port, and no name."""
    try:
        ipaddress.ip_address(target.rpartition(":")[0].strip("[]"))
    except ValueError:
        return False
    return True
