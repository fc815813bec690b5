"""Announces one instance's addresses for as long as this node owns them.

At once, then the burst, then the refreshes.

What follows the first frames is spread: a switch that inspects ARP lets 15 to 50 frames a second
pass, and drops the rest.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence

# ---------------------------------------------------------------- when


INTERVAL = 1.1
"""Linux ignores an update of a neighbour entry that it changed less than a second ago (locktime,
100 jiffies), so a burst within one second may count as one frame:
https://github.com/metallb/metallb/issues/172 asks for 1.1 s."""
TICK = 0.02
"""Seconds between two frames or, of a pace above 50 frames a second, between two helpings of
several."""


def delays(burst: int, interval: float, refresh: float) -> Iterator[float]:
    """Yield how long to wait before each announcement.

    0.0, then `burst` times `interval`, then `refresh` for ever.

    A `refresh` of 0 ends the schedule after the burst. Whoever starts over (link up, a rival) asks
    for a new iterator.
    """
    yield 0.0
    for _ in range(burst):
        yield interval
    while refresh > 0:
        yield refresh


class Pace:
    """Frames a second, at most, of all who announce on one interface.

    They take turns, one helping of frames after the other.

    Each asker has a rate of its own: instances on one interface may be configured differently.
    """

    def __init__(self) -> None:
        self._free_at = -math.inf

    def slot(self, moment: float, frames: int, rate: float) -> float:
        """Return when so many frames may leave that want to now, and reserve the time that they
        take.
        """
        at = max(moment, self._free_at)
        self._free_at = at + frames / rate
        return at

    def burst(self, moment: float, rate: float) -> None:
        """Note that frames left without a slot.

        The next one would be dropped if it followed at once.
        """
        self._free_at = max(self._free_at, moment + 1 / rate)


def helping(rate: float) -> int:
    """Return how many frames leave together."""
    return max(1, int(rate * TICK))


def round_of(frames: Sequence[bytes], addresses: int, number: int, rate: float) -> list[bytes]:
    """Return the frames of a round in their order.

    `frames` begins with one for each of the addresses; those behind are sent after them. Each round
    begins with another address, a second's worth of frames further on: a limit on the way lets the
    first ones of every round pass, and would drop the same others each time.
    """
    start = number * max(1, int(rate))
    return [*_turned(frames[:addresses], start), *_turned(frames[addresses:], start)]


def _turned(frames: Sequence[bytes], start: int) -> list[bytes]:
    at = start % len(frames) if frames else 0
    return [*frames[at:], *frames[:at]]


# ---------------------------------------------------------------- what


Owner = Callable[[], bool]
"""Whether this node is the owner still, or whatever else is asked before a frame leaves."""
Send = Callable[[Sequence[bytes], Owner], int]
Schedule = Callable[[], Iterator[float]]


class Rounds:
    """Sends the same frames in rounds.

    `fire` sends some of them, or returns False if there is nothing to be sent any more.

    A round ends when it is due, and begins as much earlier as its frames take at their pace: of few
    frames none is late. One that takes longer than the pause before it begins at once.
    """

    def __init__(
        self,
        frames: Sequence[bytes],
        addresses: int,
        pace: Pace,
        rate: float,
        fire: Callable[[Sequence[bytes]], bool],
    ) -> None:
        self._frames = frames
        self._addresses = addresses
        self._pace = pace
        self._rate = rate
        self._fire = fire
        self._number = 0
        self._due = 0.0
        self._pauses: Iterator[float] = iter(())
        self._left: deque[Sequence[bytes]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def start(self, pauses: Iterator[float], *, at_once: bool) -> None:
        """Begin; `pauses` are the seconds before each round.

        `at_once`: the first round does not heed the pace.
        """
        self._pauses = pauses
        self._due = asyncio.get_running_loop().time()
        if at_once:
            next(pauses, None)
            self._number = 1
            if not self._fire(self._frames):
                return
            self._pace.burst(self._due, self._rate)
        self._next_round()

    def stop(self) -> None:
        """Send nothing any more. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _next_round(self) -> None:
        pause = next(self._pauses, None)
        if pause is None:
            return
        loop = asyncio.get_running_loop()
        size = helping(self._rate)
        frames = round_of(self._frames, self._addresses, self._number, self._rate)
        self._number += 1
        self._left = deque(frames[at : at + size] for at in range(0, len(frames), size)) or deque(
            [()]
        )
        self._due = max(self._due + pause, loop.time())
        begin = self._due - (len(self._left) - 1) * size / self._rate
        self._timer = loop.call_at(max(begin, loop.time()), self._take_turn)

    def _take_turn(self) -> None:
        loop = asyncio.get_running_loop()
        at = self._pace.slot(loop.time(), len(self._left[0]), self._rate)
        if at > loop.time():
            self._timer = loop.call_at(at, self._send)
        else:
            self._send()

    def _send(self) -> None:
        if not self._fire(self._left.popleft()):
            return
        if self._left:
            self._take_turn()
        else:
            self._next_round()


class Announcer:
    """Sends ready-made frames.

    `schedule` yields the pause before each round, in seconds; `rate` is in frames a second.

    `pace` is asked when rounds begin: what the interface of that moment has in common for all who
    announce on it. `frames` are empty until they are forged, and begin with one for each of the
    `addresses`.
    """

    def __init__(
        self,
        send: Send,
        schedule: Schedule,
        on_sent: Callable[[Sequence[bytes], int], None],
        pace: Callable[[], Pace],
        rate: float,
    ) -> None:
        self.frames: tuple[bytes, ...] = ()
        self.addresses = 0
        self._send = send
        self._schedule = schedule
        self._on_sent = on_sent
        self._pace = pace
        self._rate = rate
        self._owner: Owner | None = None
        self._is_handing_over: Owner = lambda: False
        self._rounds: Rounds | None = None
        self._answers: dict[str, Rounds] = {}
        self._at_once_again = 0.0

    def start(self, owner: Owner, is_handing_over: Owner, *, repair: bool = False) -> None:
        """Send the first frames now and the others on time.

        `owner` is asked again before every frame.

        What falls into a handover is left out: a frame after the successor's first one would bring
        the traffic back here, to an address that is just being removed. `repair`: the network knows
        where the address is; if all was announced just now, the first frames heed the pace too.
        """
        self.stop()
        self._owner, self._is_handing_over = owner, is_handing_over
        moment = asyncio.get_running_loop().time()
        at_once = not repair or moment >= self._at_once_again
        if at_once:
            self._at_once_again = moment + len(self.frames) / self._rate
        self._rounds = self._made(self.frames, self.addresses)
        self._rounds.start(self._schedule(), at_once=at_once)

    def again(self) -> None:
        """Start over, if this node is announcing.

        The link came back, or the frames became ready.
        """
        if self._owner is not None:
            self.start(self._owner, self._is_handing_over)

    def answer(self, address: str, frames: Sequence[bytes], pauses: Iterator[float]) -> None:
        """Announce one address again, if this node is announcing: somebody else speaks as it.

        At the pace, so never in a storm.
        """
        if self._owner is None:
            return
        if address in self._answers:
            self._answers[address].stop()
        self._answers[address] = self._made(frames, 1)
        self._answers[address].start(pauses, at_once=False)

    def stop(self) -> None:
        """Send nothing any more. Idempotent."""
        self._owner = None
        for rounds in (*self._answers.values(), *([self._rounds] if self._rounds else [])):
            rounds.stop()
        self._rounds = None
        self._answers.clear()

    def _made(self, frames: Sequence[bytes], addresses: int) -> Rounds:
        return Rounds(frames, addresses, self._pace(), self._rate, self._fire)

    def _fire(self, frames: Sequence[bytes]) -> bool:
        owner = self._owner
        if owner is None or not owner():
            self.stop()
            return False
        if not self._is_handing_over():
            self._on_sent(frames, self._send(frames, owner))
        return True
