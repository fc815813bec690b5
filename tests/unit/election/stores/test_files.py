"""What an operator names is read if it is a file, and nothing else is waited for."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from election.stores.files import no_file, read_file


@pytest.fixture
def places(tmp_path: Path) -> dict[str, Path]:
    """Return one of each kind, also behind a symbolic link."""
    found = {
        "a directory": tmp_path,
        "a device": Path("/dev/zero"),
        "a named pipe": tmp_path / "pipe",
        "a socket": tmp_path / "socket",
    }
    os.mkfifo(found["a named pipe"])
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(found["a socket"]))
    return found


@pytest.mark.parametrize("kind", ["a directory", "a device", "a named pipe", "a socket"])
def test_what_is_no_file_is_refused_at_once(
    places: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    """With the word for what it is."""
    link = tmp_path / "link"
    link.symlink_to(places[kind])
    for path in (places[kind], link):
        assert no_file(path) == f"{kind}, not a file"
        with pytest.raises(OSError, match=f"{kind}, not a file"):
            read_file(path, 100)


def test_a_file_is_read_up_to_one_byte_too_many(tmp_path: Path) -> None:
    """So that the caller sees that it is too long."""
    path = tmp_path / "file"
    path.write_bytes(b"x" * 1000)
    assert (read_file(path, 2000), read_file(str(path), 10)) == (b"x" * 1000, b"x" * 11)
    assert no_file(path) == ""
    with pytest.raises(FileNotFoundError):
        read_file(tmp_path / "none", 10)
