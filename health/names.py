"""Host names for checks: literal addresses, localhost, /etc/hosts, then DNS, with a memory.

A lookup is bounded by its own PATIENCE and runs apart from the check that asked for it: if the
check times out first, the lookup goes on and the next try finds its answer. Once found, addresses
outlive a dead DNS: a name server that does not answer says nothing about the ingress, and must not
take the VIP from all nodes at once. Only an explicit "no such name" makes them forgotten.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from health.errors import NoAnswerError, NoSuchNameError
from health.model import Result, is_address

if TYPE_CHECKING:
    from health.resolve import Resolver, Settings

SHORTEST_MEMORY = 1.0
"""Seconds: whatever the TTL says, a check every 200 ms does not ask every time."""
LONGEST_MEMORY = 60.0
"""Seconds, whatever the TTL says: a name that has moved is noticed within this time."""
LOCALHOST = ("127.0.0.1", "::1")
"""RFC 6761 section 6.3: these names are answered without asking anybody."""


@dataclass(frozen=True, slots=True)
class Kept:
    """Addresses found earlier, and when to ask again.

    They stay in use while that has no success.
    """

    addresses: tuple[str, ...]
    ask_again: float


Signature = tuple[int, int, int, int] | None


class Names:
    """Finds the addresses of host names.

    One for all checks of a process. `clock` returns seconds.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        hosts: Path = Path("/etc/hosts"),
        resolv_conf: Path = Path("/etc/resolv.conf"),
        port: int = 53,
    ) -> None:
        self._clock = clock
        self._hosts = hosts
        self._resolv_conf = resolv_conf
        self._port = port
        self._kept: dict[str, Kept] = {}
        self._running: dict[str, asyncio.Task[tuple[str, ...]]] = {}
        self._local: dict[str, tuple[str, ...]] = {}
        self._hosts_seen: Signature = None
        self._resolver: Resolver | None = None
        self._settings: Settings | None = None
        self._renew_at = 0.0

    async def addresses(self, name: str) -> tuple[str, ...] | Result:
        """Return the addresses of a name, or the result of a check that has none.

        Bad if the name does not exist, else unknown.
        """
        if is_address(name):
            return (name,)
        if local := await self._local_addresses(name):
            return local
        kept = self._kept.get(name)
        if kept is not None:
            if self._clock() >= kept.ask_again:
                self._start(name)
            return kept.addresses
        try:
            return await asyncio.shield(self._start(name))
        except NoSuchNameError as error:
            return Result(up=False, detail=str(error))
        except NoAnswerError as error:
            return Result(up=None, detail=str(error))

    async def close(self) -> None:
        """End what is still running. Idempotent."""
        running = list(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        resolver, self._resolver = self._resolver, None
        if resolver is not None:
            await resolver.close()

    async def _local_addresses(self, name: str) -> tuple[str, ...]:
        """Return what the hosts file says of a name; it is read when it has changed, on a thread.

        Some have a hundred thousand lines.
        """
        seen = _signature(self._hosts)
        if seen != self._hosts_seen:
            self._hosts_seen, self._local = seen, {}
        if name in self._local:
            return self._local[name]
        found = (
            await asyncio.to_thread(lambda: _local(name, _text(self._hosts)))
            if seen
            else _local(name, "")
        )
        if seen == self._hosts_seen:
            self._local[name] = found
        return found

    def _start(self, name: str) -> asyncio.Task[tuple[str, ...]]:
        """Return the lookup of a name that is under way, or start one."""
        task = self._running.get(name)
        if task is None:
            task = self._running[name] = asyncio.create_task(self._ask(name), name=f"lookup {name}")
            task.add_done_callback(lambda done: self._ended(name, done))
        return task

    def _ended(self, name: str, task: asyncio.Task[tuple[str, ...]]) -> None:
        del self._running[name]
        if not task.cancelled():
            # nobody may be waiting for it any more; unread, asyncio would log it as lost
            task.exception()

    async def _ask(self, name: str) -> tuple[str, ...]:
        try:
            found = await self._current_resolver().lookup(name)
        except NoSuchNameError:
            self._kept.pop(name, None)
            raise
        except NoAnswerError:
            kept = self._kept.get(name)
            if kept is None:
                raise
            self._kept[name] = replace(kept, ask_again=self._clock() + SHORTEST_MEMORY)
            return kept.addresses
        memory = min(max(float(found.ttl), SHORTEST_MEMORY), LONGEST_MEMORY)
        self._kept[name] = Kept(found.addresses, self._clock() + memory)
        return found.addresses

    def _current_resolver(self) -> Resolver:
        """Return the resolver for resolv.conf as it is now.

        One that was replaced ends with its last question.

        It is replaced from time to time, because it remembers answers for as long as their TTL is.
        """
        # Only a node whose checks name hosts pays for c-ares.
        from health.resolve import Resolver, read_settings  # noqa: PLC0415

        settings, now = read_settings(_text(self._resolv_conf), self._port), self._clock()
        if self._resolver is None or settings != self._settings or now >= self._renew_at:
            self._settings, self._renew_at = settings, now + LONGEST_MEMORY
            self._resolver = Resolver(settings)
        return self._resolver


def is_localhost(name: str) -> bool:
    """Return whether a name is that of this host, whatever a name server says."""
    plain = name.rstrip(".").lower()
    return plain == "localhost" or plain.endswith(".localhost")


def _local(name: str, hosts: str) -> tuple[str, ...]:
    """Return the addresses that need no DNS, IPv4 first.

    Those of a hosts(5) file, or of localhost.
    """
    wanted = name.rstrip(".").lower()
    lines = (line.partition("#")[0].split() for line in hosts.splitlines())
    found = [
        words[0]
        for words in lines
        if words and wanted in (word.lower() for word in words[1:]) and is_address(words[0])
    ]
    if not found and is_localhost(name):
        return LOCALHOST
    return tuple(sorted(found, key=lambda address: ":" in address))


def _signature(path: Path) -> Signature:
    """Return what changes when a file is written or replaced; None: it is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


def _text(path: Path) -> str:
    """Return a small file's content; none if it cannot be read, as a resolver does."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
