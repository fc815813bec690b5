"""The API server as a process of its own, so that it can be frozen and put into a network
namespace.

    python -m tests.kube.server --listen 127.0.0.1:6443 --certs FOLDER --control SOCKET

FOLDER has ca.crt, server.crt and server.key. SOCKET takes lines of JSON, `{"do": NAME, …}`, and
answers each with one line. It prints the port it listens on, and ends with its standard input.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import gc
import json
import ssl
import sys
from collections.abc import Awaitable
from pathlib import Path

from tests.kube import verbs
from tests.kube.access import known
from tests.kube.faults import Fault, Kind
from tests.kube.listing import Habits
from tests.kube.service import Service
from tests.kube.storage import Copy, Key


class Control:
    """What the tests can order."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._copies: dict[str, Copy] = {}

    def fault(self, **values: object) -> None:
        """Set a fault; the keys are those of Fault."""
        self._service.faults.waiting.append(Fault(**{**values, "kind": Kind(values["kind"])}))  # type: ignore[arg-type]

    def clear(self) -> None:
        """Let all faults end that have not happened yet."""
        self._service.faults.waiting.clear()

    def reset(self) -> None:
        """End all faults, take back all changes of habit, know the roles.

        Nothing is left for the next test.
        """
        self.clear()
        self.habit(
            **{one.name: one.default for one in dataclasses.fields(Habits) if one.name != "watches"}
        )
        self._service.know_roles()

    def habit(self, **values: object) -> None:
        """Change what the documentation leaves to the server; the keys are those of Habits."""
        for name, value in values.items():
            setattr(self._service.habits, name, value)
        self._service.storage.wake()

    def silence_watches(self) -> None:
        """Let all watches that there are never say anything again."""
        self.habit(silent_before=self._service.habits.watches)

    def end_watches(self) -> None:
        """End all watches that there are in good order."""
        self.habit(ended_before=self._service.habits.watches)

    def watches(self) -> int:
        """Return how many watches there were so far."""
        return self._service.habits.watches

    async def stop_listening(self) -> None:
        """Be away."""
        await self._service.stop_listening()

    def terminate(self, patience: float) -> None:
        """Begin to end as on SIGTERM."""
        self._service.terminate(patience)

    def ended(self) -> bool:
        """Return whether it has ended."""
        return self._service.ended

    async def listen(self) -> None:
        """Be back."""
        await self._service.listen()

    def cut_connections(self) -> int:
        """Close all connections."""
        return self._service.cut_connections()

    def compact(self) -> None:
        """Forget what was."""
        self._service.storage.compact()

    def backup(self, name: str) -> None:
        """Keep a copy of everything."""
        self._copies[name] = self._service.storage.backup()

    async def restore(self, name: str) -> None:
        """Put a copy in the place of everything, as the documentation wants it.

        While the API server is stopped.

        https://kubernetes.io/docs/tasks/administer-cluster/configure-upgrade-etcd/#restoring-an-etcd-cluster
        """
        await self._service.stop_listening()
        self._service.storage.restore(self._copies[name])
        await self._service.listen()

    def token(self, token: str, user: str, groups: list[str]) -> None:
        """Give a user a token."""
        self._service.access.tokens[token] = known(user, groups)

    def revoke(self, token: str) -> None:
        """Take a token back."""
        self._service.access.tokens.pop(token, None)

    def namespace(self, name: str) -> None:
        """Make a namespace."""
        self._service.add_namespace(name)

    def remove(self, resource: str, namespace: str, name: str) -> None:
        """Remove an object whatever keeps it."""
        verbs.remove(self._service.storage, Key(resource, namespace, name))

    def requests(self) -> list[dict[str, object]]:
        """Return the requests since the last call."""
        found = [dataclasses.asdict(logged) for logged in self._service.log]
        self._service.log.clear()
        return found


async def _converse(
    control: Control, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    with contextlib.suppress(ConnectionError):
        while line := await reader.readline():
            order = json.loads(line)
            try:
                result = getattr(control, order.pop("do"))(**order)
                answer = {"ok": await result if isinstance(result, Awaitable) else result}
            except Exception as error:  # noqa: BLE001 - whoever gave the order is told
                answer = {"error": repr(error)}
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
    writer.close()


def _context(folder: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.crt", folder / "server.key")
    context.load_verify_locations(folder / "ca.crt")
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


async def _end_of_input() -> None:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while await reader.read(1):
        pass


async def serve(host: str, port: int, certs: Path, control: Path, seed: int) -> None:
    """Serve until standard input ends."""
    service = Service(host, port, _context(certs), seed)
    await service.start()
    orders = Control(service)
    server = await asyncio.start_unix_server(
        lambda reader, writer: _converse(orders, reader, writer), control
    )
    # A full collection over all that was imported takes 20 ms, which would be told of the clients.
    gc.collect()
    gc.freeze()
    print(service.port, flush=True)
    await _end_of_input()
    server.close()
    await service.stop()


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", default="127.0.0.1:0")
    parser.add_argument("--certs", type=Path, required=True)
    parser.add_argument("--control", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    host, _, port = arguments.listen.rpartition(":")
    asyncio.run(
        serve(host.strip("[]"), int(port), arguments.certs, arguments.control, arguments.seed)
    )


if __name__ == "__main__":
    main()
