"""What the daemon asks of the guard, and the answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from announce.kernel.addresses import ReadyMessages
from vipd.guard.channel import Channel, Message
from vipd.guard.errors import ChannelError, LockedError, SlotError
from vipd.guard.link import Armed
from vipd.guard.locks import Locks
from vipd.guard.slots import Slots


@dataclass(frozen=True, slots=True)
class Requests:
    """Serves one daemon after the other.

    `ready` and `status` are passed on; `send_gate_report` sends the daemon news of the gate.
    """

    slots: Slots
    locks: Locks
    ready: Callable[[], None]
    status: Callable[[str], None]
    send_gate_report: Callable[[], None]

    def serve(self, channel: Channel) -> None:
        """Handle and answer all that has come; raises ChannelError if that cannot be done."""
        for message in channel.receive():
            try:
                self._handle(channel, message)
            except (KeyError, TypeError, ValueError) as error:
                raise ChannelError(f"malformed request {message.get('op')!r}: {error}") from error
            except OSError as error:
                raise ChannelError(f"request {message.get('op')!r} failed: {error}") from error

    def _handle(self, channel: Channel, message: Message) -> None:
        match message["op"]:
            case "arm":
                self._answer(channel, lambda: self._arm(message))
            case "disarm":
                self._answer(channel, lambda: self._disarm(message))
            case "lock":
                self._lock(channel, _names(message))
            case "unlock":
                self.locks.unlock(_names(message))
            case "ready":
                self.slots.settle()
                self.locks.settle()
                self.ready()
            case "status":
                self.status(str(message["text"]))
            case other:
                raise ChannelError(f"unknown request {other!r}")

    def _answer(self, channel: Channel, act: Callable[[], Message]) -> None:
        try:
            channel.send({"answer": "done", **act()})
        except SlotError as error:
            channel.send({"answer": str(error)})

    def _arm(self, message: Message) -> Message:
        texts, lease_duration, gate = message["ready"], message["lease"], bool(message["gate"])
        if not isinstance(texts, list) or not isinstance(lease_duration, int | float):
            raise TypeError("ready is no list, or lease no number")
        ready = [ReadyMessages.from_bytes(bytes.fromhex(str(text))) for text in texts]
        armed: Armed = self.slots.arm(str(message["name"]), ready, float(lease_duration), gate=gate)
        self.send_gate_report()  # before the answer, after which the daemon reads it
        return {"slot": armed.slot, "deadline": armed.deadline}

    def _disarm(self, message: Message) -> Message:
        self.slots.disarm(str(message["name"]))
        return {}

    def _lock(self, channel: Channel, names: list[str]) -> None:
        try:
            descriptors = self.locks.lock(names)
        except LockedError as error:
            channel.send({"answer": "done", "held": False, "by": str(error)})
        else:
            shown = self.locks.shown()
            channel.send({"answer": "done", "held": True, "shown": len(shown)}, descriptors + shown)


def _names(message: Message) -> list[str]:
    names = message["names"]
    if not isinstance(names, list):
        raise TypeError("names is no list")
    return [str(name) for name in names]
