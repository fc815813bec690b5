"""A process that reads a record without a pause and watches it, and says how each read went.

    etcd_reader.py URL

A line for each read, `ok` or `unknown`, and for each event of the watch, its type.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from election.model import Unknown
from election.stores.etcd.store import EtcdStore


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


async def watch(store: EtcdStore) -> None:
    """Say what the watch reports."""
    async for event in store.watch():
        say(type(event).__name__)


async def main(url: str) -> None:
    """Read until killed."""
    store = EtcdStore([url], request_timeout=0.5)
    watching = asyncio.create_task(watch(store))
    while not watching.done():
        say("unknown" if isinstance(await store.read("ingress", 0.5), Unknown) else "ok")
        await asyncio.sleep(0.05)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
