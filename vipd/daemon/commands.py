"""What an operator can ask of the running daemon through the control socket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from election import events, model
from election.model import State
from vipd.clock import now
from vipd.control import status
from vipd.control.errors import Refused
from vipd.daemon.member import Member
from vipd.daemon.view import View
from vipd.state_dir import Memory

HANDOVER_PATIENCE = 3.0
"""Seconds to wait for a planned move: hold-off 0.51 s, a strike-out 0.2 s and slow stores
included."""
STEP = 0.002
DISK_PATIENCE = 5.0
"""Seconds to wait for the disk to take the drain flag."""


@dataclass(frozen=True, slots=True)
class Commands:
    """Answers the commands `status`, `handover`, `drain` and `resume`.

    `candidates` tells who is known of an election.
    """

    view: View
    members: dict[str, Member]
    memory: Memory
    candidates: Callable[[str], tuple[model.Candidate, ...]]
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def handle(self, command: str, arguments: dict[str, object]) -> dict[str, object]:
        """Carry out one command; raises Refused with a sentence."""
        match command:
            case "status":
                return status.to_json(self.view.document(drained=self.memory.drained))
            case "handover" if arguments.get("auto"):
                return await self._unpin(self._member(arguments))
            case "handover":
                return await self._handover(self._member(arguments), str(arguments.get("to") or ""))
            case "drain":
                return await self._drain(force=bool(arguments.get("force")))
            case "resume":
                return await self._resume()
            case _:
                raise Refused(f"this daemon knows no command {command!r}")

    def _member(self, arguments: dict[str, object]) -> Member:
        """Return the election of this name, or of the instance of this name."""
        name = str(arguments.get("instance") or "")
        known = {
            instance.name: member
            for member in self.members.values()
            for instance in member.instances
        } | self.members
        if name not in known:
            raise Refused(f"there is no instance {name!r} here; there is {', '.join(known)}")
        return known[name]

    def _holder_only(self, member: Member) -> None:
        """Nodes do not talk to each other: only the holder can hand over."""
        if member.state is State.ACTIVE:
            return
        record = member.snapshot().record
        where = (
            f"run it on {record.holder}, which holds it"
            if record and record.holder
            else "nobody holds it"
        )
        raise Refused(f"this node does not hold {member.name}: {where}")

    async def _handover(self, member: Member, to: str) -> dict[str, object]:
        self._holder_only(member)
        me = self.view.me.name
        others = [c for c in self.candidates(member.name) if c.name != me]
        fit = [c.name for c in others if c.live and c.eligible]
        if to == me:
            raise Refused(f"{me} holds {member.name} already")
        if to and to not in {c.name for c in others}:
            raise Refused(
                f"no node {to!r} is known in {member.name}; there is "
                f"{', '.join(c.name for c in others) or 'no other'}"
            )
        if not fit or (to and to not in fit):
            raise Refused(
                f"{to} is not fit to take {member.name}"
                if to
                else f"no other node is fit to take {member.name}"
            )
        started = now()
        member.order(events.HandoverAsked(to, pin=True))
        if not await self._until(lambda: member.state is not State.ACTIVE):
            raise TimeoutError
        await self._until(lambda: self._taken_from(member, me))
        record = member.snapshot().record
        holder = record.holder if record else ""
        took = round((now() - started) * 1000)
        return {
            "holder": holder,
            "milliseconds": took,
            "message": f"{member.name} is on {holder} now ({took} ms), and pinned there",
        }

    @staticmethod
    def _taken_from(member: Member, me: str) -> bool:
        record = member.snapshot().record
        return record is not None and record.holder not in {"", me}

    async def _unpin(self, member: Member) -> dict[str, object]:
        self._holder_only(member)
        member.order(events.UnpinAsked())
        return {"message": f"{member.name} is not pinned any more: the priorities decide"}

    async def _drain(self, *, force: bool) -> dict[str, object]:
        held = [m for m in self.members.values() if m.state is State.ACTIVE]
        alone = [m.name for m in held if not self._others_fit(m)]
        if alone and not force:
            raise Refused(
                f"no other node is fit to take {', '.join(alone)}; --force drains all the same "
                "and takes the address down"
            )
        await self._keep_drained(drained=True)
        for member in self.members.values():
            member.order(events.DrainChanged(drained=True))
        done = await self._until(lambda: all(m.is_clear for m in self.members.values()))
        where = "" if done else "; an address is still on its way"
        return {"message": f"this node is drained and stays so until `vipd resume`{where}"}

    def _others_fit(self, member: Member) -> bool:
        me = self.view.me.name
        return any(c.live and c.eligible and c.name != me for c in self.candidates(member.name))

    async def _resume(self) -> dict[str, object]:
        await self._keep_drained(drained=False)
        for member in self.members.values():
            member.order(events.DrainChanged(drained=False))
        return {"message": "this node takes instance in the elections again"}

    async def _keep_drained(self, *, drained: bool) -> None:
        """Write or remove the flag, on a thread.

        What is refused has no effect later either, also if the disk was only slow.
        """
        loop, before = asyncio.get_running_loop(), self.memory.drained
        async with self.writing:
            work = loop.run_in_executor(None, self.memory.set_drained, drained)
            await asyncio.wait({work}, timeout=DISK_PATIENCE)
        if not work.done():
            work.add_done_callback(
                lambda late: (
                    None if late.exception() else _take_back(loop, self.memory, drained=before)
                )
            )
            raise Refused(
                f"the disk of {self.memory.directory} has not taken the drain flag within "
                f"{DISK_PATIENCE:g}s; nothing changes"
            )
        if isinstance(error := work.exception(), OSError):
            raise Refused(
                f"the drain flag cannot be kept in {self.memory.directory}: {error.strerror}; "
                "nothing changes"
            ) from error
        work.result()

    @staticmethod
    async def _until(done: Callable[[], bool]) -> bool:
        give_up_at = now() + HANDOVER_PATIENCE
        while not done():
            if now() >= give_up_at:
                return False
            await asyncio.sleep(STEP)
        return True


def _take_back(loop: asyncio.AbstractEventLoop, memory: Memory, *, drained: bool) -> None:
    """Undo what the disk took after it was refused."""
    loop.run_in_executor(None, memory.set_drained, drained)
