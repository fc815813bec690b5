"""Announces one instance's addresses for as long as this node owns them: at once, then the burst, then the refreshes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence

Owner = Callable[[], bool]
"""Whether this node is the owner still, or whatever else is asked before a frame leaves."""
Send = Callable[[Sequence[bytes], Owner], int]


class Announcer:
    """Sends ready-made frames. `frames` are empty until they are forged; `schedule` yields the pause before each, in seconds."""

    def __init__(self, send: Send, schedule: Callable[[], Iterator[float]], on_sent: Callable[[int], None]) -> None:
        self.frames: tuple[bytes, ...] = ()
        self._send = send
        self._schedule = schedule
        self._on_sent = on_sent
        self._owner: Owner | None = None
        self._is_handing_over: Owner = lambda: False
        self._pauses: Iterator[float] = iter(())
        self._timer: asyncio.TimerHandle | None = None

    def start(self, owner: Owner, is_handing_over: Owner) -> None:
        """Send the first frames now and the others on time; `owner` is asked again before every frame.

        What falls into a handover is left out: a frame after the successor's first one would bring the traffic back here, to an
        address that is just being removed.
        """
        self.stop()
        self._owner, self._is_handing_over = owner, is_handing_over
        self._pauses = self._schedule()
        next(self._pauses, None)  # the first announcement waits for nothing
        self._fire()

    def again(self) -> None:
        """Start over, if this node is announcing: the link came back, a rival was seen, or the frames became ready."""
        if self._owner is not None:
            self.start(self._owner, self._is_handing_over)

    def stop(self) -> None:
        """Send nothing any more. Idempotent."""
        self._owner = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fire(self) -> None:
        owner = self._owner
        if owner is None or not owner():
            self.stop()
            return
        if not self._is_handing_over():
            self._on_sent(self._send(self.frames, owner))
        pause = next(self._pauses, None)
        if pause is not None:
            self._timer = asyncio.get_running_loop().call_later(pause, self._fire)
