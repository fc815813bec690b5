"""The process that daemons are forked from: it has imported everything and does nothing.

It is forked from the guard itself, so that both share their memory, and lives as long as its
connection:

    guard --config--> template: imports, then freezes what it has      template --ready--> guard
    guard --fork, link--> template forks a go-between, which forks the daemon, reports its process
                          id and ends

The daemon is thereby adopted by the guard, the nearest subreaper: the guard reaps it, and is
notified of its death.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import os
import select
import signal
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from vipd.guard import installed
from vipd.guard.channel import Channel, Message
from vipd.guard.daemon_seen import DUMP_SIGNAL
from vipd.guard.entries import Entries
from vipd.guard.link import ConfigState, GuardLink, StartInfo
from vipd.guard.processes import die_with_parent, fork, set_name, threads, wait_for_adoption
from vipd.guard.shared_words import Words

EXIT_OUTDATED = 76
"""Exit status of a template that finds other code installed than the guard runs."""
FORK_FAILED = 0
"""In the place of a process id: the daemon could not be forked."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What the daemon inherits from the guard over two forks.

    `stack`: where it writes its stack to when it is asked; -1: nowhere.
    """

    entries: Entries
    words: Words
    counter: int
    guard: int
    stack: int = -1

    @property
    def descriptors(self) -> set[int]:
        """The open files among them."""
        return {self.counter, self.stack} - {-1}


def main(sock: socket.socket, shared: Shared, code: str = "") -> int:
    """Serve the guard until its end of the connection is closed.

    `code`: what the guard runs, if that is known (`vipd.guard.installed`).
    """
    set_name("vipd-template")
    # A terminal's Ctrl-C and hang-up are for the guard, which stops the daemon itself.
    os.setsid()
    die_with_parent(signal.SIGKILL, shared.guard)
    if installed.difference(code):
        return EXIT_OUTDATED
    shared.entries.common()
    channel = Channel(sock)
    config: object = None
    while not channel.ended:
        for message in channel.receive():
            if message["op"] == "config":
                config = shared.entries.preload(bytes.fromhex(str(message["blob"])))
                # What is frozen is not touched by a collection: a full one would take 18 ms, and
                # unshare the pages.
                gc.collect()
                gc.freeze()
                channel.send({"op": "ready", "threads": threads()})
            elif message["op"] == "fork":
                _fork_daemon(channel, message, config, shared)
        _wait(channel)
    return 0


def _wait(channel: Channel) -> None:
    poll = select.poll()
    poll.register(channel.fileno(), select.POLLIN | (select.POLLOUT if channel.waiting else 0))
    poll.poll()
    channel.flush()


def _fork_daemon(channel: Channel, message: Message, config: object, shared: Shared) -> None:
    (link,) = channel.take_descriptors(1)
    start_info = _start_info(message)

    def go_between() -> int:
        me = os.getpid()
        pid = fork(
            lambda: _daemon(me, link, start_info, config, shared), keep={link, *shared.descriptors}
        )
        # The go-between reports the id, not the daemon: if the daemon dies at once, the guard must
        # know whose death it was.
        channel.send({"op": "started", "pid": pid})
        return 0

    if not _succeeded(go_between, keep={link, *shared.descriptors, channel.fileno()}):
        channel.send({"op": "started", "pid": FORK_FAILED})
    os.close(link)


def _succeeded(child: Callable[[], int], keep: set[int]) -> bool:
    """Run a child to its end; return whether there was one and it ended well."""
    try:
        _, status = os.waitpid(fork(child, keep, block_signals=True), 0)
    except OSError:
        return False
    return status == 0


def _daemon(
    go_between: int, link: int, start_info: StartInfo, config: object, shared: Shared
) -> int:
    os.setsid()
    set_name("vipd-daemon")
    if shared.stack >= 0:
        with contextlib.suppress(OSError, RuntimeError):
            faulthandler.register(DUMP_SIGNAL, file=shared.stack, all_threads=True, chain=False)
    wait_for_adoption(go_between)
    die_with_parent(signal.SIGTERM, shared.guard)
    guard_link = GuardLink(socket.socket(fileno=link), shared.words, shared.counter, start_info)
    return shared.entries.daemon(config, guard_link)


def _start_info(message: Message) -> StartInfo:
    crashes, fenced, no_gate = message["crashes"], message["fenced"], message["no_gate"]
    if not isinstance(crashes, int) or not isinstance(fenced, Mapping):
        raise TypeError("the guard's request is malformed")
    counted = {str(name): int(count) for name, count in fenced.items()}
    return StartInfo(
        crashes, counted, str(no_gate), ConfigState.read(message["config"]), str(message["code"])
    )
