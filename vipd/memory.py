"""What a daemon remembers for its next life: sessions of this boot, highest epochs, verdicts, and whether it is drained.

One small JSON file in the state directory, replaced whole; a second, empty file is the drain flag, which outlives reboots.
The directory is locked: sessions found in it are proven gone only if no other daemon can still be using it. Nothing in
it is needed for safety while a daemon runs, so a full or read-only disk costs a sentence in the log, not the VIP.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from election.actions import Remember
from election.model import Reason

SESSIONS_KEPT = 16
"""A daemon that crashed before it took its lease back leaves it to a session before its own."""
FILE = "state.json"
DRAIN_FLAG = "drained"


class InUseError(Exception):
    """Another daemon uses this state directory."""


def boot_id() -> str:
    """Return the kernel's id of this boot; a session of another boot is not remembered as one's own."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


@dataclass(slots=True)
class Election:
    """What is remembered of one election: the highest epoch seen and the longest lease_duration known, in ms."""

    epoch: int = 0
    lease_duration: int = 0


@dataclass(slots=True)
class Memory:
    """The state directory's content. `former` are the sessions of this boot and directory, newest last."""

    directory: Path
    former: tuple[str, ...] = ()
    session: str = ""
    elections: dict[str, Election] = field(default_factory=dict)
    verdicts: dict[str, dict[str, bool]] = field(default_factory=dict)
    trouble: str = ""
    _lock: int = -1

    @classmethod
    def open(cls, directory: Path, session: str) -> Memory:
        """Lock the directory and read what is there; raises InUseError. Whatever else fails is told in `trouble`."""
        memory = cls(directory, session=session)
        try:
            directory.mkdir(mode=0o750, parents=True, exist_ok=True)
            memory._lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
            fcntl.flock(memory._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(memory._lock)
            raise InUseError(f"state_dir {directory} is in use by another vipd") from error
        except OSError as error:
            # Unlocked, it proves nothing about former sessions.
            memory.trouble = f"state_dir {directory}: {error.strerror}; a restart will wait out its own lease"
            return memory
        memory._read()
        return memory

    def _read(self) -> None:
        try:
            data = json.loads((self.directory / FILE).read_bytes())
            if data["boot_id"] == boot_id():
                self.former = tuple(str(s) for s in data["sessions"])[-SESSIONS_KEPT:]
                self.verdicts = {str(i): {str(c): bool(up) for c, up in v.items()} for i, v in data["verdicts"].items()}
            self.elections = {str(n): Election(int(e["epoch"]), int(e["lease_duration"])) for n, e in data["elections"].items()}
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            self.trouble = f"{self.directory / FILE} cannot be used ({error}); starting without it"

    def save(self) -> None:
        """Write everything; a failure is kept in `trouble`. Blocks on the disk: never call it on the event loop."""
        data = {
            "version": 1,
            "boot_id": boot_id(),
            "sessions": [*self.former, self.session][-SESSIONS_KEPT:],
            "elections": {n: {"epoch": e.epoch, "lease_duration": e.lease_duration} for n, e in list(self.elections.items())},
            "verdicts": {instance: dict(checks) for instance, checks in list(self.verdicts.items())},
        }
        temporary = self.directory / f"{FILE}.new"
        try:
            temporary.write_text(json.dumps(data), encoding="utf-8")
            temporary.replace(self.directory / FILE)
            self.trouble = ""
        except OSError as error:
            self.trouble = f"{self.directory / FILE}: {error.strerror}; a restart may have to wait out its own lease"

    def remember(self, election: str, what: Remember) -> None:
        """Note the highest epoch and longest lease of an election; written with the next `save`."""
        self.elections[election] = Election(what.epoch, what.lease_duration)

    @property
    def drained(self) -> bool:
        """Whether this node was drained, by this daemon or one before."""
        return (self.directory / DRAIN_FLAG).exists()

    def set_drained(self, drained: bool) -> None:
        """Keep the drain flag over restarts and reboots; raises OSError if it cannot be kept."""
        flag = self.directory / DRAIN_FLAG
        if drained:
            flag.write_text(f"{Reason.DRAINED}\n", encoding="ascii")
        else:
            flag.unlink(missing_ok=True)

    def close(self) -> None:
        """Unlock the directory."""
        if self._lock >= 0:
            with contextlib.suppress(OSError):
                os.close(self._lock)
            self._lock = -1
