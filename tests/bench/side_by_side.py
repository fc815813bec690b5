"""Several programs at once, so many at a time: rounds of different daemons, which wait most of the time."""

from __future__ import annotations

import collections
import signal
import subprocess
import time
from collections.abc import Sequence

LOOK_AGAIN = 0.2
"""Seconds."""


def run(commands: Sequence[Sequence[str]], jobs: int) -> bool:
    """Run these commands in their order, `jobs` of them at a time, without their output; return whether all were run to their end.

    On an interrupt each that runs gets SIGTERM, and is waited for: it has namespaces to remove. (SIGINT is ignored by whatever a shell
    started in the background, and by its children.)
    """
    waiting = collections.deque(commands)
    running: list[subprocess.Popen[bytes]] = []
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                running.append(subprocess.Popen(waiting.popleft(), stdout=subprocess.DEVNULL, start_new_session=True))
            time.sleep(LOOK_AGAIN)
            running = [one for one in running if one.poll() is None]
    except KeyboardInterrupt:
        for one in running:
            one.send_signal(signal.SIGTERM)
        for one in running:
            one.wait()
        return False
    return True
