"""When frames leave: at once, on schedule, and never once this node is not the owner."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import pytest

from announce.frames.announcer import INTERVAL, Announcer, Owner, Pace, delays
from tests.unit.vipd.inprocess import until

FRAMES = (b"request", b"reply")
QUICK = 1000.0
"""Frames a second, of which twenty leave together."""


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

    made = Announcer(
        wire.send, schedule, lambda _frames, sent: wire.counted.append(sent), Pace, QUICK
    )
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
    """The owner is asked again before every frame.

    After a no the announcer is at rest and `again` wakes nobody.
    """
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
    """The successor has announced itself: a frame from here would call the traffic back.

    If it does not answer, all goes on.
    """
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
    """The link came back.

    The first frames at once, then the whole burst, and the old schedule is forgotten.
    """
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


# --------------------------------------------------------------- not faster than a switch lets pass


class Virtual(asyncio.SelectorEventLoop):
    """An event loop whose time passes at once."""

    def __init__(self) -> None:
        super().__init__()
        self.moment = 0.0

    def time(self) -> float:
        """Return the time that has passed."""
        return self.moment

    def run_until(self, moment: float) -> None:
        """Run all timers up to this moment."""
        while self._scheduled and (when := min(t.when() for t in self._scheduled)) <= moment:  # type: ignore[attr-defined]
            self.moment = max(self.moment, when)
            self.run_until_complete(asyncio.sleep(0))
            self.run_until_complete(asyncio.sleep(0))
        self.moment = moment


@dataclass
class Link:
    """Keeps what leaves, with its time; `drops` is asked for each frame."""

    loop: Virtual
    sent: list[tuple[float, bytes]] = field(default_factory=list)

    def announcer(
        self, addresses: int, pace: Pace, rate: float = 15.0, burst: int = 5, name: str = ""
    ) -> Announcer:
        """Return an announcer with two frames for each address."""
        made = Announcer(
            self._send,
            lambda: delays(burst, 1.1, 60.0),
            lambda _frames, _sent: None,
            lambda: pace,
            rate,
        )
        made.frames = tuple(
            f"{name}{kind}{number}".encode() for kind in "qr" for number in range(addresses)
        )
        made.addresses = addresses
        return made

    def _send(self, frames: Sequence[bytes], _owner: Owner) -> int:
        self.sent += [(self.loop.time(), frame) for frame in frames]
        return len(frames)

    def most_in_a_second(self, since: float) -> int:
        """Return how many frames left within a second at most."""
        times = [at for at, _ in self.sent if at > since]
        return max(
            (sum(1 for other in times if at <= other < at + 1.0 - 1e-9) for at in times), default=0
        )

    def passed(self, limit: float, burst: float) -> set[bytes]:
        """Return the addresses that a switch with this limit would have let
        pass: a token bucket.
        """
        tokens, before, known = burst, 0.0, set()
        for at, frame in self.sent:
            tokens, before = min(burst, tokens + (at - before) * limit), at
            if tokens >= 1 - 1e-6:
                tokens -= 1
                known.add(frame.translate(None, b"qr"))
        return known


def yes() -> bool:
    """Own it."""
    return True


def no() -> bool:
    """Hand nothing over."""
    return False


@pytest.fixture
def link() -> Iterator[Link]:
    """Return a link with a clock of its own."""
    loop = Virtual()
    asyncio.set_event_loop(loop)
    yield Link(loop)
    asyncio.set_event_loop(None)
    loop.close()


def running(link: Link, scene: Callable[[], None]) -> None:
    """Call in the loop."""

    async def run() -> None:
        scene()

    link.loop.run_until_complete(run())


def test_few_addresses_are_as_early_as_without_a_pace(link: Link) -> None:
    """One with both families, and eight of IPv4: every repetition is over when it is due."""
    for addresses in (1, 2, 8):
        link.sent.clear()
        start = link.loop.time()
        made = link.announcer(addresses, Pace())
        running(link, lambda made=made: made.start(yes, no))  # type: ignore[misc]
        assert [at for at, _ in link.sent] == [start] * 2 * addresses
        link.loop.run_until(start + 6.0)
        for number in range(1, 6):
            assert len(
                [1 for at, _ in link.sent if at <= start + 1.1 * number + 1e-6]
            ) == 2 * addresses * (number + 1)
        assert len(link.sent) == 6 * 2 * addresses
        running(link, made.stop)


@pytest.mark.parametrize(
    ("limit", "burst"), [(50.0, 20.0), (50.0, 5.0), (30.0, 10.0), (15.0, 15.0), (15.0, 5.0)]
)
def test_a_switch_that_limits_arp_learns_all_addresses(
    link: Link, limit: float, burst: float
) -> None:
    """Each of 150 within ten seconds and a bit, whatever part of the first frames passed."""
    made = link.announcer(150, Pace())
    running(link, lambda: made.start(yes, no))
    assert len(link.sent) == 300
    link.loop.run_until(10.1)
    assert len(link.passed(limit, burst)) == 150
    assert link.most_in_a_second(0.0) <= 15


def test_every_round_begins_elsewhere_and_has_all_frames(link: Link) -> None:
    """One for each address first, then the other kind."""
    made = link.announcer(40, Pace())
    running(link, lambda: made.start(yes, no))
    link.loop.run_until(40.0)
    rounds = [
        [frame for _, frame in link.sent[at : at + 80]] for at in range(0, len(link.sent), 80)
    ]
    assert len(rounds) == 6
    assert all(set(one) == set(made.frames) for one in rounds)
    assert all({frame[:1] for frame in one[:40]} == {b"q"} for one in rounds)
    assert len({one[0] for one in rounds}) > 3


def test_all_instances_of_an_interface_share_its_pace(link: Link) -> None:
    """A hundred with one address each are a hundred addresses behind one port of a switch, and none
    waits for all of another.
    """
    pace = Pace()
    many = [link.announcer(1, pace, name=f"{number}-") for number in range(100)]

    def start() -> None:
        for made in many:
            made.start(yes, no)

    running(link, start)
    link.loop.run_until(9.0)
    assert link.most_in_a_second(0.0) <= 15
    assert len(link.passed(15.0, 1.0)) == 100
    link.loop.run_until(400.0)
    assert link.most_in_a_second(0.0) <= 15


def test_refreshes_are_paced_too(link: Link) -> None:
    """Thirty addresses, an hour of refreshes: never more than the pace, never a round left out."""
    made = link.announcer(30, Pace(), burst=0)
    running(link, lambda: made.start(yes, no))
    link.loop.run_until(600.5)
    assert len(link.sent) == 60 * 11
    assert link.most_in_a_second(0.0) <= 15


def test_a_high_pace_sends_several_frames_at_a_time(link: Link) -> None:
    """And does not wake up for each of thousands."""
    made = link.announcer(1000, Pace(), rate=5000.0)
    running(link, lambda: made.start(yes, no))
    link.loop.run_until(6.0)
    assert len(link.sent) == 6 * 2000
    assert len({at for at, _ in link.sent}) <= 5 * 20 + 1


def test_repairs_in_quick_succession_are_paced_and_one_alone_is_not(link: Link) -> None:
    """Somebody deletes an address again and again: the network knows where it is."""
    made = link.announcer(20, Pace())
    running(link, lambda: made.start(yes, no))
    for number in range(1, 100):
        link.loop.run_until(0.05 * number)
        running(link, lambda: made.start(yes, no, repair=True))
    assert link.most_in_a_second(0.0) <= 15 + 40
    link.loop.run_until(60.0)
    link.sent.clear()
    running(link, lambda: made.start(yes, no, repair=True))
    assert len(link.sent) == 40


def test_an_answer_to_a_rival_is_about_its_address_alone_and_paced(link: Link) -> None:
    """At once where nothing else leaves, then repeated as the burst is; the other rounds go on."""
    made = link.announcer(150, Pace(), burst=0)
    running(link, lambda: made.start(yes, no))
    link.loop.run_until(10.0)
    link.sent.clear()
    running(link, lambda: made.answer("192.0.2.7", (b"q7", b"r7"), delays(2, 1.1, 0.0)))
    assert link.sent == [(10.0, b"q7")]
    link.loop.run_until(30.0)
    assert [frame for _, frame in link.sent] == [b"q7", b"r7"] * 3
    for second in range(30, 40):
        for number in range(150):
            frames = (f"q{number}".encode(), f"r{number}".encode())
            running(
                link,
                lambda number=number, frames=frames: made.answer(  # type: ignore[misc]
                    str(number), frames, delays(5, 1.1, 0.0)
                ),
            )
        link.loop.run_until(float(second + 1))
    assert link.most_in_a_second(30.0) <= 15
    running(link, made.stop)
    link.sent.clear()
    link.loop.run_until(200.0)
    assert link.sent == []


def test_an_answer_leaves_only_while_this_node_announces(link: Link) -> None:
    """A rival heard just before the end is not answered after it."""
    made = link.announcer(1, Pace())
    running(link, lambda: made.answer("a", FRAMES, delays(1, 1.1, 0.0)))
    link.loop.run_until(5.0)
    assert link.sent == []


def test_at_once_then_the_burst_then_the_refresh_for_ever() -> None:
    """The first one never waits."""
    assert list(islice(delays(3, INTERVAL, 60.0), 8)) == [
        0.0,
        1.1,
        1.1,
        1.1,
        60.0,
        60.0,
        60.0,
        60.0,
    ]


def test_no_refresh_ends_after_the_burst() -> None:
    """And no burst leaves the first one."""
    assert list(delays(2, 0.5, 0.0)) == [0.0, 0.5, 0.5]
    assert list(delays(0, 0.5, 0.0)) == [0.0]


def test_a_burst_is_slower_than_locktime() -> None:
    """Linux drops what follows a change within one second."""
    assert INTERVAL > 1.0
