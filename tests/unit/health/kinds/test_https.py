from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

import pytest

from health.kinds.http import HttpProbe
from health.kinds.workers import Workers
from health.model import HttpCheck, Result
from health.names import Names

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Serve = Callable[..., AbstractAsyncContextManager[int]]
Answer = Callable[[bytes], Handler]
FirstResult = Callable[..., Coroutine[None, None, Result]]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Authority(Protocol):
    """A CA: see conftest."""

    file: Path

    def context(self, names: str) -> ssl.SSLContext:
        """Return a server's context with a certificate for these names."""
        ...


MakeAuthority = Callable[[str], Authority]


def test_a_certificate_of_the_own_ca_is_trusted(
    serve: Serve, answer: Answer, make_authority: MakeAuthority, first_result: FirstResult
) -> None:
    """For the address in the URL, and for no other."""
    authority = make_authority("ca")
    context = authority.context("IP:127.0.0.1")

    async def scenario() -> None:
        async with serve(answer(OK), tls=context) as port:
            good = HttpCheck(f"https://127.0.0.1:{port}/", ca_file=str(authority.file))
            assert (await first_result(good)).up
            wrong_name = await first_result(
                HttpCheck(
                    f"https://127.0.0.1:{port}/", ca_file=str(authority.file), host="edge.example"
                )
            )
            assert wrong_name.up is False
            assert "edge.example" in wrong_name.detail

    asyncio.run(scenario())


def test_the_host_is_what_the_server_is_asked_for(
    serve: Serve, answer: Answer, make_authority: MakeAuthority, first_result: FirstResult
) -> None:
    """An ingress picks certificate and backend by name.

    SNI, verification and Host header are of one mind.
    """
    authority = make_authority("ca")
    context = authority.context("DNS:edge.example")
    asked: list[str | None] = []
    context.sni_callback = lambda _socket, name, _context: asked.append(name)

    async def scenario() -> None:
        async with serve(answer(OK), tls=context) as port:
            kind = HttpCheck(
                f"https://127.0.0.1:{port}/", ca_file=str(authority.file), host="edge.example:8443"
            )
            assert (await first_result(kind)).up

    asyncio.run(scenario())
    assert asked == ["edge.example"]


def test_an_unknown_authority_is_not_trusted_unless_configured(
    serve: Serve, answer: Answer, make_authority: MakeAuthority, first_result: FirstResult
) -> None:
    """By the system's CAs, by another own CA; `verify: false` takes all."""
    authority, other = make_authority("ca"), make_authority("other")
    context = authority.context("IP:127.0.0.1")

    async def scenario() -> None:
        async with serve(answer(OK), tls=context) as port:
            url = f"https://127.0.0.1:{port}/"
            for kind in (HttpCheck(url), HttpCheck(url, ca_file=str(other.file))):
                result = await first_result(kind)
                assert result.up is False
                assert "certificate verify failed" in result.detail
            assert (await first_result(HttpCheck(url, verify=False))).up

    asyncio.run(scenario())


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_an_unusable_ca_file_is_bad_and_says_so(
    tmp_path: Path, first_result: FirstResult, content: str | None
) -> None:
    """Nothing is asked without it."""
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    result = asyncio.run(first_result(HttpCheck("https://127.0.0.1:1/", ca_file=str(path))))
    assert (result.up, result.refused) == (False, False)
    assert str(path) in result.detail


def test_a_rotated_ca_is_read_again(
    serve: Serve,
    answer: Answer,
    make_authority: MakeAuthority,
    tmp_path: Path,
    nameless: Callable[[], Names],
) -> None:
    """After one bad result at most, without a reload."""
    old, new = make_authority("old"), make_authority("new")
    file = tmp_path / "ca.pem"
    file.write_bytes(old.file.read_bytes())
    before, after = old.context("IP:127.0.0.1"), new.context("IP:127.0.0.1")

    async def scenario() -> None:
        async with serve(answer(OK), tls=before) as port:
            probe = HttpProbe(
                HttpCheck(f"https://127.0.0.1:{port}/", ca_file=str(file)), Workers(nameless())
            )
            assert (await probe.run()).up
        file.write_bytes(new.file.read_bytes())
        async with serve(answer(OK), port=port, tls=after):
            assert not (await probe.run()).up
            assert (await probe.run()).up
        await probe.close()

    asyncio.run(scenario())


def test_a_handshake_that_hangs_is_a_connection_that_does_not_come(
    serve: Serve, hang: Handler, first_result: FirstResult
) -> None:
    """The server accepts and never says a word of TLS."""

    async def scenario() -> None:
        async with serve(hang) as port:
            result = await first_result(
                HttpCheck(f"https://127.0.0.1:{port}/", verify=False), timeout=0.15
            )
            assert result.detail == "no connection within 150 ms"

    asyncio.run(scenario())


def test_a_server_without_tls_is_bad(serve: Serve, first_result: FirstResult) -> None:
    """It answers in plain text."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()

    async def scenario() -> None:
        async with serve(handle) as port:
            result = await first_result(HttpCheck(f"https://127.0.0.1:{port}/", verify=False))
            assert (result.up, result.refused) == (False, False)
            assert "ssl" in result.detail.lower()

    asyncio.run(scenario())


def test_a_handshake_that_is_cut_is_proof(serve: Serve, first_result: FirstResult) -> None:
    """The process died between accept and handshake."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)

    async def scenario() -> None:
        async with serve(handle) as port:
            result = await first_result(HttpCheck(f"https://127.0.0.1:{port}/", verify=False))
            assert (result.up, result.refused) == (False, True)

    asyncio.run(scenario())
