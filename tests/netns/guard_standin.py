"""A real guard with a daemon that does what the test tells it.

One command a line on stdin, one JSON object a line on stdout.

Run as a program: `guard_standin.py FILE`. The file is a JSON object; `prepare` hands it on as it
is.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

from announce.kernel.addresses import RouteSocket, bind, unbind
from announce.kernel.messages import ready_messages
from election.fencing import EXIT_CONFIG, EXIT_REFUSED, EXIT_RELOAD
from vipd.clock import now
from vipd.guard import installed
from vipd.guard.entries import Entries
from vipd.guard.guard import Guard
from vipd.guard.link import GuardLink
from vipd.guard.preparation import Header, packed

BEAT = 0.05


def tell(event: str, **values: object) -> None:
    """Write one line for the test."""
    line = json.dumps({"event": event, "at": now(), "pid": os.getpid(), **values}) + "\n"
    os.write(sys.__stdout__.fileno(), line.encode())  # type: ignore[union-attr]


def once(flag: object) -> bool:
    """Whether this is the first time that this flag file is asked for."""
    if not flag or Path(str(flag)).exists():
        return False
    Path(str(flag)).touch()
    return True


def prepare(path: str, descriptor: int) -> int:
    """Hand the file on, or refuse it."""
    data = Path(path).read_bytes()
    if json.loads(data).get("invalid"):
        sys.stderr.write("invalid\n")
        return EXIT_CONFIG
    os.write(descriptor, packed(Header(code=installed.digest()), data))
    return 0


def preload(blob: bytes) -> dict[str, object]:
    """Read the configuration, and tell who the template is."""
    config: dict[str, object] = json.loads(blob)
    tell("template")
    if config.get("unimportable"):
        raise ImportError("as the test wants it")
    return config


class Daemon:
    """One stand-in."""

    def __init__(self, config: dict[str, object], link: GuardLink) -> None:
        self.config = config
        self.link = link
        self.kernel = RouteSocket()
        self.ready = ready_messages(str(config["interface"]), [str(config["address"])])
        self.beating = True
        self.stop = False
        signal.signal(signal.SIGTERM, self.on_term)

    def on_term(self, _number: int, _frame: object) -> None:
        """Note that the guard, or the kernel in its place, wants this daemon to end."""
        tell("term", ppid=os.getppid())
        self.stop = not self.config.get("stubborn")

    def begin(self) -> int:
        """Lock, arm, tell; return an exit code if that is all."""
        if self.config.get("exit") is not None:
            return int(str(self.config["exit"]))
        refused = self.link.lock([str(self.config["address"])])
        if refused:
            tell("refused", by=refused)
            return EXIT_REFUSED
        if once(self.config.get("freeze_with_lock")):
            tell("locked")
            os.kill(os.getpid(), signal.SIGSTOP)
        if self.config.get("slow") and self.link.start_info.crashes:
            time.sleep(float(str(self.config["slow"])))
        armed = self.link.arm(
            str(self.config["name"]), [self.ready.to_bytes()], float(str(self.config["lease"]))
        )
        self.word = self.link.word(armed)
        start_info = self.link.start_info
        values = {
            "ppid": os.getppid(),
            "crashes": start_info.crashes,
            "fenced": dict(start_info.fenced),
            "note": self.config.get("note"),
        }
        tell(
            "start",
            slot=armed.slot,
            deadline=armed.deadline,
            refused=self.link.config.refused,
            **values,
        )
        self.link.beat(now())
        self.link.ready()
        self.link.status("all is well")
        return -1

    def run(self) -> int:
        """Serve the test until something ends it."""
        code = self.begin()
        poll = select.poll()
        poll.register(0, select.POLLIN)
        poll.register(self.link.fileno(), select.POLLIN)
        while code < 0:
            if self.beating:
                self.link.beat(now())
            ready = [number for number, _ in poll.poll(BEAT * 1000)]
            if self.stop:
                return self.leave(0)
            if self.link.fileno() in ready:
                code = self.listen(poll)
            if 0 in ready:
                for line in os.read(0, 4096).decode().splitlines():
                    code = self.obey(*line.split())
        return code

    def listen(self, poll: select.poll) -> int:
        """Hear what the guard wants."""
        for blob in self.link.receive():
            tell("reload", config=json.loads(blob))
            return EXIT_RELOAD
        if self.link.ended:
            tell("alone")
            poll.unregister(self.link.fileno())
        return -1

    def obey(self, command: str, argument: str = "") -> int:
        """Carry out one command of the test; return an exit code, or -1 to go on."""
        if command == "exit":
            return int(argument)
        self.carry_out(command, argument)
        tell("done", command=command, deadline=self.word.deadline)
        return -1

    def carry_out(self, command: str, argument: str) -> None:
        """Carry out a command that is no exit."""
        match command:
            case "open":
                self.word.set(now() + float(argument))
                bind(self.kernel, self.ready, int(self.config.get("lifetime", 60)))  # type: ignore[call-overload]
            case "renew":
                self.word.set(now() + float(argument))
            case "mute":
                self.beating = False
            case "rearm":
                self.ready = ready_messages(str(self.config["interface"]), [argument])
                self.link.arm(
                    str(self.config["name"]),
                    [self.ready.to_bytes()],
                    float(str(self.config["lease"])),
                )
            case "orphan":
                subprocess.run(["/bin/sh", "-c", "sleep 0.1 &"], check=True)
            case "write":
                Path(argument).write_bytes(b"x" * 4096)
            case "spawn":
                tell(
                    "spawned",
                    child=subprocess.Popen(["/bin/sleep", "60"], start_new_session=True).pid,
                )
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)

    def leave(self, code: int) -> int:
        """End as a daemon does that was asked to: nothing bound, the word closed."""
        unbind(self.kernel, self.ready)
        self.word.set(0.0)
        tell("left")
        return code


def daemon(config: dict[str, object], link: GuardLink) -> int:
    """Tell that the first line runs, then live."""
    tell("daemon")
    return Daemon(config, link).run()


if __name__ == "__main__":
    tell("guard")
    sys.exit(
        Guard(
            sys.argv[1],
            Entries(prepare=prepare, common=lambda: None, preload=preload, daemon=daemon),
        ).run()
    )
