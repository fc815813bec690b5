"""Several programs at once, so many at a time.

Rounds of different daemons, which wait most of the time.
"""

from __future__ import annotations

import collections
import contextlib
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence

LOOK_AGAIN = 0.2
"""Seconds."""


def run(commands: Sequence[Sequence[str]], jobs: int) -> bool:
    """Run these commands in their order, `jobs` of them at a time, without their output.

    Return whether all were run to their end.

    On an interrupt each that runs gets SIGTERM, and is waited for: it has namespaces to remove.
    (SIGINT is ignored by whatever a shell started in the background, and by its children.)
    """
    waiting = collections.deque(commands)
    running: list[subprocess.Popen[bytes]] = []
    with _interrupts() as interrupted:
        while (waiting or running) and not interrupted.is_set():
            while waiting and len(running) < jobs:
                running.append(
                    subprocess.Popen(
                        waiting.popleft(), stdout=subprocess.DEVNULL, start_new_session=True
                    )
                )
            time.sleep(LOOK_AGAIN)
            running = [one for one in running if one.poll() is None]
        for one in running:
            one.send_signal(signal.SIGTERM)
        for one in running:
            one.wait()
        return not interrupted.is_set()


@contextlib.contextmanager
def _interrupts() -> Iterator[threading.Event]:
    """Note an interrupt instead of raising it.

    Raised while a program is started it would leave that one to itself.
    """
    interrupted = threading.Event()
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    former = signal.signal(
        signal.SIGINT, signal.SIG_IGN if ignored else lambda *_: interrupted.set()
    )
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, former)
