"""The guard's own loop, played as a dialogue.

What it is expected to decide, then what happens to it.

The guard runs as it is, in the main thread: its poll, its signals, its helpers and a daemon in
processes of their own, the decisions of `election.fencing`. The script of a test runs beside it in
a thread. The daemon is a stand-in that speaks `vipd.guard.link`, and does what the script says over
a socket. Nothing here needs root.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from announce.kernel.messages import ready_messages
from election.fencing import EXIT_CONFIG, EXIT_RELOAD, GuardAction, Refresh
from vipd.clock import now
from vipd.guard import processes
from vipd.guard.entries import Entries
from vipd.guard.errors import ChannelError, GuardError
from vipd.guard.gate import GateKeeper
from vipd.guard.guard import Guard
from vipd.guard.link import GuardLink
from vipd.guard.preparation import Header, packed

PATIENCE = 15.0
"""Seconds for each thing that is expected."""
BEAT = 0.02
INTERFACE, NOWHERE = "gone0", 0x7FFFFFF0
"""An interface that is not there: its addresses are removed as soon as somebody looks, and what the
host has is left alone."""
ADDRESS = "192.0.2.10"
LEASE = 12.0
"""Seconds; a sixth of it is the guard's patience with a silent daemon: beside other load a
stand-in may not run for half a second."""


class NoGate(GateKeeper):
    """Loads nothing, also where the kernel would let it.

    A test must not touch the host's interfaces.
    """

    def open(self) -> None:
        """Refuse."""
        self.refusal = "none in this test"


# ---------------------------------------------------------------- the processes of the guard


def prepare(path: str, descriptor: int) -> int:
    """Hand the file on; `invalid`: refuse it, `slow`.

    Take so many seconds, `json`: ask for a log in JSON.
    """
    data = Path(path).read_bytes()
    asked = json.loads(data)
    if asked.get("slow"):
        Path(f"{path}.read").touch()
        time.sleep(asked["slow"])
    if asked.get("invalid"):
        os.write(descriptor, packed(Header(refused="it is invalid")))
        return EXIT_CONFIG
    os.write(
        descriptor,
        packed(Header(json=bool(asked.get("json")), code=str(asked.get("code", ""))), data),
    )
    return 0


def preload(blob: bytes) -> object:
    """Read the configuration; `unimportable`: fail, `threads`: have one too many."""
    config: dict[str, object] = json.loads(blob)
    if config.get("unimportable"):
        sys.stderr = Path(os.devnull).open("w", encoding="ascii")  # noqa: SIM115 -- the process ends
        raise ImportError
    if config.get("threads"):
        threading.Thread(target=time.sleep, args=(PATIENCE,), daemon=True).start()
    return config


class Daemon:
    """The stand-in. It beats until it is told not to, and connects to the script, whose commands it
    obeys.
    """

    def __init__(self, config: dict[str, object], link: GuardLink) -> None:
        self.config = config
        self.link = link
        self.script = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.script.connect(str(config["socket"]))
        self.beating = not config.get("mute")
        self.code: int | None = None
        signal.signal(signal.SIGTERM, self.on_term)

    def on_term(self, _number: int, _frame: object) -> None:
        """End, unless it is to be stubborn."""
        if not self.config.get("stubborn"):
            self.code = 0

    def run(self) -> int:
        """Obey until there is an exit code."""
        start = self.link.start_info
        self.tell(
            pid=os.getpid(),
            crashes=start.crashes,
            fenced=dict(start.fenced),
            note=self.config.get("note"),
            refused=start.config.refused,
        )
        self.script.settimeout(BEAT)
        while self.code is None:
            if self.beating:
                self.link.beat(now())
            try:
                command = self.script.recv(65536)
            except TimeoutError:
                self.listen()
                continue
            except OSError:
                return 1
            if not command:
                return 1
            self.obey(json.loads(command))
        return self.code

    def listen(self) -> None:
        """Hear what the guard wants; a daemon that is to change its configuration gives way."""
        if self.link.ended:
            self.code = 3
        for _ in self.link.receive():
            self.code = EXIT_RELOAD

    def obey(self, command: list[object]) -> None:
        """Carry out one command and answer it."""
        try:
            answer = getattr(self, f"do_{command[0]}")(*command[1:])
        except (GuardError, ChannelError) as error:
            self.tell(error=str(error))
        else:
            self.tell(answer=answer)

    def tell(self, **values: object) -> None:
        """Send one object to the script."""
        self.script.send(json.dumps(values).encode())

    # ------------------------------------------------------------ commands

    def do_arm(
        self, name: str = "ingress", lease: float = LEASE, address: str = ADDRESS
    ) -> list[object]:
        """Arm an election; return slot and deadline."""
        armed = self.link.arm(
            name, [ready_messages(INTERFACE, [address], NOWHERE).to_bytes()], lease
        )
        return [armed.slot, armed.deadline]

    def do_open(self, slot: int, seconds: float) -> None:
        """Have a right for so many seconds from now; 0: none."""
        self.link.words.set_deadline(slot, now() + seconds if seconds else 0.0)
        self.link.poke()

    def do_ready(self) -> None:
        """Be up."""
        self.link.beat(now())
        self.link.ready()

    def do_status(self, text: str) -> None:
        """Set the line of systemctl status."""
        self.link.status(text)

    def do_lock(self, name: str) -> str:
        """Lock an address."""
        return self.link.lock([name])

    def do_unlock(self, name: str) -> None:
        """Let go of an address."""
        self.link.unlock([name])

    def do_disarm(self, name: str) -> None:
        """Disarm an election."""
        self.link.disarm(name)

    def do_config(self) -> list[object]:
        """Return what the guard said of the configuration, and of the gate."""
        self.link.receive()
        return [self.link.config.refused, dict(self.link.gate.troubles)]

    def do_send(self, message: dict[str, object]) -> None:
        """Send a request as it is."""
        self.link._channel.send(message)

    def do_mute(self) -> None:
        """Give no sign of life any more."""
        self.beating = False

    def do_hang(self, seconds: float) -> None:
        """Do nothing at all for a while, in a function with a name that a stack shows."""
        time.sleep(seconds)

    def do_spawn(self) -> int:
        """Start a process that outlives this one."""
        pid = os.fork()
        if pid == 0:
            os.execv("/bin/sleep", ["sleep", "60"])  # noqa: S606 -- nothing but this
        return pid

    def do_exit(self, code: int) -> None:
        """End with this code."""
        self.code = code

    def do_stubborn(self) -> None:
        """Do not end when asked to."""
        self.config["stubborn"] = True

    def do_die(self) -> None:
        """Crash."""
        os.kill(os.getpid(), signal.SIGKILL)


def daemon(config: dict[str, object], link: GuardLink) -> int:
    """Run the stand-in."""
    if config.get("exit") is not None:
        return int(str(config["exit"]))
    return Daemon(config, link).run()


# ---------------------------------------------------------------- the script


class Watched(Guard):
    """A guard that notes what it decided, in order.

    Refreshes are left out: they fall where a second turns.
    """

    def __init__(self, path: str, entries: Entries) -> None:
        super().__init__(path, entries, NoGate)
        self.decided: queue.SimpleQueue[GuardAction] = queue.SimpleQueue()
        self.refreshed = 0

    def _carry_out(self, action: GuardAction) -> None:
        if isinstance(action, Refresh):
            self.refreshed += 1
        else:
            self.decided.put(action)
        super()._carry_out(action)


@dataclass
class Spoken:
    """The script's end of the connection to one daemon; `said` is what it said first."""

    connection: socket.socket
    said: dict[str, object]

    @property
    def pid(self) -> int:
        """Its process id."""
        return int(str(self.said["pid"]))

    def do(self, command: str, *arguments: object) -> object:
        """Have it carry out a command; return the answer."""
        self.tell(command, *arguments)
        answer: dict[str, object] = json.loads(self.connection.recv(65536))
        assert "error" not in answer, answer
        return answer["answer"]

    def refused(self, command: str, *arguments: object) -> str:
        """Have it carry out a command that fails; return why."""
        self.tell(command, *arguments)
        answer: dict[str, object] = json.loads(self.connection.recv(65536))
        return str(answer["error"])

    def tell(self, command: str, *arguments: object) -> None:
        """Give it a command that it may not survive."""
        self.connection.send(json.dumps([command, *arguments]).encode())

    def up(self, seconds: float = 0.0) -> int:
        """Arm one election, be ready, and have the right for so many seconds; return the slot."""
        armed = self.do("arm")
        assert isinstance(armed, list)
        self.do("ready")
        if seconds:
            self.do("open", armed[0], seconds)
        return int(armed[0])


@dataclass
class Dialogue:
    """What a script sees of the guard, and does to it."""

    guard: Watched
    file: Path
    listener: socket.socket
    log_file: Path
    notify: socket.socket
    connections: list[socket.socket] = field(default_factory=list)

    def expect(self, *actions: GuardAction) -> None:
        """Wait for these decisions, in this order, and none in between."""
        for action in actions:
            try:
                decided = self.guard.decided.get(timeout=PATIENCE)
            except queue.Empty:
                raise AssertionError(f"no {action}; {self.log()}") from None
            assert decided == action, self.log()

    def daemon(self) -> Spoken:
        """Wait for the next daemon."""
        connection, _ = self.listener.accept()
        connection.settimeout(PATIENCE)
        self.connections.append(connection)
        return Spoken(connection, json.loads(connection.recv(65536)))

    def configure(self, **values: object) -> None:
        """Write the file."""
        self.file.write_text(
            json.dumps({"socket": self.listener.getsockname(), **values}), encoding="utf-8"
        )

    def signal(self, number: signal.Signals) -> None:
        """Send the guard a signal; once it has ended, there is nobody to handle one."""
        assert self.guard._code is None, self.log()
        os.kill(os.getpid(), number)

    def log(self) -> str:
        """Return the guard's log."""
        return self.log_file.read_text(encoding="utf-8")

    def logged(self, text: str) -> None:
        """Wait until the log has this text."""
        self.until(lambda: text in self.log(), f"no {text!r} in the log")

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait until it is so."""
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, f"{what}; {self.log()}"
            time.sleep(0.002)

    def notified(self, text: str) -> str:
        """Wait until systemd was sent something that begins so, and return all of it.

        Watchdog pings are left out unless asked for.
        """
        while True:
            message = self.notify.recv(4096).decode()
            if message.startswith(text):
                return message
            assert message == "WATCHDOG=1" or message.startswith("STATUS"), message

    def end(self, number: int) -> None:
        """Have the guard end now, whatever it thinks: a script failed."""
        self.guard._code = number
        os.eventfd_write(self.guard._waiter.counter, 1)


Script = Callable[[Dialogue], None]


def play(script: Script, environment: Mapping[str, str] | None = None, **config: object) -> int:
    """Run a guard with this configuration until it ends, the script beside it.

    Return its exit code. Raises what the script raised.
    """
    failures: list[BaseException] = []
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vipd")))
        listener = stack.enter_context(_socket(socket.SOCK_SEQPACKET, folder / "script"))
        listener.listen()
        notify = stack.enter_context(_socket(socket.SOCK_DGRAM, folder / "notify"))
        stack.enter_context(
            _process_as_it_was(
                {"NOTIFY_SOCKET": str(folder / "notify"), **(environment or {})}, folder / "log"
            )
        )
        guard = Watched(str(folder / "file"), Entries(prepare, lambda: None, preload, daemon))
        dialogue = Dialogue(guard, folder / "file", listener, folder / "log", notify)
        dialogue.configure(**config)

        def act() -> None:
            try:
                # Before that a signal would meet no handler.
                dialogue.until(lambda: guard._children.pids, "the guard does not start")
                script(dialogue)
            except BaseException as error:  # noqa: BLE001 -- it is the test's, and raised there
                failures.append(error)
                dialogue.end(-1)

        beside = threading.Thread(target=act)
        beside.start()
        code = guard.run()
        beside.join()
        for connection in dialogue.connections:
            connection.close()
    for failure in failures:
        raise failure
    return code


def _socket(kind: socket.SocketKind, path: Path) -> socket.socket:
    opened = socket.socket(socket.AF_UNIX, kind)
    opened.bind(str(path))
    opened.settimeout(PATIENCE)
    return opened


@contextlib.contextmanager
def _process_as_it_was(environment: Mapping[str, str], log: Path) -> Iterator[None]:
    """Give this process to a guard, its stderr into a file; and take it back.

    Signals, adoption, stderr and environment.
    """
    handlers = {number: signal.getsignal(number) for number in processes.HANDLED}
    stderr = os.dup(processes.STDERR)
    before = dict(os.environ)
    os.environ.update(environment)
    with log.open("wb") as file:
        os.dup2(file.fileno(), processes.STDERR)
    try:
        yield
    finally:
        os.dup2(stderr, processes.STDERR)
        os.close(stderr)
        os.environ.clear()
        os.environ.update(before)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        processes._prctl(processes.PR_SET_CHILD_SUBREAPER, 0)
