"""The guard's half of a connection to a daemon, served in a thread."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from announce.kernel.addresses import RouteSocket
from vipd.guard.channel import Channel
from vipd.guard.errors import ChannelError
from vipd.guard.gate import GateKeeper
from vipd.guard.link import GuardLink, StartInfo
from vipd.guard.locks import Locks
from vipd.guard.log import Log
from vipd.guard.requests import Requests
from vipd.guard.shared_words import Words
from vipd.guard.slots import Slots


@dataclass
class HalfGuard:
    """Serves requests as the guard does, without deciding anything."""

    words: Words = field(default_factory=lambda: Words(4))
    heard: list[str] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.kernel = RouteSocket()
        self.slots = Slots(self.words, self.kernel, GateKeeper(Log(), 4))
        self.locks = Locks()
        self.counter = os.eventfd(0, os.EFD_NONBLOCK)

    def close(self) -> None:
        """Close what is open."""
        self.locks.close()
        self.kernel.close()
        os.close(self.counter)

    @contextlib.contextmanager
    def daemon(self) -> Iterator[tuple[GuardLink, Channel]]:
        """Give a new daemon's end of a connection that is being served, and the guard's."""
        mine, others = socket.socketpair()
        channel, link = (
            Channel(mine),
            GuardLink(others, self.words, self.counter, StartInfo(2, {"ingress": 1})),
        )
        requests = Requests(
            self.slots,
            self.locks,
            lambda: self.heard.append("ready"),
            self.heard.append,
            lambda: None,
        )
        thread = threading.Thread(target=self._serve, args=(channel, requests))
        thread.start()
        try:
            yield link, channel
        finally:
            link._channel.close()
            thread.join()
            # A daemon's own hold on its addresses ends with its process; here the process goes on.
            for descriptor in link._locks.values():
                os.close(descriptor)
            channel.close()

    def _serve(self, channel: Channel, requests: Requests) -> None:
        poll = select.poll()
        poll.register(channel.fileno(), select.POLLIN)
        while not channel.ended:
            poll.poll()
            try:
                requests.serve(channel)
            except ChannelError as error:
                self.trouble.append(str(error))
                channel._socket.shutdown(socket.SHUT_RDWR)
            channel.flush()
