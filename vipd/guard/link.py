"""The daemon's end of its connection to the guard.

At start the daemon asks and waits: it locks its addresses and arms its elections before anything is
bound. At run time it never waits: an arming is asked for (`ask_to_arm`), and counts from its answer
on. Answers come in the order of the questions, so the answer to a question that was given up is
recognised, however late. A lowered deadline is signalled through a counter of its own (an eventfd),
which never fills up and never waits: the guard sleeps until the deadline that it last read, and
once the counter is written it will read again, even if the daemon is killed or stopped right after.
So the order is: store the word, poke, and only then send the promise of less.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from election.timing import wakes_guard
from vipd.guard.channel import MOST_DESCRIPTORS, Channel, Message
from vipd.guard.errors import ChannelError, GuardError
from vipd.guard.shared_words import Words

ANSWER_TIMEOUT = 2.0
"""Seconds; the guard answers within a millisecond unless it waits for the kernel."""
LOCK_LOOK = 0.050
LOCKS_AT_ONCE = MOST_DESCRIPTORS - 1
"""In one request; the answer also brings the descriptor that shows that this is a vipd."""


@dataclass(frozen=True, slots=True)
class ConfigState:
    """What became of the configuration file. Moments are Unix times, for people; 0.0: never.

    `loaded_at`: when it was last read and found good. `refused`: why the one that is there now is
    not used, a sentence; empty: it is used.
    """

    loaded_at: float = 0.0
    refused: str = ""
    refused_at: float = 0.0

    @classmethod
    def read(cls, value: object) -> ConfigState:
        """Return what the guard sent; raises ChannelError."""
        if not isinstance(value, Mapping):
            raise ChannelError("the guard's report on the configuration is malformed")
        return cls(_number(value["loaded_at"]), str(value["refused"]), _number(value["refused_at"]))


@dataclass(frozen=True, slots=True)
class StartInfo:
    """What a new daemon gets to know.

    How often one before it crashed, each election's fences by the guard, why there can be no gate.

    `no_gate` is a sentence; empty: the kernel's gate can be had on this host. `code` stands for the
    code that runs.
    """

    crashes: int = 0
    fenced: Mapping[str, int] = field(default_factory=dict, hash=False)
    no_gate: str = ""
    config: ConfigState = ConfigState()
    code: str = ""


@dataclass(frozen=True, slots=True)
class GateReport:
    """The kernel's gate as the guard sees it.

    `troubles`: why it is not in force, by election. `before`: what decides about frames before it
    is asked, sentences. `put_back`: how often somebody took it away. `inherited`: programs of an
    earlier vipd are still in force. `on`: the interfaces on which it is in force. `left_alone`:
    those without it on which Linux would answer too, taken for those of containers; for people.
    """

    troubles: Mapping[str, str] = field(default_factory=dict, hash=False)
    before: tuple[str, ...] = ()
    put_back: int = 0
    inherited: bool = False
    on: tuple[str, ...] = ()
    left_alone: str = ""


@dataclass(slots=True)
class _Question:
    """A request whose answer is to come.

    `done` is called with it by `receive`, unless somebody waits for it.
    """

    done: Callable[[Message], None] | None = None
    answer: Message | None = None


@dataclass(frozen=True, slots=True)
class Armed:
    """An election's slot, and the deadline that a former daemon left standing (0.0: none)."""

    slot: int
    deadline: float


class Word:
    """One election's shared deadline, as the daemon's executor wants it."""

    def __init__(self, link: GuardLink, slot: int) -> None:
        self._link = link
        self._slot = slot

    @property
    def deadline(self) -> float:
        """Seconds on CLOCK_BOOTTIME; 0.0 is closed."""
        return self._link.words.deadline(self._slot)

    def set(self, deadline: float) -> None:
        """Write it, and wake the guard if it has to act earlier than it thinks."""
        former = self.deadline
        self._link.words.set_deadline(self._slot, deadline)
        if wakes_guard(former, deadline, former_gate=self._link.gate.inherited):
            self._link.poke()


class GuardLink:
    """The connection. `ended`: the guard is gone (SIGTERM says so too); hand over and exit.

    For the event loop: `fileno`, `receive` when it is readable, `flush` when it is writable and
    `waiting` says so.
    """

    def __init__(
        self, sock: socket.socket, words: Words, counter: int, start_info: StartInfo
    ) -> None:
        self.words = words
        self.start_info = start_info
        self.gate = GateReport()
        self.config = start_info.config
        self._channel = Channel(sock)
        self._counter = counter
        self._inbox: list[Message] = []
        self._questions: deque[_Question] = deque()
        self._answered: deque[_Question] = deque()
        self._locks: dict[str, int] = {}

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._channel.fileno()

    @property
    def ended(self) -> bool:
        """Whether the guard is gone."""
        return self._channel.ended

    @property
    def waiting(self) -> bool:
        """Whether something is still to be sent."""
        return self._channel.waiting

    # ------------------------------------------------------------ at start

    def arm(
        self, name: str, ready: Sequence[bytes], lease_duration: float, *, gate: bool = True
    ) -> Armed:
        """Tell which addresses go with an election's deadline, before anything is bound; raises
        GuardError.

        `ready` is ReadyMessages.to_bytes() for each interface of the election. Arming again
        replaces it. `gate`: the kernel's gate is to cover them; whether it does is in the report
        `gate` of this object right after.
        """
        answer = self._ask(_arming(name, ready, lease_duration, gate=gate))
        return Armed(_whole(answer["slot"]), _number(answer["deadline"]))

    def word(self, armed: Armed) -> Word:
        """Return the deadline of an armed election."""
        return Word(self, armed.slot)

    def disarm(self, name: str) -> None:
        """Tell that an election is no more, after its addresses are gone and its word is closed;
        raises GuardError.
        """
        self._ask({"op": "disarm", "name": name})

    def lock(self, names: Sequence[str], wait: float = 0.0) -> str:
        """Lock addresses against other daemons of this network namespace.

        Return "" or a sentence that says who has one.

        Waits so many seconds for a daemon that is just leaving. Raises GuardError.
        """
        until = time.monotonic() + wait
        for start in range(0, len(names), LOCKS_AT_ONCE):
            some = list(names[start : start + LOCKS_AT_ONCE])
            while refused := self._lock_some(some):
                if time.monotonic() >= until:
                    return refused
                time.sleep(LOCK_LOOK)
        return ""

    def holds(self, name: str) -> bool:
        """Whether this daemon has the lock of an address."""
        return name in self._locks

    def unlock(self, names: Sequence[str]) -> None:
        """Let go of addresses that were removed from the configuration."""
        for name in names:
            if name in self._locks:
                os.close(self._locks.pop(name))
        self._channel.send({"op": "unlock", "names": list(names)})

    # ------------------------------------------------------------ at run time

    def beat(self, now: float) -> None:
        """Give a sign of life; only when the elections make progress."""
        self.words.beat(now)

    def poke(self) -> None:
        """Make the guard read the words now, since one was lowered. Never waits."""
        with contextlib.suppress(OSError):  # full after 2^64 pokes that the guard did not read
            os.eventfd_write(self._counter, 1)

    def ready(self) -> None:
        """Tell that all elections are armed and the daemon is up."""
        self._channel.send({"op": "ready"})

    def status(self, text: str) -> None:
        """Set the line that `systemctl status` shows."""
        self._channel.send({"op": "status", "text": text})

    def ask_to_arm(
        self,
        name: str,
        ready: Sequence[bytes],
        lease_duration: float,
        done: Callable[[str], None],
        *,
        gate: bool = True,
    ) -> None:
        """Ask for what `arm` does, without waiting.

        `receive` calls `done` with "", or with why the guard refused.

        It is not called as long as the guard does not answer; then nothing is armed.
        """
        question = _Question(
            lambda answer: done("" if answer["answer"] == "done" else str(answer["answer"]))
        )
        self._send(_arming(name, ready, lease_duration, gate=gate), question)

    def receive(self) -> list[bytes]:
        """Take in answers, and return the new configurations (the pickled bytes that `prepare`
        wrote) to be taken over.

        The daemon ends what changed, keeps what did not, and exits with EXIT_RELOAD.
        """
        messages, self._inbox = self._inbox + self._received(), []
        while self._answered:
            question = self._answered.popleft()
            if question.done is not None and question.answer is not None:
                question.done(question.answer)
        return [
            bytes.fromhex(str(message["blob"]))
            for message in messages
            if message.get("op") == "reload"
        ]

    def flush(self) -> None:
        """Send what waits."""
        self._channel.flush()

    def _lock_some(self, names: list[str]) -> str:
        answer = self._ask({"op": "lock", "names": names})
        if not answer["held"]:
            return str(answer["by"])
        for name, number in zip(names, self._channel.take_descriptors(len(names)), strict=True):
            self._keep(name, number)
        for number in self._channel.take_descriptors(_whole(answer["shown"])):
            self._keep("", number)
        return ""

    def _keep(self, name: str, number: int) -> None:
        if name in self._locks:
            os.close(self._locks[name])
        self._locks[name] = number

    def _send(self, message: Message, question: _Question) -> None:
        self._questions.append(question)
        self._channel.send(message)

    def _ask(self, message: Message) -> Message:
        """Send a request and wait for its answer.

        What else comes meanwhile is kept for `receive`.
        """
        question = _Question()
        self._send(message, question)
        until = time.monotonic() + ANSWER_TIMEOUT
        while True:
            self._inbox += self._received()
            if question.answer is not None:
                break
            if self._channel.ended:
                raise GuardError("the guard is gone")
            self._wait(until)
        if question.answer["answer"] != "done":
            raise GuardError(str(question.answer["answer"]))
        return question.answer

    def _received(self) -> list[Message]:
        """Return what has come but answers, and reports on gate and configuration, of which the
        last ones count.
        """
        others: list[Message] = []
        for message in self._channel.receive():
            if "answer" in message:
                self._take_answer(message)
            elif message.get("op") == "gate":
                self.gate = _report(message)
            elif message.get("op") == "config":
                self.config = ConfigState.read(message["state"])
            else:
                others.append(message)
        return others

    def _take_answer(self, message: Message) -> None:
        if not self._questions:
            raise ChannelError("the guard answers what was not asked")
        question = self._questions.popleft()
        question.answer = message
        if question.done is not None:
            self._answered.append(question)

    def _wait(self, until: float) -> None:
        poll = select.poll()
        poll.register(
            self._channel.fileno(), select.POLLIN | (select.POLLOUT if self._channel.waiting else 0)
        )
        left = until - time.monotonic()
        if left <= 0:
            raise GuardError(f"the guard did not answer within {ANSWER_TIMEOUT:g}s")
        poll.poll(left * 1000)
        self._channel.flush()


def _arming(name: str, ready: Sequence[bytes], lease_duration: float, *, gate: bool) -> Message:
    return {
        "op": "arm",
        "name": name,
        "ready": [messages.hex() for messages in ready],
        "lease": lease_duration,
        "gate": gate,
    }


def _report(message: Message) -> GateReport:
    troubles, before, on = message["troubles"], message["before"], message.get("on", ())
    if (
        not isinstance(troubles, Mapping)
        or not isinstance(before, Sequence)
        or not isinstance(on, Sequence)
    ):
        raise ChannelError("the guard's report on the gate is malformed")
    return GateReport(
        {str(name): str(why) for name, why in troubles.items()},
        tuple(map(str, before)),
        _whole(message["put_back"]),
        bool(message["inherited"]),
        tuple(map(str, on)),
        str(message.get("left_alone", "")),
    )


def _whole(value: object) -> int:
    if not isinstance(value, int):
        raise ChannelError(f"{value!r} is no whole number")
    return value


def _number(value: object) -> float:
    if not isinstance(value, int | float):
        raise ChannelError(f"{value!r} is no number")
    return float(value)
