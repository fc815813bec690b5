"""Ask the name servers of /etc/resolv.conf, over UDP and without a thread.

The library's getaddrinfo blocks for as long as the name servers please, so asyncio runs it in threads; one that hangs cannot be
cancelled and holds up the end of the process. Here everything is a socket of the event loop and ends with PATIENCE.
What is left out: TCP (an answer for a handful of addresses fits into a packet), mDNS, and the other sources of nsswitch.conf.
"""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from health import dns

PATIENCE = 2.0
"""Seconds for one question, resends included. Longer than a check's timeout on purpose: see names.py."""
RESEND = 0.3
"""Seconds after which a question is sent again: on a network near by, an answer that takes longer was lost."""
STRAGGLER = 0.05
"""Seconds that the second address family may take longer than the first: some servers never answer AAAA questions."""
MOST_SERVERS = 3
"""MAXNS of resolv.conf(5)."""


class NoAnswerError(Exception):
    """Nobody can tell which addresses the name has: no server answered, or they have troubles of their own."""


class NoSuchNameError(Exception):
    """A name server says that there is no such name, or that it has no address."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What resolv.conf(5) says: the servers, where to look for short names, and from how many dots on a name is not short."""

    servers: tuple[str, ...] = ("127.0.0.1",)
    search: tuple[str, ...] = ()
    ndots: int = 1
    port: int = 53
    patience: float = PATIENCE


@dataclass(frozen=True, slots=True)
class Found:
    """Addresses, IPv4 first, and how many seconds they are good."""

    addresses: tuple[str, ...]
    ttl: int


def is_address(name: str) -> bool:
    """Return whether a name is an IPv4 or IPv6 address already."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def read_settings(text: str, port: int = 53) -> Settings:
    """Return what a resolv.conf says; what cannot be understood is ignored, as by every resolver.

    A server that is no plain address is left out as well: asyncio would use a thread to make one of it.
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
                given = [option.removeprefix("ndots:") for option in options if option.startswith("ndots:")]
                ndots = next((int(value) for value in given if value.isdecimal()), ndots)
    return Settings(tuple(servers[:MOST_SERVERS]) or ("127.0.0.1",), tuple(search), ndots, port)


def candidates(name: str, settings: Settings) -> list[str]:
    """Return the full names to try, in the order of resolv.conf(5)."""
    if name.endswith("."):
        return [name]
    inside = [f"{name}.{domain.strip('.')}" for domain in settings.search if domain.strip(".")]
    return [name, *inside] if name.count(".") >= settings.ndots else [*inside, name]


async def lookup(name: str, settings: Settings) -> Found:
    """Return the addresses of a name. Raises NoSuchNameError or NoAnswerError."""
    for candidate in candidates(name, settings):
        try:
            questions = [dns.query(secrets.randbelow(0x10000), candidate, rtype) for rtype in (dns.TYPE_A, dns.TYPE_AAAA)]
        except ValueError as error:
            raise NoSuchNameError(str(error)) from error
        found = await _ask_all(questions, settings)
        if found.addresses:
            return found
    raise NoSuchNameError(f"there is no address for {name}")


async def _ask_all(questions: Sequence[bytes], settings: Settings) -> Found:
    tasks = [asyncio.create_task(_ask(question, settings)) for question in questions]
    try:
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if pending:
            got_some = any(task.exception() is None and task.result().addresses for task in done)
            await asyncio.wait(pending, timeout=STRAGGLER if got_some else None)
    finally:
        for task in tasks:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    answers = [outcome for outcome in outcomes if isinstance(outcome, dns.Answer) and outcome.addresses]
    failures = [outcome for outcome in outcomes if isinstance(outcome, NoAnswerError)]
    if failures and not answers:
        raise failures[0]
    addresses = tuple(address for answer in answers for address in answer.addresses)
    return Found(addresses, min((answer.ttl for answer in answers), default=0))


class _Inbox(asyncio.DatagramProtocol):
    """Puts what one server says, or None for its ICMP error, into a common queue."""

    def __init__(self, server: int, queue: asyncio.Queue[tuple[int, bytes | None]]) -> None:
        self._server = server
        self._queue = queue

    def datagram_received(self, data: bytes, addr: tuple[str | object, int]) -> None:  # noqa: ARG002 - the socket is connected
        self._queue.put_nowait((self._server, data))

    def error_received(self, exc: Exception) -> None:  # noqa: ARG002 - which error it was makes no difference
        self._queue.put_nowait((self._server, None))


async def _ask(question: bytes, settings: Settings) -> dns.Answer:
    """Ask all servers at once and return the first answer that decides: a dead first server must not cost a check its timeout."""
    queue: asyncio.Queue[tuple[int, bytes | None]] = asyncio.Queue()
    transports: list[asyncio.DatagramTransport] = []
    try:
        for number, server in enumerate(settings.servers):
            transports += await _connect(_Inbox(number, queue), server, settings.port)
        async with asyncio.timeout(settings.patience):
            return await _first_decision(question, transports, queue)
    except TimeoutError:
        raise NoAnswerError(f"no answer from the name servers {', '.join(settings.servers)}") from None
    finally:
        for transport in transports:
            transport.abort()


async def _connect(inbox: _Inbox, server: str, port: int) -> list[asyncio.DatagramTransport]:
    """Return a socket to one server, or nothing: no route to one of them must not spoil the others."""
    loop = asyncio.get_running_loop()
    try:
        transport, _ = await loop.create_datagram_endpoint(lambda: inbox, remote_addr=(server, port))
    except OSError:
        return []
    return [transport]


async def _first_decision(
    question: bytes, transports: Sequence[asyncio.DatagramTransport], queue: asyncio.Queue[tuple[int, bytes | None]]
) -> dns.Answer:
    useless: set[int] = set()
    while len(useless) < len(transports):
        for transport in transports:
            transport.sendto(question)
        try:
            async with asyncio.timeout(RESEND):
                while len(useless) < len(transports):
                    server, data = await queue.get()
                    answer = None if data is None else dns.answer_to(question, data)
                    if answer is not None and answer.decides:
                        return answer
                    if data is None or answer is not None:
                        useless.add(server)
        except TimeoutError:
            continue
    raise NoAnswerError("no name server can tell")
