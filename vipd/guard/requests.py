"""What the daemon asks of the guard, and the answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from announce.kernel.addresses import ReadyMessages
from vipd.guard.channel import Message, Wire, WireError
from vipd.guard.link import Armed
from vipd.guard.locks import LockedError, Locks
from vipd.guard.slots import SlotError, Slots


@dataclass(frozen=True, slots=True)
class Requests:
    """Serves one daemon after the other. `ready` and `status` are told on; `tell_gate` sends the daemon news of the gate."""

    slots: Slots
    locks: Locks
    ready: Callable[[], None]
    status: Callable[[str], None]
    tell_gate: Callable[[], None]

    def serve(self, wire: Wire) -> None:
        """Handle and answer all that has come; raises WireError if that cannot be done."""
        for message in wire.receive():
            try:
                self._one(wire, message)
            except (KeyError, TypeError, ValueError) as error:
                raise WireError(f"malformed request {message.get('op')!r}: {error}") from error
            except OSError as error:
                raise WireError(f"request {message.get('op')!r} failed: {error}") from error

    def _one(self, wire: Wire, message: Message) -> None:
        match message["op"]:
            case "arm":
                self._answer(wire, lambda: self._arm(message))
            case "disarm":
                self._answer(wire, lambda: self._disarm(message))
            case "lock":
                self._lock(wire, _names(message))
            case "unlock":
                self.locks.unlock(_names(message))
            case "ready":
                self.slots.settle()
                self.locks.settle()
                self.ready()
            case "status":
                self.status(str(message["text"]))
            case other:
                raise WireError(f"unknown request {other!r}")

    def _answer(self, wire: Wire, act: Callable[[], Message]) -> None:
        try:
            wire.send({"answer": "done", **act()})
        except SlotError as error:
            wire.send({"answer": str(error)})

    def _arm(self, message: Message) -> Message:
        texts, lease_duration, gate = message["ready"], message["lease"], bool(message["gate"])
        if not isinstance(texts, list) or not isinstance(lease_duration, int | float):
            raise TypeError("ready is no list, or lease no number")
        ready = [ReadyMessages.from_bytes(bytes.fromhex(str(text))) for text in texts]
        armed: Armed = self.slots.arm(str(message["name"]), ready, float(lease_duration), gate=gate)
        self.tell_gate()  # before the answer: whoever armed looks at it next
        return {"slot": armed.slot, "deadline": armed.deadline}

    def _disarm(self, message: Message) -> Message:
        self.slots.disarm(str(message["name"]))
        return {}

    def _lock(self, wire: Wire, names: list[str]) -> None:
        try:
            descriptors = self.locks.lock(names)
        except LockedError as error:
            wire.send({"answer": "done", "held": False, "by": str(error)})
        else:
            shown = self.locks.shown()
            wire.send({"answer": "done", "held": True, "shown": len(shown)}, descriptors + shown)


def _names(message: Message) -> list[str]:
    names = message["names"]
    if not isinstance(names, list):
        raise TypeError("names is no list")
    return [str(name) for name in names]
