"""The state directory.

What a next life may rely on, and that nothing in it ever keeps a daemon from starting.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from election.actions import Remember
from vipd.state_dir import (
    DRAIN_FLAG,
    FILE,
    LOCK,
    SESSIONS_KEPT,
    Election,
    InUseError,
    Memory,
    boot_id,
)


def lived(directory: Path, session: str) -> None:
    """Let a daemon of this session live and end."""
    memory = Memory.open(directory, session)
    memory.remember("web", Remember(epoch=7, lease_duration=3000))
    memory.verdicts["web"] = {"link": True, "ingress": False}
    memory.save()
    assert memory.trouble == ""
    memory.close()


def test_a_next_life_knows_what_the_last_one_knew(tmp_path: Path) -> None:
    """Sessions, newest last, the highest epochs, the longest leases, and the verdicts."""
    for session in ("one", "two"):
        lived(tmp_path / "state", session)
    memory = Memory.open(tmp_path / "state", "three")
    assert memory.former == ("one", "two")
    assert memory.elections == {"web": Election(7, 3000)}
    assert memory.verdicts == {"web": {"link": True, "ingress": False}}
    memory.close()


def test_a_chosen_epoch_is_known_to_the_next_daemon(tmp_path: Path) -> None:
    """It may have been bound with, whatever became of the record."""
    memory = Memory.open(tmp_path, "one")
    memory.remember("web", Remember(epoch=7, lease_duration=3000, chosen=8))
    memory.save()
    memory.close()
    again = Memory.open(tmp_path, "two")
    assert again.elections == {"web": Election(7, 3000, 8)}
    again.close()


def test_a_directory_that_could_not_be_locked_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its sessions would be proven gone to the next daemon, which gets the lock, while this one
    still lives.
    """

    def no_locks(_fd: int, _how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    lived(tmp_path, "one")
    before = (tmp_path / FILE).read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("fcntl.flock", no_locks)
        unlocked = Memory.open(tmp_path, "two")
    assert "No locks available" in unlocked.trouble
    assert unlocked.former == ()
    unlocked.save()
    assert (tmp_path / FILE).read_bytes() == before
    assert "No locks available" in unlocked.trouble
    unlocked.close()


def test_only_the_last_sessions_are_kept(tmp_path: Path) -> None:
    """A daemon that crashes before it takes its lease back leaves it to a session before its own,
    but not for ever.
    """
    for number in range(SESSIONS_KEPT + 3):
        lived(tmp_path, f"s{number}")
    memory = Memory.open(tmp_path, "last")
    assert memory.former == tuple(f"s{number}" for number in range(3, SESSIONS_KEPT + 3))
    memory.close()


def test_sessions_of_another_boot_prove_nothing(tmp_path: Path) -> None:
    """The epochs stay: they only make this node wait, never act."""
    lived(tmp_path, "one")
    file = tmp_path / FILE
    file.write_text(file.read_text().replace(boot_id(), "another-boot"))
    memory = Memory.open(tmp_path, "two")
    assert (memory.former, memory.verdicts) == ((), {})
    assert memory.elections == {"web": Election(7, 3000)}
    memory.close()


def test_sessions_of_a_copy_prove_nothing(tmp_path: Path) -> None:
    """1. the directory is copied, 2.

    The copy's lock is free, 3. the original's daemon runs: its session must not count as gone.
    """
    original, copy = tmp_path / "original", tmp_path / "copy"
    lived(original, "one")
    living = Memory.open(original, "two")
    living.save()
    shutil.copytree(original, copy, copy_function=shutil.copy2)
    memory = Memory.open(copy, "three")
    assert (memory.former, memory.verdicts, memory.trouble) == ((), {}, "")
    assert memory.elections == {"web": Election(7, 3000)}
    memory.close()
    living.close()


def test_a_directory_that_was_moved_is_the_same(tmp_path: Path) -> None:
    """Its lock went along."""
    lived(tmp_path / "one", "one")
    (tmp_path / "one").rename(tmp_path / "two")
    memory = Memory.open(tmp_path / "two", "two")
    assert memory.former == ("one",)
    memory.close()


@pytest.mark.parametrize("key", ["boot_id", "directory", "network_namespace"])
def test_sessions_count_where_they_were_noted_only(tmp_path: Path, key: str) -> None:
    """In another network namespace the addresses of that session may still be bound.

    A file without the word is an old version's.
    """
    lived(tmp_path, "one")
    file = tmp_path / FILE
    content = json.loads(file.read_text())
    for other in (
        {**content, key: "another"},
        {name: value for name, value in content.items() if name != key},
    ):
        file.write_text(json.dumps(other))
        memory = Memory.open(tmp_path, "two")
        assert (memory.former, memory.verdicts) == ((), {})
        assert memory.elections == {"web": Election(7, 3000)}
        memory.close()


def test_a_lock_file_that_was_deleted_frees_nothing(tmp_path: Path) -> None:
    """Somebody tidies up, and a second daemon starts."""
    first = Memory.open(tmp_path, "one")
    (tmp_path / LOCK).unlink()
    with pytest.raises(InUseError):
        Memory.open(tmp_path, "two")
    first.close()
    Memory.open(tmp_path, "three").close()


def test_a_directory_has_one_daemon(tmp_path: Path) -> None:
    """A second one is refused for as long as the first lives, and sees nothing of it."""
    first = Memory.open(tmp_path, "one")
    with pytest.raises(InUseError, match=str(tmp_path)):
        Memory.open(tmp_path, "two")
    first.close()
    first.close()
    Memory.open(tmp_path, "three").close()


def test_a_refused_daemon_leaves_no_descriptor(tmp_path: Path) -> None:
    """It tries for seconds, many times each."""
    first = Memory.open(tmp_path, "one")
    before = sum(1 for _ in Path("/proc/self/fd").iterdir())
    for _ in range(5):
        with pytest.raises(InUseError):
            Memory.open(tmp_path, "two")
    assert sum(1 for _ in Path("/proc/self/fd").iterdir()) == before
    first.close()


def test_a_directory_that_cannot_be_is_a_sentence(tmp_path: Path) -> None:
    """The daemon runs without it: nothing in it is needed for safety while it runs."""
    (tmp_path / "file").touch()
    memory = Memory.open(tmp_path / "file" / "state", "one")
    assert "Not a directory" in memory.trouble
    assert (memory.former, memory.drained) == ((), False)
    memory.save()
    assert "Not a directory" in memory.trouble
    memory.close()


def test_a_save_that_fails_keeps_what_was_saved_before(tmp_path: Path) -> None:
    """The file is replaced whole or not at all, and the trouble ends with the
    next save that works.
    """
    lived(tmp_path, "one")
    before = (tmp_path / FILE).read_bytes()
    memory = Memory.open(tmp_path, "two")
    (tmp_path / f"{FILE}.new").mkdir()
    memory.save()
    assert memory.trouble
    assert (tmp_path / FILE).read_bytes() == before
    (tmp_path / f"{FILE}.new").rmdir()
    memory.save()
    assert memory.trouble == ""
    assert json.loads((tmp_path / FILE).read_bytes())["sessions"] == ["one", "two"]
    memory.close()


def test_the_drain_flag_outlives_everything(tmp_path: Path) -> None:
    """Also a file that cannot be read; it is kept and ended apart from it."""
    memory = Memory.open(tmp_path, "one")
    assert memory.drained is False
    memory.set_drained(drained=False)
    memory.set_drained(drained=True)
    memory.close()
    (tmp_path / FILE).write_text("{")
    again = Memory.open(tmp_path, "two")
    assert (again.drained, (tmp_path / DRAIN_FLAG).exists()) == (True, True)
    again.set_drained(drained=False)
    assert again.drained is False
    again.close()


def test_a_drain_flag_that_cannot_be_kept_is_an_error(tmp_path: Path) -> None:
    """The operator has to know: after a reboot the node would be back."""
    memory = Memory(tmp_path / "gone")
    with pytest.raises(OSError, match="No such file"):
        memory.set_drained(drained=True)


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """Let no file grow: open(2) succeeds, write(2) does not."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_refused_drain_has_no_later_effect(tmp_path: Path) -> None:
    """A full disk takes the file's name and not its content.

    Neither this daemon nor the next one is drained.
    """
    lived(tmp_path, "one")
    memory = Memory.open(tmp_path, "two")
    before = sorted(path.name for path in tmp_path.iterdir())
    with full_disk(), pytest.raises(OSError, match="File too large"):
        memory.set_drained(drained=True)
    assert memory.drained is False
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    memory.close()
    again = Memory.open(tmp_path, "three")
    assert again.drained is False
    again.set_drained(drained=True)
    with full_disk():
        again.set_drained(drained=False)
    again.close()
    assert not (tmp_path / DRAIN_FLAG).exists()


def test_a_save_on_a_full_disk_leaves_nothing_of_itself(tmp_path: Path) -> None:
    """What was saved before stands, and the half of a file does not stay on the
    disk that is full.
    """
    lived(tmp_path, "one")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    memory = Memory.open(tmp_path, "two")
    with full_disk():
        memory.save()
    assert "File too large" in memory.trouble
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    memory.close()


def test_what_is_on_the_disk_is_not_written_again(tmp_path: Path) -> None:
    """The last save at the end of a daemon would wait for the disk for nothing."""
    memory = Memory.open(tmp_path, "one")
    memory.save()
    inode = (tmp_path / FILE).stat().st_ino
    memory.save()
    assert (tmp_path / FILE).stat().st_ino == inode
    memory.remember("web", Remember(1, 3000))
    memory.save()
    assert (tmp_path / FILE).stat().st_ino != inode
    memory.close()


def test_without_the_lock_nothing_is_written(tmp_path: Path) -> None:
    """It may be another daemon's directory.

    But who was drained stays so, and the epochs seen are heeded.
    """
    lived(tmp_path, "one")
    (tmp_path / DRAIN_FLAG).write_text("drained")
    (tmp_path / LOCK).unlink()
    (tmp_path / LOCK).mkdir()
    before = (tmp_path / FILE).read_bytes()
    memory = Memory.open(tmp_path, "two")
    assert memory.trouble.startswith(f"state_dir {tmp_path} cannot be used (Is a directory)")
    assert (memory.former, memory.drained, memory.elections) == (
        (),
        True,
        {"web": Election(7, 3000)},
    )
    memory.save()
    with pytest.raises(OSError, match="cannot be used"):
        memory.set_drained(drained=False)
    assert (tmp_path / FILE).read_bytes() == before
    assert "Is a directory" in memory.trouble
    memory.close()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["epoch", "lease_duration", "web"]) | st.text(), inner, max_size=3
        )
    ),
    max_leaves=8,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(st.sampled_from(["sessions", "elections", "verdicts", "version"]), JSON) | JSON
)
def test_no_content_keeps_a_daemon_from_starting(tmp_path: Path, content: object) -> None:
    """Whatever a stranger or a torn disk wrote: it starts, and says so if it could not use it."""
    if isinstance(content, dict):
        content = {"boot_id": boot_id(), "sessions": [], "elections": {}, "verdicts": {}, **content}
    (tmp_path / FILE).write_text(json.dumps(content))
    memory = Memory.open(tmp_path, "one")
    assert all(isinstance(session, str) for session in memory.former)
    memory.save()
    memory.close()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"boot_id": 1}',
        b'{"elections": {"web": {"epoch": Infinity}}}',
    ],
)
def test_no_bytes_keep_a_daemon_from_starting(tmp_path: Path, content: bytes) -> None:
    """It says that it starts without them."""
    (tmp_path / FILE).write_bytes(content)
    memory = Memory.open(tmp_path, "one")
    assert "starting without it" in memory.trouble
    memory.close()


@pytest.mark.parametrize("name", ["state.json", "state.json.new"])
def test_a_pipe_in_the_place_of_a_file_holds_up_nothing(tmp_path: Path, name: str) -> None:
    """Neither the start, which would wait for a writer, nor a save, which would
    wait for a reader.
    """
    os.mkfifo(tmp_path / name)
    memory = Memory.open(tmp_path, "one")
    assert bool(memory.trouble) is (name == "state.json")
    memory.remember("ingress", Remember(7, 3000))
    memory.save()
    memory.save()
    assert memory.trouble == ""
    memory.close()
    assert Memory.open(tmp_path, "two").elections["ingress"].epoch == 7
