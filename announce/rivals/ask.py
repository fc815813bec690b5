"""Ask the link whether somebody already answers for an address."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from announce.frames.build import Frames
from announce.frames.sender import Sender
from announce.rivals.rivals import Rivals, RivalSeen

PROBES = 3
"""As often as RFC 5227 section 1.1 asks (PROBE_NUM): one frame may be lost."""


async def probe(sender: Sender, rivals: Rivals, frames: Sequence[Frames], timeout: float) -> str:
    """Return the MAC of the first who speaks as one of the addresses, or an empty string after
    `timeout` seconds of silence.

    The probes are spread over the time; the answer to the first ends it. `sender` has to send past
    the kernel gate, which is closed for these addresses. A link that is down is silent as well:
    whoever asks must know that it is up.
    """
    answered: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def seen(rival: RivalSeen) -> None:
        if not answered.done():
            answered.set_result(rival.mac)

    unsubscribe = rivals.subscribe([item.address for item in frames], seen)
    try:
        for _ in range(PROBES):
            sender.send(
                [frame for item in frames for frame in item.probe], lambda: not answered.done()
            )
            await asyncio.wait({answered}, timeout=timeout / PROBES)
            if answered.done():
                return answered.result()
        return ""
    finally:
        unsubscribe()
