"""The guard's helpers: one process that reads the configuration, one that daemons are forked from.

Both are started at once, so that the file is read while the libraries are being imported. On a
reload the new file is read, and a second template is ready with it, before anything of the old one
is given up. Neither is started from code that is not the guard's own any more
(`vipd.guard.installed`).
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from election.fencing import EXIT_CONFIG, EXIT_FAILED, NEVER
from vipd.clock import now
from vipd.guard import installed, template
from vipd.guard.channel import Channel
from vipd.guard.errors import ChannelError
from vipd.guard.link import StartInfo
from vipd.guard.log import ERROR, Log
from vipd.guard.preparation import LOG_FORMAT, Header, Preparation, packed, unpacked
from vipd.guard.processes import die_with_parent, fork, kill
from vipd.guard.template import EXIT_OUTDATED, FORK_FAILED, Shared

PREPARE_PATIENCE = 60.0
"""For reading the file or for importing; a name server that does not answer costs tens of
seconds."""
FORK_PATIENCE = 0.5
"""A fork takes 5 ms (60 MB, measured on two busy cores); a template that does not answer is stopped
or broken."""
TEMPLATE_PAUSE = 1.0
"""Seconds between two starts of a template that ends while no daemon is wanted."""


@dataclass(frozen=True, slots=True)
class Started:
    """The daemon that was asked for runs, and is a child of the guard."""

    pid: int


@dataclass(frozen=True, slots=True)
class StartFailed:
    """The daemon that was asked for could not be forked, or it is not known whether it was."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The file cannot be used; what is wrong was printed.

    `first`: there is no earlier configuration. `why`: a sentence.
    """

    code: int
    first: bool
    why: str = ""


@dataclass(frozen=True, slots=True)
class Reloaded:
    """A new configuration, valid and ready to start with."""

    blob: bytes


@dataclass(frozen=True, slots=True)
class Unchanged:
    """The file was read again; its content is as before."""


@dataclass(frozen=True, slots=True)
class Outdated:
    """No daemon can be started any more: another version was installed over the one that runs."""


ChildEvent = Started | StartFailed | Refused | Reloaded | Unchanged | Outdated


@dataclass(slots=True)
class Template:
    """A process to fork daemons from.

    `asked_at`: when it was asked for one that is not there yet; 0.0: none.

    `patient_until`: for what it is doing now; without a configuration it may take all the time
    there is.
    """

    pid: int
    channel: Channel
    patient_until: float = NEVER
    ready: bool = False
    asked_at: float = 0.0


class Children:
    """Keeps one template ready, with the newest valid configuration.

    `code` stands for the code that runs (`vipd.guard.installed`; empty: not known). `outdated`:
    another is installed by now, and there is no template of the old one left.
    """

    def __init__(self, path: str, shared: Shared, log: Log) -> None:
        self._path = path
        self._shared = shared
        self._log = log
        self._blob: bytes | None = None
        self._next_blob = b""
        self._preparation: Preparation | None = None
        self._again = False
        self._template: Template | None = None
        self._next: Template | None = None
        self._template_at = NEVER
        self._died_at = -NEVER
        self.code = ""
        self.outdated = False

    @property
    def can_start(self) -> bool:
        """Whether a daemon can be forked at once."""
        return self._template is not None and self._template.ready and not self._template.asked_at

    @property
    def pids(self) -> set[int]:
        """Return the helpers that live."""
        helpers = (self._preparation, self._template, self._next)
        return {helper.pid for helper in helpers if helper is not None}

    def begin(self) -> None:
        """Start both helpers."""
        self._template = self._fork_template()
        self._prepare()

    def reload(self) -> Iterator[ChildEvent]:
        """Read the file again; once more afterwards if it is being read already."""
        if self._preparation is not None or self._next is not None:
            self._again = True
            return
        try:
            self._prepare()
        except OSError as error:
            yield Refused(EXIT_FAILED, first=False, why=f"no process to read it: {error.strerror}")

    def start(self, link: socket.socket, start_info: StartInfo) -> None:
        """Ask for a daemon with this end of its connection; answered by Started or StartFailed."""
        if self._template is not None:
            self._template.asked_at = now()
            self._template.channel.send({"op": "fork", **asdict(start_info)}, [link.fileno()])

    def abort_start(self) -> None:
        """Give up the daemon that was asked for; answered by StartFailed."""
        if self._template is not None:
            kill(self._template.pid)

    def close(self) -> None:
        """Kill the helpers and hang up; they are reaped by the caller."""
        for pid in self.pids:
            kill(pid)
        for helper in filter(None, (self._template, self._next)):
            helper.channel.close()
        if self._preparation is not None:
            self._preparation.close()

    # ------------------------------------------------------------ what happens

    def waits(self) -> Iterator[tuple[int, int]]:
        """Yield the descriptors to wait on, each with its poll events."""
        if self._preparation is not None and self._preparation.pipe >= 0:
            yield self._preparation.pipe, select.POLLIN
        for helper in (self._template, self._next):
            if helper is not None and not helper.channel.ended:
                yield (
                    helper.channel.fileno(),
                    select.POLLIN | (select.POLLOUT if helper.channel.waiting else 0),
                )

    def wake_at(self) -> float:
        """Return when `tick` has something to do."""
        return min(self._template_at, *(at for at, _, _ in self._limits()), NEVER)

    def tick(self, moment: float) -> None:
        """Kill what takes too long, and replace what died."""
        if moment >= self._template_at:
            self._replace_dead(moment)
        for at, helper, what in self._limits():
            if moment >= at:
                self._log(f"process {helper.pid} {what}: killed")
                kill(helper.pid)
                # Until it is reaped: one that sleeps in the kernel is not killed again at every
                # wake.
                helper.patient_until = moment + PREPARE_PATIENCE

    def _limits(self) -> Iterator[tuple[float, Preparation | Template, str]]:
        """Yield until when a helper may go on with what it is doing, and what to say of it after
        that.
        """
        if self._preparation is not None:
            yield (
                self._preparation.patient_until,
                self._preparation,
                f"takes too long to read {self._path}",
            )
        for helper in (self._template, self._next):
            if helper is not None and helper.asked_at:
                yield (
                    max(helper.patient_until, helper.asked_at + FORK_PATIENCE),
                    helper,
                    "does not fork a daemon",
                )
            elif helper is not None and not helper.ready:
                yield helper.patient_until, helper, "takes too long to import"

    def _replace_dead(self, moment: float) -> None:
        try:
            self._template, self._template_at = self._fork_template(), NEVER
        except OSError as error:
            self._log(f"no process to fork daemons from: {error}")
            self._template_at = moment + TEMPLATE_PAUSE
        self._configure(self._template, self._blob)

    def handle(self, descriptor: int) -> Iterator[ChildEvent]:
        """Read what has come on one of `waits`, and send what waits."""
        if self._preparation is not None and descriptor == self._preparation.pipe:
            yield from self._read_pipe(self._preparation)
        for helper in (self._template, self._next):
            if helper is not None and descriptor == helper.channel.fileno():
                yield from self._read_channel(helper)

    def on_ended(self, pid: int, status: int) -> Iterator[ChildEvent]:
        """Handle the end of a child that was reaped, one of `pids`."""
        if self._preparation is not None and pid == self._preparation.pid:
            self._preparation.status = status
            yield from self._read_pipe(self._preparation)
        elif self._next is not None and pid == self._next.pid:
            self._next.channel.close()
            self._next = None
            why = (
                installed.CHANGED
                if status == EXIT_OUTDATED
                else f"no daemon starts with it ({ending(status)})"
            )
            yield Refused(EXIT_FAILED, first=False, why=why)
            yield from self._continue()
        elif self._template is not None and pid == self._template.pid:
            yield from self._on_template_ended(self._template, status)

    # ------------------------------------------------------------ the file

    def _prepare(self) -> None:
        def child(writing: int) -> int | None:
            die_with_parent(signal.SIGKILL, self._shared.guard)
            # Before anything is imported, which would be of the other version.
            if outdated := installed.difference(self.code):
                os.write(writing, packed(Header(refused=outdated)))
                return EXIT_FAILED
            os.environ[LOG_FORMAT] = "json" if self._log.json else ""
            return self._shared.entries.prepare(self._path, writing)

        self._preparation = Preparation.start(child, now() + PREPARE_PATIENCE)

    def _read_pipe(self, preparation: Preparation) -> Iterator[ChildEvent]:
        if preparation.read():
            yield from self._prepared(preparation.status, *unpacked(preparation.written))

    def _prepared(self, status: int | None, header: Header, blob: bytes) -> Iterator[ChildEvent]:
        self._preparation = None
        first = self._blob is None
        if status != 0 or not blob:
            yield Refused(
                EXIT_CONFIG if status == EXIT_CONFIG else EXIT_FAILED,
                first=first,
                why=header.refused,
            )
        elif first:
            self._blob, self.code, self._log.json = blob, header.code, header.json
            self._configure(self._template, blob)
        elif blob == self._blob:
            yield Unchanged()
        else:
            self._log.json = header.json
            yield from self._prepare_next(blob)
            return
        yield from self._continue()

    def _prepare_next(self, blob: bytes) -> Iterator[ChildEvent]:
        self._next_blob = blob
        try:
            self._next = self._fork_template()
        except OSError as error:
            yield Refused(
                EXIT_FAILED, first=False, why=f"no process to fork daemons from: {error.strerror}"
            )
        else:
            self._configure(self._next, blob)

    def _continue(self) -> Iterator[ChildEvent]:
        """Do what was asked for while the file was being read."""
        if self._again:
            self._again = False
            yield from self.reload()

    # ------------------------------------------------------------ the template

    def _fork_template(self) -> Template:
        mine, others = socket.socketpair()
        with others:
            keep = {others.fileno(), *self._shared.descriptors}
            pid = fork(
                lambda: template.main(others, self._shared, self.code), keep, block_signals=True
            )
        return Template(pid, Channel(mine))

    def _configure(self, helper: Template | None, blob: bytes | None) -> None:
        if helper is not None and blob is not None:
            helper.patient_until = now() + PREPARE_PATIENCE
            helper.channel.send({"op": "config", "blob": blob.hex()})

    def _read_channel(self, helper: Template) -> Iterator[ChildEvent]:
        try:
            helper.channel.flush()
            messages = helper.channel.receive()
        except ChannelError as error:
            self._log(f"process {helper.pid} is broken ({error}): killed")
            kill(helper.pid)
            return
        for message in messages:
            if message["op"] == "ready":
                helper.ready, helper.patient_until = True, 0.0
                if message["threads"] != 1:
                    self._log(
                        f"{message['threads']} threads in the process that daemons are forked "
                        "from: only one is copied"
                    )
            elif message["op"] == "started" and isinstance(message["pid"], int):
                helper.asked_at = 0.0
                yield StartFailed() if message["pid"] == FORK_FAILED else Started(message["pid"])
        yield from self._replace()

    def _replace(self) -> Iterator[ChildEvent]:
        """Let the next template take the place of the present one, once it is ready and nothing is
        asked of the other.
        """
        former, helper = self._template, self._next
        if helper is None or not helper.ready or (former is not None and former.asked_at):
            return
        if former is not None:
            former.channel.close()
        self._template, self._next, self._blob = helper, None, self._next_blob
        self._template_at = NEVER
        yield Reloaded(self._blob)
        yield from self._continue()

    def _on_template_ended(self, helper: Template, status: int) -> Iterator[ChildEvent]:
        """Replace it at once if it is needed or if it is the first in a while;
        else after a pause.
        """
        moment = now()
        if status == EXIT_OUTDATED:
            yield from self._on_outdated(helper)
            return
        pause = (
            0.0
            if helper.asked_at or moment > self._died_at + 2 * TEMPLATE_PAUSE
            else TEMPLATE_PAUSE
        )
        self._log(
            f"the process that daemons are forked from ended ({ending(status)}): starting another"
        )
        self._died_at = moment
        self._template = None
        self._template_at = moment + pause
        helper.channel.close()
        if helper.asked_at or (self._blob is not None and not helper.ready):
            yield StartFailed()
        yield from self._replace()

    def _on_outdated(self, helper: Template) -> Iterator[ChildEvent]:
        """Start nothing any more: what would start is made for another guard."""
        self._log(f"no daemon can be started again: {installed.CHANGED}", ERROR)
        helper.channel.close()
        self._template, self._template_at, self.outdated = None, NEVER, True
        if helper.asked_at:
            yield StartFailed()
        yield Outdated()
        yield from self._replace()


def ending(status: int) -> str:
    """Return an exit status in words."""
    if status >= 0:
        return f"exit {status}"
    with contextlib.suppress(ValueError):
        return f"{signal.Signals(-status).name}"
    return f"signal {-status}"
