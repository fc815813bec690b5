"""The addresses of a name: asked for beside the work, and those that are known serve on."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Sequence

import pytest

from election.stores.kubernetes.names import Addresses, ask_system

PATIENCE = 5.0


class NameService:
    """Answers what it is set to: addresses, an error, or nothing until `release`."""

    def __init__(self, *answer: str) -> None:
        self.answer: tuple[str, ...] = answer
        self.asked = 0
        self.hung = False
        self.release = threading.Event()

    def __call__(self, _host: str, _port: int) -> Sequence[str]:
        """Answer."""
        self.asked += 1
        if self.hung:
            self.release.wait(PATIENCE)
        if not self.answer:
            raise OSError(-2, "Name or service not known")
        return list(self.answer)


def run(scenario: Callable[[Addresses, NameService], Awaitable[None]], *answer: str) -> None:
    """Run a scenario."""

    async def play() -> None:
        service = NameService(*answer)
        addresses = Addresses("api.test", 6443, service)
        async with asyncio.timeout(PATIENCE):
            await scenario(addresses, service)
        service.release.set()
        await addresses.close()

    asyncio.run(play())


async def until(addresses: Addresses, wanted: str) -> float:
    """Fail with the address until it is another one; return the seconds that it took."""
    begin = time.monotonic()
    while (address := await addresses.first()) != wanted:
        addresses.failed(address)
        await asyncio.sleep(0.05)
    return time.monotonic() - begin


def test_a_name_that_moved_leads_to_its_new_address_within_a_second() -> None:
    """The old one refuses, hangs or is gone: all that counts is that connections fail."""

    async def scenario(addresses: Addresses, service: NameService) -> None:
        assert await addresses.first() == "192.0.2.1"
        service.answer = ("192.0.2.2",)
        assert await until(addresses, "192.0.2.2") < 1.0

    run(scenario, "192.0.2.1")


def test_addresses_serve_while_the_name_service_is_away() -> None:
    """It fails, or hangs: nobody waits for it, and it is not asked twice at once."""

    async def scenario(addresses: Addresses, service: NameService) -> None:
        assert await addresses.first() == "192.0.2.1"
        service.answer = ()
        for hung in (False, True):
            service.hung = hung
            begin = time.monotonic()
            for _ in range(12):
                addresses.failed(await addresses.first())
                await asyncio.sleep(0.1)
            assert time.monotonic() - begin < 2.0
        asked = service.asked
        await asyncio.sleep(0.6)
        addresses.failed("192.0.2.1")
        assert service.asked == asked
        assert await addresses.first() == "192.0.2.1"

    run(scenario, "192.0.2.1")


def test_each_address_gets_its_turn() -> None:
    """One of three API servers is down; the same three again are no news."""

    async def scenario(addresses: Addresses, _service: NameService) -> None:
        seen = []
        for _ in range(20):
            seen.append(await addresses.first())
            addresses.failed(seen[-1])
            await asyncio.sleep(0.04)
        assert seen == [["a", "b", "c"][number % 3] for number in range(20)]

    run(scenario, "a", "b", "c")


def test_whoever_gives_up_does_not_make_the_next_one_begin_again() -> None:
    """The first answer takes longer than a request may."""

    async def scenario(addresses: Addresses, service: NameService) -> None:
        service.hung = True
        for _ in range(3):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await addresses.first()
        service.release.set()
        assert await addresses.first() == "192.0.2.1"
        assert service.asked == 1

    run(scenario, "192.0.2.1")


def test_a_name_without_an_address_is_said() -> None:
    """With what the name service says; an address needs no name service."""

    async def scenario(addresses: Addresses, service: NameService) -> None:
        with pytest.raises(
            OSError, match=r"api\.test cannot be resolved: Name or service not known"
        ):
            await addresses.first()
        literal = Addresses("192.0.2.7", 6443, service)
        assert await literal.first() == "192.0.2.7"
        literal.failed("192.0.2.7")
        assert await literal.first() == "192.0.2.7"
        await literal.close()
        assert service.asked == 1

    run(scenario)


def test_the_system_knows_localhost() -> None:
    """Each address once, however many kinds of sockets there are."""
    found = ask_system("localhost", 6443)
    assert len(found) == len(set(found)) >= 1
