from __future__ import annotations

import asyncio
import ipaddress
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest

from health.errors import NoAnswerError
from health.model import Result
from health.names import LONGEST_MEMORY, Names
from health.resolve import PATIENCE, RESEND, Found, Resolver, Settings, candidates, read_settings

TYPE_A, TYPE_CNAME, TYPE_AAAA = 1, 5, 28
NOERROR, SERVFAIL, NXDOMAIN, REFUSED = 0, 2, 3, 5
Zone = dict[str, list[str]]


class Server(asyncio.DatagramProtocol):
    """A name server: `zone` has the addresses of each name.

    What it does not have does not exist. Counts questions by name.
    """

    def __init__(self, zone: Zone) -> None:
        self.zone = zone
        self.code = NOERROR
        self.ttl = 5
        self.mute: set[int] = set()
        """Question types that are never answered."""
        self.asked: list[str] = []
        self.alias = ""
        """What every name is another name for."""
        self.forge: Callable[[bytes], bytes] = bytes
        self.port = 0
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the socket."""
        self._transport = cast("asyncio.DatagramTransport", transport)
        self.port = transport.get_extra_info("sockname")[1]

    def datagram_received(self, data: bytes, addr: tuple[str | object, int]) -> None:
        """Answer one question."""
        labels, offset = [], 12
        while length := data[offset]:
            labels.append(data[offset + 1 : offset + 1 + length].decode())
            offset += length + 1
        rtype = struct.unpack_from("!H", data, offset + 1)[0]
        name = ".".join(labels)
        self.asked.append(name)
        if rtype in self.mute:
            return
        records = [
            self._record(address)
            for address in self.zone.get(name, [])
            if (":" in address) == (rtype == TYPE_AAAA)
        ]
        code = self.code or (NOERROR if name in self.zone else NXDOMAIN)
        if self.alias and records:
            target = encoded(self.alias)
            records.insert(
                0,
                b"\xc0\x0c"
                + struct.pack("!HHIH", TYPE_CNAME, 1, 2 * self.ttl, len(target))
                + target,
            )
        head = data[:2] + struct.pack("!HHHHH", 0x8180 | code, 1, 0 if code else len(records), 0, 0)
        assert self._transport is not None
        self._transport.sendto(
            self.forge(head + data[12 : offset + 5] + (b"" if code else b"".join(records))), addr
        )

    def _record(self, address: str) -> bytes:
        packed = ipaddress.ip_address(address).packed
        rtype = TYPE_A if len(packed) == 4 else TYPE_AAAA
        owner = encoded(self.alias) if self.alias else b"\xc0\x0c"
        return owner + struct.pack("!HHIH", rtype, 1, self.ttl, len(packed)) + packed


def encoded(name: str) -> bytes:
    """Return a name as it stands in a packet."""
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


@asynccontextmanager
async def name_server(
    zone: Zone, address: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[Server]:
    """Serve a zone on a UDP port of loopback, a free one unless it is given."""
    server = Server(zone)
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: server, local_addr=(address, port)
    )
    try:
        yield server
    finally:
        transport.close()


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Return seconds."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Return a clock at 0."""
    return Clock()


MakeNames = Callable[..., Names]


@pytest.fixture
def make_names(tmp_path: Path, clock: Clock) -> MakeNames:
    """Return a way to make a finder with this hosts file, resolv.conf and port."""

    def make(port: int = 1, hosts: str = "", resolv_conf: str = "nameserver 127.0.0.1\n") -> Names:
        (tmp_path / "hosts").write_text(hosts)
        (tmp_path / "resolv.conf").write_text(resolv_conf)
        return Names(clock, tmp_path / "hosts", tmp_path / "resolv.conf", port)

    return make


def test_what_needs_no_question_asks_none(make_names: MakeNames) -> None:
    """Literal addresses, localhost and the hosts file: no name server runs here."""

    async def scenario() -> None:
        names = make_names(hosts="::2 web # x\n10.0.0.1 other WEB web2\n\nbroken\nfe80::x web\n")
        assert await names.addresses("192.0.2.1") == ("192.0.2.1",)
        assert await names.addresses("::1") == ("::1",)
        assert await names.addresses("localhost") == ("127.0.0.1", "::1")
        assert await names.addresses("a.localhost.") == ("127.0.0.1", "::1")
        assert await names.addresses("Web") == ("10.0.0.1", "::2")
        await names.close()

    asyncio.run(scenario())


def test_a_name_is_asked_for_once_and_remembered(make_names: MakeNames, clock: Clock) -> None:
    """A check every 200 ms is no burden for a name server.

    When the TTL is over it is asked again, aside.
    """

    async def scenario() -> None:
        async with name_server({"web.example": ["::5", "192.0.2.5"]}) as server:
            server.ttl = 0  # SHORTEST_MEMORY counts
            names = make_names(server.port)
            for _ in range(5):
                assert await names.addresses("web.example") == ("192.0.2.5", "::5")
            assert server.asked == ["web.example"] * 2  # A and AAAA
            server.zone["web.example"] = ["192.0.2.6"]
            clock.now = 0.9
            assert await names.addresses("web.example") == ("192.0.2.5", "::5")
            assert len(server.asked) == 2
            clock.now = 1.0
            # never waits for what it can do without
            assert await names.addresses("web.example") == ("192.0.2.5", "::5")
            await asyncio.gather(*names._running.values())
            assert await names.addresses("web.example") == ("192.0.2.6",)
            await names.close()

    asyncio.run(scenario())


@pytest.mark.parametrize(("ttl", "memory"), [(0, 1.0), (5, 5.0), (3600, LONGEST_MEMORY)])
def test_an_answer_is_kept_as_long_as_it_says_within_bounds(
    make_names: MakeNames, clock: Clock, ttl: int, memory: float
) -> None:
    """A minute at most, also for the library, which remembers answers itself: the name may have
    moved.
    """

    async def scenario() -> None:
        async with name_server({"web.example": ["192.0.2.5"]}) as server:
            server.ttl = ttl
            names = make_names(server.port)
            await names.addresses("web.example")
            server.zone["web.example"] = ["192.0.2.6"]
            clock.now = memory - 0.1
            await names.addresses("web.example")
            assert not names._running
            clock.now = memory
            await names.addresses("web.example")
            await asyncio.gather(*names._running.values())
            expected = "192.0.2.5" if ttl == 5 else "192.0.2.6"  # the library's clock is a real one
            assert await names.addresses("web.example") == (expected,)
            await names.close()

    asyncio.run(scenario())


def test_a_dead_name_server_changes_nothing_that_is_known(
    make_names: MakeNames, clock: Clock
) -> None:
    """It says nothing about the ingress: else all nodes would lose the VIP with the DNS."""

    async def scenario() -> None:
        async with name_server({"web.example": ["192.0.2.5"]}) as server:
            names = make_names(server.port)
            await names.addresses("web.example")
            server.code = SERVFAIL
            for _ in range(3):
                clock.now += LONGEST_MEMORY
                assert await names.addresses("web.example") == ("192.0.2.5",)
                await asyncio.gather(*names._running.values())
                asked = len(server.asked)
                await names.addresses("web.example")
                await asyncio.gather(*names._running.values())
                assert len(server.asked) == asked  # nor is it asked by every check
        clock.now += LONGEST_MEMORY
        assert await names.addresses("web.example") == ("192.0.2.5",)
        await names.close()

    asyncio.run(scenario())


def test_a_name_that_is_gone_is_forgotten(make_names: MakeNames, clock: Clock) -> None:
    """An explicit no is an answer."""

    async def scenario() -> None:
        async with name_server({"web.example": ["192.0.2.5"]}) as server:
            names = make_names(server.port)
            await names.addresses("web.example")
            server.zone.clear()
            clock.now = LONGEST_MEMORY
            await names.addresses("web.example")
            await asyncio.gather(*names._running.values(), return_exceptions=True)
            result = await names.addresses("web.example")
            assert isinstance(result, Result)
            assert result.up is False
            await names.close()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "name",
    [
        "nowhere.example",
        "a..b",
        "x" * 70,
        ".".join(["a" * 60] * 5),
        "b\u00fccher.example",
        "\u00fc" * 70,
    ],
)
def test_a_name_that_does_not_exist_is_bad(make_names: MakeNames, name: str) -> None:
    """Also one that cannot even be asked for."""

    async def scenario() -> None:
        async with name_server({}) as server:
            names = make_names(server.port)
            result = await names.addresses(name)
            assert isinstance(result, Result)
            assert result.up is False
            await names.close()

    asyncio.run(scenario())


def test_without_any_answer_it_is_unknown(make_names: MakeNames) -> None:
    """Refused ports and servers with trouble of their own end the wait at once."""

    async def scenario() -> None:
        names = make_names(port=1)
        result = await names.addresses("web.example")
        assert isinstance(result, Result)
        assert result.up is None
        async with name_server({}) as server:
            server.code = REFUSED
            other = make_names(server.port)
            result = await other.addresses("web.example")
            assert isinstance(result, Result)
            assert result.up is None
            await other.close()
        await names.close()

    asyncio.run(scenario())


@asynccontextmanager
async def resolver(settings: Settings, patience: float = PATIENCE) -> AsyncIterator[Resolver]:
    """Return a resolver that is closed in the end."""
    made = Resolver(settings, patience)
    try:
        yield made
    finally:
        await made.close()


@pytest.mark.parametrize("patience", [0.05, 0.4])
def test_silence_ends_with_patience(patience: float) -> None:
    """Whether or not the question was sent again."""

    async def scenario() -> None:
        async with (
            name_server({}) as server,
            resolver(Settings(port=server.port), patience) as asked,
        ):
            server.mute = {TYPE_A, TYPE_AAAA}
            with pytest.raises(NoAnswerError, match=r"no answer .* 127\.0\.0\.1"):
                await asked.lookup("web.example")
            assert len(server.asked) == (2 if patience < RESEND else 4)

    asyncio.run(scenario())


def test_a_server_without_a_route_is_passed_over() -> None:
    """A broadcast address may not even be connected to."""

    async def scenario() -> None:
        async with name_server({"web.example": ["192.0.2.5"]}) as server:
            settings = Settings(("255.255.255.255", "127.0.0.1"), port=server.port)
            async with resolver(settings) as asked:
                assert (await asked.lookup("web.example")).addresses == ("192.0.2.5",)

    asyncio.run(scenario())


@pytest.mark.parametrize("mute", [False, True])
def test_a_dead_first_server_costs_one_resend_at_most(mute: bool) -> None:
    """Its port is closed, or it is silent.

    The second one is asked, and asked first from then on.
    """

    async def scenario() -> None:
        zone = {f"web{number}.example": ["192.0.2.5"] for number in range(5)}
        async with (
            name_server(zone) as server,
            name_server(zone, "127.0.0.2", server.port if mute else 0) as dead,
        ):
            dead.mute = {TYPE_A, TYPE_AAAA}
            async with resolver(Settings(("127.0.0.2", "127.0.0.1"), port=server.port)) as asked:
                for name in zone:
                    async with asyncio.timeout(PATIENCE):
                        assert (await asked.lookup(name)).addresses == ("192.0.2.5",)
            assert server.asked == [name for name in zone for _ in range(2)]
            assert dead.asked == (["web0.example"] * 2 if mute else [])

    asyncio.run(scenario())


def test_a_server_that_never_answers_for_ipv6_is_not_waited_for(make_names: MakeNames) -> None:
    """Nor for IPv4, if IPv6 is there."""

    async def scenario() -> None:
        async with name_server({"web.example": ["192.0.2.5", "::5"]}) as server:
            for mute, answer in ((TYPE_AAAA, "192.0.2.5"), (TYPE_A, "::5")):
                names = make_names(server.port)
                server.mute = {mute}
                # as long as a wait for the other answer would last
                async with asyncio.timeout(PATIENCE):
                    assert await names.addresses("web.example") == (answer,)
                await names.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("code", [SERVFAIL, REFUSED])
def test_a_server_with_trouble_of_its_own_is_passed_over(code: int) -> None:
    """The next one may know."""

    async def scenario() -> None:
        zone = {"web.example": ["192.0.2.5"]}
        async with (
            name_server(zone) as server,
            name_server(zone, "127.0.0.2", server.port) as troubled,
        ):
            troubled.code = code
            async with resolver(Settings(("127.0.0.2", "127.0.0.1"), port=server.port)) as asked:
                assert (await asked.lookup("web.example")).addresses == ("192.0.2.5",)
            assert troubled.asked

    asyncio.run(scenario())


def test_an_alias_leads_to_addresses() -> None:
    """They bear another name than the one that was asked for, and their TTL counts."""

    async def scenario() -> None:
        async with (
            name_server({"web.example": ["192.0.2.5"]}) as server,
            resolver(Settings(port=server.port)) as asked,
        ):
            server.alias = "lb.example"
            assert await asked.lookup("web.example") == Found(("192.0.2.5",), server.ttl)

    asyncio.run(scenario())


WITHOUT_DESCRIPTORS = """
import asyncio, os, resource, sys
import health.resolve  # the daemon is forked from a process that has it
from health.names import Names
async def scenario():
    names = Names(port=1)
    await names.addresses("localhost")  # loads what threads need
    limit = max(int(name) for name in os.listdir("/proc/self/fd")) + int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    print((await names.addresses("web.example")).up)
    await names.close()
asyncio.run(scenario())
"""


@pytest.mark.parametrize("spare", range(4))
def test_a_process_without_descriptors_cannot_tell(spare: int) -> None:
    """Whatever it is that cannot be opened: that says nothing about the name."""
    argv = [sys.executable, "-c", WITHOUT_DESCRIPTORS, str(spare)]
    ended = subprocess.run(
        argv, capture_output=True, text=True, check=True, timeout=60, cwd=Path(__file__).parents[3]
    )
    assert ended.stdout == "None\n"


def test_what_answers_another_question_is_none() -> None:
    """A late or forged packet must not become an address."""

    async def scenario() -> None:
        async with (
            name_server({"web.example": ["192.0.2.5"]}) as server,
            resolver(Settings(port=server.port), 0.1) as asked,
        ):
            for forge in (
                lambda data: bytes([data[0] ^ 1]) + data[1:],
                lambda data: data.replace(b"web", b"wob"),
                lambda data: data[:20],
            ):
                server.forge = forge
                with pytest.raises(NoAnswerError):
                    await asked.lookup("web.example")

    asyncio.run(scenario())


async def under_way(names: Names) -> None:
    """Wait until a lookup has begun."""
    async with asyncio.timeout(10):
        while not names._running:  # noqa: ASYNC110 - there is no event
            await asyncio.sleep(0.001)


def test_a_lookup_outlives_the_check_that_asked(make_names: MakeNames) -> None:
    """A first answer that takes longer than a check's timeout must not be asked for again and again
    without end.
    """

    async def scenario() -> None:
        async with name_server({"web.example": ["192.0.2.5"]}) as server:
            server.mute = {TYPE_A, TYPE_AAAA}
            names = make_names(server.port)
            asking = asyncio.create_task(names.addresses("web.example"))
            await under_way(names)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            server.mute.clear()
            (lookup,) = names._running.values()
            assert await lookup == ("192.0.2.5",)  # the question is sent again
            assert await names.addresses("web.example") == ("192.0.2.5",)
            await names.close()

    asyncio.run(scenario())


def test_close_ends_what_is_running(make_names: MakeNames) -> None:
    """No task stays behind."""

    async def scenario() -> None:
        async with name_server({}) as server:
            server.mute = {TYPE_A, TYPE_AAAA}
            names = make_names(server.port)
            asking = asyncio.create_task(names.addresses("web.example"))
            await under_way(names)
            await names.close()
            await asyncio.gather(asking, return_exceptions=True)
            assert asking.cancelled()
            assert len(asyncio.all_tasks()) == 1

    asyncio.run(scenario())


def test_resolv_conf_is_read_as_the_manual_says() -> None:
    """Unknown lines and options are passed over; a server with a zone index would need a thread."""
    text = (
        "# x\nnameserver 10.0.0.1\nnameserver fe80::1%eth0\nnameserver 10.0.0.2\nnameserver "
        "10.0.0.3\nnameserver 10.0.0.4\n"
    )
    text += (
        "nameserver ns.example\n"
        "domain old\nsearch a.local b.local\noptions rotate ndots:5 ndots:x\noptions "
        "edns0\nnonsense\n"
    )
    assert read_settings(text) == Settings(
        ("10.0.0.1", "10.0.0.2", "10.0.0.3"), ("a.local", "b.local"), 5
    )
    assert read_settings("") == Settings()


def test_short_names_are_completed() -> None:
    """In the order of resolv.conf(5)."""
    settings = Settings(search=("a.local", "b.local.", "."), ndots=2)
    assert candidates("web", settings) == ["web.a.local", "web.b.local", "web"]
    assert candidates("web.x.y", settings) == ["web.x.y", "web.x.y.a.local", "web.x.y.b.local"]
    assert candidates("web.", settings) == ["web."]


def test_a_short_name_is_found_in_the_search_list(make_names: MakeNames) -> None:
    """As a pod finds a service."""

    async def scenario() -> None:
        async with name_server({"web.ns.svc": ["192.0.2.7"]}) as server:
            names = make_names(
                server.port,
                resolv_conf="nameserver 127.0.0.1\nsearch none.svc ns.svc svc\noptions ndots:5\n",
            )
            assert await names.addresses("web") == ("192.0.2.7",)
            assert server.asked == ["web.none.svc"] * 2 + ["web.ns.svc"] * 2
            await names.close()

    asyncio.run(scenario())


def test_a_long_hosts_file_holds_up_nothing_and_is_read_again_when_it_changes(
    tmp_path: Path,
) -> None:
    """Lists of blocked names have a hundred thousand lines; a fixture watches the event loop."""
    hosts = tmp_path / "hosts"
    blocked = "".join(f"0.0.0.0 blocked-{number}.example\n" for number in range(100_000))
    hosts.write_text(blocked + "192.0.2.7 web.example\n")

    async def scenario() -> None:
        names = Names(asyncio.get_running_loop().time, hosts, tmp_path / "none", port=1)
        for _ in range(20):
            assert await names.addresses("web.example") == ("192.0.2.7",)
        await asyncio.to_thread(hosts.write_text, "192.0.2.8 web.example\n")
        assert await names.addresses("web.example") == ("192.0.2.8",)
        await names.close()

    asyncio.run(scenario())
