"""What all members of a daemon are given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from announce.frames.announcer import Pace
from announce.frames.forge import FrameBuilder
from announce.kernel.addresses import ReadyMessages, RouteSocket
from announce.kernel.interface import Links
from announce.rivals.rivals import Listeners
from election import actions
from election.model import Identity
from election.stores.contract import Store
from election.timing import Timing
from health.kinds.workers import Workers
from vipd.daemon.driver import Observer
from vipd.daemon.instance import InstanceObserver


class MemberObserver(Observer, InstanceObserver, Protocol):
    """What elections and instances report."""


@dataclass(frozen=True, slots=True)
class Deps:
    """What all members of a daemon are given.

    `arm` has the guard take note of an election's addresses, and calls back with "" when that
    stands, or with why it does not. `links`: the interfaces as last seen. `unmet` tells why an
    election may not take place here for want of the kernel's gate; `knows_claims` whether this
    daemon has seen which elections of the store hold which addresses. `remember` and
    `keep_verdicts` keep something for the next daemon; `stepped` is called after each step of a
    machine, with its election's name.
    """

    me: Identity
    store: Store
    timing: Timing
    kernel: RouteSocket
    observer: MemberObserver
    arm: Callable[[str, Sequence[ReadyMessages], Callable[[str], None]], None]
    remember: Callable[[str, actions.Remember], None]
    keep_verdicts: Callable[[str, Mapping[str, bool]], bool]
    stepped: Callable[[str], None]
    unmet: Callable[[str], str] = lambda _election: ""
    knows_claims: Callable[[], bool] = lambda: True
    frame_builder: FrameBuilder = field(default_factory=FrameBuilder)
    listeners: Listeners = field(default_factory=Listeners)
    workers: Workers = field(default_factory=Workers)
    paces: dict[int, Pace] = field(default_factory=dict)
    links: Links = field(default_factory=Links)
