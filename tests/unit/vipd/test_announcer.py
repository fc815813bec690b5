"""When frames leave: at once, on schedule, and never once this node is not the owner."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from tests.unit.vipd.inprocess import until
from vipd.announcer import Announcer, Owner

FRAMES = (b"request", b"reply")


@dataclass
class Wire:
    """Takes what is sent; asks the owner before each frame, as the real sender does."""

    owner: bool = True
    handing_over: bool = False
    sent: list[tuple[bytes, ...]] = field(default_factory=list)
    counted: list[int] = field(default_factory=list)

    def send(self, frames: Sequence[bytes], still_owner: Owner) -> int:
        """Send as long as the owner says so."""
        left = tuple(frame for frame in frames if still_owner())
        self.sent.append(left)
        return len(left)

    def is_owner(self) -> bool:
        """Answer for the owner."""
        return self.owner

    def is_handing_over(self) -> bool:
        """Say whether a successor is named."""
        return self.handing_over


def announcer(wire: Wire, *pauses: float) -> Announcer:
    """Return an announcer with frames, and these pauses after the first announcement."""

    def schedule() -> Iterator[float]:
        yield 0.0
        yield from pauses

    made = Announcer(wire.send, schedule, wire.counted.append)
    made.frames = FRAMES
    return made


def play(scene: Callable[[], object], done: Callable[[], object] = lambda: True) -> None:
    """Run a scene in an event loop until this is true."""

    async def run() -> None:
        scene()
        await until(done, "the scene to end")

    asyncio.run(run())


def test_the_first_frames_leave_before_start_returns_and_the_others_on_time() -> None:
    """A takeover waits for nothing; the count of what left is passed on."""
    wire = Wire()
    made = announcer(wire, 0.001, 0.001)

    def scene() -> None:
        made.start(wire.is_owner, wire.is_handing_over)
        assert wire.sent == [FRAMES]

    play(scene, lambda: len(wire.sent) == 3)
    assert wire.counted == [2, 2, 2]


def test_the_schedule_ends() -> None:
    """Without a refresh nothing is left to be sent after the burst."""
    wire = Wire()
    made = announcer(wire)
    play(lambda: made.start(wire.is_owner, wire.is_handing_over))
    assert wire.sent == [FRAMES]


def test_nothing_leaves_once_somebody_else_is_the_owner() -> None:
    """The owner is asked again before every frame; after a no the announcer is at rest and `again` wakes nobody."""
    wire = Wire()
    made = announcer(wire, 0.001, 0.001)

    async def run() -> None:
        made.start(wire.is_owner, wire.is_handing_over)
        wire.owner = False
        await asyncio.sleep(0.02)
        wire.owner = True
        made.again()
        await asyncio.sleep(0.02)

    asyncio.run(run())
    assert wire.sent == [FRAMES]


def test_nothing_leaves_during_a_handover_and_the_schedule_goes_on_after_it() -> None:
    """The successor has announced itself: a frame from here would call the traffic back. If it does not answer, all goes on."""
    wire = Wire()
    made = announcer(wire, *[0.001] * 200)

    async def run() -> None:
        made.start(wire.is_owner, wire.is_handing_over)
        wire.handing_over = True
        made.again()
        await asyncio.sleep(0.02)
        assert wire.sent == [FRAMES]
        wire.handing_over = False
        await until(lambda: len(wire.sent) > 2, "the next frames")

    asyncio.run(run())


def test_stop_is_heard_at_once_and_twice_is_once() -> None:
    """No timer is left that would fire for a former owner."""
    wire = Wire()
    made = announcer(wire, 0.001)

    async def run() -> None:
        made.stop()
        made.start(wire.is_owner, wire.is_handing_over)
        made.stop()
        made.stop()
        made.again()
        await asyncio.sleep(0.02)

    asyncio.run(run())
    assert wire.sent == [FRAMES]


def test_again_starts_the_schedule_over() -> None:
    """The link came back: the first frames at once, then the whole burst, and the old schedule is forgotten."""
    wire = Wire()
    made = announcer(wire, 0.001)

    async def run() -> None:
        made.start(wire.is_owner, wire.is_handing_over)
        made.again()
        assert len(wire.sent) == 2
        await until(lambda: len(wire.sent) == 3, "the burst")
        await asyncio.sleep(0.02)

    asyncio.run(run())
    assert len(wire.sent) == 3


def test_frames_that_come_later_are_sent_when_they_are_there() -> None:
    """A restart goes on before its frames are forged."""
    wire = Wire()
    made = announcer(wire)
    made.frames = ()

    def scene() -> None:
        made.start(wire.is_owner, wire.is_handing_over)
        made.frames = FRAMES
        made.again()

    play(scene)
    assert wire.sent == [(), FRAMES]
    assert wire.counted == [0, 2]
