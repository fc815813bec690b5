"""Keeps the state directory up to date while the daemon runs."""

from __future__ import annotations

import asyncio
import logging

from vipd.memory import Memory

SAVE_PAUSE = 0.2
"""Seconds between two writes of the memory at least."""

log = logging.getLogger("vipd")


async def keep_saved(memory: Memory, unsaved: asyncio.Event) -> None:
    """Write the memory whenever there is news, on a thread: a disk that hangs must not hold up the election."""
    said = memory.trouble
    while True:
        await unsaved.wait()
        unsaved.clear()
        await asyncio.to_thread(memory.save)
        if memory.trouble != said:
            said = memory.trouble
            if said:
                log.warning("%s", said)
        await asyncio.sleep(SAVE_PAUSE)
