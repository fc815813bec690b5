"""The client: asks the VIP a thousand times a second over UDP, and notes who answered when.

As a process of its own (`python -m vipd.demo.prober VIP`) it prints `answer NODE` at the first
answer, whenever another node answers and after every gap, and on SIGTERM all that it measured as
one line of JSON. `Prober` is its handle.
"""

from __future__ import annotations

import json
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from types import TracebackType
from typing import Self

from vipd.demo.ingress import ECHO_PORT
from vipd.demo.lab import Host, Lab, LabError
from vipd.demo.measure import ANSWER_LIMIT, Probe

INTERVAL = 0.001
GAP = 20
"""So many lost probes in a row are worth a notice when answers come again."""
LONGEST = 60.0
"""A forgotten prober ends after so many seconds."""
SEQUENCE = struct.Struct("!Q")
RECEIVE_BUFFER = 4 << 20


class Asker:
    """Sends on a schedule that does not drift.

    Probe n leaves at start + n ms, or as soon after that as this process runs.
    """

    def __init__(self, vip: str) -> None:
        self._target = (vip, ECHO_PORT)
        self._socket = socket.socket(
            socket.AF_INET6 if ":" in vip else socket.AF_INET,
            socket.SOCK_DGRAM | socket.SOCK_NONBLOCK,
        )
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        self._sent: list[float] = []
        self._answers: dict[int, tuple[float, str]] = {}
        self._last = (-GAP, "")
        self.stopping = False

    def run(self) -> None:
        """Ask until `stopping` or the longest time is over, then wait for the last answers."""
        start = time.monotonic()
        while not self.stopping and (now := time.monotonic()) < start + LONGEST:
            while len(self._sent) * INTERVAL <= now - start:
                self._ask()
            self._listen(start + len(self._sent) * INTERVAL)
        end = time.monotonic() + ANSWER_LIMIT
        while time.monotonic() < end:
            self._listen(end)

    def result(self) -> str:
        """Return [sent, received or null, node] of every probe as one line of JSON."""
        return json.dumps(
            [
                [sent, *self._answers.get(number, (None, ""))]
                for number, sent in enumerate(self._sent)
            ]
        )

    def _ask(self) -> None:
        number = SEQUENCE.pack(len(self._sent))
        self._sent.append(time.monotonic())
        try:
            self._socket.sendto(number, self._target)
        # nobody answers for the VIP and the queue is full, or no route: lost like any other
        except OSError:
            return

    def _listen(self, until: float) -> None:
        """Take what has come, then wait for more until then."""
        if not select.select([self._socket], [], [], max(0.0, until - time.monotonic()))[0]:
            return
        while True:
            try:
                answer = self._socket.recv(64)
            except BlockingIOError:
                return
            except OSError:  # an ICMP error of an earlier probe
                continue
            self._note(SEQUENCE.unpack_from(answer)[0], answer[SEQUENCE.size :].decode())

    def _note(self, number: int, node: str) -> None:
        self._answers[number] = (time.monotonic(), node)
        before, who = self._last
        self._last = (number, node)
        if node != who or number - before > GAP:
            print(f"answer {node}", flush=True)


class Prober:
    """A running prober: tells who answers at present, and in the end every probe."""

    def __init__(self, lab: Lab, host: Host, vip: str) -> None:
        self._news = threading.Condition()
        self._answers: list[tuple[float, str]] = []
        self._result = ""
        self._process = lab.spawn(
            host, [sys.executable, "-m", "vipd.demo.prober", vip], subprocess.PIPE
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        """Nothing to do: it runs already."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it, whatever it measured."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        if self._process.stdout:
            self._process.stdout.close()

    def wait(self, timeout: float, since: float = 0.0, other_than: str = "") -> str:
        """Return the node of the first answer noticed after `since` by another node than that.

        Empty after `timeout` seconds.
        """

        def found() -> str:
            return next(
                (node for at, node in self._answers if at >= since and node != other_than), ""
            )

        with self._news:
            self._news.wait_for(found, timeout)
            return found()

    def stop(self) -> list[Probe]:
        """End the measurement and return it. LabError if the process gave none."""
        self._process.terminate()
        self._process.wait(timeout=10)
        self._reader.join()
        if not self._result:
            raise LabError("the prober ended without a result")
        return [Probe(*row) for row in json.loads(self._result)]

    def _read(self) -> None:
        for raw in self._process.stdout or ():
            line = raw.decode().rstrip()
            with self._news:
                if line.startswith("answer "):
                    self._answers.append((time.monotonic(), line.removeprefix("answer ")))
                elif line.startswith("["):
                    self._result = line
                self._news.notify_all()


def main() -> None:
    """Ask until SIGTERM, then print the result."""
    asker = Asker(sys.argv[1])

    def stop(*_: object) -> None:
        asker.stopping = True

    signal.signal(signal.SIGTERM, stop)
    print("ready", flush=True)
    asker.run()
    print(asker.result(), flush=True)


if __name__ == "__main__":
    main()
