"""Records as files in one directory that all nodes of a host share. Blocking; raises OSError.

    <root>/elections/<election>/<generation>   {"write": token, "after": revision, "record": {...}}
    <root>/nodes/<node>                        the node's candidate record
    <root>/tmp/                                files that are being written

An election's record is the file with the highest generation. A write makes the next one complete
under <root>/tmp and then *links* it to its name: link(2) either creates the name or fails because
somebody else did, and that is the compare-and-swap. There is no lock on purpose. A lock is held by
whoever is stopped, frozen or debugged while it has it, and then one stopped node takes the store
away from all others, which no real store does. A writer killed or stopped between any two
instructions leaves the old record or the new one, and nobody waits for it.

A revision is the generation and a hash of the file's bytes, which hold a token of this very write:
it never comes back, also not for a record that was deleted and made again, restored from a copy, or
edited with the token left in place.

Nothing is fsynced. Only a crash of the host can lose what was written, and it takes all nodes of
this store with it: a record that is lost, old or torn then meets no holder, and costs one lease of
waiting. An fsync would cost 1 to 10 ms of each renewal, and seconds on a busy disk, which does
endanger a lease.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

from election.model import (
    Absent,
    Applied,
    CandidateRecord,
    Conflict,
    Content,
    Found,
    Record,
    Revision,
    Unknown,
    Unreadable,
    WriteAnswer,
)
from election.stores.encoding import (
    LARGEST,
    decode_candidate,
    encode_candidate,
    encode_record,
    parse,
    record_of,
)
from election.stores.errors import BadRecord

KEPT = 8
"""Generations that stay; a reader that has listed them has this many writes of time to open the
highest."""
DIGITS = 20
LARGEST_GENERATION = 2**63
ENVELOPE = 512
"""Bytes that a file has more than its record, at most."""
USUAL = 16 * 1024
"""Bytes: a record with hundreds of addresses. A buffer of this size comes from the process's own
memory, a larger one from the kernel."""
STALE_AFTER = 60.0
"""Seconds after which a file in <root>/tmp is that of a writer that was killed."""
TRIES = 100


@dataclass(frozen=True, slots=True)
class Version:
    """One generation of a record, as bytes."""

    generation: int
    data: bytes

    @property
    def revision(self) -> Revision:
        """The store's name for this very content."""
        return f"{self.generation}-{hashlib.sha256(self.data).hexdigest()[:16]}"


@dataclass(frozen=True, slots=True)
class Draft:
    """A write that is complete but for its name."""

    directory: Path
    version: Version
    temporary: Path


class FileRecords:
    """The files below `root`.

    `candidate_ttl`: seconds after which a candidate record that nobody refreshes is removed.
    """

    def __init__(self, root: Path, candidate_ttl: float) -> None:
        self.root = root
        self.elections = root / "elections"
        self.nodes = root / "nodes"
        self._temporary = root / "tmp"
        self._candidate_ttl = candidate_ttl
        self._made = False
        self._swept = False

    # ---------------------------------------------------------------- elections

    def read(self, election: str) -> Content:
        """Return the content of an election's record."""
        version = self._head(election)
        return Absent() if version is None else content_of(version)

    def write(self, election: str, record: Record, expected: Revision | None) -> WriteAnswer:
        """Replace the record if its revision is still `expected`; None: create it if there is
        none.
        """
        draft = self.draft(election, record, expected)
        return Conflict() if draft is None else self.commit(draft)

    def draft(self, election: str, record: Record, expected: Revision | None) -> Draft | None:
        """Write the next generation beside the store; None: the record's revision is not
        `expected`.
        """
        head = self._head(election)
        if (None if head is None else head.revision) != expected:
            return None
        directory = self.elections / file_name(election)
        if head is None:
            directory.mkdir(parents=True, exist_ok=True)
        after = f'{{"write":"{secrets.token_hex(16)}","after":"{expected or ""}","record":'
        version = Version(
            (head.generation if head else 0) + 1, after.encode() + encode_record(record) + b"}\n"
        )
        return Draft(directory, version, self._written(version.data))

    def commit(self, draft: Draft) -> WriteAnswer:
        """Give the draft its name, if that is still free."""
        generation = draft.version.generation
        try:
            os.link(draft.temporary, draft.directory / generation_name(generation))
        except FileExistsError:
            return Conflict()
        finally:
            draft.temporary.unlink(missing_ok=True)
        there = generations(draft.directory)
        if max(there, default=0) != generation and not self._was_followed(draft):
            # Stopped for so long before the link that the generation was written, followed and
            # tidied away: the name was free again, but the record has moved on. (Or the same within
            # the blink of an eye, and it was applied.)
            return Unknown("others wrote while this write was held up")
        _tidy(draft.directory, there)
        return Applied(draft.version.revision)

    def election_names(self) -> list[str]:
        """Return the names of all elections that have a directory."""
        return [unquote(name) for name in self._names(self.elections)]

    def _head(self, election: str) -> Version | None:
        self.make_root()
        directory = self.elections / file_name(election)
        for _ in range(TRIES):
            try:
                generation = max(generations(directory), default=0)
            except FileNotFoundError:
                # Nobody can tell what is in a store whose own directory is missing: it may not be
                # mounted yet.
                self.root.stat()
                return None
            if generation == 0:
                return None
            with contextlib.suppress(FileNotFoundError):
                return Version(
                    generation,
                    _content(directory / generation_name(generation), LARGEST + ENVELOPE),
                )
        raise OSError(errno.EAGAIN, "the record changes faster than it can be read", str(directory))

    def _was_followed(self, draft: Draft) -> bool:
        successor = draft.directory / generation_name(draft.version.generation + 1)
        try:
            fields = parse(_content(successor, LARGEST + ENVELOPE), LARGEST + ENVELOPE)
        except (FileNotFoundError, BadRecord):
            return False
        return fields.get("after") == draft.version.revision

    # ---------------------------------------------------------------- candidates

    def read_candidate(self, name: str) -> CandidateRecord | None:
        """Return a node's candidate record.

        None if it is absent, unreadable, or that of another node.
        """
        try:
            record = decode_candidate(_content(self.nodes / file_name(name), LARGEST))
        except (FileNotFoundError, BadRecord):
            return None
        return record if record.name == name else None

    def read_candidates(self) -> list[CandidateRecord]:
        """Return all candidate records that can be read."""
        self.make_root()
        found = (self.read_candidate(name) for name in self.candidate_names())
        return [record for record in found if record is not None]

    def write_candidate(self, record: CandidateRecord) -> WriteAnswer:
        """Replace a node's candidate record, and remove those that were not refreshed for
        `candidate_ttl`.
        """
        self.make_root()
        data = encode_candidate(record)
        temporary = self._written(data)
        try:
            self.nodes.mkdir(exist_ok=True)
            now = temporary.stat().st_mtime
            temporary.rename(self.nodes / file_name(record.name))
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sweep(self.nodes, now - self._candidate_ttl)
        return Applied(Version(record.counter, data).revision)

    def delete_candidate(self, name: str) -> WriteAnswer:
        """Remove a node's candidate record."""
        self.root.stat()
        (self.nodes / file_name(name)).unlink(missing_ok=True)
        return Applied("")

    def candidate_names(self) -> list[str]:
        """Return the names of all nodes that have a file."""
        return [unquote(name) for name in self._names(self.nodes)]

    # ---------------------------------------------------------------- files

    def make_root(self) -> None:
        """Make the root, once.

        One that goes away later was unmounted or removed, and an empty one is no substitute.
        """
        if not self._made:
            self.root.mkdir(exist_ok=True)
            self._made = True

    def _names(self, directory: Path) -> list[str]:
        try:
            return [path.name for path in directory.iterdir() if not path.name.startswith(".")]
        except FileNotFoundError:
            self.root.stat()
            return []

    def _written(self, data: bytes) -> Path:
        """Write a file that has no name in the store yet."""
        path = self._temporary / secrets.token_hex(16)
        if not self._temporary.is_dir():
            self._temporary.mkdir(exist_ok=True)
        try:
            path.write_bytes(data)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        if not self._swept:
            _sweep(self._temporary, path.stat().st_mtime - STALE_AFTER)
            self._swept = True
        return path


def content_of(version: Version) -> Content:
    """Return what a file says."""
    try:
        record = parse(version.data, LARGEST + ENVELOPE).get("record")
        if not isinstance(record, dict):
            raise BadRecord("the file holds no record")  # noqa: TRY301 - one way out for all that can be wrong
        return Found(record_of(record), version.revision)
    except BadRecord as bad:
        return Unreadable(version.revision, str(bad))


def file_name(name: str) -> str:
    """Return the file name for an election or a node.

    No slash, no leading dot, and the name can be told from it.
    """
    quoted = quote(name, safe="")
    if not quoted:
        raise OSError(errno.EINVAL, "an empty name")
    return "%2E" + quoted[1:] if quoted.startswith(".") else quoted


def generation_name(generation: int) -> str:
    """Return the file name of a generation; names sort like numbers."""
    return f"{generation:0{DIGITS}}"


def is_generation(name: str) -> bool:
    """Whether a file name is that of a generation, and not one of an editor or a person."""
    return (
        len(name) == DIGITS
        and name.isascii()
        and name.isdigit()
        and 0 < int(name) < LARGEST_GENERATION
    )


def generations(directory: Path) -> list[int]:
    """Return the generations that are there, in no order."""
    # iterdir() makes a Path of each name, which takes longer than all the rest.
    return [int(name) for name in os.listdir(directory) if is_generation(name)]  # noqa: PTH208


def _content(path: Path, largest: int) -> bytes:
    # A pipe that somebody left in the place of a file would block without O_NONBLOCK.
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        # As a rule this is all; to have room for the largest record at once would cost more than
        # the reading.
        data = os.read(fd, USUAL)
        return data if len(data) < USUAL else data + os.read(fd, largest + 1 - USUAL)
    finally:
        os.close(fd)


def _tidy(directory: Path, there: list[int]) -> None:
    """Remove old generations, many at a time: each removal wakes all watches."""
    if len(there) <= 2 * KEPT:
        return
    for generation in sorted(there)[:-KEPT]:
        with contextlib.suppress(OSError):
            (directory / generation_name(generation)).unlink()


def _sweep(directory: Path, before: float) -> None:
    """Remove what nobody touched since `before` (st_mtime).

    Not being able to is no reason to fail a write.
    """
    for path in directory.iterdir():
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < before:
                path.unlink()
