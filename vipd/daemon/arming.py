"""Has the guard take note of an election's addresses where they are now, until it agrees."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from announce.kernel.addresses import ReadyMessages

ARM_AGAIN = 1.0
"""Seconds until the guard is asked again for what it refused."""
SILENCE = 2.0
"""Seconds of the guard's silence after which the operator is informed; as a rule it answers within
some milliseconds."""

Ready = tuple[ReadyMessages, ...]
Ask = Callable[[Ready, Callable[[str], None]], None]


class Arming:
    """One for each election.

    `ask` asks the guard once, and calls back with "" or with why it refuses. `armed` is called with
    the messages that the guard knows from then on, `not_armed` with why it does not, whenever that
    is another reason than before.
    """

    def __init__(
        self, ask: Ask, armed: Callable[[Ready], None], not_armed: Callable[[str], None]
    ) -> None:
        self._ask, self._armed, self._not_armed = ask, armed, not_armed
        self._number = 0
        self._timer: asyncio.TimerHandle | None = None

    def start(self, ready: Callable[[], Ready]) -> None:
        """Ask for what `ready` returns, now and until the guard agrees.

        It may be stopped or starved, and refuse.
        """
        self._number += 1
        number, wanted = self._number, ready()

        def answered(trouble: str) -> None:
            if number != self._number:
                return  # asked for before the interfaces changed again
            self.stop()
            if not trouble:
                self._armed(wanted)
                return
            self._not_armed(f"the guard refuses: {trouble}; it is asked again every {ARM_AGAIN:g}s")
            self._set_timer(ARM_AGAIN, lambda: self.start(ready))

        silent = f"the guard has not answered for {SILENCE:g}s"
        self._set_timer(SILENCE, lambda: self._not_armed(silent))
        self._ask(wanted, answered)

    def stop(self) -> None:
        """Neither ask again nor complain of silence."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set_timer(self, seconds: float, then: Callable[[], None]) -> None:
        self.stop()
        self._timer = asyncio.get_running_loop().call_later(seconds, then)
