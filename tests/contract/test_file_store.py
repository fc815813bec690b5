"""What only the file store has to answer for.

Its files, its thread, and a directory that anybody may touch.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from election.model import (
    Absent,
    Applied,
    CandidateRecord,
    Conflict,
    Found,
    Record,
    Unknown,
    Unreadable,
)
from election.stores.contract import ElectionChanged, WatchLost, WatchStands
from election.stores.file.records import KEPT, FileRecords, file_name, generation_name
from election.stores.file.store import FileStore
from tests.contract.places import TIMEOUT, FilePlace, current, opened, revision, stands, watching

MOUNT, UMOUNT = shutil.which("mount") or "mount", shutil.which("umount") or "umount"
RECORD = Record(uid="u", holder="a", session="s", epoch=1, counter=1)


@pytest.fixture
def files(tmp_path: Path) -> FileRecords:
    """Return an empty directory of records."""
    return FileRecords(tmp_path / "store", 60.0)


def written(files: FileRecords, count: int, holder: str = "a", expected: str | None = None) -> str:
    """Write so many times; return the last revision."""
    for number in range(count):
        answer = files.write("ingress", replace(RECORD, holder=holder, counter=number), expected)
        assert isinstance(answer, Applied)
        expected = answer.revision
    assert expected is not None
    return expected


def holder(files: FileRecords) -> str:
    """Return the holder of the record that is there."""
    content = files.read("ingress")
    assert isinstance(content, Found)
    return content.record.holder


@pytest.mark.parametrize("others", [1, 2, KEPT, 2 * KEPT + 1, 5 * KEPT])
def test_a_writer_held_up_before_its_last_step_changes_nothing(
    files: FileRecords, others: int
) -> None:
    """It has compared the revision and is stopped.

    Others write on, up to the point where its generation is tidied away.
    """
    before = written(files, 3)
    draft = files.draft("ingress", replace(RECORD, holder="late"), before)
    assert draft is not None
    last = written(files, others, "b", before)
    assert isinstance(files.commit(draft), Conflict | Unknown)
    assert holder(files) == "b"
    written(files, 3 * KEPT, "b", last)
    assert len(list(draft.directory.iterdir())) <= 2 * KEPT


@pytest.mark.parametrize("others", [1, 2, 5 * KEPT])
def test_a_creator_held_up_before_its_last_step_changes_nothing(
    files: FileRecords, others: int
) -> None:
    """Likewise for the first generation."""
    draft = files.draft("ingress", replace(RECORD, holder="late"), None)
    assert draft is not None
    written(files, others, "b")
    assert isinstance(files.commit(draft), Conflict | Unknown)
    assert holder(files) == "b"


def test_a_write_that_is_followed_at_once_was_applied(files: FileRecords) -> None:
    """Somebody builds on it before its writer has looked: that is proof, not doubt."""
    before = written(files, 3)
    draft = files.draft("ingress", RECORD, before)
    assert draft is not None
    os.link(draft.temporary, draft.directory / generation_name(draft.version.generation))
    written(files, 1, "b", draft.version.revision)
    assert files._was_followed(draft)


def test_a_record_removed_under_a_writer_is_unknown_to_it(
    tmp_path: Path, files: FileRecords
) -> None:
    """The directory goes away between its look and its last step.

    It must not come back with the write.
    """
    before = written(files, 3)
    draft = files.draft("ingress", RECORD, before)
    assert draft is not None
    shutil.rmtree(tmp_path / "store" / "elections")
    with pytest.raises(FileNotFoundError):
        files.commit(draft)
    assert files.read("ingress") == Absent()


def test_old_generations_and_temporary_files_go_away(tmp_path: Path, files: FileRecords) -> None:
    """A hundred writes leave a handful of files."""
    written(files, 100)
    assert len(list((tmp_path / "store" / "elections" / "ingress").iterdir())) <= 2 * KEPT
    assert list((tmp_path / "store" / "tmp").iterdir()) == []


def test_what_a_killed_writer_left_is_swept_by_the_next_process(
    tmp_path: Path, files: FileRecords
) -> None:
    """Its temporary file is removed once it is old; that of a writer at work is not."""
    written(files, 1)
    old, fresh = tmp_path / "store" / "tmp" / "old", tmp_path / "store" / "tmp" / "fresh"
    old.touch()
    fresh.touch()
    long_ago = fresh.stat().st_mtime - 3600
    os.utime(old, (long_ago, long_ago))
    FileRecords(tmp_path / "store", 60.0).write_candidate(CandidateRecord("n", "s", 1))
    assert list((tmp_path / "store" / "tmp").iterdir()) == [fresh]


def test_litter_of_editors_is_no_record(tmp_path: Path, files: FileRecords) -> None:
    """Backups, swap files and stray directories are passed over, in both places."""
    before = written(files, 1)
    directory = tmp_path / "store" / "elections"
    files.write_candidate(CandidateRecord("n", "s", 1))
    for name in (
        "00000000000000000001~",
        ".00000000000000000002.swp",
        "2",
        "\u0660" * 20,
        "9" * 20,
        "0" * 20,
    ):
        (directory / "ingress" / name).write_text("?")
    (directory / ".hidden").mkdir()
    (directory / "file").write_text("?")
    (tmp_path / "store" / "nodes" / "n~").write_bytes(
        (tmp_path / "store" / "nodes" / "n").read_bytes()
    )
    (tmp_path / "store" / "nodes" / "m").write_text("?")
    assert files.read("ingress") == Found(replace(RECORD, counter=0), before)
    assert [record.name for record in files.read_candidates()] == ["n"]


def test_a_pipe_in_the_place_of_a_file_blocks_nobody(tmp_path: Path, files: FileRecords) -> None:
    """It is as unreadable as any other rubbish."""
    written(files, 1)
    os.mkfifo(tmp_path / "store" / "elections" / "ingress" / generation_name(2))
    assert isinstance(files.read("ingress"), Unreadable)


def test_names_and_file_names_are_one_to_one() -> None:
    """No two names share a file, and none leads out of the directory."""
    names = ["a", "A", "a/b", "a%2Fb", "..", ".", ".a", "%2Ea", "ä", "a b", "~", "-"]
    made = [file_name(name) for name in names]
    assert len(set(made)) == len(names)
    assert not any("/" in name or name.startswith(".") for name in made)


def test_a_missing_parent_is_unknown_until_it_is_there(tmp_path: Path) -> None:
    """The store makes its own directory, and nothing above it.

    That may be a disk that is not mounted yet.
    """
    place = FilePlace(tmp_path / "later")

    async def scenario() -> None:
        async with opened(place) as [store], watching(store) as watch:
            assert isinstance(await watch.next(), WatchLost)
            answer = await store.read("ingress", TIMEOUT)
            assert answer == Unknown(f"{tmp_path}/later/store: No such file or directory")
            assert isinstance(await store.write("ingress", RECORD, None, TIMEOUT), Unknown)
            (tmp_path / "later").mkdir()
            assert await store.read("ingress", TIMEOUT) == Absent()
            assert await watch.next() == WatchStands()

    asyncio.run(scenario())


def test_a_file_in_the_place_of_the_directory_is_unknown(tmp_path: Path) -> None:
    """The sentence says what is wrong."""
    (tmp_path / "store").write_text("?")

    async def scenario() -> None:
        async with opened(FilePlace(tmp_path)) as [store]:
            for answer in (
                await store.read("ingress", TIMEOUT),
                await store.write("ingress", RECORD, None, TIMEOUT),
            ):
                assert isinstance(answer, Unknown)
                assert str(tmp_path / "store") in answer.why

    asyncio.run(scenario())


def test_a_watch_follows_directories_that_are_made_anew(tmp_path: Path) -> None:
    """All records are removed, then the whole directory, and both come back."""
    place = FilePlace(tmp_path)

    async def scenario() -> None:
        async with opened(place, 2) as [one, other], watching(other) as watch:
            await revision(one, "ingress", RECORD)
            await watch.until(stands)
            shutil.rmtree(place.path / "elections")
            assert await watch.next() == ElectionChanged("ingress", Absent())
            last = await revision(one, "ingress", RECORD)
            assert await watch.next() == ElectionChanged("ingress", Found(RECORD, last))
            shutil.rmtree(place.path)
            await watch.until(lambda event: isinstance(event, WatchLost))
            place.path.mkdir()
            await watch.until(lambda event: event == WatchStands())
            last = await revision(one, "ingress", RECORD)
            await watch.until(
                lambda event: event == ElectionChanged("ingress", Found(RECORD, last))
            )

    asyncio.run(scenario())


def test_a_watch_that_misses_events_looks_again(tmp_path: Path) -> None:
    """The kernel's queue of events overflows while nobody reads.

    The change in what was dropped is reported.
    """
    place = FilePlace(tmp_path)
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())

    async def scenario() -> None:
        async with opened(place, 2) as [one, other], watching(other) as watch:
            await one.write_candidate(CandidateRecord("n", "s", 1), TIMEOUT)
            last = await revision(one, "ingress", RECORD)
            await watch.until(
                lambda event: event == ElectionChanged("ingress", Found(RECORD, last))
            )
            for number in range(limit // 2 + 1):
                path = place.path / "nodes" / f".{number % 2}"
                path.touch()
                path.unlink()
            assert isinstance(one, FileStore)
            answer = one._files.write("ingress", replace(RECORD, holder="b"), last)
            assert isinstance(answer, Applied)
            await watch.until(
                lambda event: (
                    event
                    == ElectionChanged(
                        "ingress", Found(replace(RECORD, holder="b"), answer.revision)
                    )
                )
            )

    asyncio.run(scenario())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return the mount point of a file system of 64 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run([MOUNT, "-t", "tmpfs", "-o", "size=64k", "vipd-test", disk], check=True)
    try:
        yield disk
    finally:
        subprocess.run([UMOUNT, "-l", disk], check=True)


@pytest.mark.root
def test_a_full_or_read_only_disk_is_unknown_and_harms_nothing(small_disk: Path) -> None:
    """Writes say why, reads go on, nothing half written stays, and room helps at once."""
    place = FilePlace(small_disk)

    async def scenario() -> None:
        async with opened(place) as [store]:
            last = await revision(store, "ingress", RECORD)
            filler = small_disk / "filler"
            with pytest.raises(OSError, match="No space left"):
                filler.write_bytes(b"x" * 2**20)
            answer = await store.write("ingress", replace(RECORD, holder="b"), last, TIMEOUT)
            assert isinstance(answer, Unknown)
            assert answer.why.endswith("No space left on device")
            assert await current(store, "ingress") == Found(RECORD, last)
            assert list((place.path / "tmp").iterdir()) == []
            filler.unlink()
            last = await revision(store, "ingress", replace(RECORD, holder="b"), last)
            subprocess.run([MOUNT, "-o", "remount,ro", small_disk], check=True)  # noqa: ASYNC221 - nothing else runs
            answer = await store.write("ingress", RECORD, last, TIMEOUT)
            assert isinstance(answer, Unknown)
            assert answer.why.endswith("Read-only file system")
            assert (await current(store, "ingress")).record.holder == "b"

    asyncio.run(scenario())


@pytest.mark.root
def test_a_directory_without_permission_is_unknown(tmp_path: Path) -> None:
    """Somebody else's directory: neither absent nor empty."""
    place = FilePlace(tmp_path)
    written(FileRecords(place.path, 60.0), 1)
    place.path.chmod(0o700)

    async def scenario() -> None:
        async with opened(place) as [store]:
            for answer in (
                await store.read("ingress", TIMEOUT),
                await store.write("ingress", RECORD, None, TIMEOUT),
                await store.read_candidates(TIMEOUT),
                await store.write_candidate(CandidateRecord("n", "s", 1), TIMEOUT),
                await store.delete_candidate("n", TIMEOUT),
            ):
                assert isinstance(answer, Unknown)
                assert answer.why.endswith("Permission denied")

    os.seteuid(65534)
    try:
        asyncio.run(scenario())
    finally:
        os.seteuid(0)
