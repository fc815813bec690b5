"""The way to one etcd server: a channel made with the certificates of now, and the token that was given on it.

When the files have changed, the next call gets a new channel. The old one stays for whoever still uses it: a renewed
certificate must cut neither a watch that stands nor a write whose answer is under way.
"""

from __future__ import annotations

import asyncio
from typing import Any

from election.etcd_access import BadAccess, EtcdAccess, Signature, Tls, read_password, read_tls, signature
from election.etcd_faults import AUTH_IS_OFF, DENIED, TOKEN_REFUSED, WRONG_PASSWORD, too_old
from election.etcd_rpc import ChannelConnectivity, rpc, ssl_channel_credentials

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
    # A watch begins with a list of all records, and a stranger may have filled some.
    "grpc.max_receive_message_length": 64 * 1024 * 1024,
    # http_proxy in the environment is not meant for etcd.
    "grpc.enable_http_proxy": 0,
}
NEED_QUORUM = (("hasleader", "true"),)
"""With this a server that is cut off from the others refuses requests and ends its watches, which otherwise stand and report nothing."""
PASSWORD_PAUSE = 1.0
"""Seconds between two attempts with a password that was refused: each costs etcd a bcrypt, some 60 ms of a core."""

Metadata = tuple[tuple[str, str], ...]


class Line:
    """One channel and its stubs. `metadata` goes with every call; `ready`: the server is new enough, and knows who calls."""

    def __init__(self, target: str, tls: Tls | None) -> None:
        options = tuple(OPTIONS.items())
        if tls is None:
            self._channel = rpc.insecure_channel(target, options=options)
        else:
            credentials = ssl_channel_credentials(tls.authorities, tls.key, tls.certificate)
            self._channel = rpc.secure_channel(target, credentials, options=options)
        self.kv = rpc.KVStub(self._channel)
        self.leases = rpc.LeaseStub(self._channel)
        self.watches = rpc.WatchStub(self._channel)
        self.auth = rpc.AuthStub(self._channel)
        self.maintenance = rpc.MaintenanceStub(self._channel)
        self.metadata: Metadata = NEED_QUORUM
        self.ready = False
        self._users = 0
        self._retired = False

    @property
    def in_use(self) -> bool:
        """Whether somebody still has it."""
        return self._users > 0

    @property
    def connected(self) -> bool:
        """Whether its connection stands, as far as gRPC knows."""
        return bool(self._channel.get_state() is ChannelConnectivity.READY)

    def take(self) -> None:
        """Count one more user."""
        self._users += 1

    async def give(self) -> None:
        """Count one user less; the last one of a retired line closes it."""
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
        await self._channel.close()


class TooOldError(Exception):
    """The server lacks what vipd needs; the message says what the server is."""


class PasswordRefusedError(Exception):
    """The server does not know the user with this password."""


class Lines:
    """The lines to one server: the current one, and retired ones that are still in use. Used in one event loop.

    `flaw` says why the certificate files as they are now cannot be used (a line from before goes on working); empty: they can.
    """

    def __init__(self, target: str, access: EtcdAccess, *, tls: bool) -> None:
        self._target = target
        self._access = access
        self._tls = tls
        self._files: Signature | None = None
        self._line: Line | None = None
        self._old: list[Line] = []
        self._greeting = asyncio.Lock()
        self._refused: tuple[float, Signature] | None = None
        self.flaw = ""

    @property
    def connected(self) -> bool:
        """Whether there is a connection to the server, as far as gRPC knows."""
        return self._line is not None and self._line.connected

    def renewable(self, metadata: Metadata, details: str) -> bool:
        """Whether to log in, and send a call again that was refused with these details.

        Authentication that is turned on finds calls without a token. With a client certificate they are then not called calls
        without a user, but denied: the certificate names one, though perhaps the empty one.
        """
        without_token = metadata == NEED_QUORUM and DENIED in details
        return bool(self._access.username) and (without_token or any(part in details for part in TOKEN_REFUSED))

    async def take(self) -> Line:
        """Return the line to use, logged in; to be given back. Raises BadAccess, the two errors above, and gRPC's."""
        before, line = self._line, self._current()
        line.take()
        try:
            if before is not None and before is not line:
                self._old = [*(old for old in self._old if old.in_use), before]
                await before.retire()
            if not line.ready:
                async with self._greeting:
                    await self._greet(line)
        except BaseException:
            await line.give()
            raise
        return line

    async def renew(self, line: Line, refused: Metadata) -> None:
        """Log in again after the server refused the token in this metadata, unless another call has done so."""
        async with self._greeting:
            if line.metadata == refused:
                await self._log_in(line)

    async def close(self) -> None:
        """Close all lines; calls on them end at once."""
        lines = [*self._old, *([self._line] if self._line else [])]
        self._line, self._old = None, []
        for line in lines:
            await line.close()

    def _current(self) -> Line:
        """Return the line for the files as they are now. While they cannot be used: the one from before, or BadAccess."""
        files = signature(self._access.tls_files) if self._tls else ()
        if files != self._files:
            self._files, self.flaw = files, ""
            try:
                self._line = Line(self._target, read_tls(self._access) if self._tls else None)
            except BadAccess as bad:
                self.flaw = str(bad)
        if self._line is None:
            raise BadAccess(self.flaw)
        return self._line

    async def _greet(self, line: Line) -> None:
        """Make the line ready, unless another call has done so."""
        if line.ready:
            return
        if self._access.username and line.metadata == NEED_QUORUM:
            await self._log_in(line)
        try:
            version = str((await line.maintenance.Status(rpc.StatusRequest(), metadata=line.metadata[1:])).version)
        except rpc.AioRpcError as error:
            # Whoever may not ask for the version may still use the store; whoever is not there says so at once.
            if error.code() in {rpc.StatusCode.UNAVAILABLE, rpc.StatusCode.UNIMPLEMENTED}:
                raise
        else:
            if too_old(version):
                raise TooOldError(f"is of version {version}: version 3.4 or newer is needed")
        line.ready = True

    async def _log_in(self, line: Line) -> None:
        """Get a token for the password that is in the file now."""
        now = asyncio.get_running_loop().time()
        file = signature([self._access.password_file])
        if self._refused is not None and now < self._refused[0] and file == self._refused[1]:
            raise PasswordRefusedError
        request = rpc.AuthenticateRequest(name=self._access.username, password=read_password(self._access))
        try:
            answer: Any = await line.auth.Authenticate(request)
        except rpc.AioRpcError as error:
            details = str(error.details())
            if WRONG_PASSWORD in details:
                self._refused = (now + PASSWORD_PAUSE, file)
                raise PasswordRefusedError from None
            if AUTH_IS_OFF not in details:
                raise
            # An operator may turn it off for a while: the server works without, and asks for the user once it is on again.
            line.metadata = NEED_QUORUM
        else:
            line.metadata = (*NEED_QUORUM, ("token", answer.token))
