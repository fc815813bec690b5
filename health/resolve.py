"""Ask the name servers of resolv.conf(5), with aiodns (c-ares).

The library's getaddrinfo blocks for as long as the name servers please, so asyncio runs it in
threads; one that hangs cannot be cancelled and holds up the end of the process. Here a question
ends with PATIENCE or when it is cancelled.

c-ares sends questions again, goes from a server that does not answer to the next one and asks it
last from then on, and asks over TCP what does not fit into a packet. Ours are the search list, the
pairing of the two address families, and which servers to ask: with its own search c-ares would also
read the hosts file, on the event loop (0.1 s for a list of 100,000 blocked names). What is left
out: mDNS and the other sources of nsswitch.conf.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import aiodns
from aiodns.error import ARES_EBADNAME, ARES_ENODATA, ARES_ENOTFOUND, DNSError
from pycares import AAAARecordData, ARecordData, AresError

from health.errors import NoAnswerError, NoSuchNameError
from health.model import is_address

PATIENCE = 2.0
"""Seconds for one question, resends included. Longer than a check's timeout on purpose: see
names.py."""
RESEND = 0.3
"""Seconds after which the next server is asked: on a network near by, an answer that takes longer
was lost."""
TRIES = 3
"""How often each server is asked; each time around takes twice as long."""
STRAGGLER = 0.05
"""Seconds that the second address family may take longer than the first: some servers never answer
AAAA questions."""
MOST_SERVERS = 3
"""MAXNS of resolv.conf(5)."""
NO = {ARES_ENOTFOUND, ARES_ENODATA, ARES_EBADNAME}
"""A server says that there is no such name, or no address; or the name cannot be asked for."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What resolv.conf(5) says.

    The servers, where to look for short names, and from how many dots on a name is not short.
    """

    servers: tuple[str, ...] = ("127.0.0.1",)
    search: tuple[str, ...] = ()
    ndots: int = 1
    port: int = 53


@dataclass(frozen=True, slots=True)
class Found:
    """Addresses, IPv4 first, and how many seconds they are good."""

    addresses: tuple[str, ...]
    ttl: int


def read_settings(text: str, port: int = 53) -> Settings:
    """Return what a resolv.conf says; what cannot be understood is ignored, as by every resolver.

    A server that is no plain address is left out as well: asyncio would use a thread to make one of
    it.
    """
    servers: list[str] = []
    search: list[str] = []
    ndots = 1
    for line in text.splitlines():
        match line.split():
            case ["nameserver", server, *_] if is_address(server) and "%" not in server:
                servers.append(server)
            case ["search" | "domain", *domains]:
                search = domains
            case ["options", *options]:
                given = [
                    option.removeprefix("ndots:")
                    for option in options
                    if option.startswith("ndots:")
                ]
                ndots = next((int(value) for value in given if value.isdecimal()), ndots)
    return Settings(tuple(servers[:MOST_SERVERS]) or ("127.0.0.1",), tuple(search), ndots, port)


def candidates(name: str, settings: Settings) -> list[str]:
    """Return the full names to try, in the order of resolv.conf(5)."""
    if name.endswith("."):
        return [name]
    inside = [f"{name}.{domain.strip('.')}" for domain in settings.search if domain.strip(".")]
    return [name, *inside] if name.count(".") >= settings.ndots else [*inside, name]


class Resolver:
    """Asks the servers of these settings.

    Made and used in one event loop; ends when nobody has it any more.

    Made without memory or descriptors for it, it raises NoAnswerError.
    c-ares answers from a memory of its own until the TTL is over, however long that is.
    """

    def __init__(self, settings: Settings, patience: float = PATIENCE) -> None:
        self._settings = settings
        self._patience = patience
        servers, port = settings.servers, settings.port
        # Neither `lookups` nor `resolvconf_path`: pycares 5.2 frees these texts before c-ares has
        # read them.
        try:
            self._dns = aiodns.DNSResolver(
                servers, timeout=RESEND, tries=TRIES, udp_port=port, tcp_port=port
            )
        except AresError as error:
            raise NoAnswerError(f"no name server can be asked: {error}") from None

    async def lookup(self, name: str) -> Found:
        """Return the addresses of a name. Raises NoSuchNameError or NoAnswerError."""
        for candidate in candidates(name, self._settings):
            found = await self._ask_both(candidate)
            if found.addresses:
                return found
        raise NoSuchNameError(f"there is no address for {name}")

    async def close(self) -> None:
        """End all questions."""
        await self._dns.close()

    async def _ask_both(self, name: str) -> Found:
        tasks = [asyncio.create_task(self._ask(name, kind)) for kind in ("A", "AAAA")]
        try:
            done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if pending:
                got_some = any(
                    task.exception() is None and task.result().addresses for task in done
                )
                await asyncio.wait(pending, timeout=STRAGGLER if got_some else None)
        finally:
            for task in tasks:
                task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        answers = [
            outcome for outcome in outcomes if isinstance(outcome, Found) and outcome.addresses
        ]
        failures = [outcome for outcome in outcomes if isinstance(outcome, NoAnswerError)]
        if failures and not answers:
            raise failures[0]
        addresses = tuple(address for answer in answers for address in answer.addresses)
        return Found(addresses, min((answer.ttl for answer in answers), default=0))

    async def _ask(self, name: str, kind: str) -> Found:
        """Return the addresses of one family, none if there are none. Raises NoAnswerError."""
        try:
            async with asyncio.timeout(self._patience):
                result = await self._dns.query_dns(name, kind)
        except TimeoutError:
            raise NoAnswerError(
                f"no answer from the name servers {', '.join(self._settings.servers)}"
            ) from None
        except UnicodeError:
            return Found((), 0)
        except DNSError as error:
            code, *why = error.args
            if code in NO:
                return Found((), 0)
            raise NoAnswerError(
                f"the name servers {', '.join(self._settings.servers)}: {why[0]}"
            ) from None
        # Owners are not compared: behind an alias they bear another name.
        found = [
            (one.data.addr, one.ttl)
            for one in result.answer
            if isinstance(one.data, ARecordData | AAAARecordData)
        ]
        return Found(
            tuple(address for address, _ in found), min((ttl for _, ttl in found), default=0)
        )
