"""The token for a user's calls to etcd.

Asked for with the password, once for all servers of a node.

Checking a password is the most expensive thing that etcd does (bcrypt, 60 ms of a core and more),
and it goes on with it when whoever asked has gone. So a login is not bounded by the call that needs
it: it runs by itself, for up to PATIENCE, and all calls wait for the same one, each for as long as
it may. A token is good at every server, so that one in hand serves on while another one is asked
for. A server that gives no sign of life meanwhile, or has no quorum, is given up early where there
are others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from secrets import SystemRandom
from typing import TYPE_CHECKING, Any

from election.stores.errors import LoginSilent, PasswordRefused
from election.stores.etcd.access import EtcdAccess, Signature, read_password, signature
from election.stores.etcd.faults import AUTH_IS_OFF, WRONG_PASSWORD
from election.stores.etcd.rpc import rpc

if TYPE_CHECKING:
    from election.stores.etcd.channel import EtcdChannel

NEED_QUORUM = (("hasleader", "true"),)
"""With this a server that is cut off from the others refuses requests and ends its watches, which
otherwise stand and report nothing."""
PATIENCE, LONGEST_PATIENCE = 10.0, 80.0
"""Seconds that a login may take: thirty nodes ask at the same time after a restart. Twice as many
after one that took longer: etcd checks all passwords side by side, and where it cannot check all of
them in this time it would never have checked one."""
SIGN_OF_LIFE = 0.5
"""Seconds after which a server that checks a password is asked for a sign of life, and again each
time."""
SILENCE, LONGEST_SILENCE = 1.0, 8.0
"""Seconds that this may take, twice as many each time: a server under load may only be slow."""
SHORTEST_PAUSE, LONGEST_PAUSE = 1.0, 2.0
"""Seconds before a login that failed is begun again; twice as long after each one."""
JITTER = 0.5
"""Part of a pause by which it may be longer: nodes whose logins failed together must not come back
together."""
CHANCE = SystemRandom().random
"""Returns a number from 0 to 1."""
NOT_THERE = {rpc.StatusCode.UNAVAILABLE, rpc.StatusCode.UNIMPLEMENTED}

Metadata = tuple[tuple[str, str], ...]


class Login:
    """The token of a node's user.

    `metadata` goes with every call. `servers` is how many there are to log in at.
    """

    def __init__(
        self, access: EtcdAccess, servers: int = 1, chance: Callable[[], float] = CHANCE
    ) -> None:
        self._access = access
        self._chance = chance
        self._silence = SILENCE if servers > 1 else None
        self._task: asyncio.Task[None] | None = None
        self._began_at = 0.0
        self._settled = not access.username
        self._failures = 0
        self._patience = PATIENCE
        self._not_before = 0.0
        self._refused: Signature | None = None
        self.metadata: Metadata = NEED_QUORUM

    @property
    def lasts(self) -> float:
        """For how many seconds a login has been under way; 0.0: none is."""
        return asyncio.get_running_loop().time() - self._began_at if self._task is not None else 0.0

    async def ensure(self, channel: EtcdChannel) -> None:
        """Return once there is a token, or none is needed; see `renew`."""
        if not self._settled:
            await self._join(channel, lambda: self._settled)

    async def renew(self, channel: EtcdChannel, refused: Metadata) -> None:
        """Return once there is another token than in this metadata, which a server refused.

        Waits for the login that is under way, or makes one over this channel. Raises
        PasswordRefused, LoginSilent, BadAccess, and gRPC's errors.
        """
        await self._join(channel, lambda: self.metadata != refused)

    async def close(self) -> None:
        """End a login that is under way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _join(self, channel: EtcdChannel, done: Callable[[], bool]) -> None:
        while not done():
            mine = self._task is None
            task = self._task or self._begin(channel)
            try:
                # Shielded: whoever gives up waiting must not make etcd begin again.
                await asyncio.shield(task)
            except asyncio.CancelledError:
                raise
            except Exception:
                if mine:
                    raise
                # The other one's server has died, perhaps: now over this channel.
            else:
                return

    def _begin(self, channel: EtcdChannel) -> asyncio.Task[None]:
        now = asyncio.get_running_loop().time()
        file = signature([self._access.password_file])
        if self._refused is not None and file != self._refused:
            self._refused, self._failures, self._not_before = None, 0, 0.0
        if now < self._not_before:
            if self._refused is not None:
                raise PasswordRefused
            raise LoginSilent(
                f"did not log {self._access.username} in; it is asked again in "
                f"{self._not_before - now:.1f} s"
            )
        self._began_at = now
        self._task = asyncio.create_task(self._run(channel, file))
        self._task.add_done_callback(self._ended)
        return self._task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if not task.cancelled():
            # Nobody may have waited: the exception is taken here, or Python would complain.
            task.exception()

    async def _run(self, channel: EtcdChannel, file: Signature) -> None:
        request = rpc.AuthenticateRequest(
            name=self._access.username, password=read_password(self._access)
        )
        channel.add_user()
        try:
            async with asyncio.timeout(self._patience):
                answer = await self._watched(channel, request)
        except rpc.AioRpcError as error:
            self._failed(error, file)
        except TimeoutError:
            self._pause()
            taken, self._patience = self._patience, min(2 * self._patience, LONGEST_PATIENCE)
            raise LoginSilent(f"did not check a password within {taken:g} s") from None
        else:
            self._got((*NEED_QUORUM, ("token", answer.token)))
        finally:
            await channel.remove_user()

    def _got(self, metadata: Metadata) -> None:
        self.metadata, self._settled = metadata, True
        self._failures, self._not_before, self._refused, self._patience = 0, 0.0, None, PATIENCE
        self._silence = SILENCE if self._silence is not None else None

    def _failed(self, error: Any, file: Signature) -> None:  # noqa: ANN401 - grpc has no types
        details = str(error.details())
        if AUTH_IS_OFF in details:
            # An operator may turn it off for a while: the server works without, and asks for the
            # user once it is on again.
            self._got(NEED_QUORUM)
            return
        if WRONG_PASSWORD in details:
            self._refused = file
            self._pause()
            raise PasswordRefused from None
        if error.code() not in NOT_THERE:
            # It has computed. One that is not there has not, and may be back at any moment.
            self._pause()
        raise error

    def _pause(self) -> None:
        pause = min(SHORTEST_PAUSE * 2**self._failures, LONGEST_PAUSE)
        self._failures = min(self._failures + 1, 10)
        self._not_before = asyncio.get_running_loop().time() + pause * (1 + JITTER * self._chance())

    async def _watched(self, channel: EtcdChannel, request: Any) -> Any:  # noqa: ANN401 - protobuf messages
        """Return the answer to a login.

        Raises LoginSilent if the server shows no life meanwhile, and there are others.
        """
        call = asyncio.ensure_future(channel.auth.Authenticate(request))
        try:
            while not (await asyncio.wait({call}, timeout=SIGN_OF_LIFE))[0]:
                if self._silence is not None:
                    await self._look(channel, call, self._silence)
            return call.result()
        finally:
            call.cancel()

    async def _look(self, channel: EtcdChannel, call: asyncio.Future[Any], patience: float) -> None:
        look = asyncio.ensure_future(channel.maintenance.Status(rpc.StatusRequest()))
        try:
            await asyncio.wait({look, call}, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            if call.done():
                return
            if not look.done():
                self._silence = min(2 * patience, LONGEST_SILENCE)
                raise LoginSilent("gives no sign of life")
            if not look.result().leader:
                raise LoginSilent("has no quorum")
        except rpc.AioRpcError as error:
            if error.code() in NOT_THERE:
                raise
        finally:
            look.cancel()
