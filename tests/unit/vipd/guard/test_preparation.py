"""The form in which the process that reads the configuration hands it to the guard."""

from __future__ import annotations

import pytest

from vipd.guard.preparation import Header, packed, unpacked


def test_what_was_packed_is_unpacked() -> None:
    """Whatever is in the configuration's bytes, a newline or a zero byte first."""
    header = Header(json=True, code="00c0ffee", refused="it is\nwrong")
    assert unpacked(packed(header, b"\n\0blob\n")) == (header, b"\n\0blob\n")


def test_without_a_header_all_is_configuration() -> None:
    """Nothing is asked of the guard then."""
    assert unpacked(b"blob") == (Header(), b"blob")


@pytest.mark.parametrize("head", [b"{", b"[]", b"{}", b'"text"', b"7", b"\xff"])
def test_a_torn_header_says_nothing(head: bytes) -> None:
    """The process may have ended in the middle of it."""
    assert unpacked(b"\0" + head + b"\nblob") == (Header(), b"blob")
