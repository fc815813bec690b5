"""What a daemon remembers for its next start.

Sessions of this boot, highest epochs, verdicts, and whether it is drained.

One small JSON file in the state directory, replaced whole; a second file is the drain flag, which
outlives reboots. The directory is locked: sessions found in it are proven gone only if no other
daemon can still be using it. Nothing in it is needed for safety while a daemon runs, so a full or
read-only disk costs a sentence in the log, not the VIP.

Sessions count only where they were noted: on this boot, in this network namespace, in this very
directory.

    1. /var/lib/vipd is copied, or a daemon is moved to another network namespace, 2. a daemon
    starts there under the same node
    name: its lock is free, 3. the daemon of the original still runs, or its addresses are still
    bound in the other namespace; the sessions of a copy would say that it is gone, and the lease be
    taken from it at once.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from election.actions import Remember
from election.model import Reason
from election.stores.files import read_file
from vipd import statefile

SESSIONS_KEPT = 16
"""A daemon that crashed before it took its lease back leaves it to a session before its own."""
FILE = "state.json"
LARGEST_FILE = 16 << 20
"""Bytes; a thousand elections have a fiftieth of this."""
CHOSEN = "chosen.json"
"""The epochs chosen, written without waiting for the disk: a bind waits for it."""
DRAIN_FLAG = "drained"
LOCK = "lock"
NAMESPACE = "/proc/self/ns/net"
DIRECTORY_MODE = 0o750
FILE_MODE = 0o640
UNUSABLE = "vipd goes on without it: a restart waits out its own lease, and `vipd drain` is refused"


class InUseError(Exception):
    """Another daemon uses this state directory."""


def boot_id() -> str:
    """Return the kernel's id of this boot.

    A session of another boot is not remembered as one's own.
    """
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


@dataclass(slots=True)
class Election:
    """What is remembered of one election.

    The highest epoch seen, the longest lease_duration known (ms), the highest epoch chosen here.
    """

    epoch: int = 0
    lease_duration: int = 0
    chosen: int = 0


@dataclass(slots=True)
class Memory:
    """The state directory's content.

    `former` are the sessions of this boot and directory, newest last.

    `drained`: this node was drained, by this daemon or one before. `trouble`: what is wrong with
    the directory, a sentence.
    """

    directory: Path
    former: tuple[str, ...] = ()
    session: str = ""
    elections: dict[str, Election] = field(default_factory=dict)
    verdicts: dict[str, dict[str, bool]] = field(default_factory=dict)
    drained: bool = False
    trouble: str = ""
    _locks: list[int] = field(default_factory=list)
    _saved: bytes = b""

    @classmethod
    def open(cls, directory: Path, session: str) -> Memory:
        """Lock the directory and read what is there; raises InUseError.

        Whatever else fails is said in `trouble`.
        """
        memory = cls(directory, session=session)
        try:
            directory.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
            memory._lock()
        except BlockingIOError as error:
            memory.close()
            raise InUseError(f"state_dir {directory} is in use by another vipd") from error
        except OSError as error:
            # Unlocked, it proves nothing about other sessions, and what is written there may be
            # another daemon's.
            memory.close()
            memory._read()
            memory.trouble = (
                f"state_dir {directory} cannot be used "
                f"({error.strerror}{_owner(directory, error)}); {UNUSABLE}"
            )
        else:
            memory._read()
        return memory

    def _lock(self) -> None:
        """Lock the directory itself, and a file in it for daemons of older versions.

        Raises OSError, BlockingIOError if it is locked.

        A file that somebody deletes would lock nothing any more. Where a directory cannot be locked
        (NFS), the file has to do.
        """
        self._locks.append(
            os.open(self.directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        )
        fcntl.flock(self._locks[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._locks.append(os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        try:
            fcntl.flock(self._locks[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:
            os.close(self._locks.pop())

    def _read(self) -> None:
        try:
            self.drained = (self.directory / DRAIN_FLAG).exists()
            content = read_file(self.directory / FILE, LARGEST_FILE)
        except FileNotFoundError:
            self._read_chosen()
            return
        except OSError as error:
            self.trouble = (
                f"{error.filename} cannot be read "
                f"({error.strerror}{_owner(self.directory, error)}); starting without it"
            )
            return
        try:
            self._understand(json.loads(content))
        except (
            OSError,
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            OverflowError,
            RecursionError,
        ) as error:
            self.trouble = f"{self.directory / FILE} cannot be used ({error}); starting without it"
        self._read_chosen()

    def _read_chosen(self) -> None:
        # A loss of power may leave anything in it; it is never the only place for long.
        with contextlib.suppress(
            OSError, ValueError, TypeError, AttributeError, OverflowError, RecursionError
        ):
            for name, epoch in json.loads(read_file(self.directory / CHOSEN, LARGEST_FILE)).items():
                known = self.elections.setdefault(str(name), Election())
                known.chosen = max(known.chosen, int(epoch))

    def _understand(self, data: dict[str, dict[str, dict[str, bool]]]) -> None:
        if self._locks and all(data.get(key) == value for key, value in self._place().items()):
            self.former = tuple(str(s) for s in data["sessions"])[-SESSIONS_KEPT:]
            self.verdicts = {
                str(i): {str(c): bool(up) for c, up in v.items()}
                for i, v in data["verdicts"].items()
            }
        self.elections = {str(n): _election(e) for n, e in data["elections"].items()}

    def _place(self) -> dict[str, object]:
        """Return what sessions are bound to; raises OSError."""
        directory, namespace = self.directory.stat(), os.stat(NAMESPACE)  # noqa: PTH116 -- a link that is no path
        return {
            "boot_id": boot_id(),
            "directory": [directory.st_dev, directory.st_ino],
            "network_namespace": [namespace.st_dev, namespace.st_ino],
        }

    def save(self) -> None:
        """Write everything that is new; a failure is kept in `trouble`.

        Blocks on the disk: never call it on the event loop.
        """
        if not self._locks:
            return
        try:
            data = json.dumps(self._content()).encode()
            if data != self._saved:
                statefile.write(self.directory / FILE, data, FILE_MODE)
                self._saved = data
            self.trouble = ""
        except OSError as error:
            self.trouble = (
                f"{self.directory / FILE}: {error.strerror}; a restart may have to "
                "wait out its own lease"
            )

    def save_chosen(self) -> None:
        """Write the epochs that were chosen, so that they outlive this process.

        `save` makes them outlive a loss of power.

        Blocks, but does not wait for the disk as a rule: never call it on the event loop. A failure
        shows at the next `save`.
        """
        if self._locks:
            chosen = {name: known.chosen for name, known in list(self.elections.items())}
            with contextlib.suppress(OSError):
                statefile.write(
                    self.directory / CHOSEN, json.dumps(chosen).encode(), FILE_MODE, sync=False
                )

    def _content(self) -> dict[str, object]:
        return {
            "version": 1,
            **self._place(),
            "sessions": [*self.former, self.session][-SESSIONS_KEPT:],
            "elections": {n: asdict(e) for n, e in list(self.elections.items())},
            "verdicts": {
                instance: dict(checks) for instance, checks in list(self.verdicts.items())
            },
        }

    def remember(self, election: str, what: Remember) -> None:
        """Note the highest epochs and the longest lease of an election.

        Written with the next `save`.
        """
        self.elections[election] = Election(what.epoch, what.lease_duration, what.chosen)

    def set_drained(self, drained: bool) -> None:
        """Keep the drain flag over restarts and reboots.

        Raises OSError if it cannot be kept, and then nothing has changed.

        Blocks on the disk: never call it on the event loop.
        """
        flag = self.directory / DRAIN_FLAG
        if not self._locks:
            self.directory.stat()
            # Another daemon's, as far as anybody knows: what is written there would be that one's
            # drain.
            raise PermissionError(errno.EACCES, "it cannot be used")
        if drained:
            statefile.write(flag, f"{Reason.DRAINED}\n".encode(), FILE_MODE)
        else:
            statefile.remove(flag)
        self.drained = drained

    def close(self) -> None:
        """Unlock the directory. Idempotent."""
        for descriptor in self._locks:
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self._locks = []


def _owner(directory: Path, error: OSError) -> str:
    """Say whose a directory is that this process may not use.

    A service and a DaemonSet run as different users.
    """
    if error.errno not in {errno.EACCES, errno.EPERM}:
        return ""
    try:
        owner = directory.stat().st_uid
    except OSError:
        return ""
    me = os.geteuid()
    return (
        "" if owner == me else f": it belongs to uid {owner}, and vipd runs as uid {me}; chown it"
    )


def _election(known: dict[str, Any]) -> Election:
    # An earlier version of vipd knew no chosen epochs.
    return Election(int(known["epoch"]), int(known["lease_duration"]), int(known.get("chosen", 0)))
