from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest

from health.kinds.tls import Trust


class Authority(Protocol):
    """A CA: see conftest."""

    file: Path


def test_a_context_is_made_once_for_all_checks() -> None:
    """Also when many ask at once, and when a certificate was refused while the authorities stayed
    the same.
    """

    async def scenario() -> None:
        trust = Trust()
        first, *others = await asyncio.gather(*(trust.context("", verify=True) for _ in range(20)))
        assert all(other is first for other in others)
        for _ in range(5):
            trust.doubt("", verify=True)
            assert await trust.context("", verify=True) is first
        assert await trust.context("", verify=False) is not first
        await trust.close()

    asyncio.run(scenario())


def test_a_file_that_changed_is_read_again_after_a_doubt(
    make_authority: Callable[[str], Authority], tmp_path: Path
) -> None:
    """Not before: nobody looks at a file for every check."""
    old, new = make_authority("old"), make_authority("new")
    file = tmp_path / "ca.pem"
    file.write_bytes(old.file.read_bytes())

    def authorities(context: ssl.SSLContext) -> int:
        return context.cert_store_stats()["x509_ca"]

    async def scenario() -> None:
        trust = Trust()
        first = await trust.context(str(file), verify=True)
        assert authorities(first) == 1
        file.write_bytes(old.file.read_bytes() + new.file.read_bytes())
        assert await trust.context(str(file), verify=True) is first
        trust.doubt(str(file), verify=True)
        assert authorities(await trust.context(str(file), verify=True)) == 2
        file.write_text("nothing")
        trust.doubt(str(file), verify=True)
        with pytest.raises(OSError, match="certificate"):
            await trust.context(str(file), verify=True)
        await trust.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "missing"])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    """Opening a named pipe waits for somebody to write, and a device may have no end."""
    path = tmp_path / "ca.pem"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")

    async def scenario() -> None:
        trust = Trust()
        async with asyncio.timeout(5):
            with pytest.raises(
                OSError, match="No such file" if kind == "missing" else "not a regular file"
            ):
                await trust.context(str(path), verify=True)
        await trust.close()

    asyncio.run(scenario())
